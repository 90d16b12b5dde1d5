//! What browsers need and what web pages may do: origins, subprotocols, an icon.

use crate::support::{RawSocket, TestServer, http::Response, raw::handshake, run};

async fn shake(server: &TestServer, lines: &[&str]) -> Response {
    let mut socket = RawSocket::connect(server).await;
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let text = handshake(server).replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
    socket.write(text.as_bytes()).await;
    socket.response().await
}

async fn status(server: &TestServer, origin: &str) -> u16 {
    shake(server, &[&format!("Origin: {origin}")]).await.status
}

#[tokio::test]
async fn a_page_of_another_host_may_not_connect() {
    let server = TestServer::start(&[]).await;
    let port = server.public.port();
    let refused = shake(&server, &["Origin: https://evil.example"]).await;
    assert_eq!(refused.status, 403);
    let body = refused.json();
    assert_eq!(body["code"], "origin_not_allowed");
    let error = body["error"].as_str().unwrap();
    assert!(error.contains("https://evil.example") && error.contains("--allowed-origin"));
    assert_eq!(status(&server, "null").await, 403);
    assert_eq!(status(&server, "http://127.0.0.1:1").await, 403);
    server
        .reaches("connections_refused_total", r#"reason="origin""#, 3.0)
        .await;
    for own in ["127.0.0.1", "localhost", "[::1]"] {
        let origin = format!("http://{own}:{port}");
        assert_eq!(status(&server, &origin).await, 101, "{origin}");
    }
    assert_eq!(shake(&server, &[]).await.status, 101, "no page");
}

#[tokio::test]
async fn a_page_on_the_list_may_connect() {
    let flags = [
        "--allowed-origin",
        "https://app.example,http://localhost:5173",
    ];
    let server = TestServer::start(&flags).await;
    for (origin, expected) in [
        ("https://app.example", 101),
        ("http://localhost:5173", 101),
        ("http://app.example", 403),
        ("https://app.example:8443", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        assert_eq!(status(&server, origin).await, expected, "{origin}");
    }
    let server = TestServer::start(&["--allowed-origin", "*"]).await;
    assert_eq!(status(&server, "https://evil.example").await, 101);
    let (code, said) = run(&["--allowed-origin", "https://app.example/"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("without a path"), "{said}");
}

#[tokio::test]
async fn a_subprotocol_that_was_offered_is_answered() {
    let server = TestServer::start(&[]).await;
    for (lines, expected) in [
        (&["voicematch.1"][..], Some("voicematch.1")),
        (&["chat, voicematch.1"], Some("voicematch.1")),
        (&["chat", "voicematch.1"], Some("voicematch.1")),
        (&["chat, other"], Some("chat")),
        (&["resume.secret.7, token.a.b.c, chat"], Some("chat")),
        (&["voicematch.1, token.secret"], Some("voicematch.1")),
        (&["token.secret"], None),
        (&["resume.secret.7"], None),
        (&[], None),
    ] {
        let lines = lines.iter();
        let lines: Vec<_> = lines
            .map(|line| format!("Sec-WebSocket-Protocol: {line}"))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let response = shake(&server, &lines).await;
        assert_eq!(response.status, 101);
        assert_eq!(
            response.header("sec-websocket-protocol"),
            expected,
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn a_browser_that_asks_for_an_icon_gets_no_error() {
    let server = TestServer::start(&[]).await;
    let icon = server.public("/favicon.ico").await;
    assert_eq!((icon.status, icon.body.len()), (204, 0));
    assert!(icon.header("cache-control").unwrap().contains("max-age"));
}
