//! Every metric, in one struct.
//!
//! What happens for each message is counted by the worker it happens on, in cache lines of its own, and
//! added up when they are read; the rest are plain Prometheus metrics. Seconds and bytes throughout.
//! Labels come from closed lists only, never from a user.

mod calls;
pub mod families;
mod hot;
mod labels;
mod make;
mod percentiles;

use std::time::{Duration, Instant};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Metric,
};
use voicematch_protocol::{ClientType, CloseReason, ErrorCode, ReportReason};

pub use calls::Calls;
pub use hot::enter_worker;
use hot::{HighWater, Hot};
use labels::{
    DROPS, EVENT_DROPS, EVENT_REQUESTS, KEY_FETCHES, LOSSES, RECONNECTS, REPORT_RESULTS, RESUMES,
    SPAN_RESULTS, TAKES, WEBHOOK_RESULTS,
};
pub use labels::{LIMITS, REFUSALS, Transport};
use make::Maker;
use percentiles::Latencies;
pub use percentiles::{Percentiles, QUANTILES};

/// Upper bounds of the latency buckets, in seconds: 1-2-5 steps from 5 us to 100 s.
pub const LATENCY_BUCKETS: [f64; 23] = [
    5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5,
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// Where a match was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Both users are here.
    Local,
    /// The partner is on another node.
    Remote,
    /// Both are here, and the other nodes could not be asked.
    Fallback,
}

impl Reach {
    const ALL: [Self; 3] = [Self::Local, Self::Remote, Self::Fallback];

    /// The metric label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Fallback => "fallback",
        }
    }
}

/// What becomes of events on their way to the app.
pub struct EventWebhook {
    pub sent: IntCounter,
    /// By reason: of `labels::EVENT_DROPS`.
    pub dropped: IntCounterVec,
    /// By result: of `labels::EVENT_REQUESTS`.
    pub requests: IntCounterVec,
    pub queued: IntGauge,
    pub last_success: IntGauge,
}

/// Every metric of the server; the help text of each says what it counts.
pub struct Metrics {
    pub started: Instant,
    registry: Registry,
    hot: Box<[Hot]>,
    high_water: HighWater,
    pub connections_open: IntGauge,
    pub connections_total: IntCounter,
    refused: IntCounterVec,
    pub buffered_bytes: IntGauge,
    pub draining: IntGauge,
    /// Sessions that are there, whatever carries them.
    pub sessions_open: IntGauge,
    /// Sockets of `/transcribe`, which carry no such session.
    pub transcribe_sockets: IntGauge,
    pub sessions_total: IntCounter,
    sessions_active: [IntGauge; Transport::ALL.len()],
    pub sessions_detached: IntGauge,
    resumes: IntCounterVec,
    /// Sessions that were asked for at another node.
    pub takes: IntCounterVec,
    reconnects: IntCounterVec,
    losses: IntCounterVec,
    resume_seconds: Histogram,
    pub resume_log_bytes: IntGauge,
    pub replayed: IntCounter,
    replay_delay: Histogram,
    pub duplicates_dropped: IntCounter,
    /// Requests that were passed on to the server before.
    pub forwarded: IntCounter,
    pub parked: IntGauge,
    pub polls_held: IntGauge,
    pub key_fetches: IntCounterVec,
    pub webhook: IntCounterVec,
    pub webhook_seconds: Histogram,
    pub blocks: IntCounter,
    pub blocks_remembered: IntGauge,
    reports: [IntCounter; ReportReason::ALL.len()],
    pub calls: Calls,
    pub event_webhook: EventWebhook,
    pub named_rooms: IntGauge,
    /// Named rooms that were on two nodes under one name, and became one.
    pub room_conflicts: IntCounter,
    room_keys: IntGaugeVec,
    pub named_members: IntGauge,
    /// By kind of pool, as given to [`Metrics::new`].
    pub waiting: Box<[IntGauge]>,
    pub rooms_active: IntGauge,
    /// By kind of pool; `matchmaking_duration_seconds` is their sum.
    match_wait: Box<[Histogram]>,
    /// By reach, then by pool.
    matches: [Box<[IntCounter]>; Reach::ALL.len()],
    /// What has become of proposals between nodes.
    pub claims: IntCounterVec,
    pub partners_gone: IntCounter,
    dropped: IntCounterVec,
    requests: [IntCounter; ClientType::ALL.len()],
    errors: [IntCounter; ErrorCode::ALL.len()],
    closes: [IntCounter; CloseReason::ALL.len()],
    limit_hits: IntCounterVec,
    limits: IntGaugeVec,
    pub http_requests: IntCounterVec,
    pub spans: IntCounterVec,
    pub error_reports: IntCounterVec,
}

impl Metrics {
    /// All at zero, for this many workers and these kinds of pool.
    pub fn new(workers: usize, pools: &[&'static str]) -> prometheus::Result<Self> {
        let make = Maker {
            registry: Registry::new(),
        };
        let waiting = make.gauges(
            "matchmaking_waiting_users",
            "Users who wait for a match, by the widest kind of pool that they stand in.",
            "pool",
        )?;
        let matches = make.counters_by(
            "matches_total",
            "Matches made, by the kind of pool in which the two met; reach remote: with a user of another node; fallback: with one of this node, while the cluster's engine was away.",
            &["pool", "reach"],
        )?;
        let requests = make.counters(
            "requests_total",
            "Requests of users to the server itself, by type; for the relayed ones see messages_relayed_total.",
            "type",
        )?;
        let match_wait = HistogramOpts::new(
            "match_wait_seconds",
            "How long the users who were matched had waited, by the kind of pool in which the two met.",
        );
        let match_wait = match_wait.buckets(LATENCY_BUCKETS.to_vec());
        let match_wait = make.register(HistogramVec::new(match_wait, &["pool"])?)?;
        let errors = make.counters(
            "errors_total",
            "Requests refused with an error message, by code.",
            "code",
        )?;
        let closes = make.counters(
            "sessions_closed_total",
            "Sessions that ended, by reason.",
            "reason",
        )?;
        let refused = make.counters(
            "connections_refused_total",
            "Connections turned away, by reason.",
            "reason",
        )?;
        let limit_hits =
            make.counters("limit_hits_total", "How often each limit was hit.", "limit")?;
        let dropped = make.counters(
            "messages_dropped_total",
            "Messages that were to be relayed and were not, by reason.",
            "reason",
        )?;
        let active = make.gauges(
            "sessions_active",
            "Sessions that a connection carries, by transport.",
            "transport",
        )?;
        let resumes = Opts::new(
            "resumes_total",
            "Attempts to carry a session on, by result and by the transports before and after.",
        );
        let resumes = IntCounterVec::new(resumes, &["result", "from", "to"])?;
        let resumes = make.register(resumes)?;
        let takes = make.counters(
            "session_takes_total",
            "Sessions of another node whose users came to this one, by what became of that; timeout: the other node did not answer.",
            "result",
        )?;
        for result in TAKES {
            takes.with_label_values(&[result]);
        }
        let losses = make.counters(
            "losses_detected_total",
            "Connections of resumable sessions that were lost, by what told so.",
            "by",
        )?;
        let reconnects = make.counters(
            "ws_reconnect_attempts_total",
            "Attempts to carry a session on, by result; limited: too many forged tokens came from that address.",
            "result",
        )?;
        for result in RECONNECTS {
            reconnects.with_label_values(&[result]);
        }
        for cause in LOSSES {
            losses.with_label_values(&[cause]);
        }
        for result in RESUMES {
            for to in Transport::ALL {
                resumes.with_label_values(&[result, "none", to.as_str()]);
            }
        }
        for reason in REFUSALS {
            refused.with_label_values(&[reason]);
        }
        for limit in LIMITS {
            limit_hits.with_label_values(&[limit]);
        }
        let key_fetches = make.results(
            "token_key_fetches_total",
            "Attempts to fetch the keys of tokens from --jwks.",
            &KEY_FETCHES,
        )?;
        let webhook = make.results(
            "auth_webhook_total",
            "Users about whom --auth-webhook was asked; remembered: the app's last answer was used again.",
            &WEBHOOK_RESULTS,
        )?;
        let reports = make.counters(
            "reports_total",
            "Reports of users about partners, by reason.",
            "reason",
        )?;
        let event_webhook = EventWebhook {
            sent: make.counter("events_sent_total", "Events that the app has taken at --event-webhook.")?,
            dropped: make.counters(
                "events_dropped_total",
                "Events that the app has not got; queue_full: it takes them more slowly than they happen; gave_up: each try failed; refused: it answered that it does not want them; shutdown: this server ended.",
                "reason",
            )?,
            requests: make.counters("event_webhook_requests_total", "Requests to --event-webhook, by result; failed: it is tried again.", "result")?,
            queued: make.gauge("events_queued", "Events that are on their way to --event-webhook, or wait for it.")?,
            last_success: make.gauge("event_webhook_last_success_timestamp_seconds", "When the app has last taken events, in seconds since 1970; 0: never.")?,
        };
        for reason in EVENT_DROPS {
            event_webhook.dropped.with_label_values(&[reason]);
        }
        for result in EVENT_REQUESTS {
            event_webhook.requests.with_label_values(&[result]);
        }
        for reason in DROPS {
            dropped.with_label_values(&[reason]);
        }
        Ok(Self {
            started: Instant::now(),
            hot: Self::hot(workers),
            high_water: HighWater::default(),
            connections_open: make.gauge("connections_open", "TCP connections that are open on the public port.")?,
            connections_total: make.counter("connections_total", "TCP connections accepted on the public port.")?,
            refused,
            buffered_bytes: make.gauge(
                "buffered_bytes",
                "Memory of unfinished messages, outboxes and handshakes; --max-buffered-bytes is its limit.",
            )?,
            draining: make.gauge("draining", "1 from the moment at which the server is asked to stop.")?,
            // Their sum is `websocket_active_connections`.
            sessions_open: IntGauge::new("sessions_open", "-")?,
            transcribe_sockets: IntGauge::new("transcribe_sockets", "-")?,
            sessions_total: make.counter("sessions_total", "Sessions begun.")?,
            sessions_active: Transport::ALL.map(|transport| active.with_label_values(&[transport.as_str()])),
            sessions_detached: make.gauge("sessions_detached", "Resumable sessions without a connection.")?,
            resumes,
            takes,
            reconnects,
            losses,
            resume_seconds: make.histogram("resume_seconds", "How long a resumed session was without a connection.")?,
            resume_log_bytes: make.gauge("resume_log_bytes", "Memory of the messages that are kept for resumable sessions.")?,
            replayed: make.counter("replayed_messages_total", "Messages sent again, or late, to a resumed session.")?,
            replay_delay: make.histogram(
                "replay_delay_seconds",
                "From a message read to the message written, for those that waited until their receiver came back.",
            )?,
            duplicates_dropped: make.counter("duplicates_dropped_total", "Messages of clients that had arrived before.")?,
            forwarded: make.counter("requests_forwarded_total", "Requests that were passed on to the server whose place this one has taken.")?,
            parked: make.gauge("matchmaking_parked_users", "Users who asked for a match and do not answer: they are matched with nobody until they do.")?,
            polls_held: make.gauge("polls_held", "Polls that wait for messages.")?,
            room_keys: make.gauges("room_key", "Where the key of room tickets comes from; memory: rooms do not survive a restart.", "source")?,
            key_fetches,
            webhook,
            webhook_seconds: make.histogram("auth_webhook_seconds", "How long the app took to say who may come in.")?,
            blocks: make.counter("blocks_total", "Partners whom users have blocked.")?,
            blocks_remembered: make.gauge("blocks_remembered", "Blocks that count now, between users of the app those of all nodes; --max-blocks is their limit.")?,
            reports: std::array::from_fn(|i| reports.with_label_values(&[ReportReason::ALL[i].as_str()])),
            calls: Calls::new(&make)?,
            event_webhook,
            named_rooms: make.gauge("named_rooms_active", "Named rooms with somebody in them.")?,
            room_conflicts: make.counter("room_conflicts_total", "Named rooms of this node that had another home too, and moved there.")?,
            named_members: make.gauge("named_room_members", "Users in named rooms.")?,
            waiting: pools.iter().map(|pool| waiting.with_label_values(&[pool])).collect(),
            rooms_active: make.gauge("rooms_active", "Rooms with two users in them.")?,
            match_wait: pools.iter().map(|pool| match_wait.with_label_values(&[pool])).collect(),
            matches: Reach::ALL.map(|reach| pools.iter().map(|pool| matches.with_label_values(&[pool, reach.as_str()])).collect()),
            claims: make.counters(
                "match_claims_total",
                "Proposals between nodes to match two users; accepted, busy, gone and late: those that this node was asked for; timeout: those that it asked for in vain.",
                "result",
            )?,
            partners_gone: make.counter(
                "matches_retried_total",
                "Matches undone because the partner had gone when told; the survivor kept its place.",
            )?,
            dropped,
            requests: std::array::from_fn(|i| requests.with_label_values(&[ClientType::ALL[i].as_str()])),
            errors: std::array::from_fn(|i| errors.with_label_values(&[ErrorCode::ALL[i].as_str()])),
            closes: std::array::from_fn(|i| closes.with_label_values(&[CloseReason::ALL[i].as_str()])),
            limit_hits,
            limits: make.gauges(
                "limits",
                "The limits in force of what other metrics show; for file descriptors see process_max_fds.",
                "limit",
            )?,
            spans: make.results(
                "trace_spans_total",
                "Spans of traced sessions: sent to --otlp-endpoint, or dropped, by reason.",
                &SPAN_RESULTS,
            )?,
            error_reports: make.results(
                "error_reports_total",
                "Errors: reported by --sentry-dsn-file, or not, by reason.",
                &REPORT_RESULTS,
            )?,
            http_requests: make.counters("http_requests_total", "HTTP requests on the public port, by status class.", "class")?,
            registry: make.registry,
        })
    }

    /// A match in a kind of pool (its index), and how long each of the two waited for it.
    pub fn matched(&self, pool: usize, reach: Reach, waited: [Duration; 2]) {
        self.matches[reach as usize][pool].inc();
        for waited in waited {
            self.match_wait[pool].observe(waited.as_secs_f64());
        }
    }

    /// Messages that were to be relayed and were not.
    pub fn dropped(&self, reason: &'static str, messages: usize) {
        self.dropped
            .with_label_values(&[reason])
            .inc_by(messages as u64);
    }

    /// A request to the server itself.
    pub fn request(&self, kind: ClientType) {
        self.requests[kind.index()].inc();
    }

    /// A request refused.
    pub fn error(&self, code: ErrorCode) {
        self.errors[code.index()].inc();
    }

    /// A report of a user about a partner.
    pub fn reported(&self, reason: ReportReason) {
        self.reports[reason.index()].inc();
    }

    /// Where the key of room tickets has come from.
    pub fn room_key(&self, source: &'static str) {
        self.room_keys.with_label_values(&[source]).set(1);
    }

    /// A session that a connection carries from now on.
    pub fn attached(&self, transport: Transport) {
        self.sessions_active[transport as usize].inc();
    }

    /// A session that this connection carries no longer.
    pub fn detached(&self, transport: Transport) {
        self.sessions_active[transport as usize].dec();
    }

    /// An attempt to carry a session on. `from`: what carried it last, if the session is known.
    pub fn resume(&self, result: &'static str, from: Option<Transport>, to: Transport) {
        let from = from.map_or("none", Transport::as_str);
        let labels = [result, from, to.as_str()];
        self.resumes.with_label_values(&labels).inc();
        self.reconnect(result);
    }

    /// The same, without the transports.
    pub fn reconnect(&self, result: &'static str) {
        self.reconnects.with_label_values(&[result]).inc();
    }

    /// How long a session was without a connection.
    pub fn resumed_after(&self, away: Duration) {
        self.resume_seconds.observe(away.as_secs_f64());
    }

    /// A connection of a resumable session that was lost; `cause` is one of a closed list.
    pub fn lost(&self, cause: &'static str) {
        self.losses.with_label_values(&[cause]).inc();
    }

    /// From a message read to the message written, for one that waited for its receiver.
    pub fn replay_delay(&self, delay: Duration) {
        self.replay_delay.observe(delay.as_secs_f64());
    }

    /// A session that ended.
    pub fn closed(&self, reason: CloseReason) {
        self.closes[reason.index()].inc();
    }

    /// Sessions that ended so far, by reason, in the order of [`CloseReason::ALL`].
    pub fn closes(&self) -> [u64; CloseReason::ALL.len()] {
        std::array::from_fn(|i| self.closes[i].get())
    }

    /// Connections turned away so far, in the order of [`REFUSALS`].
    pub fn refusals(&self) -> [u64; REFUSALS.len()] {
        REFUSALS.map(|reason| self.refused.with_label_values(&[reason]).get())
    }

    /// A limit that was hit; `limit` is one of [`LIMITS`].
    pub fn limit_hit(&self, limit: &'static str) {
        self.limit_hits.with_label_values(&[limit]).inc();
    }

    /// The limit that is in force from now on; `limit` is one of [`LIMITS`].
    pub fn limit(&self, limit: &'static str, value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.limits.with_label_values(&[limit]).set(value);
    }

    /// A connection turned away; `reason` is one of [`REFUSALS`].
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Waiting users, in pools of any kind.
    pub fn waiting_users(&self) -> i64 {
        self.waiting.iter().map(IntGauge::get).sum()
    }

    /// Matches made so far.
    pub fn matches_total(&self) -> u64 {
        self.matches.iter().flatten().map(IntCounter::get).sum()
    }

    /// Errors so far, by code.
    pub fn errors_by_code(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ErrorCode::ALL
            .iter()
            .map(|&code| (code.as_str(), self.errors[code.index()].get()))
    }

    /// How long users waited for a match.
    pub fn match_percentiles(&self) -> Percentiles {
        self.match_waits().percentiles()
    }

    /// The waits of all pools together.
    fn match_waits(&self) -> Latencies {
        let mut total = Latencies::default();
        for wait in &self.match_wait {
            let metric = wait.metric();
            let histogram = metric.get_histogram();
            total.seconds += histogram.get_sample_sum();
            let below = histogram.get_bucket().iter();
            let below = below.map(|bucket| bucket.cumulative_count());
            let counts = below.chain([histogram.get_sample_count()]);
            for (sum, count) in total.cumulative.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        total
    }

    /// Where parts of the server register metrics of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_zero() {
        let metrics = Metrics::new(1, &[]).expect("names are unique");
        assert_eq!(
            metrics.match_percentiles(),
            Percentiles {
                count: 0,
                quantiles: [0.0; 4]
            }
        );
    }
}
