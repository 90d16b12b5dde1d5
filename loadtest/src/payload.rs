//! What a relayed message carries, so that its receiver can check it without asking the sender.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use voicematch_protocol::{ClientType, Request};

use crate::sample::Direction;

/// The shortest payload that holds a tag with its longest numbers.
pub(crate) const MIN_PAYLOAD_BYTES: usize = 192;

/// The longest payload: a message of 64 KiB, which servers commonly allow, less its envelope.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 65_000;

const HEAD: &str = r#"{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host vm "#;
const TAIL: &str = r#"","sdpMid":"0","sdpMLineIndex":0}"#;

/// Who sent a message to which room, which one it was, and when it was due.
///
/// It travels as an extension attribute of an ICE candidate (RFC 8839, section 5.1), so that the payload is
/// what a browser would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The run; tells apart two load tests against one server.
    pub run: u32,
    /// The sender's room, as [`room_key`] gives it.
    pub room: u64,
    /// The sender's index in the plan.
    pub sender: u32,
    /// Counts the sender's messages in this room, from 0.
    pub seq: u32,
    /// Counts those of its type among them, from 0.
    pub nth: u32,
    /// From whom to whom.
    pub direction: Direction,
    /// When it was due to be sent, since the start of the run. Whole microseconds.
    pub due: Duration,
    /// How much later it was sent. Whole microseconds.
    pub lateness: Duration,
}

impl Tag {
    /// The JSON payload, padded to `len` bytes.
    pub(crate) fn to_payload(self, len: usize) -> String {
        let mut out = String::with_capacity(len.max(MIN_PAYLOAD_BYTES));
        out.push_str(HEAD);
        let Self {
            run,
            room,
            sender,
            seq,
            nth,
            direction,
            due,
            lateness,
        } = self;
        let role = match direction {
            Direction::OffererToAnswerer => 'o',
            Direction::AnswererToOfferer => 'a',
            Direction::ToServer => 's',
        };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{run:08x}.{room:016x}.{sender}.{seq}.{nth}.{role}.{}.{}.",
            due.as_micros(),
            lateness.as_micros(),
        );
        let padding = len.saturating_sub(out.len() + TAIL.len());
        out.extend(std::iter::repeat_n('x', padding));
        out.push_str(TAIL);
        out
    }

    /// The whole message that asks the server to relay this tag.
    ///
    /// # Errors
    /// None that can happen: the payload is valid JSON.
    pub(crate) fn to_request(self, len: usize) -> serde_json::Result<String> {
        let payload = RawValue::from_string(self.to_payload(len))?;
        request(ClientType::IceCandidate, Some(&payload))
    }

    /// Reads the tag of a received payload. `None`: it is not one of ours.
    pub(crate) fn read(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Candidate<'a> {
            #[serde(borrow)]
            candidate: Cow<'a, str>,
        }
        let candidate = serde_json::from_str::<Candidate<'_>>(payload)
            .ok()?
            .candidate;
        let (_, tag) = candidate.split_once(" vm ")?;
        let mut parts = tag.split('.');
        let tag = Self {
            run: u32::from_str_radix(parts.next()?, 16).ok()?,
            room: u64::from_str_radix(parts.next()?, 16).ok()?,
            sender: parts.next()?.parse().ok()?,
            seq: parts.next()?.parse().ok()?,
            nth: parts.next()?.parse().ok()?,
            direction: match parts.next()? {
                "o" => Direction::OffererToAnswerer,
                "a" => Direction::AnswererToOfferer,
                "s" => Direction::ToServer,
                _ => return None,
            },
            due: Duration::from_micros(parts.next()?.parse().ok()?),
            lateness: Duration::from_micros(parts.next()?.parse().ok()?),
        };
        parts.next().map(|_padding| tag)
    }
}

/// A message without anything but its type and perhaps a payload.
///
/// # Errors
/// None that can happen: the fields are all valid JSON.
pub(crate) fn request(kind: ClientType, payload: Option<&RawValue>) -> serde_json::Result<String> {
    serde_json::to_string(&Request {
        kind,
        id: None,
        criteria: None,
        payload,
        to: None,
    })
}

/// A number that stands for a room id of any length and form (FNV-1a, 64 bits).
///
/// Not std's hasher: the two members of a room may sit in different processes and must agree.
pub(crate) fn room_key(room_id: &str) -> u64 {
    room_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Tag = Tag {
        run: u32::MAX,
        room: u64::MAX,
        sender: u32::MAX,
        seq: u32::MAX,
        nth: u32::MAX,
        direction: Direction::OffererToAnswerer,
        due: Duration::from_secs(30 * 24 * 3600),
        lateness: Duration::from_secs(3600),
    };

    #[test]
    fn a_tag_reads_back_from_a_payload_of_the_length_asked_for() {
        for len in [MIN_PAYLOAD_BYTES, 500, MAX_PAYLOAD_BYTES] {
            let small = Tag {
                run: 0,
                room: 1,
                sender: 2,
                seq: 3,
                nth: 4,
                direction: Direction::ToServer,
                due: Duration::from_micros(5),
                lateness: Duration::ZERO,
            };
            for tag in [small, LONGEST] {
                let payload = tag.to_payload(len);
                assert_eq!(payload.len(), len);
                assert_eq!(Tag::read(&payload), Some(tag));
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_no_tag() {
        let whole = LONGEST.to_payload(MIN_PAYLOAD_BYTES);
        assert_eq!(Tag::read(&whole[..whole.len() - 1]), None);
        for other in [
            "",
            "1",
            "{}",
            r#"{"candidate":"fake-ice-candidate"}"#,
            r#"{"candidate":" vm 1.2"}"#,
        ] {
            assert_eq!(Tag::read(other), None, "{other}");
        }
    }

    #[test]
    fn the_request_is_what_a_browser_would_send() {
        let text = LONGEST.to_request(MIN_PAYLOAD_BYTES).expect("valid JSON");
        let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(value["type"], "ice_candidate");
        assert_eq!(value["payload"]["sdpMid"], "0");
        let find = request(ClientType::FindMatch, None).expect("valid JSON");
        assert_eq!(find, r#"{"type":"find_match"}"#);
    }

    #[test]
    fn room_keys_differ_as_their_ids_do() {
        assert_eq!(
            room_key("a"),
            0xaf63_dc4c_8601_ec8c,
            "the published FNV-1a value"
        );
        assert_ne!(room_key("room-1"), room_key("room-2"));
    }
}
