//! Whom users have blocked, for all nodes: a list in the order in which it was written, of which each node reads what is new.
//! The engine counts the time, as clocks of nodes differ, and may lose all of it.

use std::time::Duration;

use redis::Value;

use super::{Call, CallError, Engine};
use crate::scripts::{Script, bytes};

/// Blocks in one call, which hold the engine for some milliseconds.
const CALL: usize = 100;

/// Bytes of one that was read: by, of, and microseconds to go.
const READ: usize = 24;

/// A user who is kept apart from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptApart {
    /// Who has blocked, as all nodes name them.
    pub by: [u8; 8],
    /// Whom.
    pub of: [u8; 8],
    /// For how long.
    pub left: Duration,
    /// It is said again after data were lost: not if anything is known of it, or if there is no room.
    pub again: bool,
}

/// How many blocks there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostBlocks {
    /// Of all users. One more makes the oldest forgotten.
    pub of_all: usize,
    /// Of one.
    pub of_one: usize,
}

/// How far a node has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlocksRead {
    generation: Vec<u8>,
    number: u64,
}

/// Some blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SomeBlocks {
    /// The oldest first. Those that are over are left out.
    pub blocks: Vec<KeptApart>,
    /// What has been read with them.
    pub read: BlocksRead,
    /// There are more.
    pub more: bool,
    /// They are the first of all, though the reader had read some: the engine has lost what it knew, or a part of it.
    pub anew: bool,
}

impl Engine {
    /// Writes blocks; how many were news. `fresh` names what is written, if there is nothing.
    ///
    /// # Errors
    /// If there is no answer. Whether it was done is not known then; it may be done again.
    pub async fn write_blocks(
        &self,
        blocks: &[KeptApart],
        most: MostBlocks,
        fresh: [u8; 8],
    ) -> Call<usize> {
        let mut taken = 0;
        for blocks in blocks.chunks(CALL) {
            let most = [most.of_all, most.of_one].map(|most| most.to_string().into_bytes());
            let [of_all, of_one] = most;
            let mut args = vec![b"w".to_vec(), fresh.to_vec(), of_all, of_one];
            args.extend(blocks.iter().flat_map(args_of));
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let keys: [&[u8]; 1] = [&self.scripts().blocks];
            match self.script(Script::Blocks, &keys, &args).await? {
                Value::Int(count) => taken += usize::try_from(count).unwrap_or(0),
                _ => return Err(CallError::Strange),
            }
        }
        Ok(taken)
    }

    /// The first blocks that were written after those that have been read.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn read_blocks(&self, after: &BlocksRead) -> Call<SomeBlocks> {
        let number = after.number.to_string();
        let args: [&[u8]; 3] = [b"r", &after.generation, number.as_bytes()];
        let keys: [&[u8]; 1] = [&self.scripts().blocks];
        let answer = self.script(Script::Blocks, &keys, &args).await?;
        read(&answer, after).ok_or(CallError::Strange)
    }
}

fn args_of(block: &KeptApart) -> [Vec<u8>; 4] {
    let kind = if block.again { b"k" } else { b"b" };
    let left = block.left.as_micros().to_string();
    let (by, of) = (block.by.to_vec(), block.of.to_vec());
    [kind.to_vec(), by, of, left.into_bytes()]
}

fn read(answer: &Value, after: &BlocksRead) -> Option<SomeBlocks> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [generation, number, last, blocks] = &parts[..] else {
        return None;
    };
    let number_of = |value| str::from_utf8(bytes(value)?).ok()?.parse::<u64>().ok();
    let (number, last) = (number_of(number)?, number_of(last)?);
    let generation = bytes(generation)?.to_vec();
    let (blocks, rest) = bytes(blocks)?.as_chunks::<READ>();
    if !rest.is_empty() {
        return None;
    }
    let was_read = *after != BlocksRead::default();
    Some(SomeBlocks {
        blocks: blocks.iter().map(read_one).collect(),
        more: number < last,
        anew: was_read && (generation != after.generation || number < after.number),
        read: BlocksRead { generation, number },
    })
}

fn read_one(bytes: &[u8; READ]) -> KeptApart {
    let mut parts = [[0; 8]; 3];
    for (part, bytes) in parts.iter_mut().zip(bytes.as_chunks().0) {
        *part = *bytes;
    }
    let [by, of, left] = parts;
    KeptApart {
        by,
        of,
        left: Duration::from_micros(u64::from_be_bytes(left)),
        again: false,
    }
}
