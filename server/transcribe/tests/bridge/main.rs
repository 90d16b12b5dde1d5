//! The bridge and its providers: what a track's listener hears, whatever the provider does.

mod conformance;
mod faults;
mod gladia;
mod limits;
mod log;
mod overload;
mod pauses;
mod programs;
mod providers;
mod reconcile;
mod support;
mod tls;
