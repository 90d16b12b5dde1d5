//! End-to-end tests: the real server on a free port, real sockets. A file a topic.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that panics or prints has said what it has to say"
)]

mod absent;
mod architecture;
mod auth;
mod auth_keys;
mod auth_webhook;
mod bans;
mod block;
mod browsers;
mod call_report;
mod configuration;
mod criteria;
mod drain;
#[cfg(feature = "sentry")]
mod error_reports;
mod errors;
mod events;
mod frames;
mod hand_over;
mod heartbeat;
mod http;
mod leaving;
mod limits;
mod listen;
#[cfg(feature = "self-test")]
mod load;
mod logs;
mod machine;
mod metrics;
mod named_rooms;
mod nginx;
mod page;
mod pairing;
mod pprof;
mod proxies;
mod proxy;
mod refusals;
mod rejoin;
mod relay;
mod restarts;
mod resume;
mod resume_attack;
mod resume_limits;
#[cfg(feature = "self-test")]
mod self_test;
mod slow_consumer;
mod storm;
mod support;
mod support_access;
mod support_api;
mod support_page;
#[cfg(feature = "transcribe")]
mod surveys;
mod systemd;
mod tls;
#[cfg(feature = "traces")]
mod traces;
#[cfg(feature = "transcribe")]
mod transcription;
mod turn;
