//! A record as a real run gives one, for tests: document-like phases up to 5,000 users, a stall of 1.4 s, a
//! threshold that fails, a server that leaks a little.

use std::collections::BTreeMap;

mod course;
mod extras;
mod nodes;

pub use course::Noise;

use crate::record::*;

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
pub fn record() -> Record {
    let series = course::series();
    let sum = |of: fn(&Window) -> u64| series.windows.iter().map(of).sum::<u64>();
    let (sent, delivered) = (sum(|w| w.sent), sum(|w| w.delivered));
    Record {
        schema_version: SCHEMA_VERSION,
        outcome: Outcome::Fail,
        exit_code: Exit::Fail,
        measurement: measurement(),
        thresholds: thresholds(),
        run: run_info(),
        phases: phases(),
        connections: Connections {
            attempted: 5004,
            succeeded: 5000,
            dropped: 1,
            lost_with_node: 0,
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
        reach: vec![],
        nodes: vec![],
        calls: vec![],
        flows: vec![],
        latency: latencies(),
        errors: extras::errors(),
        series,
        generator: Generator {
            workers: 2,
            cpu_seconds: 231.4,
            cpu_percent: 42.8,
            busiest_worker_percent: 82.0,
            longest_pause_ms: 0.0,
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
            transcription: None,
        }),
        capacity: None,
        drift: vec![],
        recovery: None,
        failover: None,
        talks: None,
        advice: vec![],
        comparison: None,
        shard: None,
    }
}

fn measurement() -> Measurement {
    Measurement {
        validity: Validity::Suspect,
        findings: vec![Finding {
            validity: Validity::Suspect,
            what: "the busiest worker used 82.0 % of its core".to_owned(),
            advice: "run on a machine with more cores, or split the plan with --shard".to_owned(),
        }],
    }
}

/// The same with everything that other scenarios add: staircase, drift, recovery, calls and a baseline.
pub fn everything() -> Record {
    let mut record = record();
    record.capacity = Some(extras::capacity());
    record.drift = extras::drift();
    record.recovery = Some(Recovery {
        dropped_at_ms: 7.5 * MINUTE,
        dropped: 2500,
        paired: 2500,
        matched_99_percent_ms: Some(4_320.0),
        connected_99_percent_ms: Some(2_110.0),
    });
    record.failover = Some(extras::failover());
    nodes::add(&mut record);
    record.talks = Some(extras::talks());
    if let Some(server) = &mut record.server {
        server.transcription = Some(extras::transcription());
    }
    for (name, middle) in [
        ("audio_ack", 0.9),
        ("partial", 82.0),
        ("final", 84.0),
        ("stored", 51.0),
        ("fan_out", 0.4),
    ] {
        let latency = latency(30_000, 0, middle);
        record.latency.insert(name.to_owned(), latency);
    }
    for (name, latency) in extras::failover_latencies() {
        record.latency.insert(name.to_owned(), latency);
    }
    record.calls = vec![Call {
        name: "get_weather".to_owned(),
        sent: 12_004,
        answered: 12_001,
        timed_out: 2,
        failed: 0,
        pending: 0,
        wrong: 1,
    }];
    let flow = |name: &str, completed, failed| Flow {
        name: name.to_owned(),
        completed,
        failed,
    };
    record.flows = vec![flow("question", 4_001, 3), flow("signaling", 0, 0)];
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
    record.comparison = Some(crate::judge::compare::compare(
        &baseline,
        &record,
        "main.json",
    ));
    record.advice = crate::judge::advice::advise(&record);
    record
}

fn run_info() -> Run {
    Run {
        id: "3f9c27".to_owned(),
        version: "0.1.0".to_owned(),
        build: Some("2.4.1 (9f3c2ab)".to_owned()),
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
        load: None,
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

fn delivery(sent: u64, delivered: u64) -> Vec<Delivery> {
    let row = |kind: &str, direction: &str, fraction: u64, lost: u64| Delivery {
        kind: kind.to_owned(),
        direction: direction.to_owned(),
        sent: sent / fraction,
        delivered: delivered / fraction - lost,
        late: lost / 2,
        lost,
        pending: sent / fraction - delivered / fraction,
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

fn thresholds() -> Vec<ThresholdResult> {
    let (ok, failed, empty) = (Status::Ok, Status::Failed, Status::NoData);
    let all = [
        (
            "connection_success >= 99.9%",
            Some(99.90),
            99.9,
            "percent",
            ok,
        ),
        ("match_success >= 99.9%", Some(99.94), 99.9, "percent", ok),
        ("match_latency p95 < 2s", Some(45.0), 2000.0, "ms", ok),
        (
            "message_latency p99 < 10ms over 30s",
            Some(58.4),
            10.0,
            "ms",
            failed,
        ),
        ("message_success >= 99.9%", Some(99.98), 99.9, "percent", ok),
        ("server_rss max < 2GB", Some(41.3e6), 2e9, "bytes", ok),
        ("server_cpu p95 < 80%", None, 80.0, "percent", empty),
        ("misdelivered count <= 0", Some(0.0), 0.0, "count", ok),
    ];
    let threshold = |(expression, measured, limit, unit, status): (&str, _, _, &str, _)| {
        let words: Vec<&str> = expression.split(' ').collect();
        let bound = words.iter().position(|word| word.starts_with(['<', '>']));
        let bound = bound.unwrap_or_default();
        ThresholdResult {
            expression: expression.to_owned(),
            name: words[..bound].join("_"),
            measured,
            bound: words[bound].to_owned(),
            limit,
            unit: unit.to_owned(),
            status,
            failed_at_ms: (status == failed).then_some(432_000.0),
            aborted: false,
        }
    };
    all.map(threshold).into()
}
