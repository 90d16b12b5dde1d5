//! The bridge and its providers: what a track's listener hears, whatever the provider does.
//! A test that sleeps has stopped its clock (`start_paused`): the sleep takes no time, and moves the clock on.

mod absence;
mod conformance;
mod faults;
mod gladia;
mod last_words;
mod limits;
mod log;
mod mute;
mod overload;
mod pauses;
mod processes;
mod programs;
mod providers;
mod reconcile;
mod stops;
mod support;
mod tls;
