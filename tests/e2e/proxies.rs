//! The examples in `deploy/proxies`, run as they are but for ports and files: users over each transport, and whose address
//! counts.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    support::{
        Client, Process, TestServer, Via,
        client::pair_at,
        eventually, http,
        jwt::{Folder, certificate},
        ports::{TRIES, free_addresses},
        tunnel::Tunnel,
        user::text,
    },
    support_api::session,
};

/// A proxy that runs.
struct Proxy {
    process: Process,
    address: SocketAddr,
    /// Of the certificate that it shows.
    chain: String,
    /// Where users reach it without TLS.
    tunnel: Tunnel,
}

/// Starts the proxy of this example in front of a server.
async fn start(folder: &Folder, example: &str, server: &TestServer, program: &[&str]) -> Proxy {
    let (chain, key) = certificate(folder, "certificate");
    let both = [&chain, &key]
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    folder.write("certificate.both", &both);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/proxies");
    let text = fs::read_to_string(examples.join(example)).unwrap();
    for _ in 0..TRIES {
        let [address] = free_addresses();
        let port = address.port().to_string();
        let text = text
            .replace("127.0.0.1:8080", &server.public.to_string())
            .replace("443 ssl", &format!("{port} ssl"))
            .replace("443 v4v6", &format!("{port} v4v6"))
            // The clients of this test call the server by no name.
            .replace("localhost:443", &format!(":{port}"));
        folder.write(example, &text);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).current_dir(folder.path(""));
        // Caddy keeps what it knows there.
        command.env("HOME", folder.path(""));
        let mut process = Process::spawn(command);
        while !process.has_ended() {
            if TcpStream::connect(address).await.is_ok() {
                let tunnel = Tunnel::to(address, &chain).await;
                return Proxy {
                    process,
                    address,
                    chain,
                    tunnel,
                };
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        // Somebody else has got the port meanwhile.
        let said = process.stderr().join("\n");
        assert!(said.to_lowercase().contains("bind"), "{said}");
    }
    panic!("{} gets no port", program[0]);
}

/// Users meet, talk and come back over each transport; the limit of an address counts users, and not the proxy.
async fn serves(proxy: &Proxy, server: &TestServer) {
    let address = proxy.tunnel.address;
    for via in Via::ALL {
        let (mut user, mut partner) = pair_at(address, via, Via::WebSocket).await;
        user.say("hello").await;
        partner.hears("hello").await;
        user.cut();
        let long = "x".repeat(50_000);
        partner.say(long.clone()).await;
        user.resume(via).await.unwrap();
        user.hears(long).await;
        for mut leaver in [user, partner] {
            leaver.write(&json!({"type": "leave"})).await;
            leaver.end().await;
        }
    }
    server
        .reaches("websocket_active_connections", "", 0.0)
        .await;
    let _two = [
        Client::begin_at(address, Via::WebSocket).await,
        Client::begin_at(address, Via::WebSocket).await,
    ];
    let limit = r#"limit="max_connections_per_address""#;
    let before = server.metric("limit_hits_total", limit).await;
    let third = http::get(address, "/poll?wait=0").await;
    assert_eq!(third.status, 429);
    assert_eq!(server.metric("limit_hits_total", limit).await, before + 1.0);
}

/// Who has an IPv6 address reaches it too, where this machine has one.
async fn is_reached_by_ipv6(proxy: &Proxy) {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let address = (Ipv6Addr::LOCALHOST, proxy.address.port());
    let connected = TcpStream::connect(address).await;
    assert!(connected.is_ok(), "{connected:?}");
}

/// A user who says to be at another address is still at their own.
async fn sees_through_claims(proxy: &Proxy, server: &TestServer) {
    let source: IpAddr = [127, 0, 0, 2].into();
    let elsewhere = Tunnel::from(source, proxy.address, &proxy.chain).await;
    let claims =
        "X-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n";
    let begun = http::request(elsewhere.address, "GET", "/poll?wait=0", claims).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let id = text(&begun.json()["messages"][0], "session_id");
    let seen = session(server, &id).await;
    assert_eq!(seen["address"], source.to_string(), "{seen}");
}

/// Asks when there is no server behind the proxy: the log of that is not to have the tokens.
async fn asks_in_vain(proxy: &Proxy, server: &TestServer) {
    server.process.signal(Signal::KILL);
    let path = "/poll?wait=0&token=a-secret&seen=1&access_token=another-secret";
    eventually("the server is gone", async || {
        http::get(proxy.tunnel.address, path).await.status == 502
    })
    .await;
}

/// Two sessions for each user, who is at loopback here.
const TWO_EACH: [&str; 5] = [
    "--limit-loopback",
    "--max-connections-per-address",
    "2",
    "--trusted-proxy",
    "127.0.0.1",
];

async fn nginx(folder: &Folder, server: &TestServer) -> Proxy {
    let prefix = folder.path("");
    let directives = "daemon off; master_process off; error_log stderr;";
    let program = ["nginx", "-p", &prefix, "-c", "nginx.conf", "-g", directives];
    start(folder, "nginx.conf", server, &program).await
}

#[tokio::test]
async fn nginx_as_in_the_example() {
    let folder = Folder::new("example-nginx");
    let server = TestServer::start(&TWO_EACH).await;
    let proxy = nginx(&folder, &server).await;
    http::get(proxy.tunnel.address, "/poll?wait=0&token=a-secret").await;
    let log = folder.path("access.log");
    eventually("a line in the log", async || {
        fs::read_to_string(&log).unwrap().contains("/poll")
    })
    .await;
    assert!(!fs::read_to_string(&log).unwrap().contains("secret"));
    is_reached_by_ipv6(&proxy).await;
    serves(&proxy, &server).await;
    sees_through_claims(&proxy, &server).await;
    asks_in_vain(&proxy, &server).await;
    // It is written before the answer.
    for log in ["access.log", "error.log"] {
        let said = fs::read_to_string(folder.path(log)).unwrap();
        assert!(!said.contains("secret"), "{log}: {said}");
    }
}

#[tokio::test]
async fn nginx_holds_more_users_than_it_does_by_default() {
    let folder = Folder::new("example-nginx-many");
    let server = TestServer::start(&["--trusted-proxy", "127.0.0.1"]).await;
    let proxy = nginx(&folder, &server).await;
    let mut users = Vec::new();
    for _ in 0..300 {
        users.push(Client::begin_at(proxy.tunnel.address, Via::WebSocket).await);
    }
    server
        .reaches("websocket_active_connections", "", 300.0)
        .await;
}

#[tokio::test]
async fn haproxy_as_in_the_example() {
    let folder = Folder::new("example-haproxy");
    let server = TestServer::start(&[&TWO_EACH[..], &["--proxy-protocol"]].concat()).await;
    let program = ["haproxy", "-db", "-f", "haproxy.cfg"];
    let proxy = start(&folder, "haproxy.cfg", &server, &program).await;
    is_reached_by_ipv6(&proxy).await;
    serves(&proxy, &server).await;
    sees_through_claims(&proxy, &server).await;
}

#[tokio::test]
async fn caddy_as_in_the_example() {
    let folder = Folder::new("example-caddy");
    let server = TestServer::start(&TWO_EACH).await;
    let program = ["caddy", "run", "--config", "Caddyfile"];
    let proxy = start(&folder, "Caddyfile", &server, &program).await;
    serves(&proxy, &server).await;
    sees_through_claims(&proxy, &server).await;
    asks_in_vain(&proxy, &server).await;
    let said = || proxy.process.stderr().join("\n");
    eventually("the log has it", async || said().contains("seen=1")).await;
    assert!(!said().contains("secret"), "{}", said());
}
