//! Behind a proxy: whose address counts, and whom the server believes.

use crate::support::{RawSocket, TestServer, eventually, http::Response, raw::handshake};

/// A handshake with more header lines, and its answer.
async fn shake(server: &TestServer, lines: &[&str]) -> (Response, RawSocket) {
    let mut socket = RawSocket::connect(server).await;
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let text = handshake(server).replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
    socket.write(text.as_bytes()).await;
    (socket.response().await, socket)
}

async fn status(server: &TestServer, lines: &[&str]) -> u16 {
    shake(server, lines).await.0.status
}

const TWO_EACH: [&str; 4] = [
    "--max-connections-per-address",
    "2",
    "--trusted-proxy",
    "127.0.0.0/8",
];

#[tokio::test]
async fn behind_a_trusted_proxy_each_user_has_a_limit() {
    let server = TestServer::start(&TWO_EACH).await;
    let one = ["X-Forwarded-For: 198.51.100.9, 203.0.113.7"];
    let (_, first) = shake(&server, &one).await;
    let (_, _second) = shake(&server, &one).await;
    let (refused, _) = shake(&server, &one).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.json()["code"], "too_many_connections");
    // What stands before a user's address is only their claim; another proxy of ours may stand behind it.
    let same = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 203.0.113.7, 127.0.0.9",
    ];
    assert_eq!(status(&server, &same).await, 429);
    assert_eq!(
        status(&server, &["X-Forwarded-For: 203.0.113.8"]).await,
        101
    );
    for label in ["connections_refused_total", "limit_hits_total"] {
        let kind = if label.starts_with('l') {
            "limit"
        } else {
            "reason"
        };
        let labels = format!(r#"{kind}="max_connections_per_address""#);
        server.reaches(label, &labels, 2.0).await;
    }
    drop(first);
    eventually("there is room again", async || {
        status(&server, &one).await == 101
    })
    .await;
}

#[tokio::test]
async fn a_proxys_own_connections_are_counted_in_total_only() {
    let flags = [
        &TWO_EACH[..],
        &["--limit-loopback", "--max-connections", "4"],
    ]
    .concat();
    let server = TestServer::start(&flags).await;
    let mut users = Vec::new();
    for user in 1..=4 {
        let line = format!("X-Forwarded-For: 203.0.113.{user}");
        let (response, socket) = shake(&server, &[&line]).await;
        assert_eq!(response.status, 101);
        users.push(socket);
    }
    assert_eq!(
        status(&server, &["X-Forwarded-For: 203.0.113.5"]).await,
        503
    );
}

#[tokio::test]
async fn without_the_header_a_proxys_own_address_counts() {
    let flags = [&TWO_EACH[..], &["--limit-loopback"]].concat();
    let server = TestServer::start(&flags).await;
    let (_, _first) = shake(&server, &[]).await;
    let (_, _second) = shake(&server, &[]).await;
    assert_eq!(status(&server, &[]).await, 429);
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let flags = [
        "--max-connections-per-address",
        "2",
        "--limit-loopback",
        "--trusted-proxy",
        "10.0.0.0/8",
    ];
    let server = TestServer::start(&flags).await;
    let (_, _first) = shake(&server, &["X-Forwarded-For: 203.0.113.1"]).await;
    let (_, _second) = shake(&server, &["X-Forwarded-For: 203.0.113.2"]).await;
    assert_eq!(
        status(&server, &["X-Forwarded-For: 203.0.113.3"]).await,
        429
    );
    let page = [
        "Origin: https://voice.example",
        "X-Forwarded-Host: voice.example",
    ];
    let server = TestServer::start(&[]).await;
    assert_eq!(status(&server, &page).await, 403);
}

#[tokio::test]
async fn the_page_may_be_at_the_host_that_a_trusted_proxy_names() {
    let server = TestServer::start(&["--trusted-proxy", "127.0.0.1"]).await;
    let page = "Origin: https://voice.example";
    let named = status(&server, &[page, "X-Forwarded-Host: voice.example"]).await;
    assert_eq!(named, 101);
    let other = status(&server, &[page, "X-Forwarded-Host: evil.example"]).await;
    assert_eq!(other, 403);
}
