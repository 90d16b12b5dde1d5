//! Several fakes that share their users: the nodes of one service. A node can be killed.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};

use super::{Counts, Faults, Server};

/// How long after a node was killed the others tell its users' partners.
pub(super) const TOLD_AFTER: Duration = Duration::from_millis(300);

/// One of several listeners, as a connection knows it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) killed: watch::Receiver<bool>,
}

impl Node {
    /// When the node is killed.
    pub(super) async fn death(&mut self) {
        if self.killed.wait_for(|killed| *killed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Running nodes; they end with the test's runtime.
pub(crate) struct Cluster {
    addresses: Vec<SocketAddr>,
    kills: Vec<watch::Sender<bool>>,
    pub(crate) counts: Arc<Counts>,
}

impl Cluster {
    /// Starts nodes on free ports.
    pub(crate) async fn start(nodes: usize, faults: Faults) -> Self {
        let counts = Arc::new(Counts::default());
        let server = Arc::new(Server {
            faults,
            counts: Arc::clone(&counts),
            state: Mutex::default(),
        });
        let (mut addresses, mut kills) = (Vec::new(), Vec::new());
        for number in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("bound"));
            let (kill, killed) = watch::channel(false);
            kills.push(kill);
            let node = Node { number, killed };
            tokio::spawn(listen(Arc::clone(&server), listener, node));
        }
        Self {
            addresses,
            kills,
            counts,
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        let url = |address| format!("ws://{address}/ws");
        self.addresses.iter().map(url).collect()
    }

    /// Cuts all connections of a node, and listens there no more.
    pub(crate) fn kill(&self, node: usize) {
        self.kills[node].send_replace(true);
    }
}

/// Accepts connections until the node is killed.
pub(super) async fn listen(server: Arc<Server>, listener: TcpListener, mut node: Node) {
    let of_connections = node.clone();
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&server).serve(stream, of_connections.clone()));
        }
    };
    tokio::select! {
        () = accepting => {}
        () = node.death() => {}
    }
}
