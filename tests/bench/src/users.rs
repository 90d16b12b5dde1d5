//! Simulated users: WebSocket clients of one thread. A message costs one `send` and one `recv`, and
//! nothing is allocated for it.

use std::{
    io::{self, Read, Write},
    mem,
    net::SocketAddr,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    Problem,
    frame::{decode, encode, opcode},
};

/// The key and its answer are RFC 6455's own example (section 1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// What one `recv` may take.
const BUFFER: usize = 128 << 10;
/// What one look may report.
const EVENTS: usize = 1024;

/// What happened to a user.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A text message came.
    Text(&'a [u8]),
    /// The connection is gone; `in_order`: both sides had said goodbye.
    Closed {
        /// Whether the close handshake was complete.
        in_order: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Upgrading,
    Open,
    /// This side has said goodbye.
    Closing,
    /// Both have.
    Closed,
}

#[derive(Debug)]
struct Slot {
    state: State,
    stream: Option<TcpStream>,
    /// An unfinished frame, or nothing.
    unread: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

/// All users.
pub(crate) struct Users {
    poll: Poll,
    server: SocketAddr,
    request: Vec<u8>,
    goodbye: Vec<u8>,
    slots: Vec<Slot>,
    /// Set aside between looks, so that a handler can have everything else.
    events: Option<(Events, Vec<u8>)>,
    busy: bool,
}

impl Users {
    /// `count` users, none connected. `busy`: never sleep while waiting for the server.
    pub(crate) fn new(server: SocketAddr, count: usize, busy: bool) -> Result<Self, Problem> {
        let poll = Poll::new().map_err(|error| Problem::new(format!("no epoll: {error}")))?;
        let slots = (0..count).map(|_| Slot {
            state: State::Free,
            stream: None,
            unread: Vec::new(),
            unsent: Vec::new(),
        });
        Ok(Self {
            poll,
            server,
            request: handshake(server, "/ws", ""),
            goodbye: encode(opcode::CLOSE, &1000_u16.to_be_bytes()),
            slots: slots.collect(),
            events: Some((Events::with_capacity(EVENTS), vec![0; BUFFER])),
            busy,
        })
    }

    /// Starts to connect a free slot. Afterwards the server speaks first.
    pub(crate) fn connect(&mut self, user: usize) -> Result<(), Problem> {
        let request = mem::take(&mut self.request);
        let connected = self.connect_to(user, &request);
        self.request = request;
        connected
    }

    /// The same with a handshake of another path, as [`handshake`] writes it.
    pub(crate) fn connect_to(&mut self, user: usize, request: &[u8]) -> Result<(), Problem> {
        let advice = |error: io::Error| {
            Problem::new(format!(
                "cannot connect user {user}: {error}; each needs a local port \
                 (sysctl net.ipv4.ip_local_port_range) and an open file (ulimit -n)"
            ))
        };
        let mut stream = TcpStream::connect(self.server).map_err(advice)?;
        stream.set_nodelay(true).map_err(advice)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry
            .register(&mut stream, Token(user), interest)
            .map_err(advice)?;
        let slot = &mut self.slots[user];
        slot.state = State::Upgrading;
        slot.stream = Some(stream);
        slot.unread.clear();
        slot.unsent.clear();
        slot.unsent.extend(request);
        Ok(())
    }

    /// Sends a whole frame, or as much as fits and the rest as soon as it does.
    pub(crate) fn send(&mut self, user: usize, frame: &[u8]) {
        let slot = &mut self.slots[user];
        let Some(mut stream) = slot.stream.as_ref() else {
            return;
        };
        let mut sent = 0;
        if slot.unsent.is_empty() {
            // What is wrong with the socket shows when it is read.
            sent = stream.write(frame).unwrap_or(0);
        }
        if sent < frame.len() {
            slot.unsent.extend(&frame[sent..]);
        }
    }

    /// Says goodbye. [`Event::Closed`] comes when the server has answered and hung up.
    pub(crate) fn close(&mut self, user: usize) {
        if self.slots[user].state == State::Open {
            let goodbye = mem::take(&mut self.goodbye);
            self.send(user, &goodbye);
            self.goodbye = goodbye;
            self.slots[user].state = State::Closing;
        }
    }

    /// Hangs up without a word, and without an event.
    pub(crate) fn drop_user(&mut self, user: usize) {
        let slot = &mut self.slots[user];
        slot.state = State::Free;
        slot.stream = None;
        slot.unread = Vec::new();
        slot.unsent = Vec::new();
    }

    /// Users that have a connection, in whatever state.
    pub(crate) fn connected(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.stream.is_some())
            .count()
    }

    /// Looks once at what the server has sent. While measuring, returns at once if there is nothing.
    pub(crate) fn look(
        &mut self,
        on: impl FnMut(&mut Self, usize, Event<'_>),
    ) -> Result<(), Problem> {
        let wait = if self.busy {
            Duration::ZERO
        } else {
            Duration::from_millis(1)
        };
        self.wait(wait, on)
    }

    /// As [`Users::look`], but sleeps for up to `wait` while there is nothing.
    pub(crate) fn wait(
        &mut self,
        wait: Duration,
        mut on: impl FnMut(&mut Self, usize, Event<'_>),
    ) -> Result<(), Problem> {
        let Some((mut events, mut buffer)) = self.events.take() else {
            return Ok(()); // a handler that looks: nothing more to see
        };
        let polled = self.poll.poll(&mut events, Some(wait));
        for event in &events {
            let user = event.token().0;
            if event.is_writable() && !self.slots[user].unsent.is_empty() {
                self.flush(user);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(user, event.is_read_closed(), &mut buffer, &mut on);
            }
        }
        self.events = Some((events, buffer));
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(Problem::new(format!("epoll: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn flush(&mut self, user: usize) {
        let slot = &mut self.slots[user];
        let Some(mut stream) = slot.stream.as_ref() else {
            return;
        };
        while !slot.unsent.is_empty() {
            match stream.write(&slot.unsent) {
                Ok(sent) if sent > 0 => drop(slot.unsent.drain(..sent)),
                _ => return,
            }
        }
    }

    /// Reads until there is nothing left. Fewer bytes than asked for mean that, unless the end has come.
    fn read(
        &mut self,
        user: usize,
        ended: bool,
        buffer: &mut [u8],
        on: &mut impl FnMut(&mut Self, usize, Event<'_>),
    ) {
        loop {
            let Some(mut stream) = self.slots[user].stream.as_ref() else {
                return;
            };
            match stream.read(buffer) {
                Ok(n) if n > 0 => {
                    if !self.take(user, &buffer[..n], on) || (n < buffer.len() && !ended) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    let in_order = self.slots[user].state == State::Closed;
                    self.drop_user(user);
                    on(self, user, Event::Closed { in_order });
                    return;
                }
            }
        }
    }

    /// Handles what was read. `false`: the connection is gone, or is another one by now.
    fn take(
        &mut self,
        user: usize,
        bytes: &[u8],
        on: &mut impl FnMut(&mut Self, usize, Event<'_>),
    ) -> bool {
        let held = mem::take(&mut self.slots[user].unread);
        let joined: Vec<u8>;
        let mut rest = bytes;
        if !held.is_empty() {
            joined = [&held, bytes].concat();
            rest = &joined;
        }
        match self.frames(user, &mut rest, on) {
            Ok(()) => {
                if !rest.is_empty() {
                    self.slots[user].unread.extend(rest);
                }
                true
            }
            Err(Broken) => {
                self.drop_user(user);
                on(self, user, Event::Closed { in_order: false });
                false
            }
        }
    }

    /// Takes the answer to the upgrade and whole frames off the front of `rest`.
    fn frames(
        &mut self,
        user: usize,
        rest: &mut &[u8],
        on: &mut impl FnMut(&mut Self, usize, Event<'_>),
    ) -> Result<(), Broken> {
        if self.slots[user].state == State::Upgrading {
            let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                return Ok(());
            };
            let head = &rest[..end];
            if !head.starts_with(b"HTTP/1.1 101") || memchr::memmem::find(head, ACCEPT).is_none() {
                return Err(Broken);
            }
            *rest = &rest[end + 4..];
            self.slots[user].state = State::Open;
        }
        while let Some(frame) = decode(rest).map_err(|_| Broken)? {
            *rest = &rest[frame.len..];
            match frame.opcode {
                opcode::TEXT => on(self, user, Event::Text(frame.payload)),
                opcode::PING => self.send(user, &encode(opcode::PONG, frame.payload)),
                opcode::CLOSE => match self.slots[user].state {
                    State::Closing => self.slots[user].state = State::Closed,
                    _ => return Err(Broken),
                },
                opcode::PONG => {}
                _ => return Err(Broken),
            }
        }
        Ok(())
    }
}

/// Asks for a WebSocket at this path. `more`: header lines, each with its end.
pub(crate) fn handshake(server: SocketAddr, path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

/// The server did something that ends a connection here.
struct Broken;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A server for one user: upgrades, speaks, expects a goodbye.
    fn fake(listener: TcpListener) -> io::Result<Vec<u8>> {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 1024];
        let n = stream.read(&mut request)?;
        assert!(request[..n].starts_with(b"GET /ws HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: ")?;
        stream.write_all(ACCEPT)?;
        // The first message comes in two pieces, with a ping behind it.
        stream.write_all(b"\r\n\r\n\x81\x05he")?;
        thread::sleep(Duration::from_millis(20));
        stream.write_all(b"llo\x89\x01x")?;
        let mut answer = vec![0; 7 + 8];
        stream.read_exact(&mut answer)?;
        stream.write_all(b"\x88\x02\x03\xe8")?;
        Ok(answer)
    }

    #[test]
    fn a_connection_from_first_to_last() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = listener.local_addr().expect("it is bound");
        let served = thread::spawn(|| fake(listener));
        let mut users = Users::new(server, 1, false).expect("epoll");
        users.connect(0).expect("it listens");
        let (mut seen, mut said_goodbye) = (Vec::new(), false);
        while users.connected() > 0 {
            users
                .look(|users, user, event| match event {
                    Event::Text(text) => {
                        seen.push(String::from_utf8_lossy(text).into_owned());
                        assert_eq!(users.slots[user].state, State::Open);
                    }
                    Event::Closed { in_order } => seen.push(format!("closed {in_order}")),
                })
                .expect("epoll");
            // The ping came in one segment with the end of the greeting: it has been answered.
            if seen.len() == 1 && !said_goodbye {
                said_goodbye = true;
                users.close(0);
            }
        }
        assert_eq!(seen, ["hello", "closed true"]);
        let sent = served.join().expect("no panic").expect("no error");
        assert_eq!(sent[..7], encode(opcode::PONG, b"x")[..]);
        assert_eq!(
            sent[7..],
            encode(opcode::CLOSE, &1000_u16.to_be_bytes())[..]
        );
    }
}
