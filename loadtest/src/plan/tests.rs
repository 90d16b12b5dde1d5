use proptest::prelude::*;

use super::*;

#[test]
fn what_is_told_apart_is_not_without_end() {
    let with_phases = |count| {
        let phase = Phase::users("more", Duration::from_secs(1), 2, 2);
        Plan::of_phases(vec![phase; count])
    };
    assert_eq!(with_phases(200).check(), Ok(()));
    let error = with_phases(201).check().expect_err("too many").to_string();
    assert!(error.contains("201 phases"), "{error}");
    let flow = || Flow::new("f", vec![Step::Connect]);
    let with_flows = |count| Plan {
        flows: (0..count).map(|_| flow()).collect(),
        ..Plan::new(2, Duration::from_secs(1))
    };
    assert_eq!(with_flows(200).check(), Ok(()));
    let error = with_flows(201).check().expect_err("too many").to_string();
    assert!(error.contains("201 flows"), "{error}");
}

#[test]
fn weights_may_be_as_large_as_numbers_go() {
    let heavy = |name| Flow {
        weight: u32::MAX,
        ..Flow::new(name, vec![Step::Connect])
    };
    let plan = Plan {
        flows: ["a", "b", "c"].map(heavy).to_vec(),
        ..Plan::new(2, Duration::from_secs(1))
    };
    let played: Vec<_> = (0..9).map(|user| plan.flow_of(user)).collect();
    assert!((0..3).all(|flow| played.contains(&flow)), "{played:?}");
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn plan() -> Plan {
    Plan::new(100, secs(60))
}

/// Those who are there at `t` by the starts of the users.
fn there(plan: &Plan, t: Duration) -> usize {
    let starts = plan.starts(0, 1);
    starts
        .filter(|start| start.at <= t && start.until.unwrap_or(plan.end()) > t)
        .count()
}

#[test]
fn the_short_form_is_the_ramp_and_then_the_full_load() {
    let plan = plan();
    let starts: Vec<_> = plan.starts(0, 1).map(|start| start.at).collect();
    assert_eq!((starts[0], starts[99]), (Duration::ZERO, ms(990)));
    assert_eq!(plan.end(), secs(61));
    let users = [0, 9, 10, 990, 60_999, 61_000].map(|t| plan.users_at(ms(t)));
    assert_eq!(users, [1, 1, 2, 100, 100, 0]);
    let burst = Plan::ramp_and_hold(100, Duration::ZERO, secs(1));
    assert_eq!(burst.users_at(Duration::ZERO), 100);
}

#[test]
fn the_last_to_come_is_the_first_to_go() {
    let phases = vec![
        Phase::users("up", secs(10), 0, 10),
        Phase::users("down", secs(10), 10, 0),
        Phase::users("up again", secs(5), 0, 5),
    ];
    let plan = Plan::of_phases(phases);
    let starts: Vec<_> = plan.starts(0, 1).collect();
    assert_eq!(starts.len(), 15);
    assert_eq!(starts[9].until, Some(secs(11)));
    assert_eq!(starts[0].until, Some(secs(20)));
    assert_eq!(
        (starts[10].user, starts[10].at, starts[10].until),
        (0, secs(20), None)
    );
}

#[test]
fn arrivals_follow_their_rate() {
    let plan = Plan::of_phases(vec![
        Phase::arrivals("steady", secs(10), 5.0, 5.0),
        Phase::arrivals("rising", secs(10), 0.0, 20.0),
    ]);
    let starts: Vec<_> = plan.starts(0, 1).collect();
    let before = |t| starts.iter().filter(|start| start.at < secs(t)).count();
    // From 0 to 20 a second: after t seconds t*t have come.
    assert_eq!((before(2), before(10)), (10, 50));
    let rising = [12, 15, 20].map(|t| before(t) - 50);
    assert_eq!(rising, [4, 25, 100]);
    assert!(
        starts
            .iter()
            .all(|start| start.arrived && start.until.is_none())
    );
    assert_eq!(
        [0, 15, 20].map(|t| plan.arrivals_at(secs(t))),
        [5.0, 10.0, 0.0]
    );
}

#[test]
fn arrivals_are_counted_with_those_who_are_still_there() {
    let mut plan = Plan::of_phases(vec![Phase::arrivals("visits", secs(600), 10.0, 10.0)]);
    assert_eq!(plan.peak_users(), 6000, "users who signal without end stay");
    plan.flows = vec![Flow::new(
        "visit",
        vec![
            Step::Connect,
            Step::Think(flow::Between {
                from: secs(1),
                to: secs(3),
            }),
        ],
    )];
    assert_eq!(plan.peak_users(), 30);
}

#[test]
fn a_storm_drops_its_shard_and_the_same_users_in_each_run() {
    let mut plan = Plan::new(1000, secs(60));
    plan.phases.push(Phase {
        drop_percent: 30.0,
        ..Phase::users("storm", secs(60), 1000, 1000)
    });
    let begin = plan.end() - secs(60);
    let dropped = |user| plan.dropped_after(user, Duration::ZERO);
    let all: Vec<_> = (0..1000).filter_map(dropped).collect();
    assert!((270..330).contains(&all.len()), "{}", all.len());
    assert!(all.iter().all(|at| *at == begin));
    assert_eq!(plan.dropped_after(0, begin), None);
}

#[test]
fn flows_are_played_as_often_as_their_weights_say() {
    let mut plan = plan();
    let flow = |weight| Flow {
        weight,
        ..Flow::new("some", vec![Step::Connect])
    };
    plan.flows = vec![flow(3), flow(0), flow(1)];
    let mut counts = [0; 3];
    (0..1000).for_each(|user| counts[plan.flow_of(user)] += 1);
    assert!((745..755).contains(&counts[0]), "{counts:?}");
    assert_eq!(counts[1], 0);
}

#[test]
fn other_users_keep_the_pace_and_another_length_is_that_of_the_hold() {
    let plan = Plan::of_phases(vec![
        Phase::users("up", secs(10), 0, 1000),
        Phase::users("hold", secs(60), 1000, 1000),
        Phase::users("half", secs(5), 1000, 500),
        Phase::users("low", secs(60), 500, 500),
    ]);
    let small = plan
        .with_users(100)
        .expect("has users")
        .with_duration(secs(10));
    let times: Vec<_> = small.phases.iter().map(|phase| phase.duration).collect();
    assert_eq!(times, [secs(1), secs(5), ms(500), secs(5)]);
    assert_eq!([1, 5, 11].map(|t| small.users_at(secs(t))), [100, 100, 50]);
    let quick = small.with_spacing(ms(1));
    assert_eq!(quick.phases[0].duration, ms(100));
}

#[test]
fn a_user_who_avoids_a_partner_may_wait_longer() {
    let mut plan = plan();
    assert_eq!(plan.fair_wait(), secs(2));
    plan.flows[0].steps.push(Step::Next);
    assert_eq!(plan.fair_wait(), secs(30));
}

#[test]
fn users_are_not_arrivals() {
    let arrivals = Plan::of_phases(vec![Phase::arrivals("some", secs(9), 1.0, 3.0)]);
    assert_eq!(arrivals.clone().with_users(9), Err(PlanError::NoUsers));
    assert_eq!(plan().with_arrival_rate(9.0), Err(PlanError::NoArrivals));
    let faster = arrivals.with_arrival_rate(6.0).expect("has arrivals");
    assert_eq!(faster.arrivals_at(Duration::ZERO), 2.0);
}

#[test]
fn impossible_plans_are_refused() {
    assert_eq!(plan().check(), Ok(()));
    let none = Plan::of_phases(Vec::new());
    assert_eq!(none.check(), Err(PlanError::Empty("phase")));
    assert_eq!(Plan::new(1, secs(1)).check(), Err(PlanError::Users(1)));
    let endless = Plan::ramp_and_hold(limits::MAX_USERS, secs(60), secs(1));
    assert!(matches!(endless.check(), Err(PlanError::Duration { .. })));
    let nobody = Plan::of_phases(vec![Phase::arrivals("some", secs(1), 0.0, 0.0)]);
    assert_eq!(nobody.check(), Err(PlanError::Arrivals(0.0)));
    let crowd = Plan::of_phases(vec![Phase::arrivals("some", secs(1), 1.0, 1e9)]);
    assert_eq!(crowd.check(), Err(PlanError::Arrivals(1e9)));
    let mut unknown = plan();
    unknown.thresholds = vec!["call_latency{pnig} p99 < 1s".parse().expect("good")];
    let error = unknown.check().expect_err("no such call").to_string();
    assert!(
        error.contains("\"pnig\"") && error.contains("signaling"),
        "{error}"
    );
}

fn phases() -> impl Strategy<Value = Vec<Phase>> {
    let part = (0_u64..5_000, 0_u32..60);
    prop::collection::vec(part, 1..8).prop_map(|parts| {
        let mut before = 0;
        let phase = |(time, to)| {
            let from = std::mem::replace(&mut before, to);
            Phase::users("some", ms(time), from, to)
        };
        parts.into_iter().map(phase).collect()
    })
}

/// How many users are there at some moment or other.
fn came(plan: &Plan) -> usize {
    let stayed = |start: &Start| start.until.is_none_or(|until| until > start.at);
    let users = plan.starts(0, 1).filter(stayed).map(|start| start.user);
    users.collect::<std::collections::HashSet<_>>().len()
}

#[test]
fn a_cliff_is_reached_before_it_is_fallen_from() {
    for [up, down] in [[secs(1), secs(0)], [secs(0), secs(1)]] {
        let plan = Plan::of_phases(vec![
            Phase::users("up", up, 0, 10),
            Phase::users("down", down, 10, 4),
            Phase::users("low", secs(1), 4, 4),
        ]);
        assert_eq!(came(&plan), 10);
        assert_eq!(plan.users_at(secs(1)), 4);
    }
}

proptest! {
    #[test]
    fn the_peak_of_a_plan_is_reached(phases in phases()) {
        let plan = Plan::of_phases(phases);
        prop_assume!(plan.phases.iter().all(|phase| !phase.duration.is_zero()));
        prop_assert_eq!(came(&plan), plan.steady_users() as usize);
    }

    #[test]
    fn as_many_are_there_as_the_plan_says(phases in phases(), t in 0_u64..40_000) {
        let plan = Plan::of_phases(phases);
        let t = ms(t) + Duration::from_nanos(1);
        prop_assume!(t < plan.end());
        prop_assert_eq!(there(&plan, t), plan.users_at(t) as usize);
    }

    #[test]
    fn no_two_users_of_a_number_are_there_at_once(phases in phases()) {
        let plan = Plan::of_phases(phases);
        let mut gone = std::collections::HashMap::new();
        for start in plan.starts(0, 1) {
            let until = start.until.unwrap_or(plan.end());
            if let Some(before) = gone.insert(start.user, until) {
                prop_assert!(before <= start.at, "user {} is there twice", start.user);
            }
        }
    }

    #[test]
    fn parts_of_the_users_are_the_whole(phases in phases(), step in 1_u32..7) {
        let plan = Plan::of_phases(phases);
        let mut parts: Vec<_> = (0..step).flat_map(|first| plan.starts(first, step)).collect();
        let mut whole: Vec<_> = plan.starts(0, 1).collect();
        parts.sort_by_key(|start| (start.at, start.user));
        whole.sort_by_key(|start| (start.at, start.user));
        prop_assert_eq!(parts, whole);
    }
}
