//! The WebSocket client: one connection, small in memory, that reads while it writes.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message, Utf8Bytes, error::ProtocolError, http::Uri,
        protocol::WebSocketConfig,
    },
};

use crate::sample::ErrorKind;

/// The longest message that is read.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// What may wait to be sent when the server does not read.
const MAX_UNSENT_BYTES: usize = 1 << 20;
/// Read buffer of each connection: 10,000 users cost 40 MB.
const READ_BUFFER_BYTES: usize = 4096;
/// How long the close handshake at the end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Source addresses tried when one has no port left.
const MAX_SOURCES: u32 = 64;

/// Where connections go to, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    uri: Uri,
    address: SocketAddr,
    users_per_source: u32,
}

impl Endpoint {
    /// Connections to `address` for `uri`.
    pub(crate) fn new(uri: Uri, address: SocketAddr) -> Self {
        Self {
            uri,
            address,
            users_per_source: users_per_source(),
        }
    }

    /// The source address of the user with this index, at the n-th attempt. `None`: the kernel chooses.
    ///
    /// All of 127.0.0.0/8 is ours, and each address has ports of its own.
    fn source(&self, user: u32, attempt: u32) -> Option<SocketAddr> {
        let IpAddr::V4(target) = self.address.ip() else {
            return None;
        };
        let nth = user / self.users_per_source.max(1) + attempt;
        if !target.is_loopback() || nth == 0 {
            return None;
        }
        let [.., last] = (nth % MAX_SOURCES + 1).to_be_bytes();
        Some(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))
    }

    /// Opens a connection for the user with this index: TCP connect and WebSocket handshake.
    ///
    /// # Errors
    /// What failed. There is no time limit in here.
    pub(crate) async fn connect(&self, user: u32) -> Result<Connection, ErrorKind> {
        let stream = self.tcp(user).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_UNSENT_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        match client_async_with_config(self.uri.clone(), stream, Some(config)).await {
            Ok((socket, _response)) => Ok(Connection {
                socket,
                unflushed: false,
            }),
            Err(WsError::Http(response)) => {
                Err(ErrorKind::HandshakeRejected(response.status().as_u16()))
            }
            Err(WsError::Io(error)) => Err(ErrorKind::of_io(&error, true)),
            Err(WsError::Protocol(ProtocolError::HandshakeIncomplete)) => Err(ErrorKind::Reset),
            Err(_) => Err(ErrorKind::HandshakeInvalid),
        }
    }

    async fn tcp(&self, user: u32) -> Result<TcpStream, ErrorKind> {
        let mut attempt = 0;
        loop {
            let tried = self.tcp_from(self.source(user, attempt)).await;
            match tried.map_err(|error| ErrorKind::of_io(&error, false)) {
                Err(ErrorKind::PortsExhausted)
                    if attempt < MAX_SOURCES && self.source(user, attempt + 1).is_some() =>
                {
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn tcp_from(&self, source: Option<SocketAddr>) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(true)?;
        if let Some(source) = source {
            // The port is taken here, for all destinations, and not at connect: with one destination
            // per run an address has the same number of ports either way.
            socket.bind(source)?;
        }
        socket.connect(self.address).await
    }
}

/// Users that share a source address: nine tenths of the machine's local ports, as others use them too.
fn users_per_source() -> u32 {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    match (ends.next(), ends.next()) {
        (Some(Ok(low)), Some(Ok(high))) if high > low => (high - low).max(10) / 10 * 9,
        _ => 25_000,
    }
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Event {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message, which this wire does not have.
    Binary,
}

/// An open connection.
pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
    unflushed: bool,
}

impl Connection {
    /// Sends as much of a message as the socket takes now. [`Self::next`] sends the rest.
    ///
    /// # Errors
    /// The server does not read, or the connection is gone.
    pub(crate) fn send(&mut self, text: String) -> Result<(), ErrorKind> {
        self.unflushed = true;
        self.socket
            .start_send_unpin(Message::text(text))
            .map_err(kind_of)
    }

    /// The next message. Cancel-safe. Pings are answered on the way.
    ///
    /// # Errors
    /// The connection is over, for the reason given.
    pub(crate) async fn next(&mut self) -> Result<Event, ErrorKind> {
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Some(Ok(Message::Text(text))) => return Ok(Event::Text(text)),
                Some(Ok(Message::Binary(_))) => return Ok(Event::Binary),
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    return Err(ErrorKind::ClosedByServer(code));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(kind_of(error)),
                None => return Err(ErrorKind::Reset),
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
    pub(crate) async fn close(mut self) -> Result<(), ErrorKind> {
        let handshake = async {
            self.socket.close(None).await.map_err(kind_of)?;
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
        ) => ErrorKind::Reset,
        _ => ErrorKind::FrameInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        let address = address.parse().expect("an address");
        Endpoint {
            uri: Uri::from_static("ws://host/ws"),
            address,
            users_per_source: 100,
        }
    }

    #[test]
    fn users_spread_over_loopback_sources_when_ports_run_out() {
        let loopback = endpoint("127.0.0.1:80");
        let source = |user, attempt| loopback.source(user, attempt).map(|a| a.to_string());
        assert_eq!(source(99, 0), None, "the kernel chooses");
        assert_eq!(source(100, 0).as_deref(), Some("127.0.0.2:0"));
        assert_eq!(source(199, 1).as_deref(), Some("127.0.0.3:0"));
        assert_eq!(
            source(u32::MAX - 200, 64).map(|a| a.starts_with("127.0.0.")),
            Some(true)
        );
    }

    #[test]
    fn elsewhere_the_kernel_chooses() {
        assert_eq!(endpoint("192.0.2.1:80").source(100_000, 3), None);
        assert_eq!(endpoint("[::1]:80").source(100_000, 3), None);
    }
}
