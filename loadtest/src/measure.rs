//! Turns samples into figures: ledger, slices, books, series, histograms. No I/O except for reading the generator's own use.

pub mod books;
pub mod crossing;
pub mod failures;
pub mod histogram;
pub mod ledger;
pub mod message;
pub mod nodes;
pub mod reach;
pub mod sample;
pub mod searches;
pub mod series;
pub mod server_code;
pub mod server_use;
pub mod slice;
pub mod talk;
pub mod words;
