//! What the server sends: [`ServerMessage`] to write it, [`ServerView`] to read it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    code::{ErrorCode, LeaveReason, closed_list},
    id::{RoomId, SessionId},
};

closed_list! {
    /// The relayed messages: they go to the partner with the `type` they came with.
    RelayKind {
        /// A WebRTC offer.
        Offer = "offer",
        /// A WebRTC answer.
        Answer = "answer",
        /// A WebRTC ICE candidate.
        IceCandidate = "ice_candidate",
        /// Chat or app data.
        Message = "message",
    }
}

/// A message of the server, ready to be written.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ServerMessage<'a> {
    /// The first message of every connection.
    Session {
        /// The id by which partners know this user.
        session_id: SessionId,
        /// Where the session is resumable: what a later connection must show.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume_token: Option<&'a str>,
        /// How long the session waits for a new connection, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume_window_ms: Option<u64>,
        /// The longest time between two of the server's pings, and to the first one of each connection, in milliseconds. A `ping` of
        /// a resumable session says when the next one comes.
        heartbeat_ms: u64,
        /// STUN and TURN servers for `RTCPeerConnection`.
        ice_servers: &'a [IceServer],
        /// What the server allows.
        limits: Limits,
    },
    /// The first message of a connection that carries a session on. What follows it was sent before.
    Resumed {
        /// As it was.
        session_id: SessionId,
        /// What the next connection must show. Absent: the token stays.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume_token: Option<&'a str>,
        /// Which connection of the session this is.
        epoch: u32,
        /// The number of the last message that the server takes for arrived.
        after: u64,
        /// The number of the last message of the client that has arrived: send again what comes after it.
        received: u64,
        /// How many messages are sent again.
        replay: u64,
        /// Where the user is now, when all that is sent again is taken into account.
        place: ResumedPlace,
        /// The room, where the user is in one.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<ResumedRoom>,
        /// STUN and TURN servers for `RTCPeerConnection`.
        ice_servers: &'a [IceServer],
    },
    /// Whether the user of a resumable session is still there; to be answered with `pong`.
    Ping {
        /// The number of the last message of the client that has arrived.
        received: u64,
        /// When the next one comes, in milliseconds; nothing for much longer means that the connection is lost.
        next_ms: u64,
    },
    /// In a resumable session: new credentials for TURN, before the old ones end; for
    /// `RTCPeerConnection.setConfiguration`.
    IceServers {
        /// STUN and TURN servers.
        ice_servers: &'a [IceServer],
    },
    /// In a resumable session: the app's token ends soon; `renew_token` brings a new one.
    TokenExpiring {
        /// When, in milliseconds.
        expires_in_ms: u64,
    },
    /// The user is in a pool.
    Waiting {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
    },
    /// A partner was found.
    MatchFound {
        /// The room both are in.
        room_id: RoomId,
        /// The partner.
        peer_id: SessionId,
        /// What the app calls the partner.
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_name: Option<&'a str>,
        /// In a resumable session: whether the partner takes lists of candidates in one message.
        #[serde(skip_serializing_if = "Option::is_none")]
        batch: Option<bool>,
        /// Whether this user makes the offer: true for exactly one of the two.
        initiator: bool,
        /// How long this user waited, in milliseconds.
        waited_ms: u64,
        /// What both named as interests.
        shared_interests: &'a [String],
        /// In a resumable session: what brings the user back into the room if the server dies.
        #[serde(skip_serializing_if = "Option::is_none")]
        room_ticket: Option<&'a str>,
        /// The `id` of the request, where the match answers it at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
    },
    /// The partner left; the room is gone and this user is idle.
    PeerLeft {
        /// The room that is gone.
        room_id: RoomId,
        /// Who left; the user's own id: they are out of a named room.
        peer_id: SessionId,
        /// Why.
        reason: LeaveReason,
    },
    /// In a resumable session: some messages of the partner, who is on another node, are lost. The room goes on; what was being
    /// agreed on, such as a call, is to be agreed on anew.
    RelayGap {
        /// The room.
        room_id: RoomId,
        /// Whose messages.
        peer_id: SessionId,
    },
    /// The user is in a named room.
    RoomJoined {
        /// Its name.
        room: &'a str,
        /// Its id, of this time: a room of the same name after it has another one.
        room_id: RoomId,
        /// The user.
        you: RoomSelf,
        /// The others.
        members: Vec<RoomMember>,
        /// In a resumable session: what brings the user back into the room if the server dies.
        #[serde(skip_serializing_if = "Option::is_none")]
        room_ticket: Option<&'a str>,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
    },
    /// Somebody has joined the user's named room.
    PeerJoined {
        /// The room.
        room_id: RoomId,
        /// Who.
        #[serde(flatten)]
        peer: RoomMember,
    },
    /// The user waits for the other member of a room that died with another process.
    Rejoining {
        /// The room.
        room_id: RoomId,
        /// How long, in milliseconds.
        expires_in_ms: u64,
    },
    /// Both members of such a room are in it again.
    Rejoined {
        /// The room, as before.
        room_id: RoomId,
        /// The partner, who has a new session.
        peer_id: SessionId,
        /// As before.
        initiator: bool,
        /// A new one.
        #[serde(skip_serializing_if = "Option::is_none")]
        room_ticket: Option<&'a str>,
    },
    /// A request that has no other answer was carried out.
    Ack {
        /// The `id` of the request.
        id: &'a RawValue,
    },
    /// The answer to `ping`.
    Pong {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
    },
    /// A request was refused.
    Error {
        /// What was wrong, for programs.
        code: ErrorCode,
        /// What was wrong and what to do, for people.
        message: &'a str,
        /// Whether the same request may succeed later.
        temporary: bool,
        /// With `gap`: the number of the last message that has arrived.
        #[serde(skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
        /// The `id` of the request, where it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
    },
    /// The server is going away.
    Draining {
        /// When to reconnect, in milliseconds from now; spread so that not everyone comes at once.
        reconnect_in_ms: u64,
    },
}

/// The user in a named room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoomSelf {
    /// The id by which the others know the user.
    pub peer_id: SessionId,
    /// The number by which the room knows them: one more for each who comes.
    pub n: u32,
}

/// Another member of a named room, as the user sees them.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoomMember {
    /// Who.
    pub peer_id: SessionId,
    /// Their number.
    pub n: u32,
    /// The `peer_id` that they had in this room at another server, from which they came with their ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<SessionId>,
    /// What the app calls them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the user makes the offer to them: the newcomer of two does.
    pub offer: bool,
    /// Whether the user gives way when two offers cross (perfect negotiation,
    /// <https://www.w3.org/TR/webrtc/#perfect-negotiation-example>).
    pub polite: bool,
    /// Whether they take lists of candidates in one message.
    #[serde(skip_serializing_if = "is_false")]
    pub batch: bool,
    /// Whether they have no connection now.
    #[serde(skip_serializing_if = "is_false")]
    pub away: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

closed_list! {
    /// Where the user of a resumed session is.
    ResumedPlace {
        /// Neither waiting nor in a room.
        Idle = "idle",
        /// In a pool.
        Waiting = "waiting",
        /// In a match or in a named room.
        InRoom = "in_room",
    }
}

/// The room of a resumed session.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ResumedRoom {
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Its id.
    pub room_id: RoomId,
    /// The others in it.
    pub peers: Vec<SessionId>,
}

/// One entry of `RTCConfiguration.iceServers`
/// (<https://www.w3.org/TR/webrtc/#rtciceserver-dictionary>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` or `turns:` addresses.
    #[serde(deserialize_with = "one_or_many")]
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(d)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

/// What the server allows one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// The longest message, in bytes.
    pub max_message_bytes: u64,
    /// Messages a second in the long run; 0: no limit.
    pub max_messages_per_second: u32,
    /// Messages that may come at once on top of that.
    pub message_burst: u32,
}

/// The `type` of a server's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the names are the wire's; ServerMessage says what each means"
)]
pub enum ServerType {
    Session,
    Resumed,
    Ping,
    IceServers,
    TokenExpiring,
    Waiting,
    MatchFound,
    PeerLeft,
    RelayGap,
    RoomJoined,
    PeerJoined,
    Rejoining,
    Rejoined,
    Offer,
    Answer,
    IceCandidate,
    Message,
    Ack,
    Pong,
    Error,
    Draining,
    #[serde(other)]
    Unknown,
}

/// A message of the server as a client reads it: the fields that its type has are there. Ids and codes
/// are opaque strings to a client, so that a newer server does not break an older one.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "ServerMessage says what each field means")]
pub struct ServerView<'a> {
    #[serde(rename = "type")]
    pub kind: ServerType,
    #[serde(borrow, default)]
    pub session_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub room_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub peer_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub from: Option<Cow<'a, str>>,
    #[serde(default)]
    pub initiator: Option<bool>,
    #[serde(default)]
    pub waited_ms: Option<u64>,
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    #[serde(default)]
    pub seq: Option<u64>,
    #[serde(borrow, default)]
    pub resume_token: Option<Cow<'a, str>>,
    #[serde(default)]
    pub received: Option<u64>,
    #[serde(default)]
    pub replay: Option<u64>,
    #[serde(default)]
    pub reconnect_in_ms: Option<u64>,
}

/// Bytes of a relayed message besides its payload, at the most.
pub const RELAY_OVERHEAD: usize = 64;

/// The parts of a relayed message: what stands before the payload, and what stands after it.
///
/// A relay is written by hand because it is the one message whose cost counts for each user.
#[inline]
pub fn relay_head(kind: RelayKind, from: SessionId) -> ([u8; RELAY_OVERHEAD], usize) {
    let head: &[u8] = match kind {
        RelayKind::Offer => br#"{"type":"offer","from":""#,
        RelayKind::Answer => br#"{"type":"answer","from":""#,
        RelayKind::IceCandidate => br#"{"type":"ice_candidate","from":""#,
        RelayKind::Message => br#"{"type":"message","from":""#,
    };
    const TAIL: &[u8] = br#"","payload":"#;
    let mut out = [0; RELAY_OVERHEAD];
    let mut len = 0;
    for part in [head, &from.digits(), TAIL] {
        out[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    (out, len)
}

/// What stands after the payload of a relayed message.
pub const RELAY_TAIL: &[u8] = b"}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_written_by_hand_is_the_json_it_should_be() {
        for &kind in RelayKind::ALL {
            let (head, len) = relay_head(kind, SessionId(7));
            let mut text = head[..len].to_vec();
            text.extend_from_slice(br#"{ "a":  "\u0041" }"#);
            text.extend_from_slice(RELAY_TAIL);
            let view: ServerView<'_> = serde_json::from_slice(&text).expect("valid JSON");
            assert_eq!(
                serde_json::to_string(&view.kind).expect("a name"),
                format!("{:?}", kind.as_str())
            );
            assert_eq!(view.from.as_deref(), Some("0000000000000007"));
            assert_eq!(
                view.payload.map(RawValue::get),
                Some(r#"{ "a":  "\u0041" }"#)
            );
        }
    }
}
