//! From samples to figures: ledger, slices, books, series, histograms. Pure.

pub mod books;
pub mod crossing;
pub mod failures;
pub mod histogram;
pub mod ledger;
pub mod message;
pub mod sample;
pub mod searches;
pub mod series;
pub mod server_code;
pub mod server_use;
pub mod slice;
