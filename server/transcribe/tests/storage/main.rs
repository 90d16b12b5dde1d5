//! The storage over real databases, and what it does when they fail.

mod conformance;
mod crash;
mod faults_sqlite;
mod model;
mod spill;
mod support;
mod writer;

#[cfg(feature = "postgres")]
mod faults_postgres;
#[cfg(feature = "postgres")]
mod minute;
#[cfg(feature = "postgres")]
mod postgres;
