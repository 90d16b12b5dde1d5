//! A user with a WebSocket library that is not the server's.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, protocol::frame::coding::CloseCode},
};

use super::{TestServer, within};

/// A connected client. Pings are answered by the library whenever something is read.
pub(crate) struct User {
    pub(crate) socket: WebSocketStream<TcpStream>,
    /// The id by which partners know this user.
    pub(crate) id: String,
    /// The first message.
    pub(crate) session: Value,
}

/// Where a user has been matched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Match {
    pub(crate) room: String,
    pub(crate) peer: String,
    pub(crate) initiator: bool,
    pub(crate) waited_ms: u64,
    pub(crate) shared_interests: Value,
}

impl User {
    /// Connects and reads the first message, which is `session`.
    pub(crate) async fn connect(server: &TestServer) -> Self {
        Self::try_connect(server).await.unwrap()
    }

    /// Connects, unless the server turns the handshake away: then the status.
    pub(crate) async fn try_connect(server: &TestServer) -> Result<Self, u16> {
        Self::connect_to(server, "/ws").await
    }

    /// The same at a path of its own.
    pub(crate) async fn connect_to(server: &TestServer, path: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(server.public).await.unwrap();
        let url = format!("ws://{}{path}", server.public);
        match within("the handshake", client_async(url, stream)).await {
            Ok((socket, _)) => {
                let (id, session) = Default::default();
                let mut user = Self {
                    socket,
                    id,
                    session,
                };
                user.session = user.expect("session").await;
                user.id = text(&user.session, "session_id");
                Ok(user)
            }
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    /// Sends these very bytes.
    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        let message = Message::text(text.into());
        within("sending", self.socket.send(message)).await.unwrap();
    }

    /// The next message or close. Pings and pongs are the library's.
    pub(crate) async fn next(&mut self) -> Message {
        let next = async {
            loop {
                let message = self.socket.next().await;
                match message.expect("the connection ended").unwrap() {
                    Message::Ping(_) | Message::Pong(_) => {}
                    message => return message,
                }
            }
        };
        within("a message", next).await
    }

    /// The next message, byte for byte.
    pub(crate) async fn next_text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("a text message was to come, not {other:?}"),
        }
    }

    pub(crate) async fn next_json(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    /// The next message, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next_json().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The code with which the server closes, with nothing said before.
    pub(crate) async fn expect_close(&mut self) -> u16 {
        match self.next().await {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("a close was to come, not {other:?}"),
        }
    }

    /// An `error` with this code must come next.
    pub(crate) async fn expect_error(&mut self, code: &str) -> Value {
        let error = self.expect("error").await;
        assert_eq!(error["code"], code, "{error}");
        error
    }

    pub(crate) async fn expect_match(&mut self) -> Match {
        let found = self.expect("match_found").await;
        Match {
            room: text(&found, "room_id"),
            peer: text(&found, "peer_id"),
            initiator: found["initiator"].as_bool().unwrap(),
            waited_ms: found["waited_ms"].as_u64().unwrap(),
            shared_interests: found["shared_interests"].clone(),
        }
    }

    /// `peer_left` must come next; returns the reason.
    pub(crate) async fn expect_peer_left(&mut self) -> String {
        text(&self.expect("peer_left").await, "reason")
    }

    pub(crate) async fn find(&mut self) {
        self.send(json!({"type": "find_match"})).await;
    }

    pub(crate) async fn find_with(&mut self, criteria: Value) {
        self.send(json!({"type": "find_match", "criteria": criteria}))
            .await;
    }

    /// Asks for a partner where nobody fits yet.
    pub(crate) async fn wait(&mut self) {
        self.find().await;
        self.expect("waiting").await;
    }

    /// Asks for such a partner where nobody fits yet.
    pub(crate) async fn wait_with(&mut self, criteria: Value) {
        self.find_with(criteria).await;
        self.expect("waiting").await;
    }

    /// Nothing has been said to this user since the last message that was read, and they are heard.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.send(json!({"type": "ping", "id": "undisturbed?"}))
            .await;
        let pong = self.expect("pong").await;
        assert_eq!(pong["id"], "undisturbed?");
    }

    /// Says goodbye as RFC 6455 wants it, and waits for the answer.
    pub(crate) async fn close(mut self) {
        let normal = tungstenite::protocol::CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        self.socket.close(Some(normal)).await.unwrap();
        let answer = self.next().await;
        assert!(matches!(answer, Message::Close(_)), "{answer:?}");
        let end = within("the end", self.socket.next()).await;
        assert!(end.is_none(), "{end:?}");
    }

    /// Breaks the connection without a word: the server's kernel is sent a reset.
    pub(crate) fn reset(self) {
        let stream = self.socket.get_ref();
        let linger = Some(std::time::Duration::ZERO);
        socket2::SockRef::from(stream).set_linger(linger).unwrap();
    }
}

/// Two users in one room; the second makes the offer.
pub(crate) async fn pair(server: &TestServer) -> (User, User) {
    let mut first = User::connect(server).await;
    let mut second = User::connect(server).await;
    first.wait().await;
    second.find().await;
    assert_eq!(second.expect_match().await.peer, first.id);
    assert_eq!(first.expect_match().await.peer, second.id);
    (first, second)
}

#[track_caller]
pub(crate) fn text(message: &Value, field: &str) -> String {
    match message[field].as_str() {
        Some(text) => text.to_owned(),
        None => panic!("no text {field} in {message}"),
    }
}
