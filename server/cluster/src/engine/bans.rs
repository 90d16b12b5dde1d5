//! Whom operators keep out, for all nodes. The engine counts the time, as clocks of nodes differ, and may lose all of it.

use std::time::Duration;

use redis::Value;

use super::{Call, CallError, Engine};
use crate::scripts::{Script, bytes};

/// Bans in one call, which hold the engine for a few milliseconds.
const CALL: usize = 500;

/// What is written of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// They are kept out.
    Ban,
    /// The same, unless something is known of them: said again after data were lost.
    Keep,
    /// They are kept out no more.
    Lift,
}

/// Somebody who is kept out, or was until it was lifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptOut {
    /// Who, as the nodes write it.
    pub whom: Vec<u8>,
    /// For how long.
    pub left: Duration,
    /// For operators.
    pub reason: String,
    /// It was lifted before its end.
    pub lifted: bool,
}

impl Engine {
    /// Writes bans; how many were taken: of 10,000 others, nothing more is.
    ///
    /// # Errors
    /// If there is no answer. Whether it was done is not known then; it may be done again.
    pub async fn write_bans(&self, bans: &[(Word, KeptOut)]) -> Call<usize> {
        let mut taken = 0;
        for bans in bans.chunks(CALL) {
            let args: Vec<Vec<u8>> = bans
                .iter()
                .flat_map(|(word, ban)| args(*word, ban))
                .collect();
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let keys: [&[u8]; 1] = [&self.scripts().bans];
            match self.script(Script::Bans, &keys, &args).await? {
                Value::Int(count) => taken += usize::try_from(count).unwrap_or(0),
                _ => return Err(CallError::Strange),
            }
        }
        Ok(taken)
    }

    /// All bans that are not over, and those that were lifted.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn read_bans(&self) -> Call<Vec<KeptOut>> {
        let keys: [&[u8]; 1] = [&self.scripts().bans];
        match self.script(Script::Bans, &keys, &[]).await? {
            // What cannot be read is not of this version.
            Value::Array(all) => Ok(all.iter().filter_map(read).collect()),
            _ => Err(CallError::Strange),
        }
    }
}

fn args(word: Word, ban: &KeptOut) -> [Vec<u8>; 4] {
    let kind = match word {
        Word::Ban => b"b",
        Word::Keep => b"k",
        Word::Lift => b"x",
    };
    let left = ban.left.as_micros().to_string();
    [
        kind.to_vec(),
        ban.whom.clone(),
        left.into_bytes(),
        ban.reason.clone().into_bytes(),
    ]
}

fn read(value: &Value) -> Option<KeptOut> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [kind, whom, left, reason] = &parts[..] else {
        return None;
    };
    let left = str::from_utf8(bytes(left)?).ok()?.parse().ok()?;
    Some(KeptOut {
        whom: bytes(whom)?.to_vec(),
        left: Duration::from_micros(left),
        reason: String::from_utf8_lossy(bytes(reason)?).into_owned(),
        lifted: bytes(kind)? == b"x",
    })
}
