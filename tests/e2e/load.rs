//! Users of the load test against the real server, over each transport: what its ledger finds is what the server did.

use loadtest::{Record, Target, read_scenario};

use crate::support::TestServer;

/// Plays a scenario against a server of its own.
async fn play(scenario: &str) -> Record {
    play_against(&[], scenario).await
}

/// The same against a server with these flags.
async fn play_against(flags: &[&str], scenario: &str) -> Record {
    let server = TestServer::start(flags).await;
    let plan = read_scenario(scenario, "scenario").expect("a good scenario");
    let target = Target::new(&format!("ws://{}/ws", server.public), Some("none"));
    let target = target.expect("a good address");
    let run = loadtest::run(&plan, &target, |_| {});
    run.await.expect("a run")
}

/// The ledger's sums.
fn messages(record: &Record) -> [u64; 5] {
    let mut all = [0; 5];
    for part in &record.delivery {
        let counts = [
            part.sent,
            part.delivered,
            part.lost,
            part.duplicate,
            part.reordered,
        ];
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    all
}

/// Every message came once, in order, to whom it was meant for.
#[track_caller]
fn assert_whole(record: &Record) {
    let report = loadtest::terminal(record);
    let [sent, delivered, lost, duplicate, reordered] = messages(record);
    assert!(sent > 0 && delivered > 0, "{report}");
    assert_eq!([lost, duplicate, reordered], [0; 3], "{report}");
    assert!(record.errors.is_empty(), "{report}");
}

#[tokio::test]
async fn a_third_of_all_connections_cut_at_once_loses_and_doubles_nothing() {
    let record = play(
        r#"
        name = "cut"
        transport = "mixed"
        timeouts = { message = "10s" }
        phase = [
            { name = "ramp", duration = "1s", users = 60 },
            { name = "hold", duration = "1s", users = 60 },
            { name = "cut", duration = "3s", users = 60, drop = "30%" },
        ]
        [[flow]]
        name = "talk"
        steps = ["connect", "find_match", { send = "message", every = "50ms" }]
        "#,
    )
    .await;
    assert_whole(&record);
    let failover = record.failover.expect("connections were cut");
    assert!(failover.lost >= 10, "{failover:?}");
    assert_eq!(failover.planned, failover.lost, "{failover:?}");
    let resumed: u64 = failover.resumed.values().sum();
    assert_eq!((resumed, failover.not_resumed), (failover.lost, 0));
    assert!(
        failover.resumed.values().all(|count| *count > 0),
        "{failover:?}"
    );
    let recovery = record.recovery.expect("a storm");
    assert!(recovery.matched_99_percent_ms.is_some(), "{recovery:?}");
}

#[tokio::test]
async fn users_whose_network_blocks_web_sockets_fall_back_and_return() {
    let record = play(
        r#"
        name = "fallback"
        resume = true
        timeouts = { message = "10s" }
        phase = [
            { name = "ramp", duration = "500ms", users = 20 },
            { name = "hold", duration = "500ms", users = 20 },
            { name = "no ws", duration = "1200ms", users = 20, block = "ws" },
            { name = "all", duration = "3s", users = 20 },
            { name = "only poll", duration = "5s", users = 20, block = ["ws", "sse"] },
        ]
        [[flow]]
        name = "talk"
        steps = ["connect", "find_match", { send = "message", every = "100ms" }]
        "#,
    )
    .await;
    assert_whole(&record);
    let failover = record.failover.expect("connections were cut");
    let over = |transport: &str| failover.resumed[transport];
    assert!(over("sse") >= 20 && over("poll") >= 20, "{failover:?}");
    assert_eq!(failover.not_resumed, 0, "{failover:?}");
    assert!(failover.moved_back >= 20, "{failover:?}");
    let heard = &record.latency["heard_again"];
    assert!(heard.count >= 20, "{heard:?}");
}

#[tokio::test]
async fn what_one_says_in_a_room_reaches_all_others_once_whatever_carries_them() {
    let record = play(
        r#"
        name = "rooms"
        transport = "mixed"
        timeouts = { message = "10s" }
        phase = [
            { name = "ramp", duration = "1s", users = 30 },
            { name = "hold", duration = "1s", users = 30 },
            { name = "cut", duration = "2s", users = 30, drop = "30%" },
        ]
        [[flow]]
        name = "talk to all"
        steps = ["connect", { join_room = "talk", members = 10 }, { send = "message", every = "200ms" }]
        "#,
    )
    .await;
    assert_whole(&record);
    let [sent, delivered, ..] = messages(&record);
    assert!(sent > 30 * 9 * 5, "{sent}: nine hear each message");
    let pending: u64 = record.delivery.iter().map(|part| part.pending).sum();
    let late: u64 = record.delivery.iter().map(|part| part.undeliverable).sum();
    assert_eq!(delivered + pending + late, sent);
    assert_eq!(record.calls[0].answered, 30);
}

#[tokio::test]
async fn users_who_are_turned_away_say_so_over_each_transport() {
    for transport in ["ws", "sse", "poll"] {
        let scenario = format!(
            r#"
            name = "refused"
            transport = "{transport}"
            resume = true
            phase = [{{ duration = "500ms", users = 6 }}, {{ duration = "500ms", users = 6 }}]
            [[flow]]
            name = "stay"
            steps = ["connect", "stay"]
            "#
        );
        let flags = ["--limit-loopback", "--max-connections-per-address", "3"];
        let record = play_against(&flags, &scenario).await;
        let report = loadtest::terminal(&record);
        let kinds: Vec<_> = record.errors.iter().map(|error| &*error.kind).collect();
        assert_eq!(kinds, ["handshake_rejected:429"], "{transport}: {report}");
        assert!(record.errors[0].meaning.contains("one address"), "{report}");
    }
}

#[tokio::test]
async fn plain_users_who_are_cut_begin_anew() {
    let record = play(
        r#"
        name = "cut"
        phase = [
            { name = "ramp", duration = "500ms", users = 20 },
            { name = "hold", duration = "500ms", users = 20 },
            { name = "cut", duration = "2s", users = 20, drop = "50%" },
        ]
        [[flow]]
        name = "talk"
        reconnect = true
        steps = ["connect", "find_match", { send = "message", every = "100ms" }]
        "#,
    )
    .await;
    assert_eq!(record.failover, None);
    let recovery = record.recovery.expect("a storm");
    assert!(recovery.dropped > 5, "{recovery:?}");
    assert!(record.connections.attempted > 20);
}
