//! TLS over TCP (RFC 8446). One task reads and any thread may write, as with a bare socket: both halves share the state,
//! behind a lock that is held only while bytes are encrypted and given to the kernel.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::WriteHalf;

/// A TLS connection, as HTTP reads and writes it.
pub struct TlsStream(Arc<Shared>);

/// The side that is read. Its task also sends what TLS itself has to say.
pub struct TlsReadHalf(Arc<Shared>);

/// The side that is written. Dropping it says goodbye and hangs up.
pub struct TlsWriteHalf(Option<Arc<Shared>>);

struct Shared {
    socket: TcpStream,
    state: Mutex<State>,
}

struct State {
    connection: ServerConnection,
    /// The task that reads; woken to send what a writer could not.
    reader: Option<Waker>,
}

impl TlsStream {
    /// Waits until both sides have agreed. The error says why they could not.
    pub async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            socket,
            state: Mutex::new(State {
                connection,
                reader: None,
            }),
        });
        std::future::poll_fn(|cx| shared.poll_handshake(cx)).await?;
        Ok(Self(shared))
    }

    /// The two sides, for whoever reads and writes in different places.
    pub fn into_split(self) -> (TlsReadHalf, TlsWriteHalf) {
        (TlsReadHalf(self.0.clone()), TlsWriteHalf(Some(self.0)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.lock();
            let flushed = state.flush(&self.socket)?;
            if flushed && !state.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if state.receive(&self.socket)? == Some(0) {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_ready(&state, flushed, cx))?;
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.lock();
            let flushed = state.flush(&self.socket)?;
            match state.connection.reader().read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                Err(_) => {}
            }
            if state.receive(&self.socket)?.is_some() {
                continue;
            }
            let known = state.reader.as_ref();
            if !known.is_some_and(|reader| reader.will_wake(cx.waker())) {
                state.reader = Some(cx.waker().clone());
            }
            ready!(self.poll_ready(&state, flushed, cx))?;
        }
    }

    /// Ready when there is something to read, or room for what is still to be sent.
    fn poll_ready(
        &self,
        _state: &State,
        flushed: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !flushed && self.socket.poll_write_ready(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_read_ready(cx)
    }

    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.lock();
        if !state.flush(&self.socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = state.connection.writer().write_vectored(parts)?;
        // What the socket does not take now is the reader's to send.
        if !state.flush(&self.socket)?
            && let Some(reader) = &state.reader
        {
            reader.wake_by_ref();
        }
        Ok(written)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.lock().flush(&self.socket)? {
            ready!(self.socket.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye, as far as the socket takes it.
    fn hang_up(&self) {
        let mut state = self.lock();
        state.connection.send_close_notify();
        let _ = state.flush(&self.socket);
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }
}

impl State {
    /// Gives the socket what is encrypted; false: it does not take all of it now.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(socket)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes what the socket has, and how much it was; `None`: nothing now.
    fn receive(&mut self, socket: &TcpStream) -> io::Result<Option<usize>> {
        let read = match self.connection.read_tls(&mut Socket(socket)) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Err(error) = self.connection.process_new_packets() {
            // The other side is told why.
            let _ = self.flush(socket);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(Some(read))
    }
}

/// A socket that is read and written without waiting.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncRead for TlsReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.0.try_write(bufs) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.0.poll_flush(cx))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.hang_up();
        Poll::Ready(Ok(()))
    }
}

impl WriteHalf for TlsWriteHalf {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let shared = self.0.as_ref().ok_or(ErrorKind::NotConnected)?;
        shared.try_write(parts)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Some(shared) => shared.poll_flush(cx),
            None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for TlsWriteHalf {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.hang_up();
        }
    }
}
