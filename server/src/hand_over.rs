//! A new server takes the place of the one that runs. It is given the sockets on which that one listens, so that no
//! connection is refused; it says when it serves, and the old one drains.
//!
//! Over a Unix socket that only the server's own user may open:
//!
//! ```text
//!  new                                  old
//!  connects ------------------------->
//!           <------------------------- an `Offer` in a line of JSON, and the sockets
//!  serves, and says so -------------->
//!           <------------------------- has stopped listening, and left the Unix socket to the new one;
//!                                      and whom it keeps out, in JSON
//! ```
//!
//! If one of them ends before the third step, the old server goes on as if nothing had happened.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use voicematch_core::room::ticket::MIN_KEY_BYTES;

use crate::{
    admission::bans::{Bans, ToldBan},
    io::Stream,
    listen::{self, Address, Bound, Listener, SocketFile},
};

/// What both have to say in the same way.
const VERSION: u32 = 1;

/// The most sockets that are passed: the kernel passes 253 at a time (`SCM_MAX_FD`, unix(7)).
const MAX_SOCKETS: usize = 128;

/// The most bytes of an offer: so many addresses of the longest kind.
const MAX_OFFER: usize = 64 * 1024;

/// The most bytes of bans.
const MAX_BYTES_OF_BANS: u64 = 32 * 1024 * 1024;

/// How long one waits for what the other says at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the new one may take until it serves: it may have to fetch keys.
const START: Duration = Duration::from_secs(60);

/// How long to wait after an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The new one serves.
const SERVES: u8 = b'S';

/// The old one has left.
const LEFT: u8 = b'L';

/// What the old server gives away. There is a secret in it.
#[derive(Serialize, Deserialize)]
struct Offer {
    version: u32,
    /// The flags that the sockets come from, in their order.
    names: Vec<String>,
    /// Where the old server goes on to take requests of the sessions that it has.
    sessions: PathBuf,
    /// The key of room tickets in base64, if it is nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    room_key: Option<String>,
}

/// What a new server got from the one before.
pub struct Inherited {
    sockets: Vec<(String, OwnedFd)>,
    sessions: PathBuf,
    room_key: Option<Vec<u8>>,
    control: UnixStream,
}

/// Asks the server that runs for its sockets. `None`: none runs.
pub fn ask(path: &Path) -> io::Result<Option<Inherited>> {
    let control = match UnixStream::connect(path) {
        Ok(control) => control,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // What it gives away are secrets, and what it says is believed.
    let peer = rustix::net::sockopt::socket_peercred(&control)?.uid;
    if peer != rustix::process::geteuid() && !peer.is_root() {
        return Err(io::Error::other("a process of another user listens there"));
    }
    control.set_read_timeout(Some(PATIENCE))?;
    let (line, sockets) = receive(&control)?;
    let offer: Offer = serde_json::from_slice(&line)?;
    let other_way =
        || io::Error::other("the server that runs says it in another way; stop it first");
    if offer.version != VERSION || offer.names.len() != sockets.len() {
        return Err(other_way());
    }
    let room_key = offer.room_key.map(|key| BASE64.decode(key)).transpose();
    let room_key = room_key.map_err(|_| other_way())?;
    if room_key
        .as_ref()
        .is_some_and(|key| key.len() < MIN_KEY_BYTES)
    {
        return Err(other_way());
    }
    Ok(Some(Inherited {
        sockets: offer.names.into_iter().zip(sockets).collect(),
        sessions: offer.sessions,
        room_key,
        control,
    }))
}

/// A line, and the sockets that came with its first part.
fn receive(mut control: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut messages = RecvAncillaryBuffer::new(&mut space);
    let mut part = vec![0; 4096];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        control,
        &mut [IoSliceMut::new(&mut part)],
        &mut messages,
        flags,
    )?;
    let mut sockets = Vec::new();
    for message in messages.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            sockets.extend(passed);
        }
    }
    let mut line = part[..received.bytes].to_vec();
    while line.last() != Some(&b'\n') {
        let read = control.read(&mut part)?;
        if read == 0 || line.len() > MAX_OFFER {
            return Err(io::Error::other(
                "the server that runs has ended, or another new one was first",
            ));
        }
        line.extend_from_slice(&part[..read]);
    }
    Ok((line, sockets))
}

impl Inherited {
    /// Takes the socket of an address that the old server had by the same flag.
    pub fn take(&mut self, flag: &str, address: &Address) -> Option<io::Result<Bound>> {
        let name = named(flag, &address.to_string());
        let place = self.sockets.iter().position(|(known, _)| *known == name)?;
        let (_, socket) = self.sockets.remove(place);
        Some(listen::inherit(address, socket))
    }

    /// Names the addresses that nobody has taken, and stops listening there.
    pub fn give_up_rest(&mut self) {
        for (name, _) in self.sockets.drain(..) {
            tracing::warn!("the server before has {name}, and this one has not");
        }
    }

    /// The Unix socket for requests that carry on sessions of the old server.
    pub fn sessions(&self) -> &Path {
        &self.sessions
    }

    /// The key of the old server's room tickets, if it has it in memory only.
    pub fn take_room_key(&mut self) -> Option<Vec<u8>> {
        self.room_key.take()
    }

    /// Says that this server serves, and waits until the old one has stopped listening. Returns whom that one keeps out.
    pub async fn succeed(self) -> io::Result<Vec<ToldBan>> {
        self.control.set_nonblocking(true)?;
        let mut control = tokio::net::UnixStream::from_std(self.control)?;
        control.write_all(&[SERVES]).await?;
        match timeout(PATIENCE, control.read_u8()).await {
            Ok(Ok(LEFT)) => {}
            Ok(Ok(_)) => return Err(io::Error::other("it says something else")),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(io::Error::other(
                    "it does not say that it has stopped listening",
                ));
            }
        }
        let mut bans = Vec::new();
        let mut told = control.take(MAX_BYTES_OF_BANS);
        timeout(PATIENCE, told.read_to_end(&mut bans))
            .await
            .map_err(|_| io::Error::other("it does not say whom it keeps out"))??;
        Ok(serde_json::from_slice(&bans)?)
    }
}

/// Starts the program anew, with the flags and the environment of this one: it takes this one's place. What cannot be started
/// changes nothing.
pub fn start_successor() {
    let mut arguments = std::env::args_os();
    let Some(program) = arguments.next() else {
        return tracing::error!("the program has no name, and cannot be started again");
    };
    // By its name and not by what runs: there is a newer one by now.
    let mut command = Command::new(program);
    command.args(arguments);
    // It was this process that was to say that it lives.
    command.env_remove("WATCHDOG_PID");
    match command.spawn() {
        Err(error) => tracing::error!(%error, "the new server cannot be started; this one goes on"),
        Ok(mut child) => {
            tracing::info!(pid = child.id(), "a new server is starting");
            thread::spawn(move || {
                let ended = child.wait();
                tracing::error!(?ended, "the new server has ended");
            });
        }
    }
}

/// Waits for a server that takes this one's place.
pub struct HandOver {
    path: PathBuf,
    /// Where it asks; `None`: the server before listens there still.
    bound: Option<Bound>,
    sockets: Vec<(String, OwnedFd)>,
    /// The key of room tickets, if it is in memory only.
    room_key: Option<Vec<u8>>,
}

/// A new server has taken this one's place.
pub struct Succeeded {
    control: tokio::net::UnixStream,
    sessions: Bound,
    /// Where it asked.
    file: Option<SocketFile>,
}

impl HandOver {
    /// At this path, which the server before may still have; gives away the sockets of `bound`, each with its flag,
    /// and the key of room tickets if it would be lost with this process.
    pub fn new<'a>(
        path: &Path,
        has_predecessor: bool,
        bound: impl IntoIterator<Item = (&'a str, &'a Bound)>,
        room_key: Option<Vec<u8>>,
    ) -> io::Result<Self> {
        let share = |(flag, bound): (&str, &Bound)| {
            let (address, socket) = bound.share()?;
            Ok::<_, io::Error>((named(flag, &address), socket))
        };
        let sockets = bound.into_iter().map(share);
        Ok(Self {
            path: path.to_owned(),
            bound: (!has_predecessor).then(|| bind(path)).transpose()?,
            sockets: sockets.collect::<Result<_, _>>()?,
            room_key,
        })
    }

    /// Waits until a new server serves. Those that ask and do not get so far are forgotten.
    pub async fn succeeded(mut self) -> io::Result<Succeeded> {
        let bound = match self.bound.take() {
            Some(bound) => bound,
            None => self.bind_after().await?,
        };
        let (listener, file) = bound.into_listener()?;
        loop {
            match self.offer(&listener).await {
                Ok((control, sessions)) => {
                    return Ok(Succeeded {
                        control,
                        sessions,
                        file,
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a new server did not get to serve; this one goes on");
                }
            }
        }
    }

    /// Listens where the server before has listened. One that is slow to leave may be there for a while yet.
    async fn bind_after(&self) -> io::Result<Bound> {
        loop {
            match bind(&self.path) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => sleep(BACK_OFF).await,
                bound => return bound,
            }
        }
    }

    /// Offers the sockets to the next one that asks, and waits until it serves.
    async fn offer(&self, listener: &Listener) -> io::Result<(tokio::net::UnixStream, Bound)> {
        let mut control = loop {
            match listener.accept().await {
                Ok((Stream::Unix(control), _)) => break control,
                Ok(_) => {}
                Err(_) => sleep(BACK_OFF).await,
            }
        };
        // Its own for each process, as more than one may be draining.
        let mut sessions = self.path.clone().into_os_string();
        sessions.push(format!(".{}", std::process::id()));
        let sessions = PathBuf::from(sessions);
        let bound = bind(&sessions)?;
        let offer = Offer {
            version: VERSION,
            names: self.sockets.iter().map(|(name, _)| name.clone()).collect(),
            sessions,
            room_key: self.room_key.as_ref().map(|key| BASE64.encode(key)),
        };
        let mut line = serde_json::to_vec(&offer)?;
        line.push(b'\n');
        let sockets: Vec<_> = self.sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
        let sent = send(&control, &line, &sockets)?;
        control.write_all(&line[sent..]).await?;
        match timeout(START, control.read_u8()).await {
            Ok(Ok(SERVES)) => Ok((control, bound)),
            Ok(Ok(_)) => Err(io::Error::other("it says something else")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("it took too long to start")),
        }
    }
}

/// What a socket is known by: that of an address with any port has no other.
fn named(flag: &str, address: &str) -> String {
    format!("{flag} {address}")
}

/// Only this server's user may connect.
fn bind(path: &Path) -> io::Result<Bound> {
    listen::bind(&Address::Unix(path.to_owned()), 0o600)
}

/// Sends the first part of a line with the sockets. A new connection takes some bytes at once.
fn send(
    control: &tokio::net::UnixStream,
    line: &[u8],
    sockets: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut messages = SendAncillaryBuffer::new(&mut space);
    if !messages.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("there are too many addresses to pass on"));
    }
    let parts = [IoSlice::new(line)];
    Ok(sendmsg(
        control,
        &parts,
        &mut messages,
        SendFlags::NOSIGNAL,
    )?)
}

impl Succeeded {
    /// Tells the new server that this one has stopped listening, and whom it keeps out, and leaves the Unix socket to it.
    /// Returns where requests of the sessions that are here come in.
    pub async fn leave(self, bans: &Bans) -> Bound {
        drop(self.file);
        let mut words = vec![LEFT];
        words.extend(serde_json::to_vec(&bans.told(Instant::now())).unwrap_or_default());
        let mut control = self.control;
        // If it has gone already, nobody waits for this.
        let _ = timeout(PATIENCE, control.write_all(&words)).await;
        self.sessions
    }
}
