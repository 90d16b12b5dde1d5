//! A client made by hand: any bytes, at any pace.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
};

use super::{
    TestServer,
    http::{self, Response},
    user::text,
    within,
};

/// A handshake that is in order, for the address that stands in it.
pub(crate) fn handshake(server: &TestServer) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.public
    )
}

/// A frame as a client sends it, masked. `first`: FIN, reserved bits and opcode.
pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    if let Ok(short @ ..=125) = u8::try_from(payload.len()) {
        frame.push(0x80 | short);
    } else if let Ok(middle) = u16::try_from(payload.len()) {
        frame.push(0x80 | 126);
        frame.extend(middle.to_be_bytes());
    } else {
        frame.push(0x80 | 127);
        frame.extend((payload.len() as u64).to_be_bytes());
    }
    frame.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame as it came from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) const TEXT: u8 = 0x81;
    pub(crate) const CLOSE: u8 = 0x88;
    pub(crate) const PING: u8 = 0x89;
    pub(crate) const PONG: u8 = 0x8a;

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.first, Self::TEXT, "{self:?}");
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// A TCP connection, after or without a WebSocket handshake.
pub(crate) struct RawSocket {
    pub(crate) stream: BufReader<TcpStream>,
    /// The session's id, after the handshake.
    pub(crate) id: String,
}

impl RawSocket {
    /// Connects, and says nothing.
    pub(crate) async fn connect(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.public).await.unwrap();
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            id: String::new(),
        }
    }

    /// Connects, shakes hands, and reads the first message.
    pub(crate) async fn open(server: &TestServer) -> Self {
        let mut socket = Self::connect(server).await;
        socket.shake_hands(server).await;
        socket
    }

    /// The same with a receive buffer so small that it is soon full.
    pub(crate) async fn open_narrow(server: &TestServer) -> Self {
        let mut socket = Self::connect_narrow(server).await;
        socket.shake_hands(server).await;
        socket
    }

    /// Connects with such a buffer, and says nothing.
    pub(crate) async fn connect_narrow(server: &TestServer) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(server.public).await.unwrap())
    }

    async fn shake_hands(&mut self, server: &TestServer) {
        self.write(handshake(server).as_bytes()).await;
        assert_eq!(self.response().await.status, 101);
        self.id = text(&self.expect("session").await, "session_id");
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("writing", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// Sends a text message in one frame.
    pub(crate) async fn send(&mut self, text: &str) {
        self.write(&client_frame(Frame::TEXT, text.as_bytes()))
            .await;
    }

    pub(crate) async fn response(&mut self) -> Response {
        within("an answer", http::read_response(&mut self.stream, true)).await
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        within("a frame", self.read_frame()).await
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        let stream = &mut self.stream;
        if stream.read(&mut head[..1]).await.unwrap() == 0 {
            return None;
        }
        stream.read_exact(&mut head[1..]).await.unwrap();
        let length = match head[1] {
            126 => stream.read_u16().await.unwrap().into(),
            127 => stream.read_u64().await.unwrap(),
            short @ ..=125 => short.into(),
            _ => panic!("the server must not mask"),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        let first = head[0];
        Some(Frame { first, payload })
    }

    /// The next frame, which must be a message of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.frame().await.expect("the connection ended").json();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next frame must be a close with a code, and nothing may follow.
    pub(crate) async fn expect_close(&mut self) -> u16 {
        let frame = self.frame().await.expect("the connection ended");
        assert_eq!(frame.first, Frame::CLOSE, "{frame:?}");
        let code = frame.payload.first_chunk().expect("a code");
        self.expect_end().await;
        u16::from_be_bytes(*code)
    }

    pub(crate) async fn expect_end(&mut self) {
        assert_eq!(self.frame().await, None);
    }

    /// Is matched with `partner`, who is idle.
    pub(crate) async fn meet(&mut self, partner: &mut super::User) {
        self.send(r#"{"type":"find_match"}"#).await;
        self.expect("waiting").await;
        partner.find().await;
        assert_eq!(partner.expect_match().await.peer, self.id);
        self.expect("match_found").await;
    }
}
