//! Several servers that are one service: what is local and remote, and what happens as one of them dies.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::{
    Ran, command,
    fake::{Cluster, Counts, Faults, Lasting},
    read, report_file,
};

/// Users who go on to others all the time, so that they meet those of all nodes.
const MINGLING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/servers/mingling.toml"
);

/// Thirty users who send ten messages a second each.
const TALK: [&str; 8] = [
    "--users",
    "30",
    "--spacing",
    "5ms",
    "--duration",
    "6s",
    "--signal-interval",
    "100ms",
];

async fn run(cluster: &Cluster, args: &[&str]) -> Ran {
    let file = report_file();
    let urls = cluster.urls();
    let mut all: Vec<&str> = urls.iter().map(String::as_str).collect();
    all.extend(["--report", file.to_str().expect("UTF-8")]);
    all.extend(args);
    let output = command(&all).output().await.expect("the binary runs");
    read(&output, &file)
}

/// The same, and a node is killed once all users talk.
async fn run_and_kill(cluster: &Cluster, node: usize, args: &[&str]) -> Ran {
    let killing = async {
        while Counts::get(&cluster.counts.received) < 100 {
            sleep(Duration::from_millis(5)).await;
        }
        cluster.kill(node);
    };
    let killing = timeout(Duration::from_secs(60), killing);
    let (ran, killed) = tokio::join!(run(cluster, args), killing);
    assert!(killed.is_ok(), "{}{}", ran.stdout, ran.stderr);
    ran
}

/// A figure of the rooms of a reach.
fn reach(ran: &Ran, reach: &str, figure: &str) -> usize {
    let rows = ran.json["reach"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["reach"] == reach);
    let figure = row.and_then(|row| row[figure].as_u64());
    usize::try_from(figure.expect("a number")).expect("small")
}

fn node(ran: &Ran, node: usize) -> &Value {
    &ran.json["nodes"][node]
}

#[tokio::test]
async fn what_is_local_and_remote_is_told_apart() {
    let cluster = Cluster::start(3, Faults::default()).await;
    let ran = run(&cluster, &["--scenario", MINGLING]).await;
    ran.assert_passed("three nodes");
    let remote = Counts::get(&cluster.counts.remote_rooms);
    assert!(remote > 0);
    assert_eq!(reach(&ran, "remote", "pairs"), remote, "{}", ran.stdout);
    let rooms = Counts::get(&cluster.counts.rooms);
    assert_eq!(reach(&ran, "local", "pairs"), rooms - remote);
    // What is under way as a user goes on is of another room at the server, or of none.
    let (counted, sent) = (
        Counts::get(&cluster.counts.remote),
        reach(&ran, "remote", "sent"),
    );
    assert!(sent.abs_diff(counted) * 20 <= counted, "{sent}, {counted}");
    let timed = ["message_local", "message_remote", "message"];
    let [local, remote, message] = timed.map(|name| ran.count(&format!("/latency/{name}/count")));
    assert_eq!(local + remote, message);
    assert!(remote >= reach(&ran, "remote", "delivered"));
    let all = ["local", "remote"].map(|name| reach(&ran, name, "sent"));
    assert_eq!(all.into_iter().sum::<usize>(), ran.messages("sent"));
    assert!(ran.json["latency"]["message_remote"]["histogram"].is_string());
    assert!(ran.stdout.contains("message remote"), "{}", ran.stdout);
    for place in 0..3 {
        assert!(node(&ran, place)["peak_connected"].as_u64() > Some(0));
    }
}

#[tokio::test]
async fn users_take_turns_and_thresholds_are_by_reach() {
    let cluster = Cluster::start(2, Faults::default()).await;
    let asked = [
        "--threshold",
        "remote_message_latency p99 < 10s",
        "--threshold",
        "remote_match_latency max < 60s",
        "--threshold",
        "remote_pairs count >= 15; local_pairs count < 1",
    ];
    let load = ["--users", "30", "--spacing", "20ms", "--duration", "2s"];
    let ran = run(&cluster, &[&load[..], &asked].concat()).await;
    // Two who come one after the other are at two nodes.
    ran.assert_passed("two nodes");
    for name in [
        "remote_message_latency_p99",
        "remote_match_latency_max",
        "remote_pairs_count",
        "local_pairs_count",
        "nodes_lost_count",
    ] {
        assert_eq!(ran.target(name), "ok", "{name}: {}", ran.stdout);
    }
    for place in 0..2 {
        assert_eq!(
            node(&ran, place)["peak_connected"],
            15,
            "{:#}",
            ran.json["nodes"]
        );
    }
}

#[tokio::test]
async fn a_message_lost_between_nodes_is_a_remote_loss() {
    let faults = Faults {
        drop_remote: Some(40),
        ..Faults::default()
    };
    let cluster = Cluster::start(3, faults).await;
    let ran = run(&cluster, &["--scenario", MINGLING]).await;
    let dropped = Counts::get(&cluster.counts.dropped);
    assert!(dropped > 0 && ran.messages("lost") > 0, "{}", ran.stdout);
    // What was dropped as its receiver left is to nobody.
    let gone = reach(&ran, "remote", "undeliverable");
    let lost = reach(&ran, "remote", "lost");
    assert!(
        lost <= dropped && lost + gone >= dropped,
        "{lost}, {gone}, {dropped}"
    );
    assert_eq!(
        (reach(&ran, "local", "lost"), lost),
        (0, ran.messages("lost"))
    );
    assert_eq!(reach(&ran, "remote", "lost_with_node"), 0);
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_its_node() {
    let faults = Faults {
        // Not a multiple of the 30 users, who speak in turn: each of them is met.
        close: Some((97, 4013)),
        close_at: Some(1),
        ..Faults::default()
    };
    let cluster = Cluster::start(2, faults).await;
    let ran = run(&cluster, &TALK).await;
    let closed = Counts::get(&cluster.counts.closed);
    let kind = "closed_by_server:4013";
    assert!(closed > 0, "{}", ran.stdout);
    assert_eq!(ran.error(kind), closed, "{}", ran.stdout);
    let errors = ran.json["errors"].as_array().expect("a list");
    let error = errors.iter().find(|error| error["kind"] == kind);
    assert_eq!(
        error.expect("it")["places"],
        serde_json::json!([{"node": 2, "count": closed}])
    );
    let url = &cluster.urls()[1];
    let told = format!("node 2 of 2 ({url}): {closed} {kind}");
    assert!(ran.stdout.contains(&told), "{told}: {}", ran.stdout);
    assert_eq!(ran.code, Some(99));
}

#[tokio::test]
async fn as_a_node_dies_the_others_have_a_clean_ledger_and_its_users_go_on() {
    let cluster = Cluster::start(3, Faults::default()).await;
    let scenario = [
        "--scenario",
        "node-loss",
        "--users",
        "30",
        "--duration",
        "8s",
    ];
    let ran = run_and_kill(&cluster, 2, &scenario).await;
    ran.assert_passed("one of three died");
    let losses = node(&ran, 2)["losses"].as_array().expect("a list");
    assert_eq!(losses.len(), 1, "{:#}", ran.json["nodes"]);
    let loss = &losses[0];
    assert_eq!(loss["connections"], 10);
    assert!(
        loss["torn"].as_u64() >= Some(10) && loss["torn"].as_u64() <= Some(20),
        "{loss}"
    );
    assert_eq!(loss["torn"], loss["matched_again"], "{loss}");
    let told = loss["told_max_ms"].as_f64().expect("some were told");
    let again = loss["matched_again_ms"].as_f64().expect("all were");
    assert!(told >= 250.0 && again >= 300.0, "{loss}");
    assert_eq!(ran.count("/connections/lost_with_node"), 10);
    assert_eq!(
        (ran.messages("lost"), ran.count("/connections/dropped")),
        (0, 0)
    );
    assert_eq!(ran.json["errors"], serde_json::json!([]), "{}", ran.stdout);
    let suffered = node(&ran, 2)["lost_with_it"].as_array().expect("a list");
    let suffered: u64 = suffered
        .iter()
        .filter_map(|one| one["count"].as_u64())
        .sum();
    assert!(suffered >= 10, "{:#}", ran.json["nodes"]);
    for place in 0..2 {
        assert_eq!(node(&ran, place)["peak_connected"], 15, "they go on evenly");
        assert_eq!(node(&ran, place)["from_other_nodes"], 5);
    }
    let told = format!("node 3 of 3 ({}) was lost at", cluster.urls()[2]);
    assert!(ran.stdout.contains(&told), "{}", ran.stdout);
}

#[tokio::test]
async fn who_is_told_long_after_a_node_has_died_is_told_too_late() {
    let faults = Faults {
        told_after_ms: Some(11_000),
        ..Faults::default()
    };
    let cluster = Cluster::start(3, faults).await;
    let scenario = [
        "--scenario",
        "node-loss",
        "--users",
        "30",
        "--duration",
        "18s",
    ];
    let ran = run_and_kill(&cluster, 2, &scenario).await;
    for name in ["told_of_loss_max", "matched_again_max"] {
        assert_eq!(ran.target(name), "failed", "{name}: {}", ran.stdout);
    }
    let loss = &node(&ran, 2)["losses"][0];
    let told = loss["told_max_ms"].as_f64().expect("some were told");
    assert!(told > 10_900.0, "{loss}");
    assert_eq!(loss["torn"], loss["matched_again"], "{loss}");
    assert_eq!(ran.json["errors"], serde_json::json!([]), "{}", ran.stdout);
}

#[tokio::test]
async fn a_node_that_dies_though_nobody_expected_it_fails_the_run() {
    let cluster = Cluster::start(3, Faults::default()).await;
    let ran = run_and_kill(&cluster, 0, &TALK).await;
    assert_eq!(ran.target("nodes_lost_count"), "failed", "{}", ran.stdout);
    assert_eq!(ran.target("message_success"), "ok", "{}", ran.stdout);
    ran.assert_ended(99);
}

/// Plays two shards, and merges their records. `all`: each knows all URLs; else each has one.
async fn in_shards(cluster: &Cluster, all: bool, more: &[&str]) -> Ran {
    let start_at = std::time::SystemTime::now() + Duration::from_millis(1500);
    let start_at = humantime::format_rfc3339_millis(start_at).to_string();
    let urls = cluster.urls();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut running = Vec::new();
    for (place, url) in urls.iter().enumerate() {
        let file = report_file();
        let shard = format!("{}/{}", place + 1, urls.len());
        let mut args: Vec<&str> = match all {
            true => urls.iter().map(String::as_str).collect(),
            false => vec![url],
        };
        args.extend(["--report", file.to_str().expect("UTF-8"), "--shard", &shard]);
        args.extend(["--start-at", &start_at, "--admin-url", "none"]);
        args.extend(more);
        running.push(command(&args).output());
        files.push(file);
    }
    for output in futures_util::future::join_all(running).await {
        let output = output.expect("the binary runs");
        assert!(output.status.code().is_some());
    }
    let to = report_file();
    let mut args = vec!["merge", "--to", to.to_str().expect("UTF-8")];
    if !all {
        args.push("--cluster");
    }
    args.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    let output = command(&args).output().await.expect("the binary runs");
    for file in files {
        std::fs::remove_file(file).expect("written");
    }
    read(&output, &to)
}

#[tokio::test]
async fn shards_of_a_cluster_are_one_world() {
    for all in [true, false] {
        let cluster = Cluster::start(2, Faults::default()).await;
        let load = ["--users", "12", "--spacing", "20ms", "--duration", "2s"];
        let load = [&load[..], &["--signal-interval", "100ms"]].concat();
        let ran = in_shards(&cluster, all, &load).await;
        assert_eq!(ran.code, Some(0), "all {all}: {}{}", ran.stdout, ran.stderr);
        let rooms = Counts::get(&cluster.counts.remote_rooms);
        assert_eq!(
            reach(&ran, "remote", "pairs"),
            rooms,
            "all {all}: {}",
            ran.stdout
        );
        assert_eq!(
            reach(&ran, "local", "pairs"),
            Counts::get(&cluster.counts.rooms) - rooms
        );
        let remote = Counts::get(&cluster.counts.remote);
        assert_eq!(reach(&ran, "remote", "delivered"), remote);
        assert_eq!(ran.count("/latency/message_remote/count"), remote);
        for place in 0..2 {
            assert_eq!(node(&ran, place)["peak_connected"], 6, "all {all}");
            assert_eq!(node(&ran, place)["url"], cluster.urls()[place]);
        }
    }
}

#[tokio::test]
async fn the_loss_of_a_node_is_known_to_all_shards() {
    let cluster = Cluster::start(3, Faults::default()).await;
    let load = [
        "--scenario",
        "node-loss",
        "--users",
        "30",
        "--duration",
        "8s",
    ];
    let killing = async {
        while Counts::get(&cluster.counts.received) < 100 {
            sleep(Duration::from_millis(5)).await;
        }
        cluster.kill(1);
    };
    let killing = timeout(Duration::from_secs(60), killing);
    let (ran, killed) = tokio::join!(in_shards(&cluster, true, &load), killing);
    assert!(killed.is_ok(), "{}{}", ran.stdout, ran.stderr);
    let losses = node(&ran, 1)["losses"].as_array().expect("a list");
    assert_eq!(losses.len(), 1, "{}{}", ran.stdout, ran.stderr);
    let loss = &losses[0];
    assert_eq!(
        (&loss["connections"], &loss["torn"]),
        (&Value::from(10), &loss["matched_again"])
    );
    assert!(
        loss["told"].as_u64() > Some(0),
        "told in other shards: {loss}"
    );
    assert_eq!(ran.json["errors"], serde_json::json!([]), "{}", ran.stdout);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
}

/// Plays resumable users, and does something to the nodes once all talk.
async fn run_lasting(
    nodes: usize,
    args: &[&str],
    act: impl AsyncFnOnce(&Lasting),
) -> (Ran, Lasting) {
    let cluster = Lasting::start(nodes).await;
    let file = report_file();
    let urls = cluster.urls();
    let mut all: Vec<&str> = urls.iter().map(String::as_str).collect();
    all.extend(["--report", file.to_str().expect("UTF-8")]);
    all.extend(args);
    let acting = async {
        while cluster.received() < 20 {
            sleep(Duration::from_millis(5)).await;
        }
        act(&cluster).await;
    };
    let acting = timeout(Duration::from_secs(60), acting);
    let (output, acted) = tokio::join!(command(&all).output(), acting);
    let ran = read(&output.expect("the binary runs"), &file);
    assert!(acted.is_ok(), "{}{}", ran.stdout, ran.stderr);
    (ran, cluster)
}

#[tokio::test]
async fn sessions_of_a_dead_node_end_and_their_users_show_their_tickets_elsewhere() {
    let load = [
        "--scenario",
        "node-loss",
        "--resume",
        "--users",
        "30",
        "--duration",
        "8s",
    ];
    let kill = async |cluster: &Lasting| cluster.kill(1);
    let (ran, cluster) = run_lasting(3, &load, kill).await;
    ran.assert_passed("one of three died");
    let [taken, refused] = cluster.moved();
    assert_eq!((taken, refused), (0, 10), "{}", ran.stdout);
    assert_eq!(ran.count("/failover/moved"), 10, "{}", ran.stdout);
    assert_eq!(
        (
            ran.count("/failover/not_resumed"),
            ran.count("/failover/not_moved")
        ),
        (0, 0)
    );
    let loss = &node(&ran, 1)["losses"][0];
    assert_eq!(
        (&loss["torn"], &loss["matched_again"]),
        (&Value::from(10), &Value::from(10))
    );
    assert_eq!(loss["told"], 0, "the partners noticed nothing");
}

#[tokio::test]
async fn users_whose_connection_is_cut_go_on_at_another_node() {
    let load = [
        "--scenario",
        "reconnect-storm",
        "--resume",
        "--users",
        "20",
        "--duration",
        "5s",
    ];
    let nothing = async |_: &Lasting| {};
    let (ran, cluster) = run_lasting(2, &load, nothing).await;
    let [taken, refused] = cluster.moved();
    assert_eq!(
        (taken, refused),
        (ran.count("/recovery/dropped"), 0),
        "{}",
        ran.stdout
    );
    ran.assert_passed("half of them go on elsewhere");
    let changed: u64 = (0..2)
        .filter_map(|at| node(&ran, at)["from_other_nodes"].as_u64())
        .sum();
    assert_eq!(usize::try_from(changed).expect("few"), taken);
}

#[tokio::test]
async fn nodes_are_drained_in_turn_and_nothing_is_lost() {
    let load = [
        "--scenario",
        "rolling-deploy",
        "--users",
        "20",
        "--duration",
        "8s",
    ];
    type Drain = fn(&Lasting, usize);
    for (drain, passes_on) in [
        (Lasting::drain as Drain, false),
        (Lasting::hand_over as Drain, true),
    ] {
        let both = async |cluster: &Lasting| {
            drain(cluster, 0);
            let before = cluster.received();
            while cluster.received() < before + 60 {
                sleep(Duration::from_millis(5)).await;
            }
            drain(cluster, 1);
        };
        let (ran, cluster) = run_lasting(3, &load, both).await;
        ran.assert_passed("two of three are drained");
        let moved = ran.count("/failover/moved");
        assert!(moved >= 10, "{}", ran.stdout);
        assert_eq!(ran.count("/failover/not_moved"), 0);
        assert_eq!(node(&ran, 0)["losses"], serde_json::json!([]));
        assert_eq!(cluster.moved(), [if passes_on { moved } else { 0 }, 0]);
    }
}
