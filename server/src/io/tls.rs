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
use voicematch_core::memory::{Memory, Share};

/// The longest client's side of a handshake: most take half a KiB, with keys against quantum computers two.
const MAX_HANDSHAKE_BYTES: usize = 16 * 1024;

/// Memory of a connection for TLS itself, as measured: what rustls keeps of it.
const TLS_BYTES: usize = 8 * 1024;

/// A TLS connection, as HTTP reads and writes it.
pub struct TlsStream(Arc<Shared>);

/// The side that is read. Its task also sends what TLS itself has to say.
pub struct TlsReadHalf(Arc<Shared>);

/// The side that is written. Dropping it says goodbye and hangs up.
pub struct TlsWriteHalf(Option<Arc<Shared>>);

struct Shared {
    socket: TcpStream,
    state: Mutex<State>,
    _memory: Share,
}

struct State {
    connection: ServerConnection,
    /// The task that reads; woken to send what a writer could not.
    reader: Option<Waker>,
    /// The goodbye is said; the socket hangs up once it has all.
    hanging_up: bool,
    /// Bytes of the client's side of the handshake.
    greeted: usize,
}

impl TlsStream {
    /// Waits until both sides have agreed. The error says why they could not.
    pub async fn accept(
        socket: TcpStream,
        config: Arc<ServerConfig>,
        memory: Arc<Memory>,
    ) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let _handshake = Share::new(memory.clone(), MAX_HANDSHAKE_BYTES);
        let shared = Arc::new(Shared {
            _memory: Share::new(memory, TLS_BYTES),
            socket,
            state: Mutex::new(State {
                connection,
                reader: None,
                hanging_up: false,
                greeted: 0,
            }),
        });
        std::future::poll_fn(|cx| shared.poll_handshake(cx)).await?;
        Ok(Self(shared))
    }

    /// The two sides, to be read and written in different places.
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
            match state.receive(&self.socket)? {
                Some(0) => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Some(read) => {
                    state.greeted += read;
                    if state.greeted > MAX_HANDSHAKE_BYTES {
                        let why = "the client's side of the handshake is too long";
                        return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, why)));
                    }
                    continue;
                }
                None => {}
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
        if !state.flush(&self.socket)? {
            state.wake_reader();
        }
        Ok(written)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.lock().flush(&self.socket)? {
            ready!(self.socket.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye behind all that was written. What the socket does not take now is the reader's to send.
    fn hang_up(&self) {
        let mut state = self.lock();
        state.connection.send_close_notify();
        state.hanging_up = true;
        match state.flush(&self.socket) {
            Ok(true) => {}
            Ok(false) => state.wake_reader(),
            Err(_) => _ = SockRef::from(&self.socket).shutdown(Shutdown::Write),
        }
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
        if std::mem::take(&mut self.hanging_up) {
            SockRef::from(socket).shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }

    fn wake_reader(&self) {
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
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

#[cfg(test)]
mod tests {
    use rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsConnector;
    use voicematch_core::{memory::Memory, metrics::Metrics};

    use super::*;

    /// A certificate for `a`, on both sides.
    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let own = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).expect("a root");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("a key that fits");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    #[tokio::test]
    async fn what_was_written_arrives_whole_after_the_writer_has_hung_up() {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = tokio::spawn(async move {
            let socket = TcpStream::connect(address).await.expect("connected");
            SockRef::from(&socket)
                .set_recv_buffer_size(4096)
                .expect("set");
            let name = ServerName::try_from("a").expect("a name");
            let stream = TlsConnector::from(client).connect(name, socket).await;
            let mut stream = stream.expect("trusted");
            let mut heard = Vec::new();
            // An end without a goodbye would be an error.
            stream
                .read_to_end(&mut heard)
                .await
                .expect("a whole stream");
            stream.shutdown().await.expect("a goodbye");
            heard.len()
        });
        let (socket, _) = listener.accept().await.expect("accepted");
        SockRef::from(&socket)
            .set_send_buffer_size(4096)
            .expect("set");
        let metrics = Metrics::new(1, &[]).expect("names are unique");
        let memory = Memory::new(usize::MAX, metrics.buffered_bytes.clone());
        let stream = TlsStream::accept(socket, server, memory).await;
        let (mut reader, writer) = stream.expect("a handshake").into_split();
        let reading = async {
            let mut nothing = Vec::new();
            reader.read_to_end(&mut nothing).await.expect("a goodbye")
        };
        let writing = async {
            let long = vec![b'x'; 60_000];
            let mut written = 0;
            while written < 300_000 {
                match writer.try_write(&[IoSlice::new(&long)]) {
                    Ok(bytes) => written += bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        let room = std::future::poll_fn(|cx| writer.poll_writable(cx));
                        room.await.expect("room");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            drop(writer);
            written
        };
        // In one task, as in the server.
        let (heard, written) = tokio::join!(reading, writing);
        assert_eq!(heard, 0);
        assert_eq!(client.await.expect("the client"), written);
    }
}
