//! What nodes say to each other, as bytes. Numbers are big-endian.
//!
//! ```text
//! packet      version 1 | kind 1 | frames 2 | from 8 | to 8 | seq 8 | seen 8 | rest
//! batch       rest: frames, each  length 4 | kind 1 | room 8 | to 8 | from 8 | body
//!             the first may be a stamp: when the sender took the frame after it, by the engine's clock, in microseconds
//! keep-alive  rest: XOR of the ids of the link's rooms 8; seq: the last batch that was sent; frames: 1 asks for an answer
//! again       rest: last 8; seq: the first batch that is wanted
//! news        rest: node 8 that was buried; to all
//! bans        nothing more: they have changed; to all
//! blocks      the same of blocks
//! probe       version 1 | kind 1 | number 8; to oneself
//! ```
//!
//! Nothing here panics or reserves memory for what only a length announces.

use crate::id::NodeId;

/// Of the bus; a packet of another one is not understood.
pub const VERSION: u8 = 1;

const PROBE: u8 = 0;
const BATCH: u8 = 1;
const KEEP_ALIVE: u8 = 2;
const AGAIN: u8 = 3;
const NEWS: u8 = 4;
const BANS: u8 = 5;
const BLOCKS: u8 = 6;

/// The kind of the frame that tells since when a batch waits. The core has none of this kind.
const STAMP: u8 = 255;

/// In place of the number of frames, of which a keep-alive has none.
const ASKS: u16 = 1;

/// Bytes of a packet before its frames.
pub(crate) const HEADER: usize = 36;

/// Bytes of a frame before its body.
pub(crate) const FRAME: usize = 29;

/// Who sent a packet, and where it stands in the link from that life to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The life that sent it.
    pub from: NodeId,
    /// The life that it is for.
    pub to: NodeId,
    /// The number of the batch, from 1.
    pub seq: u64,
    /// The last batch of the other direction before which none is missing.
    pub seen: u64,
}

/// A packet that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Frames with a number.
    Batch(Header, Frames<'a>),
    /// Nothing new.
    KeepAlive {
        /// From whom.
        header: Header,
        /// The XOR of the ids of the link's rooms.
        rooms: u64,
        /// Who would be silent otherwise is to answer.
        asks: bool,
    },
    /// Batches from the header's `seq` to this one are wanted again.
    Again(Header, u64),
    /// This node was buried.
    News(Header, NodeId),
    /// What the engine knows of bans has changed.
    Bans(Header),
    /// What it knows of blocks has.
    Blocks(Header),
}

/// A frame: a message, a claim, whatever the core makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is, which the bus does not know.
    pub kind: u8,
    /// The room that it belongs to.
    pub room: u64,
    /// The session that it is for.
    pub to: u64,
    /// The session that it is from.
    pub from: u64,
    /// What it says.
    pub body: &'a [u8],
}

/// The frames of a batch, whose lengths have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (frame, rest) = split_frame(self.0)?;
        self.0 = rest;
        Some(frame)
    }
}

/// Why a packet is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is of another version of the bus.
    #[error("a packet of version {0} of the bus")]
    Version(u8),
    /// A kind that this version does not have.
    #[error("a packet of the unknown kind {0}")]
    Kind(u8),
    /// Its lengths contradict each other.
    #[error("a packet that is cut off or too long")]
    Length,
    /// The number of its batch is the last one: no link comes to it, and none would come after it.
    #[error("a packet with a number that no link comes to")]
    Number,
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn split_frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (head, rest) = rest.split_at_checked(FRAME - 4)?;
    let (body, rest) = rest.split_at_checked(length)?;
    let frame = Frame {
        kind: *head.first()?,
        room: u64_at(head, 1)?,
        to: u64_at(head, 9)?,
        from: u64_at(head, 17)?,
        body,
    };
    Some((frame, rest))
}

/// Understands a packet.
///
/// # Errors
/// If it is none of this version, whole.
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, Wrong> {
    match bytes.first() {
        Some(&VERSION) => {}
        Some(&version) => return Err(Wrong::Version(version)),
        None => return Err(Wrong::Length),
    }
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or(Wrong::Length)?;
    let node = |at| {
        u64_at(header, at)
            .map(|id| NodeId(id.to_be_bytes()))
            .ok_or(Wrong::Length)
    };
    let number = |at| u64_at(header, at).ok_or(Wrong::Length);
    let (kind, frames) = match header {
        [_, kind, a, b, ..] => (*kind, u16::from_be_bytes([*a, *b])),
        _ => return Err(Wrong::Length),
    };
    let header = Header {
        from: node(4)?,
        to: node(12)?,
        seq: number(20)?,
        seen: number(28)?,
    };
    if header.seq == u64::MAX {
        return Err(Wrong::Number);
    }
    let one = || {
        rest.try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| Wrong::Length)
    };
    match kind {
        BATCH => whole(rest, frames).map(|frames| Packet::Batch(header, frames)),
        KEEP_ALIVE => one().map(|rooms| Packet::KeepAlive {
            header,
            rooms,
            asks: frames & ASKS != 0,
        }),
        AGAIN => one().map(|last| Packet::Again(header, last)),
        NEWS => one().map(|node| Packet::News(header, NodeId(node.to_be_bytes()))),
        BANS if rest.is_empty() => Ok(Packet::Bans(header)),
        BLOCKS if rest.is_empty() => Ok(Packet::Blocks(header)),
        BANS | BLOCKS => Err(Wrong::Length),
        _ => Err(Wrong::Kind(kind)),
    }
}

fn whole(bytes: &[u8], count: u16) -> Result<Frames<'_>, Wrong> {
    let mut rest = bytes;
    for _ in 0..count {
        (_, rest) = split_frame(rest).ok_or(Wrong::Length)?;
    }
    if rest.is_empty() {
        Ok(Frames(bytes))
    } else {
        Err(Wrong::Length)
    }
}

fn head(kind: u8, frames: u16, header: &Header) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    (out[0], out[1]) = (VERSION, kind);
    out[2..4].copy_from_slice(&frames.to_be_bytes());
    out[4..12].copy_from_slice(&header.from.0);
    out[12..20].copy_from_slice(&header.to.0);
    out[20..28].copy_from_slice(&header.seq.to_be_bytes());
    out[28..36].copy_from_slice(&header.seen.to_be_bytes());
    out
}

/// Appends a frame. The body must be shorter than 4 GiB, which the bounds of a link see to.
pub(crate) fn push_frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let length = u32::try_from(frame.body.len()).unwrap_or(u32::MAX);
    out.reserve(FRAME + frame.body.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.push(frame.kind);
    for number in [frame.room, frame.to, frame.from] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(frame.body);
}

/// Frames in a batch, besides a stamp.
pub(crate) const MOST_FRAMES: u16 = u16::MAX - 1;

/// A batch of frames that `push_frame` has put one after the other, `MOST_FRAMES` at the most. `since`: when the first of
/// them was taken, by the engine's clock, if that is known.
pub(crate) fn encode_batch(
    header: &Header,
    count: u16,
    frames: &[u8],
    since: Option<i64>,
) -> Vec<u8> {
    let mut stamp = Vec::new();
    if let Some(since) = since {
        let stamp_of = |body| Frame {
            kind: STAMP,
            room: 0,
            to: 0,
            from: 0,
            body,
        };
        push_frame(&mut stamp, &stamp_of(&since.to_be_bytes()));
    }
    let count = count + u16::from(since.is_some());
    [&head(BATCH, count, header)[..], &stamp, frames].concat()
}

/// When the first frame of a batch was taken, if the sender says so, and the frames.
pub(crate) fn split_stamp(mut frames: Frames<'_>) -> (Option<i64>, Frames<'_>) {
    let rest = frames;
    match frames.next() {
        Some(stamp) if stamp.kind == STAMP => {
            let since = stamp.body.try_into().map(i64::from_be_bytes);
            (since.ok(), frames)
        }
        _ => (None, rest),
    }
}

pub(crate) fn encode_keep_alive(header: &Header, rooms: u64, asks: bool) -> Vec<u8> {
    let flags = if asks { ASKS } else { 0 };
    [&head(KEEP_ALIVE, flags, header)[..], &rooms.to_be_bytes()].concat()
}

pub(crate) fn encode_again(header: &Header, last: u64) -> Vec<u8> {
    [&head(AGAIN, 0, header)[..], &last.to_be_bytes()].concat()
}

/// The header of what goes to all.
fn to_all(from: NodeId) -> Header {
    Header {
        from,
        to: NodeId([0; 8]),
        seq: 0,
        seen: 0,
    }
}

pub(crate) fn encode_news(from: NodeId, buried: NodeId) -> Vec<u8> {
    [&head(NEWS, 0, &to_all(from))[..], &buried.0].concat()
}

pub(crate) fn encode_bans(from: NodeId) -> Vec<u8> {
    head(BANS, 0, &to_all(from)).to_vec()
}

pub(crate) fn encode_blocks(from: NodeId) -> Vec<u8> {
    head(BLOCKS, 0, &to_all(from)).to_vec()
}

pub(crate) fn encode_probe(number: u64) -> [u8; 10] {
    let mut out = [0; 10];
    (out[0], out[1]) = (VERSION, PROBE);
    out[2..].copy_from_slice(&number.to_be_bytes());
    out
}

/// The number of a probe, if it is one.
pub(crate) fn probe(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [VERSION, PROBE, number @ ..] => Some(u64::from_be_bytes(number.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        (
            any::<[u8; 8]>(),
            any::<[u8; 8]>(),
            0..u64::MAX,
            any::<u64>(),
        )
            .prop_map(|(from, to, seq, seen)| Header {
                from: NodeId(from),
                to: NodeId(to),
                seq,
                seen,
            })
    }

    #[test]
    fn a_number_after_which_none_can_come_is_refused() {
        let last = |seq| Header {
            seq,
            ..to_all(NodeId([1; 8]))
        };
        for seq in [u64::MAX, u64::MAX - 1] {
            let expected = seq != u64::MAX;
            let header = last(seq);
            for bytes in [
                encode_batch(&header, 0, &[], None),
                encode_keep_alive(&header, 0, false),
                encode_again(&header, 0),
            ] {
                assert_eq!(decode(&bytes).is_ok(), expected, "{bytes:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_garbage_panics(bytes in vec(any::<u8>(), 0..200), kind in 0..8_u8) {
            let _ = (decode(&bytes), probe(&bytes));
            let mut bytes = bytes;
            // Past the first look, too.
            if let [version, second, ..] = &mut bytes[..] {
                (*version, *second) = (VERSION, kind);
            }
            if let Ok(Packet::Batch(_, frames)) = decode(&bytes) {
                prop_assert_eq!(frames.map(|frame| FRAME + frame.body.len()).sum::<usize>(), bytes.len() - HEADER);
            }
        }

        #[test]
        fn batches_are_read_back(
            header in header(),
            since in any::<Option<i64>>(),
            frames in vec((0..STAMP, any::<u64>(), any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..50)), 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let frame = |(kind, room, to, from, body): &(u8, u64, u64, u64, Vec<u8>)| (*kind, *room, *to, *from, body.clone());
            let mut bytes = Vec::new();
            for (kind, room, to, from, body) in &frames {
                push_frame(&mut bytes, &Frame { kind: *kind, room: *room, to: *to, from: *from, body });
            }
            let count = u16::try_from(frames.len()).expect("a few");
            let batch = encode_batch(&header, count, &bytes, since);
            let Ok(Packet::Batch(read, found)) = decode(&batch) else { panic!("no batch") };
            prop_assert_eq!(read, header);
            let (stamp, found) = split_stamp(found);
            prop_assert_eq!(stamp, since);
            let found: Vec<_> = found.map(|f| (f.kind, f.room, f.to, f.from, f.body.to_vec())).collect();
            prop_assert_eq!(found, frames.iter().map(frame).collect::<Vec<_>>());
            prop_assert!(decode(&batch[..cut.index(batch.len())]).is_err());
        }

        #[test]
        fn the_others_are_read_back(header in header(), number in any::<u64>()) {
            for asks in [false, true] {
                let bytes = encode_keep_alive(&header, number, asks);
                prop_assert_eq!(decode(&bytes), Ok(Packet::KeepAlive { header, rooms: number, asks }));
            }
            let bytes = encode_again(&header, number);
            prop_assert_eq!(decode(&bytes), Ok(Packet::Again(header, number)));
            let (from, buried) = (header.from, header.to);
            let news = to_all(from);
            let bytes = encode_news(from, buried);
            prop_assert_eq!(decode(&bytes), Ok(Packet::News(news, buried)));
            let bytes = encode_bans(from);
            prop_assert_eq!(decode(&bytes), Ok(Packet::Bans(news)));
            let bytes = encode_blocks(from);
            prop_assert_eq!(decode(&bytes), Ok(Packet::Blocks(news)));
            prop_assert_eq!(probe(&encode_probe(number)), Some(number));
            prop_assert_eq!(probe(&encode_again(&header, number)), None);
        }
    }
}
