//! The tag in a message, by which its receiver checks it without asking the sender. Pure.

use std::{fmt::Write as _, time::Duration};

use serde_json::value::RawValue;
use voicematch_protocol::{ClientType, Request};

use crate::{
    measure::{
        reach::NodeId,
        sample::{Direction, Kind, Route},
    },
    plan::size::{MAX_PAYLOAD_BYTES, MIN_PAYLOAD_BYTES},
};

/// Three years: no run is longer, and no clocks are further apart.
const MAX_DUE: Duration = Duration::from_secs(100_000_000);

/// The text before a tag.
const MARK: &str = " vm ";
/// The fields of a tag, each followed by a dot.
const FIELDS: usize = 10;
/// The server is one digit, of as many as [`NodeId::MAX`].
const RADIX: u32 = 36;
/// The checksum of a tag has 24 bits; every change of one byte changes it.
const CHECKSUM_BITS: u64 = 0xff_ffff;

/// The sender, room, number and due time of a message.
///
/// In an ICE candidate it is an extension attribute (RFC 8839, section 5.1), so that the payload looks like
/// a browser's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The run: several load tests may use one server.
    pub run: u32,
    /// The sender's room, as [`room_key`] gives it.
    pub room: u64,
    /// The sender's index in the plan.
    pub sender: u32,
    /// The server that the sender is at.
    pub node: NodeId,
    /// The number of the message among the sender's in this room, from 0.
    pub seq: u32,
    /// Its number among those of its type, from 0.
    pub nth: u32,
    /// Its type and direction.
    pub route: Route,
    /// When it was due to be sent, since the start of the run. Whole microseconds.
    pub due: Duration,
    /// How much later it was sent. Whole microseconds.
    pub lateness: Duration,
    /// The bytes of the payload.
    pub len: usize,
}

impl Tag {
    /// The payload, padded to its length: JSON for a message to a partner; otherwise plain text that fits into JSON
    /// strings and binary frames.
    pub fn to_payload(self) -> String {
        let (head, tail) = dress(self.route.kind);
        let mut out = String::with_capacity(self.len.max(MIN_PAYLOAD_BYTES));
        out.push_str(head);
        out.push_str(MARK);
        let start = out.len();
        let Self {
            run,
            room,
            sender,
            node,
            seq,
            nth,
            route,
            due,
            lateness,
            len,
        } = self;
        let role = match route.direction {
            Direction::OffererToAnswerer => 'o',
            Direction::AnswererToOfferer => 'a',
            Direction::ToServer => 's',
        };
        let node = char::from_digit(u32::from(node.0), RADIX).unwrap_or('0');
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{run:08x}.{room:016x}.{sender}.{seq}.{nth}.{}.{role}{node}.{}.{}.{len}.",
            route.kind.index(),
            due.as_micros(),
            lateness.as_micros(),
        );
        let sum = checksum(&out[start..]);
        let _ = write!(out, "{sum:06x}.");
        let padding = len.saturating_sub(out.len() + tail.len());
        out.extend(std::iter::repeat_n('x', padding));
        out.push_str(tail);
        out
    }

    /// Reads the tag in a received payload or message. `None`: there is none, or it was changed on the
    /// way.
    pub fn read(text: &str) -> Option<Self> {
        let (_, tag) = text.split_once(MARK)?;
        let (last_dot, _) = tag.match_indices('.').nth(FIELDS - 1)?;
        let (fields, rest) = tag.split_at(last_dot + 1);
        let (sum, _padding) = rest.split_once('.')?;
        if u64::from_str_radix(sum, 16) != Ok(checksum(fields)) {
            return None;
        }
        let mut parts = fields.split('.');
        let run = u32::from_str_radix(parts.next()?, 16).ok()?;
        let room = u64::from_str_radix(parts.next()?, 16).ok()?;
        let sender = parts.next()?.parse().ok()?;
        let seq = parts.next()?.parse().ok()?;
        let nth = parts.next()?.parse().ok()?;
        let kind = Kind::new(parts.next()?.parse().ok()?);
        let mut ends = parts.next()?.chars();
        let direction = match ends.next()? {
            'o' => Direction::OffererToAnswerer,
            'a' => Direction::AnswererToOfferer,
            's' => Direction::ToServer,
            _ => return None,
        };
        let node = u8::try_from(ends.next()?.to_digit(RADIX)?).ok()?;
        if ends.next().is_some() {
            return None;
        }
        let tag = Self {
            run,
            room,
            sender,
            node: NodeId(node),
            seq,
            nth,
            route: Route { kind, direction },
            due: Duration::from_micros(parts.next()?.parse().ok()?),
            lateness: Duration::from_micros(parts.next()?.parse().ok()?),
            len: parts.next()?.parse().ok()?,
        };
        let sound = (MIN_PAYLOAD_BYTES..=MAX_PAYLOAD_BYTES).contains(&tag.len)
            && tag.due.max(tag.lateness) <= MAX_DUE;
        sound.then_some(tag)
    }

    /// Whether `text` contains the beginning of a tag, even one that cannot be read.
    pub fn begins_in(text: &str) -> bool {
        text.contains(MARK)
    }

    /// Whether `text`, a payload or a message around one, differs from what was sent.
    pub fn altered(self, text: &str) -> bool {
        if self.route.direction == Direction::ToServer {
            return !text.contains(&self.to_payload());
        }
        text != self.to_payload()
    }
}

fn checksum(fields: &str) -> u64 {
    room_key(fields) & CHECKSUM_BITS
}

/// The text around the tag in payloads of this type.
fn dress(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::ICE_CANDIDATE => (
            r#"{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host"#,
            r#"","sdpMid":"0","sdpMLineIndex":0}"#,
        ),
        Kind::OFFER => (r#"{"type":"offer","sdp":"v=0\r\ns="#, r#"\r\n"}"#),
        Kind::ANSWER => (r#"{"type":"answer","sdp":"v=0\r\ns="#, r#"\r\n"}"#),
        Kind::MESSAGE => (r#"{"text":""#, r#""}"#),
        _ => ("", ""),
    }
}

/// A message to a partner.
///
/// # Errors
/// None in practice: the payload is valid JSON.
pub fn relay(kind: ClientType, payload: String) -> serde_json::Result<String> {
    let payload = RawValue::from_string(payload)?;
    request(kind, Some(&payload))
}

/// A message with only a type and perhaps a payload.
///
/// # Errors
/// None in practice: the fields are valid JSON.
pub fn request(kind: ClientType, payload: Option<&RawValue>) -> serde_json::Result<String> {
    request_with_id(kind, None, payload)
}

/// The same with an id, which the answer repeats.
///
/// # Errors
/// None in practice: the fields are valid JSON.
pub fn request_with_id(
    kind: ClientType,
    id: Option<&RawValue>,
    payload: Option<&RawValue>,
) -> serde_json::Result<String> {
    serde_json::to_string(&Request {
        kind,
        id,
        criteria: None,
        payload,
        to: None,
    })
}

/// A hash of a room id of any length (FNV-1a, 64 bits).
///
/// Not std's hasher: the two members of a room may sit in different processes and must agree.
pub fn room_key(room_id: &str) -> u64 {
    room_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
