//! The writer as the log of surveys.

use futures_util::future::join_all;

use crate::{
    record::Record,
    store::writer::{Health, Outcome, Where, Writer},
    survey::{Log, NotStored, Stored, Storing},
};

impl Log for Writer {
    fn append(&self, records: Vec<Record>) -> Storing {
        let receipts: Vec<_> = records
            .into_iter()
            .map(|record| self.write_now(record))
            .collect();
        Box::pin(async move {
            let mut stored = Stored::Database;
            for outcome in join_all(receipts).await {
                match outcome {
                    Outcome::Stored(Where::Database) => {}
                    Outcome::Stored(Where::Spill) => stored = Stored::Spill,
                    Outcome::Rejected | Outcome::Deleted | Outcome::Lost => return Err(NotStored),
                }
            }
            Ok(stored)
        })
    }

    fn behind(&self) -> bool {
        self.health() != Health::Good
    }
}
