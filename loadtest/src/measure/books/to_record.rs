//! Makes the record of a run from its books.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Books;
use crate::{
    base::{machine::max_open_files, units::percent_of},
    measure::{
        histogram::dense::Latencies,
        message::{Direction, Kind},
        nodes::Loss,
        reach::Reach,
    },
    plan::Transport,
    record::{
        self, Call, Connections, Delivery, Failover, Flow, Generator, Latency, Matches,
        Measurement, Outcome, Phase, ReachRow, Record, Recovery, Run, ShardData, Validity, digits,
    },
};

/// The names of the plan's calls and flows, by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub calls: Vec<String>,
    pub flows: Vec<String>,
}

/// Facts of a run that its books do not know.
#[derive(Debug)]
pub struct About {
    /// Its times are filled in from the fields below.
    pub run: Run,
    /// Of the servers, in order.
    pub urls: Vec<String>,
    pub started_at: SystemTime,
    pub elapsed: Duration,
    pub active: Duration,
    /// Types of messages beyond [`Kind::KNOWN`].
    pub kinds: Vec<String>,
    /// Names, times and loads of the phases; the measured figures are filled in.
    pub phases: Vec<Phase>,
    /// The part of the run with a steady load.
    pub steady: [Duration; 2],
    pub peak_connected: u64,
    pub workers: u64,
    pub busiest_worker_percent: f64,
    /// The user gave the address of the server's metrics.
    pub server_expected: bool,
    /// For a shard: data for the merge; the books are filled in.
    pub shard: Option<ShardData>,
}

impl Books {
    /// The figures of a run whose books are closed. Thresholds, drift, findings and advice are empty: `judge` adds them.
    pub fn to_record(&self, about: About, names: &Names) -> Record {
        Record {
            schema_version: record::SCHEMA_VERSION,
            outcome: Outcome::Pass,
            exit_code: record::Exit::Pass,
            measurement: Measurement {
                validity: Validity::Valid,
                findings: Vec::new(),
            },
            thresholds: Vec::new(),
            phases: about
                .phases
                .into_iter()
                .map(|phase| self.phase(phase))
                .collect(),
            connections: self.connections(about.peak_connected),
            matches: self.matches(),
            delivery: self.delivery(&about.kinds),
            reach: self.reach(),
            nodes: self.nodes.to_record(&about.urls),
            calls: self.calls(&names.calls),
            flows: self.flows(&names.flows),
            latency: self.latency(&names.calls),
            errors: self.errors(),
            series: self.series.to_record(),
            generator: Generator {
                workers: about.workers,
                cpu_seconds: digits(self.generator.cpu_seconds),
                cpu_percent: digits(
                    self.generator.cpu_seconds * 100.0 / about.elapsed.as_secs_f64().max(1e-3),
                ),
                busiest_worker_percent: digits(about.busiest_worker_percent),
                longest_pause_ms: millis(self.totals.pause),
                rss_peak_bytes: self.generator.rss_peak_bytes,
                fds: max_open_files().map(|limit| [self.generator.fds_peak, limit]),
            },
            server: self.server.to_record(),
            capacity: None,
            drift: Vec::new(),
            recovery: self.recovery(),
            failover: self.failover(),
            talks: self.totals.talk.to_record(),
            advice: Vec::new(),
            comparison: None,
            shard: about.shard.map(|shard| ShardData {
                books: self.packed.clone().unwrap_or_default(),
                ..shard
            }),
            run: Run {
                started_at: humantime::format_rfc3339_millis(about.started_at).to_string(),
                started_at_unix_ms: unix_ms(about.started_at),
                elapsed_ms: millis(about.elapsed),
                active_ms: millis(about.active),
                ..about.run
            },
        }
    }

    fn phase(&self, phase: Phase) -> Phase {
        let time = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        let (start, end) = (time(phase.start_ms), time(phase.end_ms));
        let within = |cell: &&crate::measure::series::Cell| cell.start < end && cell.end() >= start;
        let cells = self.series.cells().filter(within);
        let phase = Phase {
            peak_connected: cells.map(|cell| cell.now.connected).max().unwrap_or(0),
            ..phase
        };
        // A phase that is shorter than a window has no window.
        let Some(all) = self.series.between(start, end) else {
            return phase;
        };
        let counts = &all.counts;
        Phase {
            connection_success_percent: counts.connection_success(),
            match_success_percent: counts.match_success(),
            match_p95_ms: all.matching.quantile_ms(0.95),
            message_p99_ms: all.message.quantile_ms(0.99),
            errors: counts.failures,
            ..phase
        }
    }

    fn connections(&self, peak: u64) -> Connections {
        let people = &self.totals.people;
        let excused = self.excused();
        Connections {
            attempted: people.tried(),
            succeeded: people.connected,
            dropped: people.dropped.saturating_sub(excused.dropped),
            lost_with_node: excused.dropped,
            reconnects: people.reconnects,
            peak,
            success_percent: self.connection_success(),
        }
    }

    fn matches(&self) -> Matches {
        let people = &self.totals.people;
        Matches {
            searches: people.searches,
            rematches: people.rematches,
            matched: people.matched,
            failed: self.matches.failed,
            odd_one_out: self.matches.odd_one_out,
            pending: self.matches.pending,
            one_sided: self.ledger.one_sided_rooms,
            double: self.double_matches(),
            self_matches: people.self_matches,
            success_percent: self.match_success(),
        }
    }

    fn delivery(&self, kinds: &[String]) -> Vec<Delivery> {
        let known = Kind::KNOWN.into_iter();
        let names: Vec<&str> = known.chain(kinds.iter().map(String::as_str)).collect();
        let mut all = Vec::new();
        for (kind, routes) in self.totals.routes.iter().enumerate() {
            for (direction, counts) in Direction::ALL.into_iter().zip(routes) {
                let settled = &self.ledger.settled[kind][direction as usize];
                if counts.sent + counts.received + counts.misdelivered() == 0 {
                    continue;
                }
                all.push(Delivery {
                    kind: (*names.get(kind).unwrap_or(&"other")).to_owned(),
                    direction: direction.name().to_owned(),
                    sent: counts.sent,
                    delivered: settled.delivered,
                    late: counts.late,
                    lost: settled.lost,
                    lost_with_node: settled.with_node,
                    undeliverable: settled.undeliverable,
                    pending: settled.pending,
                    unknown: settled.unknown,
                    duplicate: counts.duplicate,
                    reordered: counts.reordered,
                    wrong_peer: counts.wrong_peer,
                    altered: counts.altered,
                    success_percent: percent_of(
                        settled.delivered,
                        settled.delivered + settled.lost,
                    ),
                });
            }
        }
        all
    }

    /// Empty if there is one server.
    fn reach(&self) -> Vec<ReachRow> {
        let rows = Reach::ALL.into_iter().filter_map(|reach| {
            let pairs = self.pairs(reach)?;
            let of = &pairs.settled;
            Some(ReachRow {
                reach: reach.name().to_owned(),
                pairs: pairs.rooms,
                sent: of.delivered
                    + of.lost
                    + of.with_node
                    + of.undeliverable
                    + of.pending
                    + of.unknown,
                delivered: of.delivered,
                lost: of.lost,
                lost_with_node: of.with_node,
                undeliverable: of.undeliverable,
                pending: of.pending,
                success_percent: percent_of(of.delivered, of.delivered + of.lost),
            })
        });
        rows.collect()
    }

    fn calls(&self, names: &[String]) -> Vec<Call> {
        let calls = names.iter().zip(&self.totals.calls);
        calls
            .map(|(name, call)| Call {
                name: name.clone(),
                sent: call.sent,
                answered: call.answered,
                timed_out: call.timed_out,
                wrong: call.wrong,
                failed: call.failed,
                pending: call.sent.saturating_sub(call.ended()),
            })
            .collect()
    }

    fn flows(&self, names: &[String]) -> Vec<Flow> {
        let flows = names.iter().zip(&self.totals.flows);
        flows
            .map(|(name, [completed, failed])| Flow {
                name: name.clone(),
                completed: *completed,
                failed: *failed,
            })
            .collect()
    }

    fn latency(&self, calls: &[String]) -> BTreeMap<String, Latency> {
        let totals = &self.totals;
        let mut all: BTreeMap<String, Latency> = [
            ("connect", &totals.connect, 0),
            ("match", &totals.matching, self.matches.failed),
            ("message", &totals.message, 0),
            ("message_as_sent", &totals.as_sent, 0),
            ("own_lateness", &totals.lateness, 0),
        ]
        .into_iter()
        .map(|(name, latencies, censored)| (name.to_owned(), latencies.to_record(censored)))
        .collect();
        let failover = &totals.failover;
        let mut add = |name: String, latencies: &Latencies, censored| {
            if latencies.count() > 0 {
                all.insert(name, latencies.to_record(censored));
            }
        };
        let together = failover.all_resumed();
        add("failover".to_owned(), &together, self.not_resumed());
        for (transport, latencies) in Transport::ALL.iter().zip(&failover.resumed) {
            add(format!("failover {}", transport.name()), latencies, 0);
        }
        add("heard_again".to_owned(), &failover.heard_again, 0);
        add("moved".to_owned(), &failover.moved, self.not_moved());
        for (reach, latencies) in Reach::ALL.into_iter().zip(&totals.reach) {
            add(format!("message_{}", reach.name()), latencies, 0);
            if let Some(pairs) = self.pairs(reach) {
                add(format!("match_{}", reach.name()), &pairs.matching, 0);
            }
        }
        let [told, matched] = self.after_losses();
        add("told_of_loss".to_owned(), &told, 0);
        let missing = self.nodes.losses.iter().map(Loss::not_matched).sum();
        add("matched_again".to_owned(), &matched, missing);
        let talk = &totals.talk;
        add("audio_ack".to_owned(), &talk.ack, 0);
        add("partial".to_owned(), &talk.partial, 0);
        add("final".to_owned(), &talk.final_, 0);
        add("stored".to_owned(), &talk.stored, 0);
        add("fan_out".to_owned(), &talk.fan_out, 0);
        for (name, call) in calls.iter().zip(&totals.calls) {
            for (what, latencies) in [("call", &call.latency), ("call_as_sent", &call.as_sent)] {
                let latency = latencies.to_record(call.timed_out + call.failed);
                all.insert(format!("{what} {name}"), latency);
            }
        }
        all
    }

    fn errors(&self) -> Vec<record::ErrorEntry> {
        let errors = self.totals.errors.to_record();
        let mut all: Vec<_> = errors.chain(self.failures.to_record()).collect();
        for error in &mut all {
            error.places = self.nodes.places(&error.kind);
        }
        all.sort_by_key(|error| std::cmp::Reverse(error.count));
        all
    }

    /// What became of sessions that lost their connection. `None`: none did.
    fn failover(&self) -> Option<Failover> {
        let failover = &self.totals.failover;
        let moved = failover.moved.count();
        if failover.lost + failover.moved_back + moved + self.not_moved() == 0 {
            return None;
        }
        let resumed = Transport::ALL.iter().zip(&failover.resumed);
        let resumed = resumed.map(|(one, latencies)| (one.name().to_owned(), latencies.count()));
        Some(Failover {
            lost: failover.lost,
            planned: failover.planned,
            resumed: resumed.collect(),
            not_resumed: self.not_resumed(),
            moved_back: failover.moved_back,
            moved,
            not_moved: self.not_moved(),
        })
    }

    /// How fast users came back after the drop of a storm. `None`: there was no storm.
    pub fn recovery(&self) -> Option<Recovery> {
        let storm = &self.totals.storm;
        let dropped_at = storm.first_at?;
        let back = |latencies: &Latencies, all: u64| {
            let enough = (all as f64 * 0.99).ceil();
            let count = latencies.count() as f64;
            // The users who are back are fewer than all: their quantile must be higher to be 99 % of all.
            (count >= enough && all > 0)
                .then(|| latencies.quantile_ms((enough / count).min(1.0)))
                .flatten()
        };
        Some(Recovery {
            dropped_at_ms: millis(dropped_at),
            dropped: storm.dropped,
            paired: storm.paired,
            matched_99_percent_ms: back(&storm.matched, storm.paired),
            connected_99_percent_ms: back(&storm.connected, storm.dropped),
        })
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> f64 {
    digits(time.as_secs_f64() * 1e3)
}
