//! What a client sends.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The `type` of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientType {
    /// Wait for a partner.
    FindMatch,
    /// Stop waiting.
    CancelMatch,
    /// Leave the room and wait again.
    Next,
    /// Leave the room.
    LeaveRoom,
    /// Relayed: a WebRTC session description that offers.
    Offer,
    /// Relayed: a WebRTC session description that answers.
    Answer,
    /// Relayed: a WebRTC ICE candidate.
    IceCandidate,
    /// Relayed: chat or app data; answered with `ack` where it carries an `id`.
    Message,
    /// Answered with `pong`.
    Ping,
    /// Anything else.
    #[serde(other)]
    Unknown,
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
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
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
