//! A server of the app's, which publishes keys and says who may come in.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The status and the body of an answer to this body; status 0: none comes.
type Answer = Box<dyn Fn(&Value) -> (u16, String) + Send>;

/// Such a server. It ends when this is dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Value>>,
}

impl App {
    /// Answers like this.
    pub(crate) async fn start(answer: impl Fn(&Value) -> (u16, String) + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    /// The same, at this address.
    pub(crate) async fn start_at(
        address: SocketAddr,
        answer: impl Fn(&Value) -> (u16, String) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Box::new(answer)),
            asked: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                let mut open = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    open.spawn(serve(stream, shared.clone()));
                }
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, answer: impl Fn(&Value) -> (u16, String) + Send + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(answer);
    }

    /// The bodies of all requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/app", self.address)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let asked = serde_json::from_slice(&body).unwrap_or_default();
        let (status, answer) = (shared.answer.lock().unwrap())(&asked);
        shared.asked.lock().unwrap().push(asked);
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let answer = [head, answer].concat();
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
