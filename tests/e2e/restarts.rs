//! Servers succeed each other under load: closes are spread, and nobody loses anything.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::{User, place::Place};

/// How many users were told each 100 ms of the drain to come back.
async fn told_per_tick(users: &mut [User]) -> Vec<usize> {
    let mut ticks = vec![0; 100];
    for user in users {
        let told = user.expect("draining").await;
        let moment = told["reconnect_in_ms"].as_u64().unwrap();
        ticks[usize::try_from(moment / 100).unwrap()] += 1;
    }
    ticks
}

#[tokio::test]
async fn closes_are_spread_over_the_drain() {
    const USERS: usize = 100;
    for has_successor in [false, true] {
        let place = Place::new("8s");
        let old = place.start().await;
        let mut users = Vec::new();
        for _ in 0..USERS {
            users.push(User::connect(&old).await);
        }
        let begun = Instant::now();
        let _new = match has_successor {
            true => Some(place.start().await),
            false => {
                old.process.signal(Signal::TERM);
                None
            }
        };
        let ticks = told_per_tick(&mut users).await;
        let most = ticks.iter().max().unwrap();
        assert!(most * 100 <= USERS * 5, "{ticks:?}");
        let mut closes = JoinSet::new();
        for mut user in users {
            closes.spawn(async move {
                assert_eq!(user.expect_close().await, 4000);
                begun.elapsed()
            });
        }
        let mut closes = closes.join_all().await;
        closes.sort();
        // What they were told is what was done. A busy machine may do it late.
        let took = *closes.last().unwrap() - closes[0];
        assert!(took > Duration::from_secs(3), "{took:?}");
    }
}

/// Plays a scenario while servers succeed each other, and checks that each of its users has moved each time with all that was
/// said. They talk when `gauge` has reached a value.
#[cfg(feature = "self-test")]
async fn restarts_under_load(scenario: &str, users: u64, restarts: u64, gauge: &str, value: f64) {
    let place = Place::new("6s");
    let mut server = place.start().await;
    let url = format!("ws://{}/ws", server.public);
    let plan = loadtest::read_scenario(scenario, "scenario").expect("a good scenario");
    let target = loadtest::Target::new(&url, Some("none")).expect("a good address");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let run = loadtest::run_until(&plan, &target, async { _ = stopped.await }, |_| {});
    let restart = async {
        for _ in 0..restarts {
            server.reaches(gauge, "", value).await;
            let next = place.start().await;
            assert_eq!(server.process.exit_code().await, Some(0));
            server = next;
        }
        server.reaches(gauge, "", value).await;
        stop.send(()).unwrap();
    };
    let (record, ()) = tokio::join!(run, restart);
    let record = record.expect("a run");
    let report = loadtest::terminal(&record);
    let failover = record.failover.as_ref().expect("users moved");
    assert_eq!(failover.not_moved, 0, "{report}");
    // Users who have not found their partner again when the next restart comes are counted once for both.
    assert!(failover.moved <= restarts * users, "{report}");
    assert!(failover.moved * 10 > restarts * users * 9, "{report}");
    assert!(record.errors.is_empty(), "{report}");
    assert_eq!(record.matches.failed, 0, "{report}");
    assert!(record.delivery.iter().any(|part| part.delivered > 0));
    for part in &record.delivery {
        let wrong = [part.lost, part.duplicate, part.reordered];
        assert_eq!(wrong, [0; 3], "{report}");
    }
}

/// Users talk, over each transport.
#[cfg(feature = "self-test")]
#[tokio::test]
async fn ten_restarts_under_load_lose_nothing_and_fail_no_match() {
    const USERS: u64 = 40;
    let scenario = format!(
        r#"
        name = "restarts"
        transport = "mixed"
        resume = true
        timeouts = {{ message = "60s", match = "60s" }}
        phase = [
            {{ name = "ramp", duration = "1s", users = {USERS} }},
            {{ name = "restarts", duration = "5min", users = {USERS} }},
        ]
        [[flow]]
        name = "talk"
        steps = ["connect", "find_match", {{ send = "message", every = "200ms" }}]
        "#
    );
    restarts_under_load(&scenario, USERS, 10, "rooms_active", USERS as f64 / 2.0).await;
}

/// Users talk for a while, and look for another partner, over each transport: those whose search a server in a drain does not begin
/// find somebody at the next one.
#[cfg(feature = "self-test")]
#[tokio::test]
async fn ten_restarts_while_users_search_lose_nothing_and_fail_no_match() {
    const USERS: u64 = 40;
    let scenario = format!(
        r#"
        name = "restarts"
        transport = "mixed"
        resume = true
        timeouts = {{ message = "60s", match = "60s" }}
        phase = [
            {{ name = "ramp", duration = "1s", users = {USERS} }},
            {{ name = "restarts", duration = "5min", users = {USERS} }},
        ]
        [[flow]]
        name = "talk to many"
        rematch = true
        steps = [
            "connect",
            "find_match",
            {{ loop = "endless", steps = [{{ send = "message", every = "200ms", times = 10 }}, "next"] }},
        ]
        "#
    );
    restarts_under_load(
        &scenario,
        USERS,
        10,
        "websocket_active_connections",
        USERS as f64,
    )
    .await;
}

/// Who talks to all in a named room finds all of them at the next server, and misses nothing.
#[cfg(feature = "self-test")]
#[tokio::test]
async fn named_rooms_move_with_all_their_members() {
    const USERS: u64 = 20;
    let scenario = format!(
        r#"
        name = "restarts"
        transport = "mixed"
        resume = true
        timeouts = {{ message = "60s" }}
        phase = [
            {{ name = "ramp", duration = "1s", users = {USERS} }},
            {{ name = "restarts", duration = "5min", users = {USERS} }},
        ]
        [[flow]]
        name = "talk to all"
        steps = ["connect", {{ join_room = "talk", members = 5 }}, {{ send = "message", every = "200ms" }}]
        "#
    );
    restarts_under_load(&scenario, USERS, 3, "named_room_members", USERS as f64).await;
}
