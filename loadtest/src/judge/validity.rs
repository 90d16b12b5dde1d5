//! Whether a measurement is to be trusted, and what a run has shown. Pure.

use voicematch_protocol::CloseReason;

use crate::{
    base::units::clock,
    measure::{failures::Failure, sample::ErrorKind},
    record::{Blame, ErrorEntry, Exit, Finding, Outcome, Record, Status, Validity},
};

/// How late the generator may send (99th percentile, in milliseconds) before its measurement is doubtful, and void.
const LATENESS_P99_MS: [f64; 2] = [20.0, 100.0];
/// How long the generator may not run at all, in milliseconds, before its measurement is doubtful, and void.
const PAUSE_MS: [f64; 2] = [500.0, 1000.0];
/// How much of its core a worker may use, in percent, before its measurement is doubtful, and void.
const WORKER_PERCENT: [f64; 2] = [75.0, 90.0];
/// How many of the allowed files may be open, in percent, before it is doubtful.
const FILES_PERCENT: f64 = 95.0;

/// Judges the measurement of a record by what else is in it. `foreign`: messages of another load test that came in;
/// `server_unread`: the server's metrics were asked for by address, and never read.
pub fn findings(record: &Record, foreign: u64, server_unread: bool) -> Vec<Finding> {
    let mut findings = of_generator(record);
    findings.extend(of_run(record, foreign, server_unread));
    findings
}

/// All but what the generator did wrong.
pub fn of_run(record: &Record, foreign: u64, server_unread: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |validity, what: String, advice: &str| {
        findings.push(Finding {
            validity,
            what,
            advice: advice.to_owned(),
        });
    };
    if foreign > 0 {
        add(
            Validity::Suspect,
            format!("{foreign} messages came from another load test against the same server"),
            "Run one load test at a time, or all shards of one with the same run",
        );
    }
    let error = |kind: &str| record.errors.iter().find(|error| error.kind == kind);
    // A drain that closed users is among the errors, and needs no second word.
    let closed = CloseReason::Draining
        .close_code()
        .and_then(|code| error(&ErrorKind::ClosedByServer(code).name()));
    if let Some(drain) = error(ErrorKind::DRAINING)
        && closed.is_none()
    {
        add(
            Validity::Suspect,
            format!(
                "the server was draining from {} on, as it told {} users",
                clock(drain.first_at_ms),
                drain.count
            ),
            "Do not stop or replace the server while a run is on",
        );
    }
    if server_unread {
        add(
            Validity::Suspect,
            "the server's metrics were asked for and could not be read".to_owned(),
            "Check --admin-url, or give --admin-url none",
        );
    }
    if record.run.interrupted && !record.thresholds.iter().any(|one| one.aborted) {
        let seconds = record.run.active_ms / 1e3;
        add(
            Validity::Suspect,
            format!("the run was ended after {seconds:.0} s, before its plan was"),
            "Let it run to its end",
        );
    }
    if !record.run.missing_shards.is_empty() {
        add(
            Validity::Suspect,
            format!(
                "shards {:?} of the run are missing",
                record.run.missing_shards
            ),
            "Merge again with the results of all shards",
        );
    }
    let failed = record
        .thresholds
        .iter()
        .any(|one| one.status == Status::Failed);
    let empty = record
        .thresholds
        .iter()
        .filter(|one| one.status == Status::NoData);
    for threshold in empty {
        // When something failed, that is why there was nothing to measure, or more important than it.
        let validity = if failed {
            Validity::Suspect
        } else {
            Validity::Invalid
        };
        let advice = if threshold.name.starts_with("server_") {
            "Give the address of the server's metrics with --admin-url"
        } else {
            "Run longer, send more often, or leave the threshold out"
        };
        add(
            validity,
            format!("{}: nothing was measured", threshold.name),
            advice,
        );
    }
    findings
}

/// What the generator did wrong.
pub fn of_generator(record: &Record) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |validity, what: String, advice: &str| {
        findings.push(Finding {
            validity,
            what,
            advice: advice.to_owned(),
        });
    };
    let beyond = |value: f64, [suspect, invalid]: [f64; 2]| match value {
        value if value > invalid => Some(Validity::Invalid),
        value if value > suspect => Some(Validity::Suspect),
        _ => None,
    };
    let lateness = record.latency.get("own_lateness");
    let late = lateness
        .and_then(|lateness| lateness.quantiles_ms.get("p99"))
        .copied()
        .unwrap_or(0.0);
    if let Some(validity) = beyond(late, LATENESS_P99_MS) {
        add(
            validity,
            format!("the generator itself sent late: p99 {late:.0} ms"),
            "Use fewer users per machine, or do not share the machine with the server",
        );
    }
    let pause = record.generator.longest_pause_ms;
    if let Some(validity) = beyond(pause, PAUSE_MS) {
        add(
            validity,
            format!(
                "the generator itself stood still for up to {pause:.0} ms: latencies of that time are its own"
            ),
            "Do not stop or suspend it, and do not share the machine with the server",
        );
    }
    let busy = record.generator.busiest_worker_percent;
    if let Some(validity) = beyond(busy, WORKER_PERCENT) {
        add(
            validity,
            format!("a worker of the generator used {busy:.0} % of its core"),
            "Use fewer users per process, more processes, or let users send less often",
        );
    }
    if let Some([open, limit]) = record.generator.fds
        && open as f64 > limit as f64 * FILES_PERCENT / 100.0
    {
        add(
            Validity::Suspect,
            format!("the generator had {open} of {limit} files open"),
            "Raise the limit (ulimit -Hn, LimitNOFILE=), or use more processes",
        );
    }
    // What came too late follows from another finding.
    let own = |error: &&ErrorEntry| error.blame == Blame::Generator && !is_time_out(error);
    for error in record.errors.iter().filter(own) {
        add(
            Validity::Invalid,
            format!(
                "{} on the generator's machine, {} times",
                error.kind, error.count
            ),
            error.meaning.trim_end_matches('.'),
        );
    }
    findings
}

/// Blames the generator for all that came too late, if it was too late itself to measure anything.
pub fn blame_generator(record: &mut Record) {
    let findings = of_generator(record);
    if findings.iter().any(|one| one.validity == Validity::Invalid) {
        let late = record.errors.iter_mut().filter(|one| is_time_out(one));
        late.for_each(|error| error.blame = Blame::Generator);
    }
}

/// Whether a generator that does not run makes errors of this kind by itself.
fn is_time_out(error: &ErrorEntry) -> bool {
    let failures = [
        Failure::MessageLate,
        Failure::MatchFailed,
        Failure::CallTimedOut,
    ];
    let kinds = [
        ErrorKind::ConnectTimeout,
        ErrorKind::NoSession,
        ErrorKind::CloseTimeout,
    ];
    failures.iter().any(|one| one.name() == error.kind)
        || kinds.iter().any(|one| one.name() == error.kind)
        || error.kind.starts_with(ErrorKind::EXPECT_TIMED_OUT)
}

/// Lets the outcome and the exit code say what thresholds and findings show.
pub fn conclude(record: &mut Record) {
    let worst = record
        .measurement
        .findings
        .iter()
        .map(|finding| finding.validity)
        .max();
    record.measurement.validity = worst.unwrap_or(Validity::Valid);
    let failed = record
        .thresholds
        .iter()
        .any(|one| one.status == Status::Failed);
    (record.outcome, record.exit_code) = match (record.measurement.validity, failed) {
        (Validity::Invalid, _) => (Outcome::Invalid, Exit::Invalid),
        (_, true) => (Outcome::Fail, Exit::Fail),
        (_, false) => (Outcome::Pass, Exit::Pass),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::example;

    #[test]
    fn a_generator_that_did_not_run_for_a_second_measured_nothing() {
        let pause = |ms| {
            let mut record = example::record();
            record.generator.longest_pause_ms = ms;
            let findings = of_generator(&record);
            let pause = findings.iter().find(|one| one.what.contains("stood still"));
            pause.map(|one| one.validity)
        };
        let expected = [None, Some(Validity::Suspect), Some(Validity::Invalid)];
        assert_eq!([400.0, 900.0, 1100.0].map(pause), expected);
    }

    #[test]
    fn what_comes_late_is_the_fault_of_a_generator_that_stood_still() {
        let blame = |kind: &str, ms| {
            let mut record = example::record();
            record.generator.longest_pause_ms = ms;
            record.errors.truncate(1);
            record.errors[0].kind = kind.to_owned();
            record.errors[0].blame = Blame::Server;
            blame_generator(&mut record);
            record.errors[0].blame
        };
        let late = [
            "message_late",
            "match_failed",
            "call_timed_out",
            "connect_timeout",
            "no_session",
            "close_timeout",
            "expect_timed_out:session",
        ];
        for kind in late {
            let blames = [400.0, 1100.0].map(|ms| blame(kind, ms));
            assert_eq!(blames, [Blame::Server, Blame::Generator], "{kind}");
        }
        assert_eq!(blame("message_lost", 1100.0), Blame::Server);
    }

    #[test]
    fn an_error_that_follows_from_a_finding_is_no_finding_of_its_own() {
        let mut record = example::record();
        record.generator.longest_pause_ms = 1100.0;
        record.errors.truncate(1);
        record.errors[0].kind = Failure::MatchFailed.name().to_owned();
        let before = of_generator(&record);
        blame_generator(&mut record);
        assert_eq!(record.errors[0].blame, Blame::Generator);
        assert_eq!(of_generator(&record), before);
    }
}
