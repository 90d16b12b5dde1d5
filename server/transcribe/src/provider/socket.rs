//! A WebSocket to a provider that notices when the other end is gone.

use std::{
    error::Error,
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use hyper::Uri;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message, Utf8Bytes,
        protocol::{CloseFrame, WebSocketConfig},
    },
};
use tracing::warn;

/// The other end is asked so often whether it is there.
const PING: Duration = Duration::from_secs(10);
/// If nothing comes for so long it is not.
const NOTHING: Duration = Duration::from_secs(20);
/// The most bytes of a message. One that is longer ends the connection.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;
/// Most messages are shorter.
const READ_BUFFER: usize = 4096;

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnectError {
    /// Why not; it names no URL.
    Unreachable(String),
    /// It answered with this HTTP status.
    Status(u16),
}

/// What has happened on a socket.
pub(super) enum Received {
    Text(Utf8Bytes),
    /// It has been written to; there may be room for more.
    Flushed,
    /// It is closed, with this code if there was one.
    Closed(Option<u16>),
    Broken,
    /// It is open, and nothing comes.
    HalfOpen,
}

/// See [`socket`](self).
pub(super) struct Socket {
    inner: WebSocketStream<Box<dyn Io>>,
    is_unflushed: bool,
    heard: Instant,
    ping_at: Instant,
}

/// Logs why a provider cannot be reached: once, until it was reached again.
#[derive(Default)]
pub(super) struct Reach {
    is_lost: AtomicBool,
}

impl Reach {
    pub(super) fn lost(&self, provider: &'static str, why: &str) {
        if !self.is_lost.swap(true, Relaxed) {
            warn!(provider, why, "the provider cannot be reached");
        }
    }

    /// It has answered, whatever that was.
    pub(super) fn found(&self) {
        self.is_lost.store(false, Relaxed);
    }
}

/// An error and what it comes from.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// TLS with the certificate authorities of the system, or those of the file that `SSL_CERT_FILE` names.
pub(super) fn system_tls() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("there are no certificate authorities; install ca-certificates, or name a file in SSL_CERT_FILE".to_owned());
    }
    tls(roots)
}

/// TLS that trusts these authorities.
pub(super) fn tls(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Connects to a `ws` or `wss` URL. The caller limits the time.
pub(super) async fn connect(
    url: &Uri,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Socket, ConnectError> {
    let io = open(url, tls)
        .await
        .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    match client_async_with_config(url, io, Some(config)).await {
        Ok((inner, _)) => {
            let now = Instant::now();
            Ok(Socket {
                inner,
                is_unflushed: false,
                heard: now,
                ping_at: now + PING,
            })
        }
        Err(WsError::Http(answer)) => Err(ConnectError::Status(answer.status().as_u16())),
        Err(WsError::Io(error)) => Err(ConnectError::Unreachable(error.to_string())),
        Err(_) => Err(ConnectError::Unreachable(
            "its answer is none of a WebSocket".to_owned(),
        )),
    }
}

/// A connection without or with TLS.
async fn open(url: &Uri, tls: Option<&Arc<ClientConfig>>) -> io::Result<Box<dyn Io>> {
    let is_secure = url.scheme_str() == Some("wss");
    let host = url.host().ok_or(io::ErrorKind::InvalidInput)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await?;
    let _ = tcp.set_nodelay(true);
    if !is_secure {
        return Ok(Box::new(tcp));
    }
    let tls = tls.ok_or(io::ErrorKind::Unsupported)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(tls));
    Ok(Box::new(connector.connect(name, tcp).await?))
}

impl Socket {
    /// Whether all that was sent has been written.
    pub(super) fn has_room(&self) -> bool {
        !self.is_unflushed
    }

    /// Sends a message, to be called if there is room. [`Self::next`] writes what the socket does not take at once.
    pub(super) fn send(&mut self, message: Message) {
        self.is_unflushed = true;
        // If this fails, `next` says why.
        let _ = self.inner.start_send_unpin(message);
    }

    /// What happens next. Cancel-safe. Answers pings, and sends some.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            let ping_at = self.ping_at;
            let nothing_at = self.heard + NOTHING;
            tokio::select! {
                received = poll_fn(|cx| self.poll(cx)) => {
                    let Some(received) = received else { continue };
                    return received;
                }
                () = sleep_until(nothing_at) => return Received::HalfOpen,
                () = sleep_until(ping_at) => {
                    self.ping_at = Instant::now() + PING;
                    self.send(Message::Ping(Vec::new().into()));
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_unflushed {
            match self.inner.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => {
                    self.is_unflushed = false;
                    return Poll::Ready(Some(Received::Flushed));
                }
                Poll::Ready(Err(_)) => self.is_unflushed = false,
                Poll::Pending => {}
            }
        }
        let message = match self.inner.poll_next_unpin(cx) {
            Poll::Ready(message) => message,
            Poll::Pending => return Poll::Pending,
        };
        self.heard = Instant::now();
        Poll::Ready(match message {
            Some(Ok(Message::Text(text))) => Some(Received::Text(text)),
            Some(Ok(Message::Close(frame))) => Some(Received::Closed(
                frame.map(|frame: CloseFrame| frame.code.into()),
            )),
            Some(Ok(_)) => None,
            Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) | None => {
                Some(Received::Closed(None))
            }
            Some(Err(_)) => Some(Received::Broken),
        })
    }

    /// Says that it is closed, as far as the socket takes it at once.
    pub(super) async fn close(mut self) {
        let close = self.inner.close(None);
        let _ = tokio::time::timeout(Duration::from_secs(1), close).await;
    }
}
