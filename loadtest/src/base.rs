//! Leaves that know nothing of load tests: units, files, the machine, packed JSON, URLs.

pub mod files;
pub mod machine;
pub mod packed;
pub mod random;
pub mod server_url;
pub mod units;
