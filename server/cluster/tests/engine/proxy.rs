//! A network between us and the engine that can be made bad.
#![allow(
    dead_code,
    reason = "the tests of whole servers use it, too, and each uses what it needs"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// As it is.
    Good,
    /// Each direction takes so much longer.
    Slow(Duration),
    /// What is sent disappears, and nobody is told.
    Hole,
}

/// Ends with its connections when it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    engine: Arc<AtomicU16>,
    network: Arc<watch::Sender<Network>>,
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(engine: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let network = Arc::new(watch::Sender::new(Network::Good));
        let engine = Arc::new(AtomicU16::new(engine));
        let cut = watch::Sender::new(());
        let ways = Ways {
            engine: Arc::clone(&engine),
            network: Arc::clone(&network),
            cut: cut.subscribe(),
        };
        Self {
            port,
            engine,
            network,
            cut,
            task: tokio::spawn(accept(listener, ways)),
        }
    }

    /// All connections end, and new ones lead to this engine.
    pub(crate) fn leads_to(&self, engine: u16) {
        self.engine.store(engine, Ordering::Relaxed);
        self.cut();
    }

    /// All connections end.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    pub(crate) fn becomes(&self, network: Network) {
        self.network.send_replace(network);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all connections have in common.
struct Ways {
    engine: Arc<AtomicU16>,
    network: Arc<watch::Sender<Network>>,
    cut: watch::Receiver<()>,
}

async fn accept(listener: TcpListener, mut ways: Ways) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let client = tokio::select! {
            Ok((client, _)) = listener.accept() => client,
            Ok(()) = ways.cut.changed() => {
                tasks.shutdown().await;
                continue;
            }
            else => return,
        };
        let to = ("127.0.0.1", ways.engine.load(Ordering::Relaxed));
        let Ok(server) = TcpStream::connect(to).await else {
            continue;
        };
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        tasks.spawn(carry(from_client, to_server, ways.network.subscribe()));
        tasks.spawn(carry(from_server, to_client, ways.network.subscribe()));
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: watch::Receiver<Network>) {
    let (on_the_way, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let arrive = async move {
        while let Some((when, bytes)) = arriving.recv().await {
            sleep_until(when).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let leave = async move {
        let mut bytes = vec![0; 65_536];
        while let Ok(count) = from.read(&mut bytes).await {
            let network = *network.borrow();
            let late = match network {
                Network::Good => Duration::ZERO,
                Network::Slow(late) => late,
                Network::Hole if count == 0 => std::future::pending().await,
                Network::Hole => continue,
            };
            if count == 0
                || on_the_way
                    .send((Instant::now() + late, bytes[..count].to_vec()))
                    .is_err()
            {
                return;
            }
        }
    };
    tokio::join!(arrive, leave);
}
