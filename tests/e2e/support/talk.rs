//! A participant of a transcription session, and the requests of its app.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use voicematch_protocol::numbered::Numbered;

use super::{PATIENCE, TestServer, http, raw, within};

/// A session that was created, and its host's token.
pub(crate) struct Talk {
    pub(crate) slug: String,
    pub(crate) host: String,
}

/// POSTs JSON to the admin address, with this token; the status and the answer.
pub(crate) async fn ask(
    server: &TestServer,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> (u16, Value) {
    let to = if token.is_some() {
        server.public
    } else {
        server.admin
    };
    let bearer = token.filter(|token| !token.is_empty());
    let bearer = bearer.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n{bearer}",
        body.len()
    );
    let answer = http::request_with_body(to, method, path, &headers, &body).await;
    (
        answer.status,
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
    )
}

/// A handshake at `/transcribe` with this token.
pub(crate) fn handshake(server: &TestServer, token: &str) -> String {
    let offer = format!("\r\nSec-WebSocket-Protocol: token.{token}\r\n\r\n");
    let plain = raw::handshake(server).replace("GET /ws ", "GET /transcribe ");
    plain.replace("\r\n\r\n", &offer)
}

impl Talk {
    /// Creates a session as an operator does.
    pub(crate) async fn create(server: &TestServer, wanted: Value) -> Self {
        let (status, answer) = ask(server, "POST", "/api/sessions", None, &wanted).await;
        assert_eq!(status, 201, "{answer}");
        Self {
            slug: answer["slug"].as_str().unwrap().to_owned(),
            host: answer["host_token"].as_str().unwrap().to_owned(),
        }
    }

    /// Lets a user join, as the host does; their id, and their token.
    pub(crate) async fn join(
        &self,
        server: &TestServer,
        user: &str,
        role: &str,
    ) -> (String, String) {
        self.join_with(server, Some(&self.host), user, role).await
    }

    /// The same as an operator does, who needs no connection of the public address.
    pub(crate) async fn let_in(
        &self,
        server: &TestServer,
        user: &str,
        role: &str,
    ) -> (String, String) {
        self.join_with(server, None, user, role).await
    }

    async fn join_with(
        &self,
        server: &TestServer,
        token: Option<&str>,
        user: &str,
        role: &str,
    ) -> (String, String) {
        let path = format!("/api/sessions/{}/participants/join", self.slug);
        let wanted = json!({"user": user, "role": role});
        let (status, answer) = ask(server, "POST", &path, token, &wanted).await;
        assert_eq!(status, 200, "{answer}");
        let part = |name: &str| answer["participant"][name].as_str().unwrap().to_owned();
        (part("id"), part("token"))
    }

    /// The transcript as its host gets it.
    pub(crate) async fn transcript(&self, server: &TestServer, file: &str) -> String {
        let path = format!("/api/sessions/{}/{file}", self.slug);
        let headers = format!("Authorization: Bearer {}\r\n", self.host);
        let answer = http::request(server.public, "GET", &path, &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().to_owned()
    }
}

impl Talk {
    /// The numbers and words of all segments that a server exports.
    pub(crate) async fn stored(&self, server: &TestServer) -> (Vec<u64>, Vec<String>) {
        let file = self.transcript(server, "transcript.json").await;
        let file: Value = serde_json::from_str(&file).unwrap();
        let mut segments = file["segments"].as_array().unwrap().clone();
        segments.sort_by_key(|segment| segment["seq"].as_u64());
        let numbers = segments.iter().map(|segment| segment["seq"].as_u64());
        let texts = segments.iter().map(|segment| segment["text"].as_str());
        (
            numbers.map(Option::unwrap).collect(),
            words(texts.map(Option::unwrap)),
        )
    }
}

/// A connection of a participant.
pub(crate) struct Part {
    socket: WebSocketStream<TcpStream>,
    /// The first message; if the server closed before one: `{"closed":CODE}`.
    pub(crate) ready: Value,
    chunk: u32,
}

impl Part {
    /// Connects, and reads the first message; else the status.
    pub(crate) async fn connect(
        server: &TestServer,
        token: &str,
        query: &str,
    ) -> Result<Self, u16> {
        Self::connect_to(server.public, token, query).await
    }

    /// The same at this address.
    pub(crate) async fn connect_to(
        server: SocketAddr,
        token: &str,
        query: &str,
    ) -> Result<Self, u16> {
        let mut part = Self::try_open(server, token, query).await?;
        let first = part.next().await;
        part.ready = first.unwrap_or_else(|code| json!({"closed": code}));
        Ok(part)
    }

    /// Connects as soon as the server has the session; how long that took.
    pub(crate) async fn come_back(
        server: &TestServer,
        token: &str,
        query: &str,
    ) -> (Self, Duration) {
        let begun = Instant::now();
        loop {
            let part = Self::connect(server, token, query).await.unwrap();
            let is_elsewhere = match part.ready["type"].as_str() {
                Some("ready") => return (part, begun.elapsed()),
                Some("moved") => true,
                _ => ["draining", "session_elsewhere"]
                    .map(Value::from)
                    .contains(&part.ready["code"]),
            };
            assert!(is_elsewhere, "{}", part.ready);
            assert!(begun.elapsed() < 2 * PATIENCE, "never: {}", part.ready);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connects with the token of a survey, where the server does not speak first.
    pub(crate) async fn open(server: &TestServer, token: &str) -> Self {
        Self::try_open(server.public, token, "").await.unwrap()
    }

    async fn try_open(server: SocketAddr, token: &str, query: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(server).await.unwrap();
        let url = format!("ws://{server}/transcribe{query}");
        let mut request = url.into_client_request().unwrap();
        let offer = format!("voicematch.1, token.{token}");
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", offer.parse().unwrap());
        match within("the handshake", client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                ready: Value::Null,
                chunk: 0,
            }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    /// The next message; the code if the server closes.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<u16>> {
        within("a message", self.listen()).await
    }

    /// The same, however long it takes.
    pub(crate) async fn listen(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next message of this type; others are skipped.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let message = self
                .next()
                .await
                .unwrap_or_else(|code| panic!("closed with {code:?} before {kind}"));
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The code with which the server closes.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    /// Sends a text; false: the connection has ended.
    pub(crate) async fn try_send(&mut self, text: &str) -> bool {
        self.socket.send(Message::text(text)).await.is_ok()
    }

    /// Sends bytes as audio; false: the connection has ended.
    pub(crate) async fn audio(&mut self, bytes: Vec<u8>) -> bool {
        self.socket.send(Message::binary(bytes)).await.is_ok()
    }

    /// The next numbered chunk of track `track`, and the word that is to be heard.
    pub(crate) fn chunk(&mut self, track: u32) -> (Vec<u8>, String) {
        let mut bytes = vec![1; 3_200];
        let header = Numbered {
            track,
            chunk: self.chunk,
            sent_us: 0,
        };
        assert!(header.write(&mut bytes));
        self.chunk += 1;
        (bytes, header.word())
    }

    /// Sends this many numbered chunks as a recording, as track `track`; the words that are to be heard.
    pub(crate) async fn say(&mut self, track: u32, chunks: u32) -> Vec<String> {
        let mut words = Vec::new();
        for _ in 0..chunks {
            let (bytes, word) = self.chunk(track);
            words.push(word);
            assert!(self.audio(bytes).await);
        }
        words
    }

    /// Says something as a recording, and waits until all of it has arrived.
    pub(crate) async fn record(&mut self, chunks: u32) -> Vec<String> {
        self.send(json!({"type": "start", "live": false, "ack": "each"}))
            .await;
        let said = self.say(1, chunks).await;
        for _ in 0..chunks {
            self.expect("audio_ack").await;
        }
        said
    }

    /// The number of the next chunk that is said.
    pub(crate) fn next_chunk(&self) -> u32 {
        self.chunk
    }

    /// What is said goes on with this number.
    pub(crate) fn begin_at(&mut self, chunk: u32) {
        self.chunk = chunk;
    }

    /// Ends the connection with this code.
    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
        let _ = self.socket.close(Some(frame)).await;
        // A socket that is dropped with words unread is reset, and what was sent before can be lost with it.
        while self.socket.next().await.is_some_and(|read| read.is_ok()) {}
    }
}

/// The words of texts.
pub(crate) fn words<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    texts
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect()
}
