use super::*;
use crate::record::Status;

fn parse(text: &str) -> Threshold {
    text.parse().expect(text)
}

#[test]
fn thresholds_are_read() {
    for (text, name, bound, limit, unit) in [
        (
            "match_latency p95 < 2s",
            "match_latency_p95",
            "<",
            2000.0,
            "ms",
        ),
        (
            "message_latency p99.9<=1500us",
            "message_latency_p99.9",
            "<=",
            1.5,
            "ms",
        ),
        (
            "message_success >= 99.9%",
            "message_success",
            ">=",
            99.9,
            "percent",
        ),
        ("errors count < 10", "errors_count", "<", 10.0, "count"),
        ("errors < 10", "errors_count", "<", 10.0, "count"),
        (
            "messages rate > 50/s",
            "messages_rate",
            ">",
            50.0,
            "per_second",
        ),
        ("server_rss max < 2GB", "server_rss_max", "<", 2e9, "bytes"),
        (
            "server_cpu p95 < 80%",
            "server_cpu_p95",
            "<",
            80.0,
            "percent",
        ),
        (
            "server_fds last <= 100",
            "server_fds_last",
            "<=",
            100.0,
            "count",
        ),
        (
            "commits_per_1000_finals <= 15",
            "commits_per_1000_finals",
            "<=",
            15.0,
            "count",
        ),
        (
            "server_rss_drift < 5%/h",
            "server_rss_drift",
            "<",
            5.0,
            "percent_per_hour",
        ),
        (
            "call_latency{get weather} p99 < 300ms over 30s abort after 1m",
            "call_latency{getweather}_p99_over_30s",
            "<",
            300.0,
            "ms",
        ),
    ] {
        let threshold = parse(text);
        let result = threshold.result(None, Status::NoData);
        assert_eq!(
            (&result.name[..], &result.bound[..], &result.unit[..]),
            (name, bound, unit),
            "{text}"
        );
        assert!(
            (result.limit - limit).abs() < 1e-9,
            "{text}: {}",
            result.limit
        );
        assert_eq!(result.expression, text);
    }
    let call = parse("call_latency{x} p99 < 1s over 30s abort after 1m");
    assert_eq!(
        (call.over, call.abort_after),
        (Some(Duration::from_secs(30)), Some(Duration::from_secs(60)))
    );
    assert_eq!(parse("errors < 1 abort").abort_after, Some(Duration::ZERO));
}

#[test]
fn what_is_no_threshold_is_told_what_would_be_right() {
    for (text, part) in [
        ("", "there is no <"),
        ("match_latency p95 2s", "write it like"),
        ("match_latency p95 <", "there is no limit"),
        ("matchlatency p95 < 2s", "match_latency"),
        ("match_latency < 2s", "p95"),
        ("match_latency p100 < 2s", "p95"),
        ("match_latency p95 < 2", "250ms"),
        ("match_latency{x} p95 < 2s", "leave out {"),
        ("call_latency{x p95 < 2s", "not closed"),
        ("message_success p95 > 99%", "percentage"),
        ("message_success > 101%", "never more"),
        ("server_rss max < 2", "500MB"),
        ("server_rss max < 2XB", "500MB"),
        ("errors < many", "10"),
        ("errors < 10 over", "30s"),
        ("errors < 10 over 10ms", "1s"),
        ("errors < 10 after 1m", "abort after"),
        ("errors < 10 sometimes", "abort after 1m"),
        ("lost < 10 over 30s", "leave out 'over'"),
        ("errors < 10 if measured", "what the server tells"),
        ("server_rss max < 1GB if possible", "if measured"),
        ("recovery p95 < 10s", "one time"),
        ("server_rss_drift max < 5%/h", "one number"),
        ("server_rss_drift < 5MB/h", "5%/h"),
        ("audio_billed < 1s", "1.05"),
        ("recovery < 10s over 30s", "leave out 'over'"),
    ] {
        let error = text.parse::<Threshold>().expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

const ALL_PARTS: Parts = Parts {
    matches: true,
    relays: true,
    setups: true,
    calls: true,
    words: true,
};

#[test]
fn the_defaults_are_the_baseline() {
    let all = defaults(ALL_PARTS);
    let texts: Vec<_> = all.iter().map(Threshold::expression).collect();
    assert_eq!(
        texts,
        [
            "connection_success >= 99.9%",
            "match_success >= 99.9%",
            "message_success >= 99.9%",
            "setup_success >= 99.9%",
            "call_success >= 99.9%",
            "match_latency p95 < 2s",
            "message_latency p95 < 100ms",
            "misdelivered count <= 0",
            "word_success > 99%",
            "words_twice count < 1",
            "words_not_stored count < 1",
            "server_rss max < 2GB",
        ]
    );
}

/// What becomes of one threshold in a run that is told a list of samples in each of its seconds; and when it aborted.
#[test]
fn where_users_wait_for_messages_flows_are_judged_unless_somebody_said_how() {
    let mut plan = crate::Plan::new(2, Duration::from_secs(1));
    let on_flows = |plan: &crate::Plan| {
        let all = plan.thresholds_or_defaults().into_iter();
        let on_flows: Vec<_> = all.filter(Threshold::is_on_flows).collect();
        let texts = on_flows.iter().map(Threshold::expression);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(on_flows(&plan), [""; 0]);
    plan.flows[0].steps.push(crate::plan::flow::Step::Expect {
        kind: "offer".to_owned(),
        within: Duration::from_secs(1),
    });
    assert_eq!(on_flows(&plan), ["flow_success >= 99.9%"]);
    plan.thresholds = vec!["errors count < 1".parse().expect("good")];
    assert_eq!(on_flows(&plan), ["flow_success >= 99.9%"]);
    plan.thresholds = vec!["flow_success > 50%".parse().expect("good")];
    assert_eq!(on_flows(&plan), ["flow_success > 50%"]);
}
