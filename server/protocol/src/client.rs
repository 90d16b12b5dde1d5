//! What a client sends.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::{
    code::{CallFailure, CallOutcome, CallPath, Candidate, ReportReason, closed_list},
    id::RoomId,
};

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
        /// The answer to the server's `ping`, in a resumable session.
        Pong = "pong",
        /// End the session at once.
        Leave = "leave",
        /// Join the room of a name.
        JoinRoom = "join_room",
        /// Go back into a room of a server that died.
        Rejoin = "rejoin",
        /// Go on with a new token of the app.
        RenewToken = "renew_token",
        /// Never meet this partner again.
        Block = "block",
        /// Tell the app of what this partner did.
        Report = "report",
        /// Tell the server how a call went.
        CallReport = "call_report",
        /// Anything else.
        #[serde(other)]
        Unknown = "unknown",
    }
}

/// One message of a client, borrowed from the text it came in.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Cow<'a, str>>,
}

impl<'a> Request<'a> {
    /// Reads what users send most, without a reader of all that there may be: `{"type":"offer","payload":...}` of a relay, with no
    /// spaces but in the payload, as browsers write it. `None`: it is something else, or wrong, and is to be read as JSON, which
    /// otherwise finds the same.
    #[inline]
    pub fn relay(text: &'a str) -> Option<Self> {
        const HEADS: [(ClientType, &str); 4] = [
            (ClientType::IceCandidate, r#"ice_candidate","payload":"#),
            (ClientType::Message, r#"message","payload":"#),
            (ClientType::Offer, r#"offer","payload":"#),
            (ClientType::Answer, r#"answer","payload":"#),
        ];
        let rest = text.strip_prefix(r#"{"type":""#)?;
        let mut heads = HEADS.into_iter();
        let (kind, rest) = heads.find_map(|(kind, head)| Some((kind, rest.strip_prefix(head)?)))?;
        let payload = serde_json::from_str(rest.strip_suffix('}')?).ok()?;
        Some(Self {
            kind,
            id: None,
            criteria: None,
            payload: Some(payload),
            to: None,
        })
    }
}

/// What the messages of a resumable session have besides. It is read apart, so that it costs the others nothing.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Numbers {
    /// What is asked for, once more.
    #[serde(rename = "type")]
    pub kind: ClientType,
    /// The number of this message, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The number of the last message of the server that has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<u64>,
}

/// What `rejoin` has besides.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rejoin<'a> {
    /// The room ticket.
    #[serde(borrow)]
    pub ticket: Cow<'a, str>,
}

/// What `renew_token` has besides.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RenewToken<'a> {
    /// The new token.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
}

/// What `report` has besides.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report<'a> {
    /// What the partner did.
    pub reason: ReportReason,
    /// More about it, in the user's words.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Cow<'a, str>>,
}

/// What `call_report` has besides: how the call of a match went, as the client saw it.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallReport {
    /// What became of it.
    pub outcome: CallOutcome,
    /// Why it did not connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CallFailure>,
    /// How the voices went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<CallPath>,
    /// The kind of the user's own candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Candidate>,
    /// The kind of the partner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Candidate>,
    /// From the match to the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_ms: Option<u32>,
    /// From the match to the first that was heard of the partner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_ms: Option<u32>,
    /// How often a new path was looked for (ICE restarts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// The share of the partner's audio that was lost on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<f64>,
    /// Which match it was; absent: the present one, else the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
}

/// What `join_room` has besides.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JoinRoom<'a> {
    /// The name of the room.
    #[serde(borrow)]
    pub room: Cow<'a, str>,
}

/// A field that is there counts as there even when it is `null`.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// Reads criteria as an object only: a derived reader would take a list of values in the order of the
/// fields as well. It reads from the message itself, so that the column in an error is that of the message.
fn object<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Criteria<'de>>, D::Error> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Option<Criteria<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("criteria as an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Criteria::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    d.deserialize_any(Object)
}

/// A list; `null` means absent.
fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Cow<'de, str>>, D::Error> {
    Option::deserialize(d).map(Option::unwrap_or_default)
}

/// Whom a user wants to be matched with. What is absent does not matter to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Criteria<'a> {
    /// A language to speak, such as `en`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Cow<'a, str>>,
    /// A part of the world, such as `eu`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Cow<'a, str>>,
    /// Topics, one of which a partner should share.
    #[serde(
        borrow,
        default,
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub interests: Vec<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(ClientType, Option<&str>, bool)> {
        let request = serde_json::from_str::<Request<'_>>(text).ok()?;
        let more = request.id.is_some() || request.criteria.is_some() || request.to.is_some();
        Some((request.kind, request.payload.map(RawValue::get), more))
    }

    proptest! {
        #[test]
        fn a_relay_is_read_as_json_is(
            kind in prop::sample::select(&["offer", "answer", "ice_candidate", "message", "ping", "offers"][..]),
            payload in r#"[ \[\]{}",:0-9a-z\\.é-]{0,8}|null|"[a-zé\\"]{0,5}"|\{ "a": [0-9]{1,3} \}|\[1,2\]"#,
            tail in prop::sample::select(&["}", "", "}}", " }", "\n}", r#","id":1}"#, r#","payload":2}"#][..]),
        ) {
            let text = format!(r#"{{"type":"{kind}","payload":{payload}{tail}"#);
            if let Some(relay) = Request::relay(&text) {
                let found = (relay.kind, relay.payload.map(RawValue::get), false);
                prop_assert_eq!(read(&text), Some(found));
            }
        }
    }

    #[test]
    fn relays_as_browsers_write_them_need_no_general_reader() {
        for kind in ["offer", "answer", "ice_candidate", "message"] {
            for payload in ["null", "\"}\"", r#"{"candidate":"a\"b"}"#, "[1, 2]"] {
                let text = format!(r#"{{"type":"{kind}","payload":{payload}}}"#);
                let relay = Request::relay(&text).expect("a relay");
                assert_eq!(relay.kind.as_str(), kind);
                assert_eq!(relay.payload.map(RawValue::get), Some(payload));
            }
        }
    }
}
