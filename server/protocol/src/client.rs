//! What a client sends.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;

use crate::code::closed_list;

closed_list! {
    /// The `type` of a client's message.
    ClientType {
        /// Wait for a partner.
        FindMatch = "find_match",
        /// Stop waiting.
        CancelMatch = "cancel_match",
        /// Leave the room and wait again.
        Next = "next",
        /// Leave the room.
        LeaveRoom = "leave_room",
        /// Relayed: a WebRTC session description that offers.
        Offer = "offer",
        /// Relayed: a WebRTC session description that answers.
        Answer = "answer",
        /// Relayed: a WebRTC ICE candidate.
        IceCandidate = "ice_candidate",
        /// Relayed: chat or app data; answered with `ack` where it carries an `id`.
        Message = "message",
        /// Answered with `pong`.
        Ping = "ping",
        /// Anything else.
        #[serde(other)]
        Unknown = "unknown",
    }
}

/// One message of a client, borrowed from the text it came in.
#[derive(Debug, Deserialize, Serialize)]
pub struct Request<'a> {
    /// What is asked for.
    #[serde(rename = "type")]
    pub kind: ClientType,
    /// Any JSON value; comes back, byte for byte, on the message that answers this one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
    /// Whom to be matched with (`find_match`, `next`).
    #[serde(
        borrow,
        default,
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub criteria: Option<Criteria<'a>>,
    /// What is relayed; never parsed, copied byte for byte.
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub payload: Option<&'a RawValue>,
    /// The member of the room that a relay is for; absent: everyone else in it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Cow<'a, str>>,
}

/// A field that is there counts as there even when it is `null`.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// Criteria by name: a derived reader would take a list of values in the order of the fields as well.
fn object<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Criteria<'de>>, D::Error> {
    let Some(raw) = Option::<&RawValue>::deserialize(d)? else {
        return Ok(None);
    };
    if !raw.get().starts_with('{') {
        return Err(D::Error::custom("criteria must be an object"));
    }
    serde_json::from_str(raw.get())
        .map(Some)
        .map_err(D::Error::custom)
}

/// Whom a user wants to be matched with. What is absent does not matter to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Criteria<'a> {
    /// A language to speak, such as `en`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Cow<'a, str>>,
    /// A part of the world, such as `eu`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Cow<'a, str>>,
    /// Topics, one of which a partner should share.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub interests: Vec<Cow<'a, str>>,
}
