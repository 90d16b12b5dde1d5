//! The primary dies, and another takes its place: with the real Sentinel, and in a real Redis Cluster.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    cluster::{pair_of, talk},
    support::{
        TestServer, User, assert_within,
        engine::{Engine, LOCAL, joined, knows, stands},
        eventually,
        ports::free_port,
        user::text,
    },
};

/// After a slot has moved, messages come again within this time.
const BACK: Duration = Duration::from_secs(1);

/// Killed when dropped.
struct Sentinel {
    _folder: TempDir,
    port: u16,
    process: Child,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

impl Sentinel {
    /// One that watches over a primary, and finds its replicas.
    async fn start(primary: &Engine) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
            folder.path().display(),
            primary.port
        );
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, config).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let sentinel = Self {
            _folder: folder,
            port,
            process: process.expect("Debian's package redis-server"),
        };
        eventually("it knows the replica", async || {
            let asked = Command::new("redis-cli")
                .args(["-p", &port.to_string(), "sentinel", "replicas", "main"])
                .output();
            !asked.unwrap().stdout.trim_ascii().is_empty()
        })
        .await;
        sentinel
    }
}

async fn two_at(url: &str) -> (TestServer, TestServer) {
    let flags = ["--cluster", url];
    joined(
        TestServer::start(&flags).await,
        TestServer::start(&flags).await,
    )
    .await
}

/// What users of two nodes see of a primary that dies: those who talk, one who waits, and who come meanwhile.
async fn users_see(what: &str, a: &TestServer, b: &TestServer, die: impl AsyncFnOnce()) {
    let (mut first, mut second) = pair_of(a, b).await;
    let mut waiting = User::connect(a).await;
    waiting.wait_with(json!({"language": "en"})).await;
    let began = Instant::now();
    die().await;
    let died = Instant::now();
    first
        .send(json!({"type": "message", "payload": "meanwhile"}))
        .await;
    let mut asked = died;
    for node in [a, b] {
        let (mut third, mut fourth) = (User::connect(node).await, User::connect(node).await);
        third.find().await;
        fourth.find().await;
        // In the index, if it is not away, one of the other node may come first: all are matched.
        for user in [&mut third, &mut fourth] {
            let mut told = user.next_json().await;
            while told["type"] == "waiting" {
                told = user.next_json().await;
            }
            assert_eq!(told["type"], "match_found", "{told}");
        }
        assert_within(LOCAL, &format!("{what}: users of a node met"), asked);
        asked = Instant::now();
    }
    assert_eq!(second.expect("message").await["payload"], "meanwhile");
    let message = died.elapsed();
    for node in [a, b] {
        stands(node, "up").await;
    }
    let up = died.elapsed();
    talk(&mut first, &mut second, 20).await;
    let mut newcomer = User::connect(b).await;
    newcomer.find_with(json!({"language": "en"})).await;
    assert_eq!(waiting.expect_match().await.peer, newcomer.id);
    println!(
        "{what}: (the command took {:?}) the message came after {message:?}, up after {up:?}, who waited is matched after {:?}",
        died - began,
        died.elapsed()
    );
    for node in [a, b] {
        knows(node, "dead", 0.0).await;
        assert_eq!(node.metric("bus_gaps_total", r#"result="lost""#).await, 0.0);
    }
}

#[tokio::test]
async fn a_primary_that_sentinels_watch_dies() {
    let mut first = Engine::start().await;
    let mut second = Engine::stopped_with(&format!("--replicaof 127.0.0.1 {}", first.port));
    second.run().await;
    eventually("it follows", async || {
        second
            .ask("info replication")
            .contains("master_link_status:up")
    })
    .await;
    let sentinel = Sentinel::start(&first).await;
    // The first of the two is not there.
    let url = format!(
        "redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main",
        sentinel.port
    );
    let (a, b) = two_at(&url).await;
    users_see("Sentinel", &a, &b, async || first.kill()).await;
    assert!(second.ask("role").starts_with("master"));
}

/// Three primaries with a replica each.
async fn cluster() -> Vec<Engine> {
    let flags = "--cluster-enabled yes --cluster-node-timeout 2000 --cluster-require-full-coverage no \
                 --repl-diskless-sync-delay 0";
    let mut engines = Vec::new();
    for _ in 0..6 {
        let mut engine = Engine::stopped_with(flags);
        // The port of the cluster's own bus must be valid, too.
        while engine.port > 55_000 {
            engine = Engine::stopped_with(flags);
        }
        engine.run().await;
        engines.push(engine);
    }
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(
            engines
                .iter()
                .map(|engine| format!("127.0.0.1:{}", engine.port)),
        )
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .expect("Debian's package redis-tools");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stdout)
    );
    for engine in &engines {
        eventually("all know all", async || {
            let info = engine.ask("cluster info");
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
        })
        .await;
    }
    all_follow(&engines).await;
    engines
}

/// A replica that has not caught up would not take its primary's place.
async fn all_follow(engines: &[Engine]) {
    for engine in engines {
        eventually("it follows", async || {
            let info = engine.ask("info replication");
            info.contains("role:master") || info.contains("master_link_status:up")
        })
        .await;
    }
}

fn is_primary(engine: &Engine) -> bool {
    engine.ask("role").starts_with("master")
}

/// The primary that has the tickets, by number.
fn with_tickets(engines: &[Engine]) -> usize {
    let slot = engines[0].ask("cluster keyslot {vm:m}");
    let count = format!("cluster countkeysinslot {slot}");
    let mut all = (0..engines.len()).filter(|number| is_primary(&engines[*number]));
    all.find(|number| engines[*number].ask(&count) != "0")
        .expect("one has them")
}

/// The replica of a primary, by number.
fn replica_of(engines: &[Engine], primary: usize) -> usize {
    let port = engines[primary].port.to_string();
    let follows = |engine: &Engine| {
        let role = engine.ask("role");
        role.starts_with("slave") && role.lines().any(|line| line == port)
    };
    engines.iter().position(follows).expect("a replica")
}

/// Gives the slot of a key to another primary, as an operator does who spreads the load anew.
fn move_slot(engines: &[Engine], key: &str) {
    let slot = engines[0].ask(&format!("cluster keyslot {key}"));
    let has_slot = |engine: &&Engine| !engine.ask(&format!("exists {key}")).starts_with("MOVED");
    let primaries = engines.iter().filter(|engine| is_primary(engine));
    let (has, have_not): (Vec<&Engine>, Vec<&Engine>) = primaries.partition(has_slot);
    let (from, to) = (has[0], have_not[0]);
    let [from_id, to_id] = [from, to].map(|engine| engine.ask("cluster myid"));
    let set = |engine: &Engine, to: &str| {
        assert_eq!(engine.ask(&format!("cluster setslot {slot} {to}")), "OK");
    };
    set(to, &format!("importing {from_id}"));
    set(from, &format!("migrating {to_id}"));
    loop {
        let keys = from.ask(&format!("cluster getkeysinslot {slot} 100"));
        if keys.is_empty() {
            break;
        }
        let port = to.port.to_string();
        let migrate = ["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
        let words: Vec<&str> = migrate.into_iter().chain(keys.lines()).collect();
        assert_eq!(from.ask_words(&words), "OK");
    }
    for engine in have_not.into_iter().chain(has) {
        set(engine, &format!("node {to_id}"));
    }
}

/// The slots of both nodes' channels and of all tickets move, while users talk.
async fn slots_move(engines: &[Engine], [a, b]: [&TestServer; 2]) {
    let (mut first, mut second) = pair_of(a, b).await;
    let seen = a.admin("/support/nodes").await.json();
    let channel = |number: usize| format!("vm:1:n:{{{}}}", text(&seen["nodes"][number], "id"));
    for key in [channel(0), channel(1), "{vm:m}".to_owned()] {
        talk(&mut first, &mut second, 10).await;
        move_slot(engines, &key);
        let moved = Instant::now();
        talk(&mut first, &mut second, 10).await;
        println!("{key} moved: messages come after {:?}", moved.elapsed());
        assert_within(BACK, "a slot moved: messages come", moved);
    }
}

#[tokio::test]
async fn a_redis_cluster_and_its_primaries() {
    let mut engines = cluster().await;
    let hosts: Vec<_> = engines
        .iter()
        .map(|engine| format!("127.0.0.1:{}", engine.port))
        .collect();
    let (a, b) = two_at(&format!("redis+cluster://{}", hosts.join(","))).await;
    let replica = replica_of(&engines, with_tickets(&engines));
    users_see("CLUSTER FAILOVER", &a, &b, async || {
        eventually("it is promoted", async || {
            engines[replica].ask("cluster failover");
            // Asked again while it is at it, it begins anew.
            let promoted = eventually("promoted", async || is_primary(&engines[replica]));
            tokio::time::timeout(Duration::from_secs(1), promoted)
                .await
                .is_ok()
        })
        .await;
    })
    .await;
    all_follow(&engines).await;
    assert_eq!(with_tickets(&engines), replica);
    users_see("slots that move", &a, &b, async || {
        slots_move(&engines, [&a, &b]).await;
    })
    .await;
    all_follow(&engines).await;
    let primary = with_tickets(&engines);
    assert_ne!(primary, replica);
    users_see("a Cluster's primary killed", &a, &b, async || {
        engines[primary].kill()
    })
    .await;
}
