//! The WebSocket client: one connection, small in memory, that reads while it writes.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, future::Either};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    client_async_with_config,
    tungstenite::{
        Bytes, Error as WsError, Message, Utf8Bytes,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{Uri, uri::PathAndQuery},
        protocol::WebSocketConfig,
    },
};

pub use crate::user::net::endpoint_http::Asked;
use crate::{
    measure::sample::ErrorKind,
    user::net::{credentials::Access, endpoint_http::Others, source_pool::Sources, target::Target},
};

/// The longest message that is read.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// What may wait to be sent when the server does not read.
const MAX_UNSENT_BYTES: usize = 1 << 20;
/// Read buffer of each connection: 10,000 users cost 20 MB. Longer messages take more of it, or more reads.
const READ_BUFFER_BYTES: usize = 2048;
/// How long the close handshake at the end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where connections go to, and from where.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub uri: Uri,
    pub address: SocketAddr,
    pub access: Arc<Access>,
    pub sources: Arc<Sources>,
    pub others: Arc<Others>,
}

impl Endpoint {
    /// Connections to `address` for what `target` says.
    pub fn new(target: &Target, address: SocketAddr) -> Self {
        Self {
            uri: target.uri.clone(),
            address,
            sources: Arc::new(Sources::new(address.ip(), target.access.source_ips())),
            access: Arc::clone(&target.access),
            others: Arc::default(),
        }
    }

    /// The server's name, as a request says it.
    pub fn authority(&self) -> &str {
        self.uri
            .authority()
            .map_or("localhost", |authority| authority.as_str())
    }

    /// Opens a connection for the user with this index: TCP connect, TLS for `wss`, WebSocket handshake. `path`:
    /// in the place of that of the URL.
    ///
    /// # Errors
    /// What failed. There is no time limit in here.
    pub async fn connect(&self, user: u32, path: Option<&str>) -> Result<Connection, ErrorKind> {
        let mut request = self
            .uri_of(path)
            .ok_or(ErrorKind::HandshakeInvalid)?
            .into_client_request()
            .map_err(|_unusable| ErrorKind::HandshakeInvalid)?;
        self.access.add_headers(user, request.headers_mut());
        let stream = self.tcp(user).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_UNSENT_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let opened = match self.access.tls() {
            None => client_async_with_config(request, stream, Some(config))
                .await
                .map(|(socket, _response)| Either::Left(socket)),
            Some(tls) => {
                let tls = Some(Connector::Rustls(tls));
                client_async_tls_with_config(request, stream, Some(config), tls)
                    .await
                    .map(|(socket, _response)| Either::Right(Box::pin(socket)))
            }
        };
        match opened {
            Ok(socket) => Ok(Connection {
                socket,
                unflushed: false,
            }),
            Err(WsError::Http(response)) => {
                Err(ErrorKind::HandshakeRejected(response.status().as_u16()))
            }
            Err(WsError::Tls(_)) => Err(ErrorKind::TlsFailed),
            // This is how the TLS library tells what it does not accept.
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ErrorKind::TlsFailed)
            }
            Err(WsError::Io(error)) => Err(ErrorKind::of_io(&error, true)),
            Err(WsError::Protocol(ProtocolError::HandshakeIncomplete)) => Err(ErrorKind::Ended),
            Err(_) => Err(ErrorKind::HandshakeInvalid),
        }
    }

    fn uri_of(&self, path: Option<&str>) -> Option<Uri> {
        let Some(path) = path else {
            return Some(self.uri.clone());
        };
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
        Uri::from_parts(parts).ok()
    }

    pub async fn tcp(&self, user: u32) -> Result<TcpStream, ErrorKind> {
        let mut attempt = 0;
        loop {
            let tried = self.tcp_from(self.sources.of(user, attempt)).await;
            match tried.map_err(|error| ErrorKind::of_io(&error, false)) {
                Err(ErrorKind::PortsExhausted) if attempt + 1 < self.sources.attempts() => {
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn tcp_from(&self, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(true)?;
        if let Some(source) = source {
            // The port is taken here, for all destinations, and not at connect: with one destination
            // per run an address has the same number of ports either way.
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        socket.connect(self.address).await
    }
}

/// What came in.
#[derive(Debug)]
pub enum Event {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
}

type PlainSocket = WebSocketStream<TcpStream>;
/// Its state is a kilobyte, which those without do not pay for.
type TlsSocket = Pin<Box<WebSocketStream<MaybeTlsStream<TcpStream>>>>;

/// An open connection.
pub struct Connection {
    socket: Either<PlainSocket, TlsSocket>,
    unflushed: bool,
}

impl Connection {
    /// Sends as much of a text message as the socket takes now. [`Self::next`] sends the rest.
    ///
    /// # Errors
    /// The server does not read, or the connection is gone.
    pub fn send(&mut self, text: String) -> Result<(), ErrorKind> {
        self.start(Message::text(text))
    }

    /// The same for a binary message.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), ErrorKind> {
        self.start(Message::binary(bytes))
    }

    fn start(&mut self, message: Message) -> Result<(), ErrorKind> {
        self.unflushed = true;
        self.socket.start_send_unpin(message).map_err(kind_of)
    }

    /// The next message. Cancel-safe. Pings are answered on the way.
    ///
    /// # Errors
    /// The connection is over, for the reason given.
    pub async fn next(&mut self) -> Result<Event, ErrorKind> {
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Some(Ok(Message::Text(text))) => return Ok(Event::Text(text)),
                Some(Ok(Message::Binary(bytes))) => return Ok(Event::Binary(bytes)),
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    return Err(ErrorKind::ClosedByServer(code));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(kind_of(error)),
                None => return Err(ErrorKind::Ended),
            }
        }
    }

    /// Writing goes on while reading: a user who stopped reading in order to write, and a server that
    /// does the same, would wait for each other for good.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, WsError>>> {
        if self.unflushed {
            match self.socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {}
            }
        }
        self.socket.poll_next_unpin(cx)
    }

    /// Closes in good order: sends a close frame, and reads until the server's close.
    ///
    /// # Errors
    /// The server did not answer in time, or not with a close frame.
    pub async fn close(mut self) -> Result<(), ErrorKind> {
        let handshake = async {
            self.socket.close().await.map_err(kind_of)?;
            while let Some(message) = self.socket.next().await {
                if message.map_err(kind_of)?.is_close() {
                    break;
                }
            }
            // The server closes TCP first (RFC 6455, section 7.1.1), so that the TIME_WAIT, and with it
            // the local port, is not ours.
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok(())
        };
        tokio::time::timeout(CLOSE_TIMEOUT, handshake)
            .await
            .unwrap_or(Err(ErrorKind::CloseTimeout))
    }
}

fn kind_of(error: WsError) -> ErrorKind {
    match error {
        WsError::Io(error) => ErrorKind::of_io(&error, true),
        WsError::WriteBufferFull(_) => ErrorKind::ServerNotReading,
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ) => ErrorKind::Ended,
        WsError::Capacity(_) => ErrorKind::MessageTooLong,
        _ => ErrorKind::FrameInvalid,
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::error::CapacityError;

    use super::*;

    #[test]
    fn long_messages_are_told_from_broken_frames() {
        let too_long = CapacityError::MessageTooLong {
            size: MAX_MESSAGE_BYTES + 1,
            max_size: MAX_MESSAGE_BYTES,
        };
        let kind = kind_of(WsError::Capacity(too_long));
        assert_eq!(kind, ErrorKind::MessageTooLong);
        let broken = WsError::Protocol(ProtocolError::InvalidOpcode(3));
        assert_eq!(kind_of(broken), ErrorKind::FrameInvalid);
    }
}
