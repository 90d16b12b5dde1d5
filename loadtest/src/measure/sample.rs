//! What one user measured, one thing at a time.

use std::{io, time::Duration};

pub use crate::measure::message::{Across, Delivered, Direction, Kind, Route};
pub use crate::measure::server_code::ServerCode;
use crate::{
    measure::{
        ledger::Stay,
        nodes::{FaultKind, Torn},
        reach::NodeId,
        talk::TalkSample,
    },
    plan::Transport,
    record::Blame,
};

/// One measurement of one user. Users only tell; when it was told, and how often, is the summary's work.
#[derive(Debug)]
pub enum Sample {
    /// Set out to connect; `again`: after a drop, or on purpose.
    Connecting { again: bool },
    /// Ready to act: from the planned start to the greeting.
    Connected { latency: Duration },
    /// Never got that far.
    NotConnected { error: ErrorKind },
    /// Still on the way when the run ended: neither connected nor failed.
    ConnectingEnded,
    /// Connected, and cut off before the user wanted to leave.
    Dropped { error: ErrorKind },
    /// Closed because the user wanted to leave.
    Closed,
    /// Will send nothing more on this connection.
    StoppedSending,
    /// Something else went wrong; the user went on.
    Error { error: ErrorKind },
    /// This worker did not run for so long.
    Paused { time: Duration },
    /// Asked for a partner; `again`: after a first one.
    Searching { again: bool },
    /// Got a partner in time.
    Matched { latency: Duration },
    /// A search that ended without one.
    Unmatched(Unmatched),
    /// In a room; either member may have left first.
    RoomJoined,
    /// Out of it.
    RoomLeft(Box<Stay>),
    /// Another member of a named room and the user are no longer together.
    Parted(Box<Stay>),
    /// Out of a named room.
    NamedRoomLeft,
    /// Put into a second room without having asked, or while in one.
    DoubleMatch,
    /// Told to be their own partner.
    SelfMatch,
    /// Sent a message, this much later than it was due.
    Sent { route: Route, lateness: Duration },
    /// A message that was meant for this user, for the first time.
    Delivered(Delivered),
    /// The same, from a user whom another process plays.
    DeliveredAcross(Across),
    /// This many messages were overtaken by a later one, and are lost; if negative, they arrived after
    /// all.
    Gap { missed: i64 },
    /// A message whose tag was changed on the way: nothing else is known of it.
    Unreadable { route: Route },
    /// A message that came before.
    Duplicate { route: Route },
    /// A message that was meant for somebody else.
    WrongPeer { route: Route },
    /// A message of another load test.
    Foreign,
    /// A message that was to be relayed was answered with `not_in_room`.
    Refused,
    /// Sent a request that wants an answer.
    CallSent { call: CallId, lateness: Duration },
    /// The answer, as it was expected: from the moment due, and from the moment of sending.
    CallAnswered {
        call: CallId,
        latency: Duration,
        as_sent: Duration,
    },
    /// No answer in time.
    CallTimedOut { call: CallId, waited: Duration },
    /// No connection for the request, or it broke; the error is told beside it. It counts as one that takes at least
    /// as long as it was given.
    CallFailed { call: CallId, waited: Duration },
    /// Another answer than was expected.
    CallWrong { call: CallId },
    /// Came to the end of a flow; not `completed`: because a step did not succeed.
    FlowEnded { flow: FlowId, completed: bool },
    /// Broke the connection because the plan drops users at once. `paired`: who had a partner or was looking for
    /// one. Unless the session `resumes`, this counts as closed, too.
    StormDropped { paired: bool, resumes: bool },
    /// The connection of a session that outlives it is gone; `planned`: because the plan cuts it.
    ConnectionLost { planned: bool },
    /// The session goes on: from when the loss was noticed to the first message over this transport.
    Resumed { via: Transport, after: Duration },
    /// It does not; that the user is gone is told beside it.
    NotResumed,
    /// Went back to the preferred transport, without a gap.
    MovedBack,
    /// Goes on at another server, as the old one drains: from the end of the old session until everything is as before.
    Moved { after: Duration },
    /// Could not go on there, or not in the same room.
    NotMoved,
    /// The first message of the partner after a loss, from when that was noticed.
    HeardAgain { after: Duration },
    /// Of a part in a transcription session, or in an interview.
    Talk(TalkSample),
    /// Connected to this of several servers; `changed`: the user was at another one before.
    Arrived { node: NodeId, changed: bool },
    /// No longer; `broke`: neither side had closed.
    Departed { node: NodeId, broke: bool },
    /// Of several servers, the one at which something went wrong; told in place of the sample for one server.
    Fault {
        node: NodeId,
        kind: FaultKind,
        error: ErrorKind,
    },
    /// Lost the partner with a server, or was matched again after that.
    Torn(Torn),
    /// Connected again, this long after that.
    StormConnected { after: Duration },
    /// Matched again, this long after that.
    StormMatched { after: Duration },
}

/// Where users tell their samples.
pub type Sink = Box<dyn Fn(Sample)>;

/// A request with an answer: an index into the plan's list of names of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u16);

/// An index into the plan's list of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(pub u16);

/// A search that found nobody in time, since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unmatched {
    /// When the search began.
    pub from: Duration,
    /// When the user stopped being available: matched late, gone, or the end of the run.
    pub to: Duration,
    /// How long it is known to have taken at least.
    pub waited: Duration,
}

/// What went wrong, as a closed list.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum ErrorKind {
    /// Nobody listens, or the listen queue is full.
    ConnectRefused,
    /// No connection and `session` within the connect timeout.
    ConnectTimeout,
    /// TCP connect failed in another way.
    ConnectFailed,
    /// No local port was left.
    PortsExhausted,
    /// No file descriptor was left.
    FilesExhausted,
    /// No TLS: the certificate is not trusted, or the other side does not speak TLS.
    TlsFailed,
    /// The server answered the handshake with this HTTP status.
    HandshakeRejected(u16),
    /// The answer to the handshake was no valid one.
    HandshakeInvalid,
    /// The server did not choose a subprotocol that was asked for, or chose one that was not.
    SubprotocolMismatch,
    /// The headers of an answer are longer than what is read.
    HeadersTooLong,
    /// The connection stood, and no `session` message came in time.
    NoSession,
    /// The server answered `error` with this code.
    ServerError(ServerCode),
    /// No message of this type came while a user waited for one.
    ExpectTimedOut(ServerCode),
    /// The answer to a request had this status, and not the one that was expected.
    HttpStatus(u16),
    /// The answer to a request was no valid HTTP.
    HttpInvalid,
    /// A message that is not what the wire allows.
    BadMessage,
    /// A message without the number that is next.
    NumberWrong,
    /// The server greets without a token to come back with.
    NotResumable,
    /// A message in a binary frame, where the wire has text.
    BinaryFrame,
    /// A message about a room or a partner that is not the user's own.
    WrongRoom,
    /// Frames that break RFC 6455.
    FrameInvalid,
    /// A message that is longer than what is read.
    MessageTooLong,
    /// The server closed the connection with this code (1005: none).
    ClosedByServer(u16),
    /// The server sent a close frame with this code, which must not be sent.
    CloseCodeInvalid(u16),
    /// The other side ended the connection without a close frame.
    Ended,
    /// The connection broke: nobody ended it.
    Reset,
    /// The server did not read; what was to be sent no longer fitted the buffer.
    ServerNotReading,
    /// The server said that it is about to stop.
    ServerDraining,
    /// Nothing came for longer than the server's pings are apart, or a request had no answer.
    Silent,
    /// No answer to the close at the end.
    CloseTimeout,
    /// Kinds beyond the number that is counted separately.
    Other,
}

impl ErrorKind {
    /// The name of [`Self::ServerDraining`].
    pub const DRAINING: &str = "server_draining";
    /// How the name of each [`Self::ExpectTimedOut`] begins.
    pub const EXPECT_TIMED_OUT: &str = "expect_timed_out:";

    /// The stable name; the kinds that carry a value end in `:value`.
    pub fn name(&self) -> String {
        let name = match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::PortsExhausted => "ports_exhausted",
            Self::FilesExhausted => "files_exhausted",
            Self::TlsFailed => "tls_failed",
            Self::HandshakeRejected(status) => return format!("handshake_rejected:{status}"),
            Self::HandshakeInvalid => "handshake_invalid",
            Self::SubprotocolMismatch => "subprotocol_mismatch",
            Self::HeadersTooLong => "headers_too_long",
            Self::NoSession => "no_session",
            Self::ServerError(code) => return format!("server_error:{code}"),
            Self::ExpectTimedOut(kind) => return format!("{}{kind}", Self::EXPECT_TIMED_OUT),
            Self::HttpStatus(status) => return format!("http_status:{status}"),
            Self::HttpInvalid => "http_invalid",
            Self::BadMessage => "bad_message",
            Self::NumberWrong => "number_wrong",
            Self::NotResumable => "not_resumable",
            Self::BinaryFrame => "binary_frame",
            Self::WrongRoom => "wrong_room",
            Self::FrameInvalid => "frame_invalid",
            Self::MessageTooLong => "message_too_long",
            Self::ClosedByServer(code) => return format!("closed_by_server:{code}"),
            Self::CloseCodeInvalid(code) => return format!("close_code_invalid:{code}"),
            Self::Ended => "ended_without_close",
            Self::Reset => "reset",
            Self::ServerNotReading => "server_not_reading",
            Self::ServerDraining => Self::DRAINING,
            Self::Silent => "silent",
            Self::CloseTimeout => "close_timeout",
            Self::Other => "other",
        };
        name.to_owned()
    }

    /// Who has to mend it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::PortsExhausted | Self::FilesExhausted => Blame::Generator,
            Self::ConnectTimeout | Self::ConnectFailed | Self::Reset | Self::Silent => {
                Blame::Network
            }
            Self::HandshakeInvalid
            | Self::SubprotocolMismatch
            | Self::HeadersTooLong
            | Self::CloseCodeInvalid(_)
            | Self::HttpInvalid
            | Self::BadMessage
            | Self::NumberWrong
            | Self::NotResumable
            | Self::BinaryFrame
            | Self::WrongRoom
            | Self::FrameInvalid
            | Self::MessageTooLong => Blame::Protocol,
            _ => Blame::Server,
        }
    }

    /// A server that is lost has errors like this.
    pub fn may_be_of_a_lost_server(&self) -> bool {
        match self {
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::NoSession
            | Self::Ended
            | Self::Reset
            | Self::Silent
            | Self::ServerNotReading
            | Self::CloseTimeout => true,
            // Its session was there, and nowhere else.
            _ => self.refuses_resume(),
        }
    }

    /// No server has the session any more: another may begin, and show the ticket of its room.
    pub fn refuses_resume(&self) -> bool {
        match self {
            Self::ClosedByServer(code) => matches!(code, 4502 | 4503),
            Self::HttpStatus(status) | Self::HandshakeRejected(status) => {
                matches!(status, 401 | 410)
            }
            _ => false,
        }
    }

    /// Neither side had closed.
    pub fn is_break(&self) -> bool {
        matches!(
            self,
            Self::Ended | Self::Reset | Self::Silent | Self::ServerNotReading
        )
    }

    /// The same of the request that begins a session: its status means what that of a handshake means.
    pub fn of_first_request(self) -> Self {
        match self {
            Self::HttpStatus(status) => Self::HandshakeRejected(status),
            other => other,
        }
    }

    /// A session is over after this, whatever the user tries.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::ClosedByServer(code) => *code == 1000 || (4500..5000).contains(code),
            Self::HttpStatus(status) => matches!(status, 401 | 410),
            Self::HandshakeRejected(status) => *status == 401,
            Self::NumberWrong | Self::BadMessage | Self::ServerNotReading => true,
            _ => false,
        }
    }

    /// What it means and what to do.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::ConnectRefused => {
                "nobody listens, or the listen queue is full: look at the server's log and its backlog"
            }
            Self::ConnectTimeout => {
                "no connection and greeting in time: the network drops packets, or the server accepts too slowly"
            }
            Self::ConnectFailed => "TCP connect failed: look at the route and the firewall",
            Self::PortsExhausted => {
                "no local port was left on the generator's machine: use more source addresses or machines"
            }
            Self::FilesExhausted => {
                "no file descriptor was left to the generator: raise its limit (ulimit -Hn), or use more processes"
            }
            Self::TlsFailed => {
                "No TLS: the certificate is not trusted (give --ca), or the port does not speak TLS"
            }
            Self::HandshakeRejected(429) => {
                "the server refused more connections from one address: raise its limit for the test (voicematch-server \
                 --max-connections-per-address), or give --source-ips"
            }
            Self::HandshakeRejected(503) => {
                "the server refused more connections: raise its limit (voicematch-server --max-connections), or \
                 give it more machine"
            }
            Self::HandshakeRejected(_) => {
                "the server refused the handshake, or the first request of a session, with this HTTP status"
            }
            Self::HandshakeInvalid => "the answer to the WebSocket handshake breaks RFC 6455",
            Self::SubprotocolMismatch => {
                "the server chose no subprotocol of --header Sec-WebSocket-Protocol, or one that is not in it"
            }
            Self::HeadersTooLong => {
                "the headers of an answer are longer than what loadtest reads: 100 lines, and 400 KiB"
            }
            Self::NoSession => {
                "the connection stood, and the greeting did not come in time: a server that says nothing first needs a \
                 scenario with greeting = \"none\""
            }
            Self::ServerError(_) => "the server answered with this error code",
            Self::ExpectTimedOut(_) => {
                "no message of this type came within the time of the step that waits for one, and the flow ended there"
            }
            Self::HttpStatus(_) => {
                "a request was answered with this HTTP status, where another one was expected"
            }
            Self::HttpInvalid => "the answer to a request is no valid HTTP/1.1",
            Self::BadMessage => "a message is not what the wire allows",
            Self::NumberWrong => {
                "a message of a resumable session came without the number that was next: something between is missing"
            }
            Self::NotResumable => {
                "the server gave no token to come back with: it has no resumable sessions, or the URL is not that of its WebSocket"
            }
            Self::BinaryFrame => {
                "a message came in a binary frame, and the wire is JSON in text frames"
            }
            Self::WrongRoom => "the server named a room or a partner that is not the user's own",
            Self::FrameInvalid => "frames break RFC 6455",
            Self::MessageTooLong => {
                "the server sent a message of more than 1 MiB, which is the most that is read"
            }
            Self::ClosedByServer(_) => {
                "the server closed the connection with this code before the user wanted to leave"
            }
            Self::CloseCodeInvalid(_) => {
                "the server sent a close frame with this code, which must not be sent (RFC 6455, section 7.4)"
            }
            Self::Ended => {
                "the server, or a proxy in front of it, ended the connection without a close frame: a crash, a restart or a time limit"
            }
            Self::Reset => {
                "the connection was reset or timed out: the network, a firewall, or a proxy that gave up"
            }
            Self::ServerNotReading => {
                "the server did not read what it was sent until the buffer was full"
            }
            Self::ServerDraining => {
                "the server said during the run that it is draining: it makes no new matches and is about to stop"
            }
            Self::Silent => {
                "nothing came, not even a ping, or a request had no answer: the path is cut, or the server hangs"
            }
            Self::CloseTimeout => "the server did not answer the close",
            Self::Other => "kinds of error beyond those counted separately",
        }
    }

    /// The kind of an error of connecting or of an open socket.
    pub fn of_io(error: &io::Error, open: bool) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => return Self::FilesExhausted,
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => return Self::PortsExhausted,
            _ => {}
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::TimedOut if !open => Self::ConnectTimeout,
            // TLS that ends without saying so.
            io::ErrorKind::UnexpectedEof => Self::Ended,
            _ if open => Self::Reset,
            _ => Self::ConnectFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_own_faults_are_its_own() {
        for (errno, kind) in [
            (24, ErrorKind::FilesExhausted),
            (99, ErrorKind::PortsExhausted),
        ] {
            let error = ErrorKind::of_io(&io::Error::from_raw_os_error(errno), false);
            assert_eq!((error.blame(), &error), (Blame::Generator, &kind));
        }
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(ErrorKind::of_io(&reset, true), ErrorKind::Reset);
        assert_eq!(ErrorKind::of_io(&reset, false), ErrorKind::ConnectFailed);
    }

    #[test]
    fn who_ends_a_connection_is_to_blame_and_a_reset_is_the_networks() {
        let ended = ErrorKind::of_io(&io::Error::from(io::ErrorKind::UnexpectedEof), true);
        assert_eq!((ended.blame(), ended), (Blame::Server, ErrorKind::Ended));
        assert_eq!(ErrorKind::Reset.blame(), Blame::Network);
    }
}
