//! Leaves that know nothing of load tests: units, files, the machine, packed JSON.

pub mod files;
pub mod machine;
pub mod packed;
pub mod random;
pub mod units;
