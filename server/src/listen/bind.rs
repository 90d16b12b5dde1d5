//! Binding: from an [`Address`] to a socket on which the kernel queues connections.

use std::{
    fmt, fs,
    future::poll_fn,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{
    activated,
    address::{Address, resolve},
};
use crate::io::{Peer, Stream};

/// Connections that the kernel keeps for us until we accept them. With less, a burst of connects loses
/// packets and waits a second for the client to try again.
const BACKLOG: i32 = 4096;

/// A bound address, from which a runtime can accept once it has a [`Listener`].
pub struct Bound {
    socket: Socket,
    /// As it was asked for.
    name: String,
    address: BoundAddress,
    file: Option<SocketFile>,
}

/// Where a server listens, with the port that was taken for port 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The file of a Unix socket. Dropping it removes the file, unless it is another server's by then.
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }

    /// Leaves the file to another process.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode))
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a Unix socket could not be removed");
        }
    }
}

/// Binds. `unix_mode`: the permissions of a Unix socket.
pub fn bind(address: &Address, unix_mode: u32) -> io::Result<Bound> {
    let (socket, file) = match address {
        Address::Any(port) => match bind_tcp((Ipv6Addr::UNSPECIFIED, *port).into()) {
            Err(error) if has_no_ipv6(&error) => {
                (bind_tcp((Ipv4Addr::UNSPECIFIED, *port).into())?, None)
            }
            bound => (bound?, None),
        },
        Address::Ip(address) => (bind_tcp(*address)?, None),
        Address::Name(name, port) => (bind_tcp(resolve(name, *port)?)?, None),
        Address::Unix(path) => {
            let (socket, file) = bind_unix(path, unix_mode)?;
            (socket, Some(file))
        }
        // systemd made the file, and removes it.
        Address::Systemd(name) => (listening(activated::take(name)?)?, None),
    };
    Bound::new(address, socket, file)
}

/// The socket of another process that listens at this address.
pub fn inherit(address: &Address, socket: OwnedFd) -> io::Result<Bound> {
    let file = match address {
        Address::Unix(path) => Some(SocketFile::new(path)?),
        _ => None,
    };
    Bound::new(address, listening(socket.into())?, file)
}

/// A socket that others have made, as we make them.
fn listening(socket: Socket) -> io::Result<Socket> {
    if socket.local_addr()?.as_socket().is_some() {
        socket.set_tcp_nodelay(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: relayed messages are small and must not wait for each other.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(Socket, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    // No client can connect before `listen`, so the permissions are right before the first one does.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Removes the socket of a server that was killed. One that is in use, and a file of another kind, stay.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::other("a file that is not a socket is there"));
    }
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    match client.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // It takes connections, or its queue is full.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
    }
}

impl Bound {
    fn new(address: &Address, socket: Socket, file: Option<SocketFile>) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let bound = match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => BoundAddress::Tcp(address),
            (None, Some(path)) => BoundAddress::Unix(path.to_owned()),
            (None, None) => return Err(io::Error::other("the socket has no address")),
        };
        Ok(Self {
            socket,
            name: address.to_string(),
            address: bound,
            file,
        })
    }

    /// The same socket, to be given to another process, and the address as it was asked for.
    pub fn share(&self) -> io::Result<(String, OwnedFd)> {
        Ok((self.name.clone(), self.socket.try_clone()?.into()))
    }

    /// Where it listens.
    pub fn address(&self) -> &BoundAddress {
        &self.address
    }

    /// The listener for this runtime, and the file to be removed at the end.
    pub fn into_listener(self) -> io::Result<(Listener, Option<SocketFile>)> {
        let listener = match self.address {
            BoundAddress::Tcp(_) => Listener::Tcp(TcpListener::from_std(self.socket.into())?),
            BoundAddress::Unix(_) => Listener::Unix(UnixListener::from_std(self.socket.into())?),
        };
        Ok((listener, self.file))
    }
}

/// A listener that belongs to a runtime.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Accepts a connection.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        Poll::Ready(Ok(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                (Stream::Tcp(stream), Peer::Ip(peer.ip().to_canonical()))
            }
            Self::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                (Stream::Unix(stream), Peer::Unix)
            }
        }))
    }
}

/// Listeners at several addresses.
pub struct Listeners {
    all: Vec<Listener>,
    /// The one that has its turn first.
    next: usize,
    /// Who connects; `None`: everybody.
    peer: Option<Peer>,
}

impl Listeners {
    /// For this runtime, with the files to be removed at the end.
    pub fn new(bound: Vec<Bound>) -> io::Result<(Self, Vec<SocketFile>)> {
        let (mut all, mut files) = (Vec::new(), Vec::new());
        for bound in bound {
            let (listener, file) = bound.into_listener()?;
            all.push(listener);
            files.extend(file);
        }
        let listeners = Self {
            all,
            next: 0,
            peer: None,
        };
        Ok((listeners, files))
    }

    /// The one at which the server that has taken this one's place passes requests on.
    pub fn of_successor(bound: Bound) -> io::Result<(Self, Option<SocketFile>)> {
        let (listener, file) = bound.into_listener()?;
        let listeners = Self {
            all: vec![listener],
            next: 0,
            peer: Some(Peer::Successor),
        };
        Ok((listeners, file))
    }

    /// Accepts a connection at any of them, in turns if several have one.
    pub async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        poll_fn(|cx| {
            for n in 0..self.all.len() {
                let turn = (self.next + n) % self.all.len();
                if let Poll::Ready(accepted) = self.all[turn].poll_accept(cx) {
                    self.next = turn + 1;
                    let accepted =
                        accepted.map(|(stream, peer)| (stream, self.peer.unwrap_or(peer)));
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}
