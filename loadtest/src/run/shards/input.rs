//! Checks that records are shards of one run. Pure.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    base::packed::unpack,
    measure::books::ShardBooks,
    record::{Record, ShardData},
};

/// Why records cannot be merged.
#[derive(Debug, Error)]
pub enum MergeError {
    #[error("nothing to merge: give the records of all shards of a run")]
    Nothing,
    /// A whole run, or a merged one.
    #[error(
        "{file}: the record of a whole run, not of a shard: a shard is played with --shard 2/5 --start-at TIME"
    )]
    NotAShare { file: String },
    /// Shards of two runs.
    #[error("{file} and {other} are of different runs ({found} and {expected}): {why}")]
    OtherRun {
        file: String,
        other: String,
        found: String,
        expected: String,
        why: &'static str,
    },
    /// One shard twice.
    #[error("{file} and {other} are both shard {index}: give the record of each shard once")]
    Twice {
        file: String,
        other: String,
        index: u32,
    },
    /// The internal part of the record is damaged.
    #[error("{file}: the shard's measurements cannot be read ({error})")]
    Books { file: String, error: std::io::Error },
}

/// One shard, read.
pub(super) struct Part {
    pub file: String,
    pub record: Record,
    pub shard: ShardData,
    pub books: ShardBooks,
}

/// Reads records, each with the name of its file, and sorts them.
pub(super) fn parts(records: Vec<(String, Record)>) -> Result<Vec<Part>, MergeError> {
    let mut parts: Vec<Part> = Vec::new();
    for (file, mut record) in records {
        let Some(mut shard) = record.shard.take() else {
            return Err(MergeError::NotAShare { file });
        };
        if let Some(first) = parts.first() {
            same_run(first, &file, &record, &shard)?;
        }
        if let Some(same) = parts.iter().find(|part| part.shard.index == shard.index) {
            return Err(MergeError::Twice {
                file,
                other: same.file.clone(),
                index: shard.index,
            });
        }
        let books = std::mem::take(&mut shard.books);
        let books = match unpack(&books) {
            Ok(books) if (1..=shard.count).contains(&shard.index) => books,
            Ok(_) => {
                let error =
                    std::io::Error::other(format!("no shard {} of {}", shard.index, shard.count));
                return Err(MergeError::Books { file, error });
            }
            Err(error) => return Err(MergeError::Books { file, error }),
        };
        parts.push(Part {
            file,
            record,
            shard,
            books,
        });
    }
    parts.sort_by_key(|part| part.shard.index);
    Ok(parts)
}

fn same_run(
    first: &Part,
    file: &str,
    record: &Record,
    shard: &ShardData,
) -> Result<(), MergeError> {
    let differences = [
        (
            record.run.id != first.record.run.id,
            "start all shards with the same --start-at and the same plan",
        ),
        (
            shard.count != first.shard.count,
            "the plan was split into another number of shards",
        ),
        (
            shard.plan.servers != first.shard.plan.servers,
            "they have other servers; give all shards the same URLs in the same order",
        ),
        (
            shard.plan.thresholds != first.shard.plan.thresholds,
            "they have other thresholds; play all shards with the same flags",
        ),
        (
            shard.plan != first.shard.plan,
            "their plans differ; play all shards with the same flags",
        ),
    ];
    match differences.into_iter().find(|(differ, _)| *differ) {
        None => Ok(()),
        Some((_, why)) => Err(MergeError::OtherRun {
            file: file.to_owned(),
            other: first.file.clone(),
            found: record.run.id.clone(),
            expected: first.record.run.id.clone(),
            why,
        }),
    }
}

/// The missing shards, from 1.
pub(super) fn missing(parts: &[Part]) -> Vec<u32> {
    let there: BTreeSet<u32> = parts.iter().map(|part| part.shard.index).collect();
    let count = parts.first().map_or(0, |part| part.shard.count);
    (1..=count.min(crate::plan::limits::MAX_SHARDS))
        .filter(|index| !there.contains(index))
        .collect()
}
