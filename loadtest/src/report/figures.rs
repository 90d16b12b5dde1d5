//! The few figures that every report leads with, taken from a record.

use crate::{
    base::{rate::said, units},
    record::{
        Blame, Call, Connections, Delivery, Flow, Matches, Outcome, Record, ShardInfo, Status,
        Validity,
    },
};

/// The outcome as one word in capitals.
pub(super) fn outcome(record: &Record) -> &'static str {
    match record.outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Regression => "REGRESSION",
        Outcome::Invalid => "INVALID",
    }
}

/// Whether the measurement is to be trusted, as one word in capitals.
pub(super) fn validity(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "VALID",
        Validity::Suspect => "SUSPECT",
        Validity::Invalid => "INVALID",
    }
}

/// How a threshold turned out, in a word.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Failed => "FAILED",
        Status::NoData => "NO DATA",
        Status::NotMeasured => "not measured",
    }
}

/// Who has to mend an error.
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
        Outcome::Invalid => "the measurement itself is not to be trusted".to_owned(),
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

/// The answer of a search: `5,000 users hold, 5,500 do not`.
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
    // How many are there at once is then the server's doing.
    let load = if most > 0.0 && !users {
        let ([most], time) = said([most]);
        format!("{} arrivals a {time}", units::decimal(most))
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
        None if run.interrupted => remarks.push("ended before its plan, on request".to_owned()),
        None => {}
    }
    if let Some(shard) = &run.shard {
        remarks.push(format!(
            "shard {shard} of a plan: join it with the others (loadtest merge)"
        ));
        remarks.push(
            "what became of messages to the others is unknown here, as are their latencies"
                .to_owned(),
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
            "without shard {}: what it would have told is missing, not zero",
            missing.join(", ")
        ));
    }
    remarks
}

/// The names of the columns of [`shards`].
pub(super) const SHARD_COLUMNS: [&str; 4] = [
    "Shard",
    "Host",
    "Started",
    "Clock against the first shard's",
];

/// The shards that a record was merged of, and those that are missing; empty for a run of one process.
pub(super) fn shards(record: &Record) -> Vec<[String; 4]> {
    let run = &record.run;
    let clock = |shard: &ShardInfo| match (shard.clock_offset_ms, shard.clock_uncertainty_ms) {
        _ if run.merged_from.first() == Some(shard) => "the measure".to_owned(),
        (Some(offset), Some(uncertainty)) => format!("{offset:+.3} ± {uncertainty:.3} ms"),
        _ => "unknown: no messages in both directions".to_owned(),
    };
    let there = run.merged_from.iter().map(|shard| {
        let cells = [shard.host.clone(), shard.started_at.clone(), clock(shard)];
        (shard.index, cells)
    });
    let missing = run.missing_shards.iter().map(|index| {
        let dash = "–".to_owned();
        (*index, ["missing".to_owned(), dash.clone(), dash])
    });
    let mut all: Vec<(u32, [String; 3])> = there.chain(missing).collect();
    all.sort_by_key(|(index, _)| *index);
    let all = all.into_iter();
    all.map(|(index, [host, started, clock])| [index.to_string(), host, started, clock])
        .collect()
}

/// All types and directions together.
pub(super) fn delivery(record: &Record) -> Delivery {
    let mut all = Delivery::default();
    for row in &record.delivery {
        all.sent += row.sent;
        all.delivered += row.delivered;
        all.late += row.late;
        all.lost += row.lost;
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

/// The flows that were played to an end, or to a step that did not succeed. Those that go on until the end of
/// the run are none of them.
pub(super) fn ended_flows(record: &Record) -> impl Iterator<Item = &Flow> {
    let flows = record.flows.iter();
    flows.filter(|flow| flow.completed + flow.failed > 0)
}

/// Messages delivered in a second while users could act.
pub(super) fn messages_per_second(record: &Record) -> Option<f64> {
    let delivered = delivery(record).delivered;
    (record.run.active_ms > 0.0 && delivered > 0)
        .then(|| delivered as f64 / record.run.active_ms * 1e3)
}

/// Messages not delivered, in percent of those that could have been.
pub(super) fn message_error_percent(record: &Record) -> Option<f64> {
    delivery(record)
        .success_percent
        .map(|success| 100.0 - success)
}

/// Requests answered in a second while users could act.
pub(super) fn calls_per_second(record: &Record) -> Option<f64> {
    let answered: u64 = record.calls.iter().map(|call| call.answered).sum();
    (record.run.active_ms > 0.0 && answered > 0)
        .then(|| answered as f64 / record.run.active_ms * 1e3)
}

/// Requests without the right answer, in percent of those that were not under way at the end.
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

/// The name of a direction as people say it.
pub(super) fn direction(name: &str) -> String {
    match name {
        "offerer_to_answerer" => "offerer → answerer".to_owned(),
        "answerer_to_offerer" => "answerer → offerer".to_owned(),
        other => other.replace('_', " "),
    }
}

/// One step of the way from setting out to a delivered message.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) count: u64,
    /// The first of its group, against which its size is shown.
    pub(super) of: u64,
    /// Where the rest is.
    pub(super) rest: String,
}

/// The funnel: connections, searches, messages and requests, each from what was tried to what went well. What
/// nobody tried is left out.
pub(super) fn funnel(record: &Record) -> Vec<Step> {
    let mut steps = Vec::new();
    if record.connections.attempted > 0 {
        steps.extend(connecting(&record.connections));
    }
    if record.matches.searches > 0 {
        steps.extend(matching(&record.matches));
    }
    let messages = delivery(record);
    if messages.sent > 0 {
        steps.extend(messaging(&messages));
    }
    if !record.calls.is_empty() {
        steps.extend(requesting(&record.calls));
    }
    steps
}

fn step(name: &'static str, count: u64, of: u64, rest: &[(u64, &str)]) -> Step {
    Step {
        name,
        count,
        of,
        rest: losses(rest),
    }
}

fn connecting(connections: &Connections) -> Vec<Step> {
    let Connections {
        attempted,
        succeeded,
        dropped,
        reconnects,
        ..
    } = *connections;
    let failed = attempted.saturating_sub(succeeded);
    let stayed = succeeded.saturating_sub(dropped);
    vec![
        step(
            "set out to connect",
            attempted,
            attempted,
            &[(reconnects, "of them again")],
        ),
        step(
            "connected",
            succeeded,
            attempted,
            &[(failed, "not connected")],
        ),
        step(
            "stayed connected",
            stayed,
            attempted,
            &[(dropped, "cut off")],
        ),
    ]
}

fn matching(matches: &Matches) -> Vec<Step> {
    let searches = matches.searches;
    let rest = [
        (matches.failed, "failed"),
        (matches.pending, "pending"),
        (matches.odd_one_out, "odd one out"),
        (matches.one_sided, "one-sided"),
        (matches.double, "double"),
        (matches.self_matches, "with themselves"),
    ];
    vec![
        step(
            "searched for a partner",
            searches,
            searches,
            &[(matches.rematches, "of them again")],
        ),
        step("matched", matches.matched, searches, &rest),
    ]
}

fn messaging(messages: &Delivery) -> Vec<Step> {
    let sent = messages.sent;
    let rest = [
        (messages.lost, "lost"),
        (messages.undeliverable, "to users who had left"),
        (messages.pending, "pending"),
        (messages.unknown, "unknown"),
    ];
    let in_time = messages.delivered.saturating_sub(messages.late);
    vec![
        step("messages sent", sent, sent, &[]),
        step("delivered", messages.delivered, sent, &rest),
        step(
            "delivered in time",
            in_time,
            sent,
            &[(messages.late, "late")],
        ),
    ]
}

fn requesting(calls: &[Call]) -> Vec<Step> {
    let sum = |of: fn(&Call) -> u64| calls.iter().map(of).sum();
    let sent = sum(|call| call.sent);
    let rest = [
        (sum(|call| call.timed_out), "timed out"),
        (sum(|call| call.wrong), "wrong"),
        (sum(|call| call.failed), "failed"),
    ];
    vec![
        step("requests sent", sent, sent, &[]),
        step("answered", sum(|call| call.answered), sent, &rest),
    ]
}

/// `3 lost, 1 pending`, without what there is none of.
fn losses(parts: &[(u64, &str)]) -> String {
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    parts
        .map(|(count, what)| format!("{} {what}", units::count(*count)))
        .collect::<Vec<_>>()
        .join(", ")
}
