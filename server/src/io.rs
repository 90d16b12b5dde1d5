//! The sockets below HTTP: TCP, with TLS or without, and Unix sockets for a proxy on the same machine.
//!
//! HTTP reads and writes a [`Stream`]. After the upgrade a WebSocket works on the socket's own type, so that
//! its hot path does not ask which kind it is.

mod link;
pub mod proxy_header;
mod tls;

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr},
    os::unix,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

pub use link::{SocketLink, WriteHalf};
pub use tls::{TlsReadHalf, TlsStream, TlsWriteHalf};

/// A connection as it was accepted.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(TlsStream),
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// At this address.
    Ip(IpAddr),
    /// A process on this machine.
    Unix,
    /// The server that has taken this one's place, on behalf of somebody.
    Successor,
}

impl Peer {
    /// Its address; a process on this machine counts as loopback.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Ip(address) => address,
            Self::Unix | Self::Successor => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// A connection on its way from one runtime to another.
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(unix::net::UnixStream),
}

impl Stream {
    /// Takes the connection away from this runtime.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Unix(stream) => Detached::Unix(stream.into_std()?),
            // It begins where the connection is served.
            Self::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }
}

impl Detached {
    /// Gives the connection to this runtime.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// Calls a method of [`AsyncRead`] or [`AsyncWrite`] on whichever socket it is.
macro_rules! delegate {
    ($stream:ident.$method:ident($($argument:expr),*)) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_shutdown(cx))
    }
}
