//! The messages that simulated users send and look for. Nothing is parsed as JSON: what the server
//! sends is searched for the few bytes that matter.

use crate::frame::{MASK, encode, opcode};

/// Comes before the mark in a relayed message, and nowhere else in what a server writes.
const SIGN: u8 = b'~';
/// Digits of the mark: 16 of the time, 8 of the sender.
const DIGITS: usize = 24;
const BEFORE_PAYLOAD: &str = r#"{"type":"ice_candidate","payload":"#;
const BEFORE_MARK: &str = r#"{"candidate":"~"#;
const AFTER_MARK: &str = r#""}"#;
const FILLER: &str =
    "842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0 ";

/// The shortest payload that has room for a mark.
pub(crate) const MIN_PAYLOAD: usize = BEFORE_MARK.len() + DIGITS + AFTER_MARK.len();

/// When a message was to be sent, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The intended time, as [`crate::clock::now`] counts.
    pub(crate) at: u64,
    /// The sender's slot.
    pub(crate) from: usize,
}

/// `find_match`, as a frame.
pub(crate) fn find_match() -> Vec<u8> {
    encode(opcode::TEXT, br#"{"type":"find_match"}"#)
}

/// Whether the server says that a partner was found.
pub(crate) fn is_match(text: &[u8]) -> bool {
    has(text, br#""type":"match_found""#)
}

/// Whether the server refuses something.
pub(crate) fn is_error(text: &[u8]) -> bool {
    has(text, br#""type":"error""#)
}

fn has(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}

/// A relayed message, encoded once; [`Candidate::stamp`] patches who sends it and when.
#[derive(Debug)]
pub(crate) struct Candidate {
    frame: Vec<u8>,
    /// Where the first digit is, in the frame and in the text.
    in_frame: usize,
    in_text: usize,
    after_mark: String,
}

impl Candidate {
    /// A message whose payload, an object, is `payload_bytes` long, and at least [`MIN_PAYLOAD`].
    pub(crate) fn new(payload_bytes: usize) -> Self {
        let filler = payload_bytes.saturating_sub(MIN_PAYLOAD);
        let filler: String = FILLER.chars().cycle().take(filler).collect();
        let after_mark = format!("{filler}{AFTER_MARK}");
        let digits = "a".repeat(DIGITS);
        let text = format!("{BEFORE_PAYLOAD}{BEFORE_MARK}{digits}{after_mark}}}");
        let frame = encode(opcode::TEXT, text.as_bytes());
        let in_text = BEFORE_PAYLOAD.len() + BEFORE_MARK.len();
        Self {
            in_frame: frame.len() - text.len() + in_text,
            in_text,
            frame,
            after_mark,
        }
    }

    /// The frame, as `from` was to send it `at`.
    pub(crate) fn stamp(&mut self, at: u64, from: usize) -> &[u8] {
        let digits = &mut self.frame[self.in_frame..self.in_frame + DIGITS];
        for (i, digit) in digits.iter_mut().enumerate() {
            let four = if i < 16 {
                at >> (60 - 4 * i)
            } else {
                from as u64 >> (92 - 4 * i)
            };
            *digit = (b'a' + (four & 15) as u8) ^ MASK[(self.in_text + i) & 3];
        }
        &self.frame
    }

    /// Whether a relayed message carries the payload unchanged, apart from the mark.
    pub(crate) fn intact(&self, text: &[u8]) -> bool {
        has(text, br#""type":"ice_candidate""#)
            && has(text, BEFORE_MARK.as_bytes())
            && has(text, self.after_mark.as_bytes())
    }
}

/// The mark of a relayed message; `None`: the text is something else.
pub(crate) fn mark(text: &[u8]) -> Option<Mark> {
    let start = memchr::memchr(SIGN, text)? + 1;
    let digits: &[u8; DIGITS] = text.get(start..)?.first_chunk()?;
    let (time, sender) = digits.split_at(16);
    Some(Mark {
        at: number(time)?,
        from: usize::try_from(number(sender)?).ok()?,
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let four = digit.wrapping_sub(b'a');
        (four < 16).then_some(number << 4 | u64::from(four))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(frame: &[u8], len: usize) -> Vec<u8> {
        let text = &frame[frame.len() - len..];
        text.iter()
            .enumerate()
            .map(|(i, b)| b ^ MASK[i & 3])
            .collect()
    }

    #[test]
    fn a_stamp_is_read_back() {
        for payload in [MIN_PAYLOAD, 120, 200, 4000] {
            let mut candidate = Candidate::new(payload);
            let len = BEFORE_PAYLOAD.len() + payload + 1;
            for (at, from) in [(0, 0), (u64::MAX, 19_999), (0x0123_4567_89ab_cdef, 1)] {
                let text = text_of(candidate.stamp(at, from), len);
                assert_eq!(mark(&text), Some(Mark { at, from }), "{payload}");
                assert!(candidate.intact(&text), "{payload}");
                let json: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
                assert_eq!(json["type"], "ice_candidate");
                assert_eq!(json["payload"].to_string().len(), payload);
            }
        }
    }

    #[test]
    fn a_payload_is_never_shorter_than_its_mark() {
        let short = Candidate::new(0).frame.len();
        assert_eq!(short, Candidate::new(MIN_PAYLOAD).frame.len());
    }

    #[test]
    fn what_carries_no_mark_has_none() {
        for text in [
            "",
            "~",
            "~abc",
            r#"{"type":"pong"}"#,
            "~aaaaaaaaaaaaaaaazaaaaaaaa",
        ] {
            assert_eq!(mark(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let found = br#"{"type":"match_found","room_id":"0123456789abcdef","initiator":true}"#;
        assert!(is_match(found) && !is_error(found));
        let refused = br#"{"type":"error","code":"rate_limited","message":"slower"}"#;
        assert!(is_error(refused) && !is_match(refused));
    }

    #[test]
    fn a_changed_payload_is_noticed() {
        let mut candidate = Candidate::new(120);
        let len = BEFORE_PAYLOAD.len() + 121;
        let mut text = text_of(candidate.stamp(7, 7), len);
        text[len - 10] ^= 1;
        assert!(!candidate.intact(&text));
    }
}
