//! The storage over real databases, and what it does when they fail.

#![allow(
    clippy::print_stderr,
    reason = "tests of faults say how many rows were sent and stored"
)]

mod conformance;
mod crash;
mod faults_sqlite;
mod model;
mod retention;
mod spill;
mod support;
mod transcripts;
mod writer;

#[cfg(feature = "postgres")]
mod faults_postgres;
#[cfg(feature = "postgres")]
mod minute;
#[cfg(feature = "postgres")]
mod postgres;
