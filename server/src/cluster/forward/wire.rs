//! What nodes say to each other of clients' requests: a head in JSON, so that a later version can say more, and a body.
//!
//! ```text
//! Forward     head length 4 | head | body of the request
//! Forwarded   head length 4 | head | a part of the answer's body; only the last part has an outcome
//! Forget      number 8: nobody waits for this answer any more
//! ```

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use voicematch_cluster::frames::Frame;

use super::Request;

/// Kinds of frames; see [`voicematch_core::cluster::FrameKind`].
pub(super) const FORWARD: u8 = 40;
pub(super) const FORWARDED: u8 = 41;
pub(super) const FORGET: u8 = 42;

/// The head of a request, as it is written.
#[derive(Serialize)]
pub(super) struct Asked<'a> {
    pub(super) number: u64,
    pub(super) until: Option<u64>,
    pub(super) request: &'a Request,
}

/// The same as it is read.
#[derive(Deserialize)]
pub(super) struct Forward {
    /// By which it is answered.
    pub(super) number: u64,
    /// Microseconds of the engine's clock: nobody waits any longer.
    pub(super) until: Option<u64>,
    pub(super) request: Request,
}

/// The head of a part of an answer.
#[derive(Serialize, Deserialize)]
pub(super) struct Forwarded {
    pub(super) number: u64,
    /// `None`: there is more.
    pub(super) outcome: Option<Outcome>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Out {
        status: u16,
        headers: Vec<(String, String)>,
        forged: bool,
    },
    /// The session is on this node: its eight bytes as a number.
    MovedTo(u64),
    /// The node has too many requests under way.
    Busy,
}

pub(super) fn encode(head: &impl Serialize, body: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(head).unwrap_or_default();
    let length = u32::try_from(head.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &head, body].concat()
}

pub(super) fn decode<H: DeserializeOwned>(bytes: &[u8]) -> Option<(H, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (head, body) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(head).ok()?, body))
}

/// A frame that is of no room and no session.
pub(super) fn frame(kind: u8, body: &[u8]) -> Frame<'_> {
    Frame {
        kind,
        room: 0,
        to: 0,
        from: 0,
        body,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_and_a_body_read_back() {
        let outcome = Some(Outcome::Out {
            status: 200,
            headers: vec![("etag".into(), "\"7\"".into())],
            forged: false,
        });
        let head = Forwarded { number: 9, outcome };
        let bytes = encode(&head, b"body");
        let (read, body) = decode::<Forwarded>(&bytes).expect("whole");
        assert_eq!((read.number, body), (9, &b"body"[..]));
        assert!(matches!(
            read.outcome,
            Some(Outcome::Out { status: 200, .. })
        ));
        let head = bytes.len() - body.len();
        for length in 0..head {
            assert!(decode::<Forwarded>(&bytes[..length]).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_garbage_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), length in 0..64_u32) {
            let _ = decode::<Forward>(&bytes).is_some();
            let bytes = [&length.to_be_bytes()[..], &bytes].concat();
            let _ = decode::<Forwarded>(&bytes).is_some();
        }
    }
}
