//! A client whose session outlives its connections, over any transport: it numbers what it sends, answers the server's
//! pings, and checks that what it gets is whole and in order.

use std::{collections::VecDeque, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    TestServer,
    http::{self, Response},
    user::text,
    within,
};

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    WebSocket,
    EventStream,
    Polling,
}

impl Via {
    pub(crate) const ALL: [Self; 3] = [Self::WebSocket, Self::EventStream, Self::Polling];
}

enum Connection {
    WebSocket(Box<WebSocketStream<TcpStream>>),
    EventStream(Events),
    /// What the next poll says that it has.
    Polling,
    None,
}

/// Such a client.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Connection,
    /// What the next connection shows.
    pub(crate) token: String,
    /// The id by which partners know this user.
    pub(crate) id: String,
    /// The first message of the latest connection.
    pub(crate) first: Value,
    /// The number of the last message that was sent, and of the last that arrived.
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    /// The number of the last message that the server says it has taken.
    pub(crate) received: u64,
    /// Whether the server knows this session by its polls.
    polls: bool,
    /// Whether pings are answered.
    pub(crate) answers: bool,
    /// Where the session begins.
    path: String,
    unread: VecDeque<Value>,
}

/// Why there is no next message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server closed, with this code.
    Closed(Option<u16>),
    /// The connection ended without a word.
    Broken,
}

impl Client {
    /// Begins a session.
    pub(crate) async fn begin(server: &TestServer, via: Via) -> Self {
        Self::begin_at(server.public, via).await
    }

    /// Begins a session with a request for this path.
    pub(crate) async fn begin_with(server: &TestServer, via: Via, path: &str) -> Self {
        Self::begin_at_with(server.public, via, path).await
    }

    /// Begins a session at this address, which may be a proxy's.
    pub(crate) async fn begin_at(address: SocketAddr, via: Via) -> Self {
        let path = match via {
            Via::WebSocket => "/ws?resume=1",
            Via::EventStream => "/events",
            Via::Polling => "/poll?wait=5",
        };
        Self::begin_at_with(address, via, path).await
    }

    async fn begin_at_with(address: SocketAddr, via: Via, path: &str) -> Self {
        let mut client = Self {
            address,
            connection: Connection::None,
            token: String::new(),
            id: String::new(),
            first: Value::Null,
            sent: 0,
            arrived: 0,
            received: 0,
            polls: false,
            answers: true,
            path: path.to_owned(),
            unread: VecDeque::new(),
        };
        client.open(via).await.unwrap();
        client.path = String::new();
        assert_eq!(client.first["type"], "session", "{}", client.first);
        client.id = text(&client.first, "session_id");
        client
    }

    /// The status of the answer to who begins a session with a request for this path.
    pub(crate) async fn refused(server: &TestServer, path: &str) -> u16 {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let headers = if path.starts_with("/ws") { upgrade } else { "" };
        let mut stream = BufReader::new(TcpStream::connect(server.public).await.unwrap());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            server.public
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = within("the head", http::read_response(&mut stream, false)).await;
        response.status
    }

    /// Goes on over a new connection, whatever became of the old one.
    pub(crate) async fn resume(&mut self, via: Via) -> Result<(), End> {
        self.unread.clear();
        if self.polls && via == Via::Polling {
            // Nothing has changed for the server.
            self.connection = Connection::Polling;
            return Ok(());
        }
        self.open(via).await?;
        assert_eq!(self.first["type"], "resumed", "{}", self.first);
        assert_eq!(text(&self.first, "session_id"), self.id);
        Ok(())
    }

    /// The same at another server.
    pub(crate) async fn resume_at(&mut self, server: &TestServer, via: Via) -> Result<(), End> {
        self.address = server.public;
        self.resume(via).await
    }

    /// The same session at another connection, as a duplicated tab has it.
    pub(crate) fn copy(&self) -> Self {
        Self {
            address: self.address,
            connection: Connection::None,
            token: self.token.clone(),
            id: self.id.clone(),
            first: Value::Null,
            sent: self.sent,
            arrived: self.arrived,
            received: self.received,
            polls: self.polls,
            answers: self.answers,
            path: String::new(),
            unread: VecDeque::new(),
        }
    }

    /// Requests go to this server from now on; what is connected stays so.
    pub(crate) fn sends_to(&mut self, server: &TestServer) {
        self.address = server.public;
    }

    /// Breaks the connection without a word.
    pub(crate) fn cut(&mut self) {
        let stream = match &self.connection {
            Connection::WebSocket(socket) => Some(socket.get_ref()),
            Connection::EventStream(events) => Some(events.stream.get_ref()),
            Connection::Polling | Connection::None => None,
        };
        if let Some(stream) = stream {
            let linger = Some(std::time::Duration::ZERO);
            socket2::SockRef::from(stream).set_linger(linger).unwrap();
        }
        self.connection = Connection::None;
        self.unread.clear();
    }

    /// Says goodbye with this code; for a WebSocket.
    pub(crate) async fn close(&mut self, code: u16) {
        let Connection::WebSocket(socket) = &mut self.connection else {
            panic!("only a WebSocket has close codes");
        };
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
        // Not the box, which closes without a frame.
        socket.as_mut().close(Some(frame)).await.unwrap();
        while within("the end", socket.next()).await.is_some() {}
        self.connection = Connection::None;
    }

    async fn open(&mut self, via: Via) -> Result<(), End> {
        self.connection = match via {
            Via::WebSocket => self.open_socket().await,
            Via::EventStream => self.open_stream().await?,
            Via::Polling => Connection::Polling,
        };
        self.first = self.read().await?;
        self.polls = via == Via::Polling;
        if let Some(token) = self.first["resume_token"].as_str() {
            token.clone_into(&mut self.token);
        }
        Ok(())
    }

    async fn open_socket(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let path = if self.token.is_empty() {
            &self.path
        } else {
            "/ws"
        };
        let url = format!("ws://{}{path}", self.address);
        let mut request = url.into_client_request().unwrap();
        if !self.token.is_empty() {
            let offer = format!("voicematch.1, resume.{}.{}", self.token, self.arrived);
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", offer.parse().unwrap());
        }
        let opened = within("the handshake", client_async(request, stream)).await;
        Connection::WebSocket(Box::new(opened.unwrap().0))
    }

    async fn open_stream(&self) -> Result<Connection, End> {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}\r\n",
            if self.token.is_empty() {
                &self.path
            } else {
                "/events"
            },
            self.address,
            self.headers("Last-Event-ID: ", "")
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = within("the stream", http::read_response(&mut stream, false)).await;
        if response.status != 200 {
            return Err(End::Closed(Some(response.status)));
        }
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        let chunked = response.header("transfer-encoding") == Some("chunked");
        Ok(Connection::EventStream(Events {
            stream,
            left: chunked.then_some(0),
        }))
    }

    /// The header lines of a request that shows the token, and the position in this form.
    fn headers(&self, position: &str, quote: &str) -> String {
        if self.token.is_empty() {
            return String::new();
        }
        format!(
            "Authorization: Bearer {}\r\n{position}{quote}{}{quote}\r\n",
            self.token, self.arrived
        )
    }

    /// The next message, without its number; pings are answered and left out.
    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Result<Value, End>> {
        within("a message", self.next_of_any_time())
    }

    async fn next_of_any_time(&mut self) -> Result<Value, End> {
        loop {
            let message = self.read().await?;
            if message["type"] == "ping" {
                self.received = message["received"].as_u64().unwrap();
                if self.answers {
                    self.pong().await;
                }
                continue;
            }
            if message["type"] == "resumed" {
                // A poll that came late.
                self.first = message;
                continue;
            }
            let seq = message["seq"].as_u64().expect("a number");
            assert_eq!(seq, self.arrived + 1, "{message}");
            self.arrived = seq;
            return Ok(message);
        }
    }

    /// Waits for the end; messages before it are lost.
    pub(crate) async fn end(&mut self) -> End {
        within("the end", self.end_of_any_time()).await
    }

    async fn end_of_any_time(&mut self) -> End {
        loop {
            match self.read().await {
                Ok(message) if message["type"] == "ping" && self.answers => {
                    self.received = message["received"].as_u64().unwrap();
                    self.pong().await;
                }
                Ok(message) => self.arrived = message["seq"].as_u64().unwrap_or(self.arrived),
                Err(end) => return end,
            }
        }
    }

    async fn pong(&mut self) {
        let pong = json!({"type": "pong", "ack": self.arrived});
        match self.connection {
            Connection::WebSocket(_) => self.write(&pong).await,
            // The session may have ended with this ping.
            _ => _ = self.post(&pong.to_string()).await,
        }
    }

    /// The next message as it came.
    async fn read(&mut self) -> Result<Value, End> {
        loop {
            if let Some(message) = self.unread.pop_front() {
                return Ok(message);
            }
            match &mut self.connection {
                Connection::WebSocket(socket) => match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Ok(serde_json::from_str(text.as_str()).unwrap());
                    }
                    Some(Ok(Message::Close(frame))) => {
                        return Err(End::Closed(frame.map(|frame| frame.code.into())));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(End::Broken),
                },
                Connection::EventStream(stream) => {
                    return stream.next().await;
                }
                Connection::Polling => {
                    let response = self.poll("wait=5").await;
                    match response.status {
                        200 => {
                            let messages = response.json()["messages"].take();
                            let Value::Array(messages) = messages else {
                                panic!("no messages: {}", response.text());
                            };
                            self.unread = messages.into();
                        }
                        304 => {}
                        410 => {
                            let code = response.json()["code"].as_u64().unwrap();
                            return Err(End::Closed(u16::try_from(code).ok()));
                        }
                        status => return Err(End::Closed(Some(status))),
                    }
                }
                Connection::None => return Err(End::Broken),
            }
        }
    }

    /// One poll, with this query.
    pub(crate) async fn poll(&self, query: &str) -> Response {
        let path = match &self.path[..] {
            "" => format!("/poll?{query}"),
            path => path.to_owned(),
        };
        let headers = self.headers("If-None-Match: ", "\"");
        http::request(self.address, "GET", &path, &headers).await
    }

    /// Waits until the server has carried out all that was sent.
    pub(crate) async fn is_heard(&mut self) {
        self.send(json!({"type": "unknown"})).await;
        self.expect("error").await;
    }

    /// Sends a message with the next number.
    pub(crate) async fn send(&mut self, mut message: Value) {
        self.sent += 1;
        message["seq"] = self.sent.into();
        self.write(&message).await;
    }

    /// Sends this very message.
    pub(crate) async fn write(&mut self, message: &Value) {
        let text = message.to_string();
        match &mut self.connection {
            Connection::WebSocket(socket) => {
                let sent = within("sending", socket.send(Message::text(text))).await;
                // A connection that the server has ended is found by reading.
                let _ = sent;
            }
            _ => {
                let response = self.post(&text).await;
                assert_eq!(response.status, 200, "{}", response.text());
            }
        }
    }

    /// Sends this body by a request.
    pub(crate) async fn post(&self, body: &str) -> Response {
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            self.token,
            body.len()
        );
        http::request_with_body(self.address, "POST", "/send", &headers, body).await
    }

    /// The next message, which must be of this type.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: &'static str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let message = self.next().await;
            let message = message.unwrap_or_else(|end| panic!("{caller}: {end:?}, and no {kind}"));
            assert_eq!(message["type"], kind, "{caller}: {message}");
            message
        }
    }

    /// Sends what goes to the partner.
    pub(crate) async fn say(&mut self, payload: impl Into<Value>) {
        let payload = payload.into();
        self.send(json!({"type": "message", "payload": payload}))
            .await;
    }

    /// Asks for a match, and waits for it.
    pub(crate) async fn find(&mut self) -> Value {
        self.send(json!({"type": "find_match"})).await;
        self.found().await
    }

    /// Waits for `match_found`; until then nothing but `waiting` is told.
    pub(crate) async fn found(&mut self) -> Value {
        loop {
            let told = self.next().await.unwrap();
            if told["type"] == "match_found" {
                return told;
            }
            assert_eq!(told["type"], "waiting");
        }
    }

    /// What the partner has said must come next.
    #[track_caller]
    pub(crate) fn hears(&mut self, payload: impl Into<Value>) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let payload = payload.into();
        async move {
            let message = self.expect("message").await;
            assert_eq!(message["payload"], payload, "{caller}");
        }
    }
}

/// A stream of events.
struct Events {
    stream: BufReader<TcpStream>,
    /// What is left of a chunk, where a proxy sends the stream in chunks.
    left: Option<usize>,
}

impl Events {
    /// The next line.
    async fn line(&mut self) -> Result<String, End> {
        let mut line = Vec::new();
        loop {
            if self.left == Some(0) {
                let mut size = String::new();
                while size.trim().is_empty() {
                    size.clear();
                    let read = self.stream.read_line(&mut size).await;
                    if !read.is_ok_and(|read| read > 0) {
                        return Err(End::Broken);
                    }
                }
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                if size == 0 {
                    return Err(End::Broken);
                }
                self.left = Some(size);
            }
            let byte = self.stream.read_u8().await.map_err(|_| End::Broken)?;
            self.left = self.left.map(|left| left - 1);
            match byte {
                b'\n' => return Ok(String::from_utf8(line).unwrap()),
                byte => line.push(byte),
            }
        }
    }

    /// Reads one event; comments and `retry` are left out.
    async fn next(&mut self) -> Result<Value, End> {
        let (mut kind, mut data, mut id) = (String::new(), Vec::new(), None);
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut kind),
                Some(("id", value)) => id = value.parse::<u64>().ok(),
                Some(("data", value)) => data.push(value.to_owned()),
                _ if line.is_empty() && !data.is_empty() => break,
                _ => {}
            }
        }
        let message: Value = serde_json::from_str(&data.join("\n")).unwrap();
        if kind == "close" {
            let code = message["code"].as_u64();
            return Err(End::Closed(code.and_then(|code| u16::try_from(code).ok())));
        }
        assert_eq!(id, message["seq"].as_u64(), "{message}");
        Ok(message)
    }
}

/// Two clients in one room; the second makes the offer.
pub(crate) async fn pair(server: &TestServer, first: Via, second: Via) -> (Client, Client) {
    pair_at(server.public, first, second).await
}

/// The same at this address.
pub(crate) async fn pair_at(address: SocketAddr, first: Via, second: Via) -> (Client, Client) {
    let mut first = Client::begin_at(address, first).await;
    let mut second = Client::begin_at(address, second).await;
    first.send(json!({"type": "find_match"})).await;
    first.expect("waiting").await;
    second.find().await;
    first.found().await;
    (first, second)
}
