//! What is asked of the scripts and what they answer, as bytes.

use std::collections::HashSet;
use std::time::Duration;

use redis::Value;

use crate::id::{NodeId, POOL_BYTES, TicketId};

/// Stands between sessions and persons in the list of whom a ticket avoids. It is nobody's id.
const PERSONS: [u8; 8] = [0; 8];

/// Pools of one wish.
const POOLS: usize = 32;

/// What a ticket looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whose it is.
    pub ticket: TicketId,
    pools: Vec<u8>,
    ids: Vec<u8>,
}

impl Wish {
    /// `person` is a hash of the user, or the session's id without one: one person is never matched with itself.
    /// `avoided` are ids of sessions. `pools` begin with their level, and are searched from the narrowest.
    /// `None` without a pool, or with more than 32: one call of 64 such wishes holds the engine for some milliseconds. Ten
    /// interests, a language, a region and everybody are 13.
    #[must_use]
    pub fn new(
        ticket: TicketId,
        person: [u8; 8],
        avoided: &[[u8; 8]],
        pools: &[[u8; POOL_BYTES]],
    ) -> Option<Self> {
        let mut pools = pools.to_vec();
        // The order within a level is the caller's.
        let mut seen = HashSet::new();
        pools.retain(|pool| seen.insert(*pool));
        pools.sort_by_key(|pool| pool[0]);
        if pools.is_empty() || pools.len() > POOLS {
            return None;
        }
        let ids = [ticket.session(), person]
            .into_iter()
            .chain(avoided.iter().copied());
        Some(Self {
            ticket,
            pools: pools.concat(),
            ids: ids.flatten().collect(),
        })
    }

    /// The same, which finds none of these persons, either.
    #[must_use]
    pub fn apart_from(mut self, persons: &[[u8; 8]]) -> Self {
        if !persons.is_empty() {
            self.ids.extend(PERSONS);
            self.ids.extend(persons.as_flattened());
        }
        self
    }
}

/// Who stands in a pool, as the engine knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Which ticket.
    pub ticket: TicketId,
    /// Whose it is.
    pub node: NodeId,
    /// Their person.
    pub person: [u8; 8],
    /// Sessions that they avoid.
    pub avoided: Vec<[u8; 8]>,
    /// Persons from whom they are kept apart.
    pub apart: Vec<[u8; 8]>,
}

impl Stands {
    /// Reads a record of the engine's.
    pub(crate) fn read(ticket: TicketId, record: &[u8]) -> Option<Self> {
        let (_, rest) = record.split_at_checked(8)?;
        let (node, rest) = rest.split_at_checked(8)?;
        let (pools, rest) = rest.split_first_chunk()?;
        let (_, ids) = rest.split_at_checked(usize::from(u16::from_be_bytes(*pools)))?;
        let (ids, []) = ids.as_chunks() else {
            return None;
        };
        let [_, person, avoided @ ..] = ids else {
            return None;
        };
        let mut parts = avoided.splitn(2, |id| *id == PERSONS);
        let mut part = || parts.next().unwrap_or_default().to_vec();
        Some(Self {
            ticket,
            node: NodeId::from_slice(node)?,
            person: *person,
            avoided: part(),
            apart: part(),
        })
    }
}

/// One operation on the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Looks for the oldest who fits, else posts. What of it stands there already is taken out first. `waited`: since when
    /// the user waits, for the place in the order.
    Seek {
        /// What for.
        wish: Wish,
        /// How long already.
        waited: Duration,
    },
    /// Takes a ticket out.
    Withdraw(TicketId),
    /// Asks whether a ticket is posted, as this node's, in all of its pools.
    Check(TicketId),
    /// Takes out some tickets of dead nodes, from a cursor.
    Sweep {
        /// `0` at first, then what the last one answered.
        cursor: u64,
        /// About how many records to look at.
        count: u16,
    },
}

/// Who was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Since when, in microseconds of the engine's clock.
    pub since: i64,
    /// Who.
    pub ticket: TicketId,
    /// The node that owns the ticket, and decides.
    pub node: NodeId,
    /// The level of the pool in which it was found.
    pub level: u8,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody fits: it waits.
    Posted,
    /// This one, who waits no more.
    Found(Found),
    /// Whether it was there.
    Withdrawn(bool),
    /// Whether it is there.
    Checked(bool),
    /// The next cursor; 0: all has been seen.
    Swept(u64),
}

/// The engine's answer to a beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeatReply {
    /// This life has been buried.
    Fenced,
    /// Nodes and their values, and microseconds of the engine's clock.
    Ok {
        /// The engine's clock.
        time: i64,
        /// Changes when the data were lost.
        generation: Vec<u8>,
        /// Each node, with its beat or mark.
        nodes: Vec<(NodeId, Vec<u8>)>,
    },
}

pub(crate) fn op_args(op: &Op) -> [Vec<u8>; 5] {
    let none = Vec::new;
    match op {
        Op::Seek { wish, waited } => {
            // A century fits into what Lua's numbers hold exactly.
            let waited = waited
                .as_micros()
                .min(3_155_760_000_000_000)
                .to_string()
                .into_bytes();
            [
                b"S".to_vec(),
                wish.ticket.0.to_vec(),
                waited,
                wish.pools.clone(),
                wish.ids.clone(),
            ]
        }
        Op::Withdraw(ticket) => [b"W".to_vec(), ticket.0.to_vec(), none(), none(), none()],
        Op::Check(ticket) => [b"C".to_vec(), ticket.0.to_vec(), none(), none(), none()],
        Op::Sweep { cursor, count } => [
            b"D".to_vec(),
            cursor.to_string().into_bytes(),
            count.to_string().into_bytes(),
            none(),
            none(),
        ],
    }
}

pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn read_answer(op: &Op, answer: &[u8]) -> Option<Answer> {
    let yes = || match answer {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => None,
    };
    match op {
        Op::Withdraw(_) => yes().map(Answer::Withdrawn),
        Op::Check(_) => yes().map(Answer::Checked),
        Op::Sweep { .. } => str::from_utf8(answer).ok()?.parse().ok().map(Answer::Swept),
        Op::Seek { .. } if answer.is_empty() => Some(Answer::Posted),
        Op::Seek { .. } => {
            let (since, rest) = answer.split_first_chunk::<8>()?;
            let (ticket, rest) = rest.split_at_checked(12)?;
            let (node, level) = rest.split_at_checked(8)?;
            let [level] = level else { return None };
            Some(Answer::Found(Found {
                since: i64::from_be_bytes(*since),
                ticket: TicketId::from_slice(ticket)?,
                node: NodeId::from_slice(node)?,
                level: *level,
            }))
        }
    }
}

pub(crate) fn read_beat(answer: Value) -> Option<BeatReply> {
    let Value::Array(parts) = answer else {
        return None;
    };
    match &parts[..] {
        [Value::BulkString(word)] if word == b"fenced" => Some(BeatReply::Fenced),
        [
            Value::BulkString(word),
            Value::Array(time),
            Value::Array(pairs),
        ] if word == b"ok" => {
            let number = |value: &Value| str::from_utf8(bytes(value)?).ok()?.parse::<i64>().ok();
            let [seconds, micros] = &time[..] else {
                return None;
            };
            let time = number(seconds)?
                .checked_mul(1_000_000)?
                .checked_add(number(micros)?)?;
            let (mut generation, mut nodes) = (None, Vec::new());
            for pair in pairs.chunks_exact(2) {
                let [name, value] = pair else { continue };
                let (name, value) = (bytes(name)?, bytes(value)?);
                match NodeId::from_slice(name) {
                    Some(node) => nodes.push((node, value.to_vec())),
                    None if name == b"gen" => generation = Some(value.to_vec()),
                    // A field of a later version.
                    None => {}
                }
            }
            Some(BeatReply::Ok {
                time,
                generation: generation?,
                nodes,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_nothing_else_does() {
        let ticket = TicketId::new([1; 8], 7);
        let (avoided, apart) = ([[3; 8], [4; 8]], [[5; 8]]);
        let pools = [[0; POOL_BYTES], [1; POOL_BYTES]];
        let wish = Wish::new(ticket, [2; 8], &avoided, &pools).expect("a wish");
        let node = NodeId::first([9; 6]);
        let record = |wish: &Wish| {
            let length = u16::try_from(wish.pools.len()).expect("few");
            [
                &[0; 8][..],
                &node.0,
                &length.to_be_bytes(),
                &wish.pools,
                &wish.ids,
            ]
            .concat()
        };
        let stands = |apart: &[[u8; 8]]| Stands {
            ticket,
            node,
            person: [2; 8],
            avoided: avoided.to_vec(),
            apart: apart.to_vec(),
        };
        let bytes = record(&wish);
        assert_eq!(Stands::read(ticket, &bytes), Some(stands(&[])));
        let bytes = record(&wish.apart_from(&apart));
        assert_eq!(Stands::read(ticket, &bytes), Some(stands(&apart)));
        // The session and the person at least, and whole ids.
        let least = 18 + 2 * POOL_BYTES + 16;
        for length in 0..bytes.len() {
            let whole = length >= least && (length - least).is_multiple_of(8);
            let read = Stands::read(ticket, &bytes[..length]);
            assert_eq!(read.is_some(), whole, "{length}");
        }
    }
}
