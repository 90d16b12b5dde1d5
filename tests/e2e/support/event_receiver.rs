//! A server of the app's that takes events, and verifies that they are the server's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::jwt::{Folder, openssl};

/// What signs events, in these tests.
const KEY: [u8; 32] = *b"a secret of thirty-two bytes, or";

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// With this status and these header lines.
    Status(u16, &'static str),
    /// With 200, after this time.
    Late(Duration),
    /// Not at all, and the connection stays open.
    Hang,
    /// The connection is closed.
    Close,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether it was answered with 200.
    pub(crate) taken: bool,
}

/// Answers to the requests by their number, from 0.
type Answers = Box<dyn Fn(usize) -> Answer + Send>;

#[derive(Default)]
struct Shared {
    answers: Mutex<Option<Answers>>,
    received: Mutex<Vec<Received>>,
}

/// It ends when this is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The flags of a server that sends its events to this address.
pub(crate) fn flags(address: SocketAddr, test: &str) -> [String; 6] {
    let secret = format!("whsec_{}\n", BASE64.encode(KEY));
    let file = Folder::new(&format!("events-{test}")).write("secret", &secret);
    [
        "--event-webhook".to_owned(),
        format!("http://{address}/events"),
        "--event-webhook-secret-file".to_owned(),
        file,
        "--event-webhook-retry-after".to_owned(),
        "20ms".to_owned(),
    ]
}

impl Receiver {
    pub(crate) async fn start(answers: impl Fn(usize) -> Answer + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answers).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        answers: impl Fn(usize) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        *shared.answers.lock().unwrap() = Some(Box::new(answers));
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

    /// Takes all.
    pub(crate) async fn start_willing() -> Self {
        Self::start(|_| Answer::Status(200, "")).await
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, answers: impl Fn(usize) -> Answer + Send + 'static) {
        *self.shared.answers.lock().unwrap() = Some(Box::new(answers));
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The events that were taken. None may be taken twice.
    pub(crate) fn events(&self) -> Vec<Value> {
        let received = self.received();
        let taken = received.iter().filter(|request| request.taken);
        let events: Vec<Value> = taken.flat_map(Received::events).collect();
        let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
        assert_eq!(ids.len(), events.len(), "an event was taken twice");
        events
    }

    /// The data of the events of this type that were taken.
    pub(crate) fn of(&self, kind: &str) -> Vec<Value> {
        let events = self.events().into_iter();
        let events = events.filter(|event| event["type"] == kind);
        events.map(|event| event["data"].clone()).collect()
    }
}

impl Received {
    /// The events in it.
    pub(crate) fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["type"], "events");
        body["data"].as_array().unwrap().clone()
    }

    /// It is signed as the specification says.
    pub(crate) fn verify(&self) {
        let (id, time) = (
            &self.headers["webhook-id"],
            &self.headers["webhook-timestamp"],
        );
        let signed = [format!("{id}.{time}.").as_bytes(), &self.body].concat();
        let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("hexkey:{hex}");
        let args = [
            "dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-binary",
        ];
        let expected = format!("v1,{}", BASE64.encode(openssl(&args, &signed)));
        assert_eq!(self.headers["webhook-signature"], expected);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs().abs_diff(time.parse().unwrap());
        assert!(age < 60, "{age} s old");
        assert_eq!(self.headers["content-type"], "application/json");
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut headers = BTreeMap::new();
        let mut line = String::new();
        loop {
            line.clear();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
            }
            if let Some((name, value)) = line.split_once(": ") {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer = {
            let mut received = shared.received.lock().unwrap();
            let answers = shared.answers.lock().unwrap();
            let answer = answers.as_ref().unwrap()(received.len());
            received.push(Received {
                headers,
                body,
                taken: matches!(answer, Answer::Status(200, _) | Answer::Late(_)),
            });
            answer
        };
        let (status, more) = match answer {
            Answer::Status(status, more) => (status, more),
            Answer::Late(time) => {
                tokio::time::sleep(time).await;
                (200, "")
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => return,
        };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n{more}\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}
