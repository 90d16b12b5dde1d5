//! The closed lists of the wire: error codes, and reasons for which a user leaves.

use serde::{Deserialize, Serialize, Serializer};

/// Implements `ALL`, `as_str` and `index` for a fieldless enum, so that its names stand in one place and
/// can be metric labels.
macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every member, in the order of [`Self::index`].
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The name on the wire, in logs and in metric labels.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            /// The position in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Why a request was refused. The session goes on; the request had no effect.
    ErrorCode {
        /// Not JSON, or not an object.
        BadJson = "bad_json",
        /// JSON, but a field is missing, doubled or of the wrong type.
        BadMessage = "bad_message",
        /// The `type` is none that this server knows.
        UnknownType = "unknown_type",
        /// `criteria` with too many or too long words.
        InvalidCriteria = "invalid_criteria",
        /// `find_match` or `next` while already waiting.
        AlreadyWaiting = "already_waiting",
        /// `find_match` while in a room.
        AlreadyInRoom = "already_in_room",
        /// `cancel_match` while not waiting: never asked, or the match was faster.
        NotWaiting = "not_waiting",
        /// A relay or `leave_room` outside a room: never in one, or the partner has just left.
        NotInRoom = "not_in_room",
        /// `to` names somebody who is not in the room.
        UnknownPeer = "unknown_peer",
        /// A message of a resumable session whose number is not the next one: others are missing before it.
        Gap = "gap",
        /// The name of a room that is none: 1 to 64 letters of the alphabet, digits, `_` and `-`.
        BadRoomName = "bad_room_name",
        /// The room has as many members as it may have.
        RoomFull = "room_full",
        /// There are as many named rooms as there may be.
        TooManyRooms = "too_many_rooms",
        /// A named room that is on another node, which cannot be reached now.
        RoomUnavailable = "room_unavailable",
        /// A room ticket that no key of this server has signed.
        RoomTicketInvalid = "room_ticket_invalid",
        /// A room ticket that is too old.
        RoomTicketExpired = "room_ticket_expired",
        /// The room of a ticket has ended.
        RoomClosed = "room_closed",
        /// The session of a room ticket is still there: its resume token opens it.
        UseResume = "use_resume",
        /// `block`, `report` or `call_report` without a partner: no room, and none that ended a short time ago.
        NoPartner = "no_partner",
        /// The user's token does not allow it.
        NotAllowed = "not_allowed",
        /// A token of `renew_token` that is wrong, or another user's.
        TokenRefused = "token_refused",
        /// A relay that the way to the partner's node could not take: it is not there, and may be sent again.
        RelayLost = "relay_lost",
        /// More messages than the limit allows; this one was dropped.
        RateLimited = "rate_limited",
        /// The server is about to stop and makes no new matches.
        Draining = "draining",
    }
}

impl ErrorCode {
    /// Whether the same request may succeed later without being changed.
    pub const fn temporary(self) -> bool {
        matches!(
            self,
            Self::NotInRoom
                | Self::NotWaiting
                | Self::Gap
                | Self::RoomFull
                | Self::TooManyRooms
                | Self::RoomUnavailable
                | Self::RelayLost
                | Self::RateLimited
                | Self::Draining
        )
    }
}

closed_list! {
    /// Why a user reports a partner.
    ReportReason {
        /// Insults, threats, hate, nudity.
        Abuse = "abuse",
        /// Advertising, fraud, a program in place of a person.
        Spam = "spam",
        /// The partner seems to be a child.
        Minor = "minor",
        /// Something else.
        Other = "other",
    }
}

closed_list! {
    /// What became of a call.
    CallOutcome {
        /// The two heard each other, or could have.
        Connected = "connected",
        /// It could not be set up.
        Failed = "failed",
        /// Somebody left before that was known.
        Abandoned = "abandoned",
    }
}

closed_list! {
    /// How the voices of a call go.
    CallPath {
        /// From user to user.
        Direct = "direct",
        /// Over a TURN server.
        Relayed = "relayed",
        /// The client could not find out.
        Unknown = "unknown",
    }
}

closed_list! {
    /// Why a call was not connected.
    CallFailure {
        /// There was no address to be reached at, or none of the partner.
        NoCandidates = "no_candidates",
        /// No way led from the one to the other.
        IceFailed = "ice_failed",
        /// No microphone, or no leave to use it.
        Microphone = "microphone",
        /// It was connected, and nothing was heard.
        NoAudio = "no_audio",
        /// One of the two left first.
        Left = "left",
        /// Something else.
        Other = "other",
    }
}

closed_list! {
    /// What kind of address one end of a call uses: `RTCIceCandidateType` of WebRTC.
    Candidate {
        /// The machine's own.
        Host = "host",
        /// What a STUN server has seen.
        ServerReflexive = "srflx",
        /// What the partner has seen.
        PeerReflexive = "prflx",
        /// A TURN server's.
        Relay = "relay",
    }
}

closed_list! {
    /// Why a connection is closed, and a session with it (close code, log, metric label).
    CloseReason {
        /// The client closed the connection with a close frame.
        Closed = "closed",
        /// The connection broke without a close.
        Lost = "lost",
        /// Nothing came, not even an answer to a ping.
        HeartbeatTimeout = "heartbeat_timeout",
        /// Neither waiting nor in a room, and silent, for longer than the limit.
        IdleTimeout = "idle_timeout",
        /// The client did not read what was sent to it, until its outbox was full.
        SlowConsumer = "slow_consumer",
        /// The client went on sending after being told that it is over its rate.
        RateLimited = "rate_limited",
        /// A message longer than the limit.
        TooLarge = "too_large",
        /// A text message that is not UTF-8.
        InvalidUtf8 = "invalid_utf8",
        /// A binary message: this wire is JSON text.
        UnsupportedData = "unsupported_data",
        /// Frames that break the transport's protocol.
        ProtocolError = "protocol_error",
        /// The connections used too much memory together, and this one more than others.
        MemoryLimit = "memory_limit",
        /// The server is going away; reconnect.
        Draining = "draining",
        /// Another server takes the session over: come back with its token.
        Moved = "moved",
        /// Another connection carries the session now.
        Replaced = "replaced",
        /// The token is that of no session: wrong, used up, or the session has ended.
        ResumeRefused = "resume_refused",
        /// Messages after the client's position are no longer there.
        TooOld = "too_old",
        /// The user's token has expired.
        TokenExpired = "token_expired",
        /// More messages came for a user without a connection than are kept.
        ResumeOverflow = "resume_overflow",
        /// An operator has ended the session.
        Disconnected = "disconnected",
        /// An operator has banned the user, or the user's address.
        Banned = "banned",
        /// A fault of the server.
        InternalError = "internal_error",
    }
}

impl CloseReason {
    /// The WebSocket close code: RFC 6455 section 7.4.1 where one fits; 4000-4499 of ours mean
    /// "reconnect", 4500-4999 "do not with the same token". `None`: there is nobody left to tell.
    pub const fn close_code(self) -> Option<u16> {
        match self {
            Self::Closed => Some(1000),
            Self::Lost => None,
            Self::ProtocolError => Some(1002),
            Self::UnsupportedData => Some(1003),
            Self::InvalidUtf8 => Some(1007),
            Self::TooLarge => Some(1009),
            Self::InternalError => Some(1011),
            Self::Draining => Some(4000),
            Self::HeartbeatTimeout => Some(4001),
            Self::SlowConsumer => Some(4002),
            Self::IdleTimeout => Some(4003),
            Self::MemoryLimit => Some(4004),
            Self::Moved => Some(4005),
            Self::RateLimited => Some(4500),
            Self::Replaced => Some(4501),
            Self::ResumeRefused => Some(4502),
            Self::TooOld => Some(4503),
            Self::TokenExpired => Some(4505),
            Self::Disconnected | Self::Banned => Some(4506),
            Self::ResumeOverflow => Some(4507),
        }
    }
}

/// Why a user left a room (`peer_left`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// By `leave_room`.
    Left,
    /// By `next`.
    Next,
    /// Their session ended.
    Ended(CloseReason),
}

impl LeaveReason {
    /// The name on the wire. That a user was banned is not for their partners to know.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Next => "next",
            Self::Ended(CloseReason::Banned) => CloseReason::Disconnected.as_str(),
            Self::Ended(reason) => reason.as_str(),
        }
    }
}

impl Serialize for LeaveReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_the_position_in_all() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(code.index(), i);
        }
        for (i, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
        }
    }

    #[test]
    fn close_codes_are_ones_that_may_be_sent() {
        for reason in CloseReason::ALL {
            if let Some(code) = reason.close_code() {
                assert!(
                    matches!(code, 1000..=1003 | 1007..=1011 | 4000..=4999),
                    "{reason:?} {code}"
                );
            }
        }
    }
}
