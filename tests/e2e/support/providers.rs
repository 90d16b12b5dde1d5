//! The fake services of the crate's own tests, and a door before one.

#![allow(dead_code, reason = "the crate's tests use all of it")]

#[path = "../../../server/transcribe/tests/bridge/support/ear.rs"]
pub(crate) mod ear;
#[path = "../../../server/transcribe/tests/bridge/support/gladia.rs"]
pub(crate) mod gladia;
#[path = "../../../server/transcribe/tests/bridge/support/server.rs"]
pub(crate) mod server;
#[path = "../../../server/transcribe/tests/bridge/support/tls.rs"]
pub(crate) mod tls;
#[path = "../../../server/transcribe/tests/bridge/support/vosk.rs"]
pub(crate) mod vosk;

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What happens to who comes to a [`Door`].
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// The connection ends at once.
    Shut,
    /// This is the status of the answer.
    Refused(u16),
    /// To the server behind it.
    Through,
}

/// Stands before a server, so that it can be away, refuse, and be back at the same address.
pub(crate) struct Door {
    /// HOST:PORT.
    pub(crate) address: String,
    way: Arc<Mutex<Way>>,
    _task: JoinSet<()>,
}

impl Door {
    /// Before the server at `to`, as HOST:PORT.
    pub(crate) async fn before(to: &str, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let way = Arc::new(Mutex::new(way));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, way.clone(), to.to_owned()));
        Self {
            address,
            way,
            _task: task,
        }
    }

    pub(crate) fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }
}

async fn serve(listener: TcpListener, way: Arc<Mutex<Way>>, to: String) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let way = *way.lock().unwrap();
        connections.spawn(pass(tcp, way, to.clone()));
    }
}

async fn pass(mut tcp: TcpStream, way: Way, to: String) {
    match way {
        Way::Shut => {}
        Way::Refused(status) => {
            let mut tcp = BufReader::new(tcp);
            let mut line = String::new();
            while tcp.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                line.clear();
            }
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
        Way::Through => {
            if let Ok(mut behind) = TcpStream::connect(to).await {
                // It has ended, by one side or the other.
                let _ = copy_bidirectional(&mut tcp, &mut behind).await;
            }
        }
    }
}
