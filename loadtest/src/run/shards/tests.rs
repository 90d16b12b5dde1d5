use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::{
    measure::{
        books::tests::status,
        ledger::{Inbox, Latest, Receipt, Scope, Stay},
        reach::NodeId,
        sample::{Across, Delivered, Direction, ErrorKind, Kind, Route, Sample, Unmatched},
        slice::Slice,
    },
    plan::threshold::{self, Parts},
    record::{Exit, Outcome, PlanFacts, ShardData, Status, Validity},
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What happened, as somebody who knows everything tells it.
#[derive(Debug, Clone)]
struct Run {
    rooms: Vec<Room>,
    /// How far the clock of each shard is ahead, in microseconds.
    clocks: Vec<i64>,
}

/// Two users, of whom the first sends to the second and the other way round.
#[derive(Debug, Clone)]
struct Room {
    users: [u32; 2],
    /// For each direction, how long each message takes in microseconds; 0: it is lost.
    messages: [Vec<u32>; 2],
    /// The second was never told of the room.
    one_sided: bool,
}

/// What users of this shard tell, or those of all shards.
fn samples(run: &Run, shard: Option<u32>) -> Vec<(Duration, Sample)> {
    let count = u32::try_from(run.clocks.len()).expect("few");
    let played = |user: u32| shard.is_none_or(|shard| user % count == shard);
    let mut all = Vec::new();
    for (id, room) in (0..).zip(&run.rooms) {
        for (me, direction) in [
            (0, Direction::OffererToAnswerer),
            (1, Direction::AnswererToOfferer),
        ] {
            let (user, partner) = (room.users[me], room.users[1 - me]);
            if !played(user) {
                continue;
            }
            let at = secs(1 + id % 4);
            let latency = Duration::from_millis(1 + u64::from(user % 7));
            let mut tell = |sample| all.push((at, sample));
            tell(Sample::Connecting { again: false });
            tell(Sample::Connected { latency });
            tell(Sample::Searching { again: false });
            if room.one_sided && me == 1 {
                let (from, to, waited) = (secs(1), secs(40), secs(30));
                tell(Sample::Unmatched(Unmatched { from, to, waited }));
                continue;
            }
            tell(Sample::Matched { latency });
            tell(Sample::RoomJoined);
            let route = |direction| Route {
                kind: Kind::MESSAGE,
                direction,
            };
            let mut stay = stay(id, user, direction);
            for _ in &room.messages[me] {
                let lateness = Duration::from_micros(10);
                tell(Sample::Sent {
                    route: route(direction),
                    lateness,
                });
                stay.sent[Kind::MESSAGE.index()] += 1;
            }
            let back = route([Direction::AnswererToOfferer, Direction::OffererToAnswerer][me]);
            for (seq, &took) in (0..).zip(&room.messages[1 - me]) {
                if took == 0 || room.one_sided {
                    continue;
                }
                let receipt = stay.inbox.receive(partner, seq, Kind::MESSAGE, seq);
                let Receipt::InOrder { missed } = receipt else {
                    panic!("{receipt:?}");
                };
                let missed = missed.into();
                tell(Sample::Gap { missed });
                tell(message(run, shard, [partner, user], took, back));
            }
            tell(Sample::RoomLeft(Box::new(stay)));
            if user.is_multiple_of(5) {
                tell(Sample::Error {
                    error: ErrorKind::Reset,
                });
            }
            tell(Sample::Closed);
        }
    }
    all
}

fn stay(room: u64, user: u32, direction: Direction) -> Stay {
    Stay {
        room,
        user,
        node: NodeId::default(),
        searched: None,
        breaks: Vec::new(),
        node_lost: false,
        session: None,
        peer: None,
        joined: secs(1),
        left: secs(9),
        direction,
        sent: [0; Kind::MAX],
        refused: 0,
        relays_lost: 0,
        latest: Latest::default(),
        settled: true,
        partner_left: false,
        cut_off: false,
        foreign: false,
        some_come_back: false,
        inbox: Inbox::default(),
    }
}

/// A message as its receiver times it.
fn message(run: &Run, shard: Option<u32>, [from, to]: [u32; 2], took: u32, route: Route) -> Sample {
    let count = u32::try_from(run.clocks.len()).expect("few");
    let [from, to] = [from, to].map(|user| user % count);
    if shard.is_none() || from == to {
        let as_sent = Duration::from_micros(took.into());
        return Sample::Delivered(Delivered {
            route,
            reach: None,
            latency: as_sent + Duration::from_micros(10),
            as_sent,
            in_order: true,
            late: as_sent > secs(1),
            altered: false,
        });
    }
    let clock = |shard: u32| run.clocks[usize::try_from(shard).expect("few")];
    let as_sent_micros = i64::from(took) + clock(to) - clock(from);
    Sample::DeliveredAcross(Across {
        route,
        reach: None,
        from,
        due_micros: as_sent_micros + 10,
        as_sent_micros,
        paused_micros: 0,
        in_order: true,
        altered: false,
    })
}

/// The record of a shard, or of the run in one process.
fn record(run: &Run, shard: Option<u32>) -> Record {
    let scope = if shard.is_some() {
        Scope::Shard
    } else {
        Scope::Whole
    };
    let (mut books, sender) = Books::open(secs(2), scope);
    let mut totals = samples(run, shard);
    totals.sort_by_key(|(at, _)| *at);
    let mut totals = totals.into_iter().peekable();
    for second in 1..=6 {
        let mut slice = Slice::default();
        while let Some((at, sample)) = totals.next_if(|(at, _)| *at < secs(second)) {
            slice.add(at, sample);
        }
        sender.send(slice).expect("the books are open");
        books.tick(secs(second), None);
    }
    let thresholds = threshold::defaults(Parts {
        matches: true,
        relays: true,
        ..Parts::default()
    });
    let facts = facts(&thresholds);
    let (index, count) = (
        shard.unwrap_or(0) + 1,
        u32::try_from(run.clocks.len()).expect("few"),
    );
    let about = About {
        run: crate::record::Run {
            shard: shard.map(|_| format!("{index}/{count}")),
            ..crate::golden::example::record().run
        },
        urls: Vec::new(),
        started_at: SystemTime::UNIX_EPOCH,
        elapsed: secs(7),
        active: secs(6),
        kinds: Vec::new(),
        phases: Vec::new(),
        steady: [secs(0), secs(6)],
        peak_connected: 0,
        workers: 1,
        busiest_worker_percent: 1.0,
        server_expected: false,
        shard: shard.map(|_| ShardData {
            index,
            count,
            host: format!("host-{index}"),
            started_late_ms: 0.0,
            server_expected: false,
            plan: facts,
            books: String::new(),
        }),
    };
    let mut watch = Watch::new(thresholds, Vec::new(), Vec::new(), false);
    books.close(secs(7), None);
    let saved = serde_json::to_string(&judge::judge(&books, about, &mut watch)).expect("JSON");
    serde_json::from_str(&saved).expect("a record")
}

fn facts(thresholds: &[Threshold]) -> PlanFacts {
    PlanFacts {
        users: 40,
        ramp_ms: 0.0,
        fair_wait_ms: 2_000.0,
        message_timeout_ms: 1_000.0,
        phases: Vec::new(),
        calls: Vec::new(),
        flows: Vec::new(),
        servers: Vec::new(),
        thresholds: thresholds.iter().map(Threshold::saved).collect(),
    }
}

fn shards(run: &Run) -> Vec<(String, Record)> {
    let count = u32::try_from(run.clocks.len()).expect("few");
    let one = |shard| (format!("{}.json", shard + 1), record(run, Some(shard)));
    (0..count).map(one).collect()
}

/// Users 0 to 39, of whom any two may be partners.
fn runs() -> impl Strategy<Value = Run> {
    let users = Just((0..40_u32).collect::<Vec<_>>()).prop_shuffle();
    let took = prop_oneof![1 => Just(0_u32), 20 => 300..900_000_u32, 1 => 1_100_000..3_000_000_u32];
    let messages = prop::collection::vec(took, 0..6);
    let rooms = prop::collection::vec((messages.clone(), messages, prop::bool::weighted(0.1)), 20);
    let clocks = prop::collection::vec(-400_000..400_000_i64, 1..4);
    (users, rooms, clocks).prop_map(|(users, rooms, clocks)| Run {
        rooms: users
            .chunks(2)
            .zip(rooms)
            .map(|(users, (mut there, mut back, one_sided))| {
                // Some messages are quick in both directions, as they are wherever the offset of clocks can be estimated.
                there.insert(0, 250);
                back.insert(0, 250);
                Room {
                    users: [users[0], users[1]],
                    messages: [there, back],
                    one_sided,
                }
            })
            .collect(),
        clocks,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shards_together_are_the_whole(run in runs()) {
        let whole = record(&run, None);
        let merged = merge(shards(&run), false).expect("shards of one run");
        prop_assert_eq!(&merged.connections, &crate::record::Connections { peak: merged.connections.peak, ..whole.connections });
        prop_assert_eq!(&merged.matches, &whole.matches);
        // What was lost between shards is known only once they are merged.
        let errors = |record: &Record| record.errors.iter().map(|one| (one.kind.clone(), one.count)).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(errors(&merged), errors(&whole));
        let untimed = merged.measurement.findings.iter().any(|one| one.what.contains("in no latency"));
        prop_assume!(!untimed);
        prop_assert_eq!(&merged.delivery, &whole.delivery);
        for (name, latency) in &whole.latency {
            let got = &merged.latency[name];
            prop_assert_eq!((got.count, got.censored), (latency.count, latency.censored), "{}", name);
            for (quantile, ms) in &latency.quantiles_ms {
                let got = got.quantiles_ms[quantile];
                prop_assert!((got - ms).abs() <= 0.01 + ms * 0.004, "{} {}: {} is not {}", name, quantile, got, ms);
            }
        }
        let statuses = |record: &Record| record.thresholds.iter().map(|one| (one.name.clone(), one.status)).collect::<Vec<_>>();
        prop_assert_eq!(statuses(&merged), statuses(&whole));
        let sent = |record: &Record| record.series.windows.iter().map(|window| (window.start_ms.to_bits(), window.sent, window.matches)).collect::<Vec<_>>();
        prop_assert_eq!(sent(&merged), sent(&whole));
        for (shard, clock) in merged.run.merged_from.iter().zip(&run.clocks) {
            let (Some(offset), Some(uncertainty)) = (shard.clock_offset_ms, shard.clock_uncertainty_ms) else { continue };
            let ahead = (clock - run.clocks[0]) as f64 / 1e3;
            prop_assert!((offset - ahead).abs() <= uncertainty + 1e-9, "{:?} is not {}", shard, ahead);
        }
    }
}

/// Twenty rooms whose members are in two shards with clocks 5 ms apart.
fn good() -> Run {
    let room = |n: u32| Room {
        users: [2 * n, 2 * n + 1],
        messages: [vec![300; 60], vec![400; 60]],
        one_sided: false,
    };
    Run {
        rooms: (0..20).map(room).collect(),
        clocks: vec![0, 5_000],
    }
}

#[test]
fn all_shards_of_a_good_run_pass_and_their_clocks_are_stated() {
    let merged = merge(shards(&good()), false).expect("shards of one run");
    assert_eq!(
        (merged.outcome, merged.measurement.validity),
        (Outcome::Pass, Validity::Valid),
        "{merged:#?}"
    );
    assert_eq!(merged.run.shard, None);
    let [first, second] = &merged.run.merged_from[..] else {
        panic!("{:?}", merged.run.merged_from)
    };
    assert_eq!(
        (first.clock_offset_ms, second.clock_offset_ms),
        (Some(0.0), Some(4.95))
    );
    assert_eq!(second.clock_uncertainty_ms, Some(0.35));
    assert_eq!(
        merged.connections.peak, 0,
        "all left in the second in which they came"
    );
    let note = merged.measurement.findings.first().expect("a note");
    assert!(
        note.what.contains("4.95 ms") && note.advice.contains("without them"),
        "{note:?}"
    );
    let text = crate::report::terminal(&merged);
    assert!(text.contains("merged from 2 of 2 shards"), "{text}");
    assert!(text.contains("+4.950 ± 0.350 ms"), "{text}");
}

#[test]
fn hosts_whose_clocks_are_apart_did_not_start_together() {
    let run = Run {
        clocks: vec![0, 3_000_000],
        ..good()
    };
    let merged = merge(shards(&run), false).expect("shards of one run");
    assert_eq!(merged.measurement.validity, Validity::Suspect);
    let what = &merged.measurement.findings[0].what;
    assert!(
        what.contains("did not start together") && what.contains("3.00 s"),
        "{what}"
    );
    let p50 = merged.latency["message"].quantiles_ms["p50"];
    assert!(
        (p50 - 0.36).abs() < 0.01,
        "the offset is taken off all the same: {p50}"
    );
}

#[test]
fn a_shard_itself_judges_what_it_could_measure() {
    let shard = record(&good(), Some(0));
    let status = |name| status(&shard, name);
    assert_eq!(
        status("message_latency_p95"),
        Status::NotMeasured,
        "all partners are elsewhere"
    );
    assert_eq!(status("connection_success"), Status::Ok);
    for row in &shard.delivery {
        assert_eq!((row.unknown, row.delivered), (row.sent, 0), "{row:?}");
    }
    assert_eq!(
        (shard.exit_code, shard.matches.one_sided),
        (Exit::Pass, 0),
        "{shard:#?}"
    );
}

#[test]
fn without_a_shard_the_gap_is_stated_and_nothing_is_made_up() {
    let run = Run {
        clocks: vec![0, 5_000, -3_000],
        ..good()
    };
    let mut records = shards(&run);
    records.remove(2);
    let merged = merge(records, false).expect("two shards of three");
    assert_eq!(merged.run.missing_shards, [3]);
    assert_eq!(merged.measurement.validity, Validity::Suspect);
    assert_eq!((merged.matches.one_sided, merged.matches.failed), (0, 0));
    let sums = merged.delivery.iter().fold([0; 4], |sum, row| {
        [
            sum[0] + row.sent,
            sum[1] + row.delivered,
            sum[2] + row.lost,
            sum[3] + row.unknown,
        ]
    });
    assert_eq!(sums, [1620, 840, 0, 780]);
    let status = |name| status(&merged, name);
    assert_eq!(
        (status("message_success"), merged.exit_code),
        (Status::Ok, Exit::Pass)
    );
    let text = crate::report::terminal(&merged);
    assert!(
        text.contains("without shard 3") && text.contains("merged from 2 of 3 shards"),
        "{text}"
    );
}

#[test]
fn what_is_no_set_of_shards_is_refused() {
    let both = shards(&good());
    let refused = |records: Vec<(String, Record)>, part: &str| {
        let error = merge(records, false).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(vec![], "nothing to merge");
    refused(vec![both[0].clone(), both[0].clone()], "both shard 1");
    refused(
        vec![("whole.json".to_owned(), record(&good(), None))],
        "whole.json: the record of a whole run",
    );
    let changed = |change: fn(&mut Record)| {
        let mut all = both.clone();
        change(&mut all[1].1);
        all
    };
    refused(
        changed(|record| record.run.id = "x".to_owned()),
        "same --start-at",
    );
    refused(
        changed(|record| record.shard.as_mut().expect("a shard").count = 3),
        "another number",
    );
    refused(
        changed(|record| record.shard.as_mut().expect("a shard").plan.ramp_ms = 3.0),
        "their plans differ",
    );
    refused(
        changed(|record| record.shard.as_mut().expect("a shard").books.truncate(99)),
        "cannot be read",
    );
    refused(
        changed(|record| record.shard.as_mut().expect("a shard").index = 9),
        "no shard 9 of 2",
    );
}

#[test]
fn what_is_wrong_with_one_shard_is_wrong_with_the_whole() {
    let mut all = shards(&good());
    all[1].1.generator.busiest_worker_percent = 97.0;
    all[0].1.run.version = "0.0.1".to_owned();
    let late = all[1].1.shard.as_mut().expect("a shard");
    late.started_late_ms = 700.0;
    let merged = merge(all, false).expect("shards of one run");
    assert_eq!(
        (merged.outcome, merged.exit_code),
        (Outcome::Invalid, Exit::Invalid)
    );
    let findings: Vec<&str> = merged
        .measurement
        .findings
        .iter()
        .map(|one| one.what.as_str())
        .collect();
    for part in [
        "shard 2: a worker",
        "different versions of loadtest: 0.0.1",
        "shard 2 was ready only 700.0 ms",
    ] {
        assert!(
            findings.iter().any(|what| what.contains(part)),
            "{part}: {findings:?}"
        );
    }
}
