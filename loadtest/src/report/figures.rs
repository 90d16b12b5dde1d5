//! Figures and words that several sections of a report use.

use crate::{
    base::units::{self, rate_in_words},
    record::{Blame, Call, Delivery, Flow, Latency, Outcome, Record, Status, Validity},
};

pub(super) fn outcome(record: &Record) -> &'static str {
    match record.outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Regression => "REGRESSION",
        Outcome::Invalid => "INVALID",
    }
}

pub(super) fn validity(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "valid",
        Validity::Suspect => "suspect",
        Validity::Invalid => "invalid",
    }
}

pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Failed => "failed",
        Status::NoData => "no data",
        Status::NotMeasured => "not measured",
    }
}

pub(super) fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Generator => "generator",
        Blame::Network => "network",
        Blame::Server => "server",
        Blame::Protocol => "protocol",
    }
}

/// What the outcome means, as a sentence without its full stop.
pub(super) fn conclusion(record: &Record) -> String {
    let with = |status| {
        record
            .thresholds
            .iter()
            .filter(|t| t.status == status)
            .count()
    };
    let judged = record.thresholds.len() - with(Status::NotMeasured);
    match record.outcome {
        Outcome::Invalid => "the measurement is invalid: do not trust its figures".to_owned(),
        Outcome::Regression => "worse than the baseline".to_owned(),
        Outcome::Pass if judged == 0 => "no threshold was judged".to_owned(),
        Outcome::Pass => {
            let answer = capacity(record).map_or_else(String::new, |answer| answer + ": ");
            format!("{answer}all {judged} thresholds hold")
        }
        Outcome::Fail => match (with(Status::Failed), with(Status::NoData)) {
            (0, empty) => format!("{empty} of {judged} thresholds without data"),
            (failed, 0) => format!("{failed} of {judged} thresholds failed"),
            (failed, empty) => {
                format!("{failed} of {judged} thresholds failed, {empty} without data")
            }
        },
    }
}

/// The answer of a capacity search: `5,000 users hold, 5,500 do not`.
pub(super) fn capacity(record: &Record) -> Option<String> {
    let capacity = record.capacity.as_ref()?;
    let holds = units::count(capacity.holds);
    Some(match capacity.breaks {
        Some(breaks) => format!("{holds} users hold, {} do not", units::count(breaks)),
        None => format!("at least {holds} users hold"),
    })
}

/// What was run, in a line: `5,000 users for 8m 0s, scenario plan, on ws://...`.
pub(super) fn about(record: &Record) -> String {
    let run = &record.run;
    let rates = record
        .phases
        .iter()
        .flat_map(|phase| phase.arrivals_per_second);
    let most = rates.flatten().fold(0.0, f64::max);
    let users = record.phases.iter().any(|phase| phase.users.is_some());
    // With arrivals alone, the number of users at once depends on the server.
    let load = if most > 0.0 && !users {
        let ([most], time) = rate_in_words([most]);
        format!("{} arrivals per {time}", units::decimal(most))
    } else {
        format!("{} users", units::count(run.users))
    };
    format!(
        "{load} for {}, scenario {}, on {}",
        units::span(run.active_ms),
        run.scenario,
        match run.target.split(", ").count() {
            0 | 1 => run.target.clone(),
            servers => format!("{servers} servers"),
        }
    )
}

/// Shards, gaps and an early end: what a reader has to know before any figure.
pub(super) fn remarks(record: &Record) -> Vec<String> {
    let run = &record.run;
    let mut remarks = Vec::new();
    if let Some(load) = &run.load {
        remarks.push(load.clone());
    }
    let ended_by = record.thresholds.iter().find(|threshold| threshold.aborted);
    match ended_by {
        Some(threshold) => remarks.push(format!("ended by `{}`", threshold.expression)),
        None if run.interrupted => {
            remarks.push("ended before its plan was over, on request".to_owned())
        }
        None => {}
    }
    if let Some(shard) = &run.shard {
        remarks.push(format!(
            "shard {shard} of a plan: merge it with the others (loadtest merge)"
        ));
        remarks.push(
            "delivery and latency of messages to users of other shards are unknown here".to_owned(),
        );
    }
    if !run.merged_from.is_empty() {
        let shards = run.merged_from.len() + run.missing_shards.len();
        remarks.push(format!(
            "merged from {} of {shards} shards",
            run.merged_from.len()
        ));
    }
    if !run.missing_shards.is_empty() {
        let missing: Vec<String> = run.missing_shards.iter().map(u32::to_string).collect();
        remarks.push(format!(
            "without shard {}: its figures are missing, not zero",
            missing.join(", ")
        ));
    }
    remarks.extend(super::sections::remarks_on_nodes(record));
    remarks
}

/// The sum of all types and directions.
pub(super) fn delivery(record: &Record) -> Delivery {
    let mut all = Delivery::default();
    for row in &record.delivery {
        all.sent += row.sent;
        all.delivered += row.delivered;
        all.late += row.late;
        all.lost += row.lost;
        all.lost_with_node += row.lost_with_node;
        all.undeliverable += row.undeliverable;
        all.pending += row.pending;
        all.unknown += row.unknown;
        all.duplicate += row.duplicate;
        all.reordered += row.reordered;
        all.wrong_peer += row.wrong_peer;
        all.altered += row.altered;
    }
    let settled = all.delivered + all.lost;
    all.success_percent = (settled > 0).then(|| all.delivered as f64 / settled as f64 * 100.0);
    all
}

/// A quantile of one of the record's latencies, in milliseconds.
pub(super) fn quantile(record: &Record, latency: &str, quantile: &str) -> Option<f64> {
    let latency = record.latency.get(latency)?;
    latency.quantiles_ms.get(quantile).copied()
}

/// Without flows that every user plays until the run ends.
pub(super) fn ended_flows(record: &Record) -> impl Iterator<Item = &Flow> {
    let flows = record.flows.iter();
    flows.filter(|flow| flow.completed + flow.failed > 0)
}

/// Messages delivered per second while users could act.
pub(super) fn messages_per_second(record: &Record) -> Option<f64> {
    let delivered = delivery(record).delivered;
    (record.run.active_ms > 0.0 && delivered > 0)
        .then(|| delivered as f64 / record.run.active_ms * 1e3)
}

/// Lost messages, in percent of delivered and lost.
pub(super) fn message_error_percent(record: &Record) -> Option<f64> {
    delivery(record)
        .success_percent
        .map(|success| 100.0 - success)
}

/// Calls answered per second while users could act.
pub(super) fn calls_per_second(record: &Record) -> Option<f64> {
    let answered: u64 = record.calls.iter().map(|call| call.answered).sum();
    (record.run.active_ms > 0.0 && answered > 0)
        .then(|| answered as f64 / record.run.active_ms * 1e3)
}

/// Calls without the right answer, in percent of those that were not pending at the end.
pub(super) fn call_error_percent(record: &Record) -> Option<f64> {
    let sum = |of: fn(&Call) -> u64| record.calls.iter().map(of).sum::<u64>();
    let bad = sum(|call| call.timed_out + call.wrong + call.failed);
    let all = bad + sum(|call| call.answered);
    (all > 0).then(|| bad as f64 * 100.0 / all as f64)
}

/// The 95th percentile of the slowest call.
pub(super) fn slowest_call_p95(record: &Record) -> Option<f64> {
    let calls = record.calls.iter();
    let p95 = calls.filter_map(|call| quantile(record, &format!("call {}", call.name), "p95"));
    p95.reduce(f64::max)
}

pub(super) fn direction(name: &str) -> String {
    match name {
        "offerer_to_answerer" => "offerer → answerer".to_owned(),
        "answerer_to_offerer" => "answerer → offerer".to_owned(),
        other => other.replace('_', " "),
    }
}

/// The latencies that were measured at all, in the order of a user's life; calls last. Those of single transports have a
/// table of their own.
pub(super) fn latencies(record: &Record) -> Vec<(&str, &Latency)> {
    const ORDER: [&str; 19] = [
        "connect",
        "match",
        "match_local",
        "match_remote",
        "message",
        "message_local",
        "message_remote",
        "message_as_sent",
        "failover",
        "heard_again",
        "moved",
        "told_of_loss",
        "matched_again",
        "audio_ack",
        "partial",
        "final",
        "stored",
        "fan_out",
        "own_lateness",
    ];
    let known = ORDER
        .iter()
        .filter_map(|name| record.latency.get_key_value(*name));
    let calls = record
        .latency
        .iter()
        .filter(|(name, _)| !ORDER.contains(&name.as_str()) && !name.starts_with("failover "));
    let all = known.chain(calls);
    let measured = all.filter(|(_, latency)| latency.count > 0);
    measured
        .map(|(name, latency)| (name.as_str(), latency))
        .collect()
}

/// The unit of a figure by its name.
pub(super) fn unit_of(figure: &str) -> &'static str {
    match figure {
        _ if figure.ends_with("_ms") => "ms",
        _ if figure.ends_with("_bytes") => "bytes",
        _ if figure.ends_with("_percent") => "percent",
        _ => "count",
    }
}
