//! The real Sentinel, the real Redis Cluster.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::Value;
use tempfile::TempDir;
use voicematch_cluster::{Settings, State};

use crate::cluster::{Node, frame};
use crate::server::{PASSWORD, Server, free_port};
use crate::support::{Connected, PATIENCE, UP, eventually};

/// Killed when dropped.
struct Sentinel {
    _dir: TempDir,
    port: u16,
    process: Child,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

impl Sentinel {
    fn start(primary: u16) -> Self {
        Self::start_with(primary, "")
    }

    /// The same with further lines in its configuration.
    fn start_with(primary: u16, extra: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n{extra}\n",
            dir.path().display()
        );
        let file = dir.path().join("sentinel.conf");
        fs::write(&file, config).expect("written");
        let program = std::env::var("CLUSTER_ENGINE").unwrap_or_else(|_| "redis-server".to_owned());
        let process = Command::new(program)
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self {
            _dir: dir,
            port,
            process: process.expect("a sentinel"),
        }
    }
}

#[tokio::test]
async fn sentinels_name_the_new_primary() {
    let mut first = Server::start().await;
    let second = Server::start_with(&format!("replicaof 127.0.0.1 {}", first.port)).await;
    let role = async |server: &Server| match server.ask("INFO replication").await {
        Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        _ => String::new(),
    };
    eventually("it follows", async || {
        role(&second).await.contains("master_link_status:up")
    })
    .await;
    let sentinel = Sentinel::start(first.port);
    let client = redis::Client::open(("127.0.0.1", sentinel.port)).expect("a client");
    eventually("the sentinel knows the replica", async || {
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
            return false;
        };
        let replicas = redis::cmd("SENTINEL")
            .arg("replicas")
            .arg("main")
            .query_async(&mut connection)
            .await;
        matches!(replicas, Ok(Value::Array(replicas)) if !replicas.is_empty())
    })
    .await;
    // The first of the two is not there.
    let url = format!(
        "redis+sentinel://vm:{PASSWORD}@127.0.0.1:1,127.0.0.1:{}/main",
        sentinel.port
    );
    let [a, b] = Node::some(&Settings::new(&url, "vm").expect("settings")).await;
    let link = a.link(&b);
    link.push(&frame(1, b"x")).expect("taken");
    eventually("it comes", async || b.frames(a.me()) == [1]).await;
    first.kill();
    eventually("it is promoted", async || {
        role(&second).await.contains("role:master")
    })
    .await;
    both_back(&[&a, &b]).await;
    eventually("they live", async || a.members.lease() && b.members.lease()).await;
    link.push(&frame(2, b"x")).expect("taken");
    eventually("it comes", async || b.frames(a.me()).last() == Some(&2)).await;
    assert!(a.members.dead().is_empty() && b.members.dead().is_empty());
}

#[tokio::test]
async fn sentinels_ask_for_a_password_of_their_own() {
    let primary = Server::start().await;
    let extra = "user default off\nuser watcher on >watches +sentinel|get-master-addr-by-name";
    let sentinel = Sentinel::start_with(primary.port, extra);
    let url = format!(
        "redis+sentinel://vm:{PASSWORD}@127.0.0.1:{}/main",
        sentinel.port
    );
    let settings = Settings::new(&url, "vm").expect("settings");
    let stranger = Connected::new(settings.clone(), 1);
    eventually("it is not let in", async || {
        stranger.count("cluster_reconnects_total", "refused") >= 1.0
    })
    .await;
    let file = primary.dir.path().join("watches");
    fs::write(&file, "watches\n").expect("written");
    let watcher = settings
        .sentinel_user("watcher")
        .sentinel_password_file(file);
    Connected::up(watcher).await;
    assert_eq!(*stranger.engine.state().borrow(), State::default());
}

async fn both_back(nodes: &[&Node]) {
    let reconnects = |node: &Node| {
        ["closed", "silent", "role", "life", "timeout", "refused"]
            .map(|why| node.count("cluster_reconnects_total", why))
    };
    let back = async {
        for node in nodes {
            let mut state = node.engine.state();
            state
                .wait_for(|state| *state == UP)
                .await
                .expect("a supervisor");
        }
    };
    let waited = tokio::time::timeout(PATIENCE, back).await;
    let states: Vec<_> = nodes
        .iter()
        .map(|node| (*node.engine.state().borrow(), reconnects(node)))
        .collect();
    assert!(waited.is_ok(), "never back: {states:?}");
}

/// Three primaries with a replica each.
async fn cluster() -> Vec<Server> {
    let extra = "cluster-enabled yes\ncluster-node-timeout 2000\ncluster-require-full-coverage no\n\
                 repl-diskless-sync-delay 0";
    let mut servers = Vec::new();
    for _ in 0..6 {
        // The port of the cluster's own bus must be valid, too.
        let mut server = Server::stopped(extra);
        while server.port > 55_000 {
            server = Server::stopped(extra);
        }
        server.run().await;
        servers.push(server);
    }
    let addresses = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port));
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .expect("Debian's package redis-tools");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stdout)
    );
    for server in &servers {
        eventually("all know all", async || {
            let info = format!("{:?}", server.ask("CLUSTER INFO").await);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
        })
        .await;
    }
    servers
}

async fn is_primary(server: &Server) -> bool {
    format!("{:?}", server.ask("ROLE").await).contains("master")
}

#[tokio::test]
async fn a_redis_cluster_and_its_failovers() {
    let mut servers = cluster().await;
    let hosts: Vec<_> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    let url = format!("redis+cluster://vm:{PASSWORD}@{}", hosts.join(","));
    let [a, b] = Node::some(&Settings::new(&url, "vm").expect("settings")).await;
    let waits = a.seek(1, &[], Duration::ZERO);
    a.posted(waits).await;
    let seeks = b.seek(2, &[], Duration::ZERO);
    assert_eq!(b.found(seeks).await.0, waits);
    let mut number = 0;
    let mut relayed = async || {
        number += 1;
        let (sent, mut between) = (number, None);
        eventually("it comes", async || {
            // Where a failover takes longer than a node may be silent, the node has another life.
            let lives = Some((a.me(), b.me()));
            if between != lives
                && let Some(link) = a.try_link(&b)
                && link.push(&frame(sent, b"x")).is_ok()
            {
                between = lives;
            }
            b.frames(a.me()).contains(&sent)
        })
        .await;
    };
    relayed().await;
    // In order: each replica takes over.
    for server in &servers {
        if !is_primary(server).await {
            // Others may be electing: then it is refused, or nothing comes of it.
            eventually("it is promoted", async || {
                let _ = server.ask("CLUSTER FAILOVER").await;
                // Asked again while it is at it, it begins anew.
                let promoted = eventually("promoted", async || is_primary(server).await);
                tokio::time::timeout(Duration::from_secs(1), promoted)
                    .await
                    .is_ok()
            })
            .await;
        }
    }
    both_back(&[&a, &b]).await;
    relayed().await;
    // By force: who owns b's inbox dies. A replica that has not caught up would not take its place.
    for server in &servers {
        eventually("it follows", async || {
            let info = format!("{:?}", server.ask("INFO replication").await);
            info.contains("role:master") || info.contains("master_link_status:up")
        })
        .await;
    }
    let mut killed = 0;
    for server in &mut servers {
        let channels = format!("{:?}", server.ask("PUBSUB SHARDCHANNELS").await);
        let inbox = format!("vm:1:n:{{{}}}", b.me());
        let bytes = format!("{:?}", Value::BulkString(inbox.into_bytes()));
        if channels.contains(&bytes) {
            server.kill();
            killed += 1;
        }
    }
    assert_eq!(killed, 1);
    eventually("another one takes its place", async || {
        let mut primaries = 0;
        for server in &servers {
            primaries += usize::from(is_primary(server).await);
        }
        primaries == 3
    })
    .await;
    eventually("it has noticed", async || {
        b.count("cluster_reconnects_total", "") >= 1.0
    })
    .await;
    both_back(&[&a, &b]).await;
    relayed().await;
}
