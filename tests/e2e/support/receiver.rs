//! A server that takes what the server under test tells others: spans, error reports.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What it has been sent.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    /// The first line of the request.
    pub(crate) line: String,
    /// The other ones, in small letters.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers {
    /// With this status and these header lines.
    With(u16, &'static str),
    /// With 200, after this time.
    After(Duration),
    /// It does not.
    Never,
}

/// Such a server. It ends when this is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::<Mutex<Vec<Posted>>>::default();
        let task = tokio::spawn({
            let posted = posted.clone();
            async move {
                let mut open = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    open.spawn(serve(stream, answers, posted.clone()));
                }
            }
        });
        Self {
            address,
            posted,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has come.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Fails if a request had one of these texts anywhere.
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

async fn serve(stream: TcpStream, answers: Answers, posted: Arc<Mutex<Vec<Posted>>>) {
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
        let headers = lines[1..].join("\n").to_ascii_lowercase();
        let length = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        posted.lock().unwrap().push(Posted {
            line: lines.swap_remove(0),
            headers,
            body,
        });
        let (status, headers) = match answers {
            Answers::With(status, headers) => (status, headers),
            Answers::After(time) => {
                tokio::time::sleep(time).await;
                (200, "")
            }
            Answers::Never => std::future::pending().await,
        };
        let answer = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
