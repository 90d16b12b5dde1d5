//! Histograms: dense for a run, sparse for a window of time.

pub mod dense;
pub mod sparse;
