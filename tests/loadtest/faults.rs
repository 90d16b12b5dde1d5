//! Each fault alone, in a server of another make: the report tells what the server says that it did.

use crate::{
    Ran,
    node::{Server, Tally},
    run,
};

/// Forty users, ten messages a second each, for three seconds.
const LOAD: [&str; 8] = [
    "--scenario",
    "audio-streaming-text",
    "--users",
    "40",
    "--spacing",
    "5ms",
    "--duration",
    "3s",
];
/// Fates that are no fault.
const FATES: [&str; 9] = [
    "late",
    "lost",
    "undeliverable",
    "pending",
    "unknown",
    "duplicate",
    "reordered",
    "wrong_peer",
    "altered",
];

async fn against(faults: &[&str], load: &[&str]) -> (Ran, Tally) {
    let server = Server::broken(faults).await;
    let ran = run(&server.url(), load).await;
    assert_eq!(
        ran.json["measurement"]["validity"], "valid",
        "{:#}",
        ran.json["measurement"]
    );
    let tally = server.tally().await;
    assert_eq!(
        ran.messages("sent"),
        tally.get("text") + tally.get("binary") - tally.get("calls")
    );
    (ran, tally)
}

impl Ran {
    /// These faults of these numbers, with this blame, and no others.
    #[track_caller]
    fn assert_only(&self, fates: &[(&str, usize)], errors: &[(&str, &str, usize)]) {
        assert_eq!(self.code, Some(99), "{}", self.stdout);
        for fate in FATES {
            let expected = fates.iter().find(|(name, _)| *name == fate);
            let expected = expected.map_or(0, |(_, count)| *count);
            assert_eq!(
                self.messages(fate),
                expected,
                "{fate}: {:#}",
                self.json["delivery"]
            );
        }
        let told = self.json["errors"].as_array().expect("a list").iter();
        let mut told: Vec<_> = told
            .map(|e| (&e["kind"], &e["blame"], &e["count"]))
            .collect();
        told.sort_by_key(|(kind, ..)| kind.as_str());
        let expected: Vec<_> = errors
            .iter()
            .map(|(k, b, n)| ((*k).into(), (*b).into(), (*n).into()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(k, b, n)| (k, b, n)).collect();
        assert_eq!(told, expected);
        assert!(
            errors.iter().all(|(.., count)| *count > 0),
            "the fault did not occur"
        );
    }

    fn ms(&self, latency: &str, quantile: &str) -> f64 {
        let of = &self.json["latency"][latency];
        let value = if quantile == "max" {
            &of["max_ms"]
        } else {
            &of["quantiles_ms"][quantile]
        };
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no {quantile} of {latency}: {of}"))
    }
}

#[tokio::test]
async fn one_percent_dropped_is_lost() {
    let (ran, tally) = against(
        &["--drop", "0.01"],
        &[&LOAD[..], &["--threshold", "message_success >= 100%"]].concat(),
    )
    .await;
    let dropped = tally.get("dropped");
    ran.assert_only(&[("lost", dropped)], &[("message_lost", "server", dropped)]);
}

#[tokio::test]
async fn duplicates_are_told() {
    let (ran, tally) = against(
        &["--duplicate", "0.05"],
        &[&LOAD[..], &["--threshold", "misdelivered count < 1"]].concat(),
    )
    .await;
    let duplicated = tally.get("duplicated");
    ran.assert_only(
        &[("duplicate", duplicated)],
        &[("message_duplicated", "server", duplicated)],
    );
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
}

#[tokio::test]
async fn what_went_to_another_client_reached_the_wrong_one_and_is_lost_to_the_right_one() {
    let (ran, tally) = against(&["--misroute", "0.05"], &LOAD).await;
    let misrouted = tally.get("misrouted");
    ran.assert_only(
        &[("lost", misrouted), ("wrong_peer", misrouted)],
        &[
            ("message_lost", "server", misrouted),
            ("message_misrouted", "server", misrouted),
        ],
    );
}

#[tokio::test]
async fn altered_bytes_are_told() {
    let (ran, tally) = against(
        &["--alter", "0.05"],
        &[&LOAD[..], &["--threshold", "altered count < 1"]].concat(),
    )
    .await;
    let altered = tally.get("altered");
    ran.assert_only(
        &[("altered", altered)],
        &[("message_altered", "server", altered)],
    );
}
