//! A record as a real run gives one, for tests: document-like phases up to 5,000 users, a stall of 1.4 s, a
//! threshold that fails, a server that leaks a little.

use std::collections::BTreeMap;

use crate::{record::*, sample::Blame};

/// Normal noise, the same each time.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn uniform(&mut self) -> f64 {
        // Steele's splitmix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean 0 and variance 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Values of variance 1, each of which keeps the share `phi` of the one before.
    pub(crate) fn series(&mut self, n: usize, phi: f64) -> Vec<f64> {
        let mut last = self.normal();
        let step = (1.0 - phi * phi).sqrt();
        (0..n)
            .map(|_| {
                last = phi * last + step * self.normal();
                last
            })
            .collect()
    }
}

const MINUTE: f64 = 60e3;

/// Name, begin and end in minutes, users at both.
const PHASES: [(&str, [f64; 2], [u64; 2]); 6] = [
    ("500 users", [0.0, 0.5], [0, 500]),
    ("hold 500", [0.5, 2.0], [500, 500]),
    ("2,500 users", [2.0, 3.0], [500, 2500]),
    ("hold 2,500", [3.0, 5.0], [2500, 2500]),
    ("5,000 users", [5.0, 6.0], [2500, 5000]),
    ("hold 5,000", [6.0, 9.0], [5000, 5000]),
];

/// The whole of it.
pub(crate) fn record() -> Record {
    let series = series();
    let sum = |of: fn(&Window) -> u64| series.windows.iter().map(of).sum::<u64>();
    let (sent, delivered) = (sum(|w| w.sent), sum(|w| w.delivered));
    Record {
        schema_version: SCHEMA_VERSION,
        outcome: Outcome::Fail,
        exit_code: 99,
        measurement: Measurement {
            validity: Validity::Suspect,
            findings: vec![Finding {
                validity: Validity::Suspect,
                what: "the busiest worker used 82.0 % of its core".to_owned(),
                advice: "run on a machine with more cores, or split the plan with --shard"
                    .to_owned(),
            }],
        },
        thresholds: thresholds(),
        run: run_info(),
        phases: phases(),
        connections: Connections {
            attempted: 5004,
            succeeded: 5000,
            dropped: 1,
            reconnects: 0,
            peak: 5000,
            success_percent: Some(99.90),
        },
        matches: Matches {
            searches: 5000,
            matched: 4996,
            failed: 2,
            pending: 2,
            one_sided: 1,
            success_percent: Some(99.94),
            ..Matches::default()
        },
        delivery: delivery(sent, delivered),
        calls: vec![],
        latency: latencies(),
        errors: errors(),
        series,
        generator: Generator {
            workers: 2,
            cpu_seconds: 231.4,
            cpu_percent: 42.8,
            busiest_worker_percent: 82.0,
            rss_peak_bytes: 61_200_000,
            fds: Some([5021, 20_000]),
        },
        server: Some(Server {
            readings: 540,
            cpu_seconds: 302.1,
            cpu_percent: 56.0,
            rss_first_bytes: 11_000_000,
            rss_last_bytes: 41_000_000,
            rss_peak_bytes: 41_300_000,
            fds_peak: 5018,
        }),
        capacity: None,
        drift: vec![],
        recovery: None,
        advice: vec![],
        comparison: None,
        shard: None,
    }
}

/// The same with everything that other scenarios add: staircase, drift, recovery, calls and a baseline.
pub(crate) fn everything() -> Record {
    let mut record = record();
    record.capacity = Some(capacity());
    record.drift = drift();
    record.recovery = Some(Recovery {
        dropped_at_ms: 7.5 * MINUTE,
        dropped: 2500,
        matched_99_percent_ms: Some(4_320.0),
        connected_99_percent_ms: Some(2_110.0),
    });
    record.calls = vec![Call {
        name: "get_weather".to_owned(),
        sent: 12_004,
        answered: 12_001,
        timed_out: 2,
        wrong: 1,
    }];
    record
        .latency
        .insert("call get_weather".to_owned(), latency(12_001, 2, 41.0));
    let mut baseline = self::record();
    baseline.run.started_at = "2026-03-01T02:00:00Z".to_owned();
    for window in &mut baseline.series.windows {
        for quantiles in [&mut window.message, &mut window.matching] {
            for value in [
                &mut quantiles.p50_ms,
                &mut quantiles.p95_ms,
                &mut quantiles.p99_ms,
            ] {
                *value = value.map(|value| value * 0.7);
            }
        }
    }
    record.comparison = Some(crate::compare::compare(&baseline, &record, "main.json"));
    record.advice = crate::advice::advise(&record);
    record
}

fn series() -> Series {
    let mut noise = Noise::new(3);
    let wander = noise.series(540, 0.8);
    let heat_bounds_ms: Vec<f64> = (0..24)
        .map(|i| 0.25 * 2_f64.powf(f64::from(i) * 0.6))
        .collect();
    let mut before = 0;
    let windows = (0..540).map(|second| {
        let users = users_at(f64::from(second) * 1e3);
        let joined = users.saturating_sub(before);
        before = users;
        let load = users as f64 / 5000.0;
        let stall = if second == 432 { 1400.0 } else { 0.0 };
        let wander = 0.15 * wander[usize::try_from(second).unwrap_or(0)];
        let p50 = 0.4 + 1.2 * load.powi(3) * wander.exp();
        window(
            Scene {
                second,
                users,
                joined,
                p50,
                stall,
                noise: noise.normal(),
            },
            &heat_bounds_ms,
        )
    });
    let windows = windows.collect();
    Series {
        heat_bounds_ms,
        windows,
    }
}

struct Scene {
    second: u32,
    users: u64,
    joined: u64,
    p50: f64,
    stall: f64,
    noise: f64,
}

fn window(scene: Scene, bounds: &[f64]) -> Window {
    let Scene {
        second,
        users,
        joined,
        p50,
        stall,
        noise,
    } = scene;
    let spread = |middle: f64, more: f64| Quantiles {
        p50_ms: Some(middle),
        p95_ms: Some(middle * (3.1 + 0.4 * noise.abs()) + more * 0.8),
        p99_ms: Some(middle * (7.0 + 2.0 * noise.abs()) + more * 0.95),
        max_ms: Some(middle * (16.0 + 9.0 * noise.abs()) + more),
    };
    let sent = users / 5;
    let centre = bounds.iter().position(|bound| *bound > p50).unwrap_or(0);
    let heat = (0..=bounds.len()).map(|bucket| {
        let off = bucket.abs_diff(centre);
        let tail = u64::from(bucket > centre) + 1;
        let stalled = u64::from(stall > 0.0 && bucket > 15 && bucket < 21) * 90;
        sent * tail / 4 / (1_u64 << (2 * off).min(40)) + stalled
    });
    Window {
        start_ms: f64::from(second) * 1e3,
        length_ms: 1e3,
        connected: users,
        searching: joined % 7,
        in_rooms: users - users % 2,
        attempts: joined,
        connects: joined,
        matches: joined - joined % 2,
        sent,
        delivered: sent - u64::from(stall > 0.0) * 40,
        errors: u64::from(stall > 0.0) * 31 + u64::from(second == 330) * 4,
        connect: if joined > 0 {
            spread(p50 * 0.8, 0.0)
        } else {
            Quantiles::default()
        },
        matching: if joined > 0 {
            spread(p50 * 9.0, 0.0)
        } else {
            Quantiles::default()
        },
        message: if second < 3 {
            Quantiles::default()
        } else {
            spread(p50, stall)
        },
        own_lateness: spread(0.5, stall * 0.01),
        heat: if second < 3 { vec![] } else { heat.collect() },
        server_cpu_percent: Some((users as f64 / 48.0 + 3.0 * noise).max(0.4)),
        server_rss_bytes: Some(11_000_000 + users * 5_000 + u64::from(second) * 9_000),
        server_fds: Some(18 + users),
        generator_cpu_percent: (users as f64 / 62.0 + 2.0 * noise).max(0.5),
        generator_rss_bytes: 22_000_000 + users * 7_800,
    }
}

fn users_at(ms: f64) -> u64 {
    let phase = PHASES.iter().find(|(_, [_, end], _)| ms < end * MINUTE);
    phase.map_or(5000, |(_, [start, end], [from, to])| {
        let share = (ms / MINUTE - start) / (end - start);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and not negative"
        )]
        let joined = ((to - from) as f64 * share) as u64;
        from + joined
    })
}

fn run_info() -> Run {
    Run {
        id: "3f9c27".to_owned(),
        version: "0.1.0".to_owned(),
        target: "ws://10.0.3.17:8080/ws".to_owned(),
        scenario: "plan".to_owned(),
        command: "loadtest --url ws://10.0.3.17:8080/ws --scenario plan --report run.html"
            .to_owned(),
        started_at: "2026-03-02T02:00:00Z".to_owned(),
        started_at_unix_ms: 1_772_416_800_000,
        elapsed_ms: 9.1 * MINUTE,
        active_ms: 9.0 * MINUTE,
        interrupted: false,
        users: 5000,
        shard: None,
        merged_from: vec![],
        missing_shards: vec![],
    }
}

fn phases() -> Vec<Phase> {
    let phase = |(name, [start, end], users): (&str, [f64; 2], [u64; 2])| Phase {
        name: name.to_owned(),
        start_ms: start * MINUTE,
        end_ms: end * MINUTE,
        users: Some(users),
        arrivals_per_second: None,
        peak_connected: users[1],
        connection_success_percent: (users[0] != users[1]).then_some(99.95),
        match_success_percent: (users[0] != users[1]).then_some(99.96),
        match_p95_ms: (users[0] != users[1]).then_some(users[1] as f64 / 130.0),
        message_p99_ms: Some(4.0 + users[1] as f64 / 520.0),
        errors: if end > 5.5 { 17 } else { 0 },
    };
    PHASES.into_iter().map(phase).collect()
}

fn thresholds() -> Vec<ThresholdResult> {
    let threshold =
        |expression: &str, name: &str, measured, bound: &str, limit, unit: &str, status| {
            ThresholdResult {
                expression: expression.to_owned(),
                name: name.to_owned(),
                measured,
                bound: bound.to_owned(),
                limit,
                unit: unit.to_owned(),
                status,
                failed_at_ms: (status == Status::Failed).then_some(432_000.0),
                aborted: false,
            }
        };
    let (ok, failed) = (Status::Ok, Status::Failed);
    vec![
        threshold(
            "connection_success >= 99.9%",
            "connection_success",
            Some(99.90),
            ">=",
            99.9,
            "percent",
            ok,
        ),
        threshold(
            "match_success >= 99.9%",
            "match_success",
            Some(99.94),
            ">=",
            99.9,
            "percent",
            ok,
        ),
        threshold(
            "match_latency p95 < 2s",
            "match_latency_p95",
            Some(45.0),
            "<",
            2000.0,
            "ms",
            ok,
        ),
        threshold(
            "message_latency p99 < 10ms over 30s",
            "message_latency_p99",
            Some(58.4),
            "<",
            10.0,
            "ms",
            failed,
        ),
        threshold(
            "message_success >= 99.9%",
            "message_success",
            Some(99.98),
            ">=",
            99.9,
            "percent",
            ok,
        ),
        threshold(
            "server_rss max < 2GB",
            "server_rss_max",
            Some(41.3e6),
            "<",
            2e9,
            "bytes",
            ok,
        ),
        threshold(
            "server_cpu p95 < 80%",
            "server_cpu_p95",
            None,
            "<",
            80.0,
            "percent",
            Status::NoData,
        ),
        threshold(
            "misdelivered count <= 0",
            "misdelivered_count",
            Some(0.0),
            "<=",
            0.0,
            "count",
            ok,
        ),
    ]
}

fn delivery(sent: u64, delivered: u64) -> Vec<Delivery> {
    let row = |kind: &str, direction: &str, share: u64, lost: u64| Delivery {
        kind: kind.to_owned(),
        direction: direction.to_owned(),
        sent: sent / share,
        delivered: delivered / share - lost,
        late: lost / 2,
        lost,
        pending: sent / share - delivered / share,
        success_percent: Some(99.97),
        ..Delivery::default()
    };
    vec![
        row("offer", "offerer_to_answerer", 40, 0),
        row("answer", "answerer_to_offerer", 40, 0),
        row("ice_candidate", "offerer_to_answerer", 3, 22),
        row("ice_candidate", "answerer_to_offerer", 3, 18),
    ]
}

fn latencies() -> BTreeMap<String, Latency> {
    let rows = [
        ("connect", latency(5000, 0, 1.2)),
        ("match", latency(4998, 2, 12.0)),
        ("message", latency(402_113, 0, 1.4)),
        ("message_as_sent", latency(402_113, 0, 0.9)),
        ("own_lateness", latency(402_120, 0, 0.5)),
    ];
    rows.map(|(name, row)| (name.to_owned(), row)).into()
}

fn latency(count: u64, censored: u64, p50: f64) -> Latency {
    let factors = [
        ("p50", 1.0),
        ("p75", 1.5),
        ("p90", 2.6),
        ("p95", 3.8),
        ("p99", 9.4),
        ("p99.9", 61.0),
        ("p99.99", 720.0),
    ];
    let quantiles = factors.map(|(name, factor)| (name.to_owned(), p50 * factor));
    Latency {
        count,
        censored,
        quantiles_ms: quantiles.into(),
        mean_ms: Some(p50 * 1.4),
        max_ms: Some(p50 * 1001.0),
        histogram: None,
    }
}

fn errors() -> Vec<ErrorEntry> {
    let error = |kind: &str, blame, count, first_at_ms, meaning: &str| ErrorEntry {
        kind: kind.to_owned(),
        blame,
        count,
        first_at_ms,
        meaning: meaning.to_owned(),
    };
    vec![
        error(
            "message_lost",
            Blame::Server,
            40,
            432_100.0,
            "accepted by the server and never delivered: see its logs at that time",
        ),
        error(
            "connect_timeout",
            Blame::Network,
            4,
            330_400.0,
            "no answer to a connection within 10 s: a full accept queue or a firewall",
        ),
        error(
            "match_timeout",
            Blame::Server,
            2,
            441_000.0,
            "no partner within 30 s though others waited",
        ),
        error(
            "closed_1006",
            Blame::Network,
            1,
            512_700.0,
            "cut without a close frame",
        ),
    ]
}

fn capacity() -> Capacity {
    let step = |(i, (kind, users, held)): (u32, (&str, u64, bool))| CapacityStep {
        kind: kind.to_owned(),
        users,
        start_ms: f64::from(i) * MINUTE,
        end_ms: f64::from(i + 1) * MINUTE,
        held,
        failed: if held {
            vec![]
        } else {
            vec!["match_latency p95 < 2s".to_owned()]
        },
        match_p95_ms: Some(users as f64 / 6.0),
        message_p99_ms: Some(users as f64 / 400.0),
        server_cpu_percent: Some((users as f64 / 130.0).min(99.0)),
        server_rss_bytes: Some(11_000_000 + users * 5000),
    };
    let tried = [
        ("step", 2000, true),
        ("step", 4000, true),
        ("step", 8000, true),
        ("step", 16_000, false),
        ("bisect", 12_000, true),
        ("bisect", 14_000, false),
        ("bisect", 13_000, false),
        ("confirm", 12_000, true),
        ("confirm", 13_200, false),
    ];
    Capacity {
        holds: 12_000,
        breaks: Some(13_000),
        gave_out: Some(
            "match latency: p95 was 2.17 s at 13,000 users, with the server's CPU at 99 %"
                .to_owned(),
        ),
        steps: (0..).zip(tried).map(step).collect(),
    }
}

fn drift() -> Vec<Drift> {
    vec![
        Drift {
            figure: "server_rss_bytes".to_owned(),
            per_hour: 32_400_000.0,
            uncertainty: 1_100_000.0,
            first: 39_000_000.0,
            last: 40_860_000.0,
            limit: Some(2e9),
            hours_to_limit: Some(60.5),
        },
        Drift {
            figure: "message_p99_ms".to_owned(),
            per_hour: 0.8,
            uncertainty: 2.4,
            first: 13.6,
            last: 13.7,
            limit: Some(100.0),
            hours_to_limit: None,
        },
    ]
}
