//! Errors, and what only some scenarios find.

use super::{MINUTE, latency};
use crate::record::{
    Blame, Capacity, CapacityStep, Drift, ErrorEntry, Failover, Latency, ServerTranscription,
    Talks, Words,
};

pub(super) fn errors() -> Vec<ErrorEntry> {
    let error = |kind: &str, blame, count, first_at_ms, meaning: &str| ErrorEntry {
        kind: kind.to_owned(),
        blame,
        count,
        first_at_ms,
        meaning: meaning.to_owned(),
        places: vec![],
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

pub(super) fn capacity() -> Capacity {
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

pub(super) fn failover() -> Failover {
    let resumed = [("ws", 4_980), ("sse", 1_490), ("poll", 28)];
    Failover {
        lost: 6_500,
        planned: 6_300,
        resumed: resumed.map(|(name, count)| (name.to_owned(), count)).into(),
        not_resumed: 2,
        moved_back: 1_505,
        moved: 0,
        not_moved: 0,
    }
}

pub(super) fn failover_latencies() -> [(&'static str, Latency); 5] {
    [
        ("failover", latency(6_498, 2, 12.0)),
        ("failover ws", latency(4_980, 0, 9.0)),
        ("failover sse", latency(1_490, 0, 1_010.0)),
        ("failover poll", latency(28, 0, 2_520.0)),
        ("heard_again", latency(6_490, 0, 310.0)),
    ]
}

pub(super) fn drift() -> Vec<Drift> {
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

/// Of a run in which the database was away for a while, and the provider too.
pub(super) fn talks() -> Talks {
    Talks {
        audio_seconds: 60_000.0,
        chunks: 600_000,
        partials: 180_000,
        finals: 30_000,
        gaps: 12,
        gap_seconds: 26.4,
        words: Words {
            said: 600_000,
            heard: 599_736,
            in_gaps: 264,
            success_percent: Some(99.956),
            ..Words::default()
        },
        transcripts: 500,
        ..Talks::default()
    }
}

pub(super) fn transcription() -> ServerTranscription {
    ServerTranscription {
        queue_peak: 212,
        spill_peak_bytes: 1_940_000,
        commits: 362,
        rows_per_commit: Some(82.9),
        commit_mean_ms: Some(2.9),
        finals: 30_000,
        commits_per_1000_finals: Some(12.067),
        billed_seconds: 60_110.0,
        provider_errors: 14,
        provider_mean_ms: Some(10.4),
        flush_errors: 3,
    }
}
