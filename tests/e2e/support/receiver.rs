//! A server of others, which takes what the server under test sends or asks: spans, error reports, events, questions.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// How a request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With this status and these header lines.
    Status(u16, &'static str),
    /// With this status and this body.
    Body(u16, String),
    /// With 200, after this time.
    Late(Duration),
    /// Not at all, and the connection stays open.
    Hang,
    /// The connection is closed.
    Close,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    /// The first line.
    pub(crate) line: String,
    /// By their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How it was answered.
    pub(crate) answer: Answer,
}

/// The answer to a request, by its number from 0 and its body.
type Answers = Box<dyn Fn(usize, &[u8]) -> Answer + Send>;

struct Shared {
    answers: Mutex<Answers>,
    posted: Mutex<Vec<Posted>>,
}

/// Such a server. It ends when this is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Answers each request like this.
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::start_by(move |_| answer.clone()).await
    }

    /// Answers each request by its number.
    pub(crate) async fn start_by(answers: impl Fn(usize) -> Answer + Send + 'static) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(any, move |n, _| answers(n)).await
    }

    /// At this address.
    pub(crate) async fn start_at(
        address: SocketAddr,
        answers: impl Fn(usize, &[u8]) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answers: Mutex::new(Box::new(answers)),
            posted: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                let mut open = JoinSet::new();
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
    pub(crate) fn answers(&self, answers: impl Fn(usize, &[u8]) -> Answer + Send + 'static) {
        *self.shared.answers.lock().unwrap() = Box::new(answers);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has come.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().unwrap().clone()
    }

    /// Fails if a request had one of these texts in its first line or its body.
    #[track_caller]
    pub(crate) fn never_heard_of(&self, secrets: &[&str]) {
        for Posted { line, body, .. } in self.posted() {
            let body = String::from_utf8_lossy(&body);
            for secret in secrets {
                assert!(!body.contains(secret), "{secret:?} was sent: {body}");
                assert!(!line.contains(secret), "{secret:?} was sent: {line}");
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => lines.push(line.trim_end().to_owned()),
            }
        }
        let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<_, _> = headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length");
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer = {
            let mut posted = shared.posted.lock().unwrap();
            let answer = (shared.answers.lock().unwrap())(posted.len(), &body);
            posted.push(Posted {
                line: lines.swap_remove(0),
                headers,
                body,
                answer: answer.clone(),
            });
            answer
        };
        let (status, headers, body) = match answer {
            Answer::Status(status, headers) => (status, headers, String::new()),
            Answer::Body(status, body) => (status, "", body),
            Answer::Late(time) => {
                tokio::time::sleep(time).await;
                (200, "", String::new())
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => return,
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
