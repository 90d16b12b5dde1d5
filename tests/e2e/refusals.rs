//! Refusals over HTTP: the status, the headers that go with it, and the code in the body.

use crate::support::{
    RawSocket, TestServer,
    http::{Response, request},
};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// The answer to a request that is given as it stands.
async fn ask(server: &TestServer, text: &str) -> Response {
    let mut socket = RawSocket::connect(server).await;
    socket.write(text.as_bytes()).await;
    socket.response().await
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let server = TestServer::start(&[]).await;
    for path in ["/ws", "/health", "/stats", "/favicon.ico", "/nowhere"] {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a b\r\n",
            "Host: a/b\r\n",
        ] {
            let response = ask(
                &server,
                &format!("GET {path} HTTP/1.1\r\n{hosts}{UPGRADE}\r\n"),
            )
            .await;
            assert_eq!(response.status, 400, "{path} {hosts:?}");
            assert_eq!(response.json()["code"], "bad_request");
        }
    }
    for head in [
        "HTTP/1.0\r\n",
        "HTTP/1.0\r\nHost: a\r\n",
        "HTTP/1.1\r\nHost:\r\n",
    ] {
        let response = ask(&server, &format!("GET /health {head}\r\n")).await;
        assert_eq!(response.status, 200, "{head:?}");
    }
}

#[tokio::test]
async fn every_426_says_what_to_upgrade_to() {
    let server = TestServer::start(&[]).await;
    let version = "Sec-WebSocket-Version: 13\r\n";
    for upgrade in [
        String::new(),
        UPGRADE.replace(version, ""),
        UPGRADE.replace(version, "Sec-WebSocket-Version: 8\r\n"),
        UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c"),
    ] {
        let response = ask(
            &server,
            &format!("GET /ws HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"),
        )
        .await;
        assert_eq!(response.status, 426, "{upgrade:?}");
        assert_eq!(response.header("upgrade"), Some("websocket"), "{upgrade:?}");
        let connection = response.header("connection").unwrap();
        assert!(connection.contains("upgrade"), "{connection}");
        assert_eq!(response.json()["code"], "upgrade_required");
    }
}

#[tokio::test]
async fn each_refusal_has_a_code_for_programs_and_a_text_for_people() {
    let server = TestServer::start(&[]).await;
    let (public, admin) = (server.public, server.admin);
    let evil = format!("Origin: https://evil.example\r\n{UPGRADE}");
    let no_key = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
    for (address, method, path, headers, status, code) in [
        (public, "GET", "/nowhere", "", 404, "not_found"),
        (public, "POST", "/health", "", 405, "method_not_allowed"),
        (public, "POST", "/ws", "", 405, "method_not_allowed"),
        (public, "GET", "/ws", "", 426, "upgrade_required"),
        (public, "GET", "/ws", &evil, 403, "origin_not_allowed"),
        (public, "GET", "/ws", &no_key, 400, "bad_request"),
        (
            public,
            "GET",
            "/events?token=x",
            "Last-Event-ID: last\r\n",
            400,
            "bad_request",
        ),
        (
            public,
            "GET",
            "/poll?wait=0",
            "Authorization: Bearer\r\n",
            401,
            "resume_refused",
        ),
        (admin, "GET", "/nowhere", "", 404, "not_found"),
        (admin, "POST", "/metrics", "", 405, "method_not_allowed"),
        (admin, "GET", "/debug/pprof/nothing", "", 404, "not_found"),
        (
            admin,
            "GET",
            "/debug/pprof/profile?seconds=x",
            "",
            400,
            "bad_request",
        ),
    ] {
        let response = request(address, method, path, headers).await;
        assert_eq!(response.status, status, "{method} {path}");
        let body = response.json();
        assert_eq!(body["code"], code, "{method} {path}");
        assert!(body["error"].as_str().unwrap().len() > 5, "{body}");
    }
}
