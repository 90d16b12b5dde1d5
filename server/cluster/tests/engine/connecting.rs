//! The supervisor, and what can happen to its connections.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use voicematch_cluster::{BeatReply, CallError, State};

use crate::proxy::{Network, Proxy};
use crate::server::{PASSWORD, Server, settings_at};
use crate::support::{Connected, PATIENCE, UP, eventually};

const DOWN: State = State {
    index: false,
    bus: false,
};

async fn beats(connected: &Connected) -> bool {
    let reply = connected
        .engine
        .beat(connected.node, 1, "info", [7; 8])
        .await;
    matches!(reply, Ok(BeatReply::Ok { .. }))
}

#[tokio::test]
async fn it_comes_up_as_the_user_who_may_do_only_this() {
    let server = Server::start().await;
    let connected = Connected::up(server.patient()).await;
    assert!(beats(&connected).await);
    assert!(
        connected.count("cluster_state", "index") == 1.0
            && connected.count("cluster_state", "bus") == 1.0
    );
}

#[tokio::test]
async fn an_engine_that_starts_after_us() {
    let mut server = Server::stopped("");
    let connected = Connected::new(server.settings(), 1);
    eventually("it tries again", async || {
        connected.count("cluster_reconnects_total", "closed") > 1.0
    })
    .await;
    assert_eq!(*connected.engine.state().borrow(), DOWN);
    let answer = connected.engine.kept('s', b"a").await;
    assert!(matches!(answer, Err(CallError::Down)), "{answer:?}");
    server.run().await;
    connected.becomes(UP).await;
}

#[tokio::test]
async fn an_engine_that_is_killed_and_comes_back() {
    let mut server = Server::start().await;
    let connected = Connected::up(server.settings()).await;
    server.kill();
    connected.becomes(DOWN).await;
    // No call hangs meanwhile.
    let began = Instant::now();
    assert!(!beats(&connected).await);
    assert!(began.elapsed() < PATIENCE / 2);
    server.run().await;
    connected.becomes(UP).await;
    eventually("it answers", async || beats(&connected).await).await;
}

#[tokio::test]
async fn an_engine_that_stands_still_until_it_is_given_up() {
    let server = Server::start().await;
    let connected = Connected::up(server.settings()).await;
    server.signal(Signal::STOP);
    let began = Instant::now();
    connected.reaches("index down", |state| !state.index).await;
    let noticed = began.elapsed();
    // The first probe is 250 ms away at most, and is given up after 500.
    assert!(
        noticed < Duration::from_secs(2),
        "bus before index? {noticed:?}"
    );
    assert!(!beats(&connected).await);
    connected.becomes(DOWN).await;
    eventually("it is given up", async || {
        connected.count("cluster_reconnects_total", "silent") >= 1.0
    })
    .await;
    server.signal(Signal::CONT);
    connected.becomes(UP).await;
    assert!(beats(&connected).await);
}

#[tokio::test]
async fn connections_that_are_cut_again_and_again() {
    let server = Server::start().await;
    let connected = Connected::up(server.settings()).await;
    for cut in 1..=3 {
        server
            .ask("CLIENT KILL TYPE normal SKIPME yes")
            .await
            .expect("cut");
        server.ask("CLIENT KILL TYPE pubsub").await.expect("cut");
        eventually("it has noticed", async || {
            connected.count("cluster_reconnects_total", "closed") >= f64::from(cut)
        })
        .await;
        connected.becomes(UP).await;
        eventually("it answers", async || beats(&connected).await).await;
    }
}

#[tokio::test]
async fn only_the_connection_for_messages_is_cut() {
    let server = Server::start().await;
    let connected = Connected::up(server.settings()).await;
    server.ask("CLIENT KILL TYPE pubsub").await.expect("cut");
    eventually("it has noticed", async || {
        connected.count("cluster_reconnects_total", "closed") >= 1.0
    })
    .await;
    connected.becomes(UP).await;
}

#[tokio::test]
async fn scripts_that_the_engine_forgets() {
    let server = Server::start().await;
    let connected = Connected::up(server.patient()).await;
    for _ in 0..5 {
        server.ask("SCRIPT FLUSH").await.expect("flushed");
        assert!(beats(&connected).await);
    }
    assert!(connected.count("cluster_calls_total", "noscript") >= 5.0);
    assert_eq!(connected.count("cluster_reconnects_total", ""), 0.0);
}

#[tokio::test]
async fn an_engine_without_memory() {
    let server = Server::start().await;
    let connected = Connected::up(server.patient()).await;
    server.ask("CONFIG SET maxmemory 1").await.expect("set");
    assert!(server.ask("SET a b").await.is_err(), "full");
    assert!(beats(&connected).await);
    connected
        .engine
        .keep('s', b"a", b"b", PATIENCE)
        .await
        .expect("kept");
    assert_eq!(
        connected
            .engine
            .kept('s', b"a")
            .await
            .expect("read")
            .as_deref(),
        Some(&b"b"[..])
    );
    connected
        .engine
        .room(b"a", connected.node, [1; 8], &[], PATIENCE)
        .await
        .expect("a room");
    assert_eq!(*connected.engine.state().borrow(), UP);
}

#[tokio::test]
async fn a_network_that_is_slow_by_half_a_second() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let connected = Connected::up(settings_at(proxy.port)).await;
    proxy.becomes(Network::Slow(Duration::from_millis(500)));
    let slow = State {
        index: false,
        bus: true,
    };
    connected.becomes(slow).await;
    // For longer than the bus may be silent: no flapping.
    let mut watch = connected.engine.state();
    let changed = tokio::time::timeout(
        Duration::from_secs(4),
        watch.wait_for(|state| *state != slow),
    )
    .await;
    assert!(changed.is_err(), "{:?}", *connected.engine.state().borrow());
    assert_eq!(connected.count("cluster_reconnects_total", ""), 0.0);
    proxy.becomes(Network::Good);
    connected.becomes(UP).await;
}

#[tokio::test]
async fn it_connects_through_a_slow_network() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    proxy.becomes(Network::Slow(Duration::from_millis(500)));
    let connected = Connected::new(settings_at(proxy.port), 1);
    connected.reaches("bus up", |state| state.bus).await;
    assert!(!connected.engine.state().borrow().index);
}

#[tokio::test]
async fn a_connection_that_is_half_open() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let connected = Connected::up(settings_at(proxy.port)).await;
    proxy.becomes(Network::Hole);
    connected.becomes(DOWN).await;
    eventually("it has given up", async || {
        connected.count("cluster_reconnects_total", "silent") >= 1.0
    })
    .await;
    proxy.becomes(Network::Good);
    connected.becomes(UP).await;
}

#[tokio::test]
async fn a_replica_is_refused() {
    let server = Server::start().await;
    let connected = Connected::up(server.settings()).await;
    let other = Server::start().await;
    server
        .ask(&format!("REPLICAOF 127.0.0.1 {}", other.port))
        .await
        .expect("a replica now");
    // Nothing breaks by itself: a write is refused, then the role is seen.
    eventually("it leaves", async || {
        let _ = connected
            .engine
            .beat(connected.node, 1, "info", [7; 8])
            .await;
        connected.count("cluster_reconnects_total", "role") >= 2.0
    })
    .await;
    assert_eq!(*connected.engine.state().borrow(), DOWN);
    server
        .ask("REPLICAOF NO ONE")
        .await
        .expect("a primary again");
    connected.becomes(UP).await;
}

#[tokio::test]
async fn a_password_that_is_exchanged() {
    let server = Server::start().await;
    let file = server.dir.path().join("password");
    fs::write(&file, "wrong\n").expect("written");
    let url = format!("redis://vm@127.0.0.1:{}", server.port);
    let settings = voicematch_cluster::Settings::new(&url, "vm")
        .expect("settings")
        .password_file(&file);
    let connected = Connected::new(settings, 1);
    eventually("refused", async || {
        connected.count("cluster_reconnects_total", "refused") >= 1.0
    })
    .await;
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    connected.becomes(UP).await;
}

#[tokio::test]
async fn tls_with_an_authority_of_our_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = rcgen::KeyPair::generate().expect("a key");
    let authority = {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).expect("an authority")
    };
    let issuer = {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        rcgen::Issuer::new(params, key)
    };
    let own = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&own, &issuer).expect("signed");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ca.pem"), authority.pem()).expect("written");
    fs::write(path("cert.pem"), certificate.pem()).expect("written");
    fs::write(path("key.pem"), own.serialize_pem()).expect("written");
    let port = crate::server::free_port();
    let show = |name: &str| path(name).display().to_string();
    let server = Server::start_with(&format!(
        "tls-port {port}\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
        show("cert.pem"),
        show("key.pem"),
        show("ca.pem")
    ))
    .await;
    let settings = |host: &str| {
        let url = format!("rediss://vm:{PASSWORD}@{host}:{port}");
        voicematch_cluster::Settings::new(&url, "vm").expect("settings")
    };
    let connected = Connected::up(settings("localhost").ca_file(path("ca.pem"))).await;
    eventually("it answers", async || beats(&connected).await).await;
    // Neither an unknown authority nor another name is taken.
    for wrong in [
        settings("localhost"),
        settings("127.0.0.1").ca_file(path("ca.pem")),
    ] {
        let refused = Connected::new(wrong, 2);
        eventually("refused", async || {
            refused.count("cluster_reconnects_total", "") >= 1.0
        })
        .await;
        assert_eq!(*refused.engine.state().borrow(), DOWN);
    }
    drop(server);
}

#[tokio::test]
async fn the_supervisor_ends_with_the_engine() {
    let server = Server::start().await;
    let connected = Connected::up(server.settings()).await;
    let mut inbox = connected.inbox;
    drop(connected.engine);
    let ended = tokio::time::timeout(PATIENCE, inbox.take())
        .await
        .expect("ended");
    assert!(ended.is_none());
}
