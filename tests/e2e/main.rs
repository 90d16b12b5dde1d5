//! End-to-end tests: the real server on a free port, real sockets. A file a topic.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
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
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
mod cluster_away;
#[cfg(feature = "cluster")]
mod cluster_bans;
#[cfg(feature = "cluster")]
mod cluster_blocks;
#[cfg(feature = "cluster")]
mod cluster_clocks;
#[cfg(feature = "cluster")]
mod cluster_cut_off;
#[cfg(feature = "cluster")]
mod cluster_drain;
#[cfg(feature = "cluster")]
mod cluster_failover;
#[cfg(feature = "cluster")]
mod cluster_forward;
#[cfg(feature = "cluster")]
mod cluster_gap;
#[cfg(feature = "cluster")]
mod cluster_loss;
#[cfg(feature = "cluster")]
mod cluster_refused;
#[cfg(feature = "cluster")]
mod cluster_rejoin;
#[cfg(feature = "cluster")]
mod cluster_resume;
#[cfg(feature = "cluster")]
mod cluster_rooms;
#[cfg(feature = "cluster")]
mod cluster_rooms_apart;
#[cfg(feature = "cluster")]
mod cluster_strangers;
#[cfg(feature = "cluster")]
mod cluster_support;
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
mod matching_model;
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
#[cfg(feature = "self-test")]
mod restarts_under_load;
mod resume;
mod resume_attack;
mod resume_limits;
#[cfg(feature = "self-test")]
mod self_test;
mod slow_consumer;
mod spread;
mod storm;
mod support;
mod support_access;
mod support_api;
mod support_page;
#[cfg(feature = "mcp")]
mod survey_mcp;
#[cfg(feature = "transcribe")]
mod surveys;
mod systemd;
mod tls;
#[cfg(feature = "traces")]
mod traces;
#[cfg(feature = "transcribe")]
mod transcription;
#[cfg(feature = "transcribe")]
mod transcription_access;
#[cfg(feature = "postgres")]
mod transcription_day;
#[cfg(feature = "transcribe")]
mod transcription_exports;
#[cfg(feature = "transcribe")]
mod transcription_figures;
#[cfg(feature = "transcribe")]
mod transcription_floods;
#[cfg(feature = "transcribe")]
mod transcription_gladia;
#[cfg(feature = "transcribe")]
mod transcription_hand_over;
#[cfg(feature = "transcribe")]
mod transcription_languages;
#[cfg(feature = "transcribe")]
mod transcription_limits;
#[cfg(feature = "postgres")]
mod transcription_moved;
#[cfg(feature = "transcribe")]
mod transcription_provider_faults;
#[cfg(feature = "transcribe")]
mod transcription_rates;
#[cfg(feature = "postgres")]
mod transcription_settings;
#[cfg(feature = "postgres")]
mod transcription_socket;
#[cfg(feature = "postgres")]
mod transcription_storage_ends;
#[cfg(feature = "postgres")]
mod transcription_storage_faults;
#[cfg(feature = "transcribe")]
mod transcription_strangers;
#[cfg(feature = "transcribe")]
mod transcription_tokens;
mod turn;
