//! What the engine needs of the writer.

use std::pin::Pin;

use crate::record::Record;

/// What the engine needs of the writer.
pub trait Log: Send + Sync {
    /// Takes records at once, in the order of the calls, and answers when all of them are stored. It is best to store
    /// them together; if some are lost, the next call for the interview sees from the store what is missing.
    ///
    /// After an error none of them is stored later on: what is then read from the store is all there will be.
    fn append(&self, records: Vec<Record>) -> Storing;

    /// Whether records lie in the spill that the store does not have yet.
    fn behind(&self) -> bool;
}

/// An answer of the log that is still to come.
pub type Storing = Pin<Box<dyn Future<Output = Result<Stored, NotStored>> + Send>>;

/// Where a record is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Database,
    /// In the file that is written to the database later; the store does not know it yet.
    Spill,
}

/// The record is lost or refused, or no room is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is not stored")]
pub struct NotStored;
