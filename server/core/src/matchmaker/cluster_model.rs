//! A model of matching across nodes, before and beside the code: three nodes with the real [`super::claim_protocol`], an
//! engine that behaves as the scripts do, a network that loses and delays, and users. It is a simulation of single events in
//! order of time from a seed: no clock, no threads, no I/O, so that a failure comes again with its seed.
//!
//! `VOICEMATCH_MODEL_SEEDS` sets how many seeds each profile plays, 140 simulated seconds each; a few by default.
//! `VOICEMATCH_MODEL_FIRST` sets the first one: to play one failure again, set it and one seed.

mod acts;
mod checks;
mod engine;
mod faults;
mod network;
mod users;
mod world;

use super::claim_protocol::Rule;
use checks::Figures;
use faults::Fault;
use world::World;

/// Microseconds since the begin of the simulation.
type Time = u64;
const MS: Time = 1000;
const SECOND: Time = 1000 * MS;
/// How long the lease of a node is.
const LEASE: Time = 2500 * MS;
const CHECK_EACH: Time = 100 * MS;
const NODES: usize = 3;
const USERS: usize = 20;

/// What goes wrong, and what may follow from it.
#[derive(Debug, Clone, Copy)]
struct Profile {
    faults: &'static [Fault],
    lost_batches: f64,
    late_batches: f64,
    /// Milliseconds, as the next one.
    latest: Time,
    longest_freeze: Time,
    /// From one fault to the next, milliseconds.
    fault_each: [Time; 2],
    faults_until: Time,
    users_stop_at: Time,
    ends_at: Time,
    /// How many in 200 or 1,000 times a user who waits blocks somebody.
    blocks: u32,
    /// Users who wait may lose their connection.
    vanish: bool,
    /// Nothing is late: who is not frozen is never accepted too late.
    in_time: bool,
    /// No node that lives is declared dead.
    nobody_is_fenced: bool,
    /// For how long half a room may be alone while both nodes are well.
    alone_well: Time,
}

/// Everything.
const ROUGH: Profile = Profile {
    faults: &[
        Fault::Freeze,
        Fault::Freeze,
        Fault::Freeze,
        Fault::FlushAll,
        Fault::Away,
        Fault::Stalled,
        Fault::Forget,
        Fault::FailOver,
        Fault::LoseAnswers,
        Fault::Cut,
        Fault::Kill,
        Fault::Clock,
    ],
    lost_batches: 0.03,
    late_batches: 0.02,
    latest: 3000,
    longest_freeze: 10_000,
    fault_each: [500, 5000],
    faults_until: 100 * SECOND,
    users_stop_at: 133 * SECOND,
    ends_at: 140 * SECOND,
    blocks: 4,
    vanish: true,
    in_time: false,
    nobody_is_fenced: false,
    alone_well: 10 * SECOND,
};

/// Nodes freeze and die, the engine does well, and no batch is lost. What was accepted too late is revoked in time: 1 s of patience
/// and 1.5 s that a batch may be late.
const ORDERLY: Profile = Profile {
    faults: &[Fault::Freeze, Fault::Freeze, Fault::Kill],
    lost_batches: 0.0,
    late_batches: 0.1,
    latest: 1500,
    alone_well: 3 * SECOND,
    ..ROUGH
};

/// Nodes freeze for less than their lease, and nothing is late.
const CALM: Profile = Profile {
    faults: &[Fault::Freeze],
    longest_freeze: 2400,
    late_batches: 0.0,
    vanish: false,
    in_time: true,
    ..ORDERLY
};

/// The engine evicts keys, not so often that who is put back is lost again before it is seen.
const EVICTING: Profile = Profile {
    fault_each: [8000, 12_000],
    faults: &[Fault::Evict, Fault::Freeze],
    ..ROUGH
};

/// Batches are lost, and nothing else.
const LOSSY: Profile = Profile {
    faults: &[],
    lost_batches: 0.05,
    ..ROUGH
};

/// Nodes are cut off from the engine, and what they asked comes late.
const CUT_OFF: Profile = Profile {
    faults: &[Fault::Cut],
    fault_each: [2000, 6000],
    ..ROUGH
};

/// The engine is slow for a long time, and nodes die.
const SLOW: Profile = Profile {
    faults: &[Fault::Slow, Fault::Kill],
    fault_each: [2000, 8000],
    nobody_is_fenced: true,
    ..ROUGH
};

/// Users block each other all the time, and what nodes say is slow.
const BLOCKING: Profile = Profile {
    blocks: 100,
    late_batches: 0.5,
    latest: 700,
    ..ROUGH
};

fn play(seed: u64, profile: Profile, left_out: &'static [Rule]) -> Result<Figures, String> {
    let mut world = World::new(seed, profile, left_out);
    world.run()?;
    Ok(world.checks.figures)
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn holds(name: &str, profile: Profile, seeds: u64) {
    let first = setting("VOICEMATCH_MODEL_FIRST", 0);
    let seeds = setting("VOICEMATCH_MODEL_SEEDS", seeds);
    let mut sum = Figures::default();
    let mut failures = Vec::new();
    for seed in first..first + seeds {
        match play(seed, profile, &[]) {
            Ok(figures) => sum.add(&figures),
            Err(failure) => failures.push(format!("seed {seed}: {failure}")),
        }
    }
    let text = failures.join("\n");
    assert!(
        failures.is_empty(),
        "{name}: {} of {seeds}\n{text}\n{sum:#?}",
        failures.len()
    );
    assert!(sum.accepted > 0, "the users met: {sum:?}");
    if std::env::var_os("VOICEMATCH_MODEL_FIGURES").is_some() {
        panic!("{name}: {sum:#?}");
    }
}

#[test]
fn faults_match_nobody_twice_and_leave_nobody_waiting() {
    holds("rough", ROUGH, 10);
}

#[test]
fn a_revoked_match_ends_at_once_where_nothing_is_lost() {
    holds("orderly", ORDERLY, 5);
}

#[test]
fn who_answers_in_time_is_not_too_late() {
    holds("calm", CALM, 5);
}

#[test]
fn tickets_come_back_to_an_engine_that_evicts() {
    holds("evicting", EVICTING, 5);
}

/// Rules left out, where it shows, in how many seeds at most, and what is seen.
const MUTANTS: &[(&[Rule], Profile, u64, &str)] = &[
    (&[Rule::Swap], ROUGH, 20, "was matched in"),
    (
        &[Rule::Lease],
        ROUGH,
        20,
        "judged a frame when it was buried",
    ),
    (&[Rule::Until], CALM, 20, "accepted too late"),
    (&[Rule::Revoke], ORDERLY, 20, "while both nodes are well"),
    (
        &[Rule::Until, Rule::Tombstone],
        ROUGH,
        40,
        "opened after it was revoked",
    ),
    (
        &[Rule::CheckPosted],
        ROUGH,
        20,
        "both wait|not in the index",
    ),
    (&[Rule::CompareRooms], ROUGH, 20, "alone in a room"),
    (
        &[Rule::AnswerKeepAlive],
        LOSSY,
        40,
        "both wait|alone in a room",
    ),
    (&[Rule::BuryAgain], ROUGH, 40, "alone in a room|both wait"),
    (
        &[Rule::BuryAbsent],
        ROUGH,
        40,
        "alone in a room|in the index, and not waiting",
    ),
    (&[Rule::SlowBeats], SLOW, 20, "alone in a room"),
    (&[Rule::LookAfterSuspicion], CALM, 60, "both wait"),
    (&[Rule::RecheckApart], BLOCKING, 20, "was matched with"),
    (
        &[Rule::CallDeadline],
        CUT_OFF,
        40,
        "passed over|in the index, and not waiting",
    ),
    (
        &[Rule::WithdrawAgain],
        ROUGH,
        40,
        "in the index, and not waiting",
    ),
    (
        &[Rule::CheckPools],
        EVICTING,
        20,
        "both wait|not in the index",
    ),
];

#[test]
fn lost_batches_leave_nobody_alone() {
    holds("lossy", LOSSY, 5);
}

#[test]
fn a_slow_engine_tells_of_deaths_and_of_nobody_who_lives() {
    holds("slow", SLOW, 5);
}

#[test]
fn nodes_that_are_cut_off_leave_nothing_behind() {
    holds("cut off", CUT_OFF, 5);
}

#[test]
#[allow(clippy::print_stdout, reason = "what a rule prevents is worth reading")]
fn each_rule_is_needed() {
    let mut unseen = Vec::new();
    for (rules, profile, seeds, expected) in MUTANTS {
        let found =
            (0..*seeds).find_map(|seed| play(seed, *profile, rules).err().map(|e| (seed, e)));
        let is_expected = |failure: &str| expected.split('|').any(|part| failure.contains(part));
        match found {
            Some((seed, failure)) if is_expected(&failure) => {
                println!("without {rules:?}: seed {seed}: {failure}");
            }
            other => unseen.push(format!("without {rules:?}: {other:?}")),
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}
