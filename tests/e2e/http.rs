//! HTTP on both ports, handshakes that are not in order, and starting the program.

use serde_json::Value;

use crate::support::{
    Process, RawSocket, TestServer, User, binary,
    http::{get, request},
    pair,
    raw::handshake,
    run,
};

#[tokio::test]
async fn health_says_that_the_server_is_well() {
    let server = TestServer::start(&[]).await;
    let health = server.public("/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["status"], "ok");
    assert!(health.json()["version"].is_string());
    assert!(health.json()["uptime_seconds"].is_u64());
    assert_eq!(health.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn stats_are_true() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    let mut third = User::connect(&server).await;
    third.wait().await;
    third.find().await;
    third.expect_error("already_waiting").await;
    for _ in 0..3 {
        first
            .send(serde_json::json!({"type": "message", "payload": 1}))
            .await;
        second.expect("message").await;
    }
    // What is counted after a client has been told is counted before that client is heard again.
    first.is_undisturbed().await;
    second.is_undisturbed().await;
    let mut stats = server.public("/stats").await.json();
    let relay_ms = stats["relay_ms"].take();
    for quantile in ["p50", "p90", "p95", "p99"] {
        let value = relay_ms[quantile].as_f64().unwrap();
        assert!(value > 0.0 && value < 1000.0, "{relay_ms}");
    }
    assert_eq!(relay_ms["count"], 3);
    let expected = [
        ("/connections", 3),
        ("/waiting", 1),
        ("/rooms", 1),
        ("/matches", 1),
        ("/messages_relayed", 3),
        ("/errors/already_waiting", 1),
        ("/errors/bad_json", 0),
        ("/match_wait_ms/count", 2),
    ];
    for (pointer, value) in expected {
        assert_eq!(
            stats.pointer(pointer),
            Some(&Value::from(value)),
            "{pointer} {stats}"
        );
    }
    assert!(stats["uptime_seconds"].as_f64().unwrap() > 0.0);
    assert!(stats["version"].is_string());
    let codes = stats["errors"].as_object().unwrap().len();
    assert_eq!(codes, voicematch_protocol::ErrorCode::ALL.len());
}

#[tokio::test]
async fn each_port_has_its_own_paths() {
    let server = TestServer::start(&[]).await;
    for path in ["/livez", "/readyz", "/metrics", "/debug/pprof/"] {
        assert_eq!(server.admin(path).await.status, 200, "{path}");
        assert_eq!(server.public(path).await.status, 404, "{path}");
    }
    for path in ["/health", "/stats", "/ws"] {
        assert_eq!(server.admin(path).await.status, 404, "{path}");
    }
    let lost = server.public("/nowhere?x=1").await;
    assert!(lost.json()["error"].as_str().unwrap().contains("/nowhere"));
    let moved = server.admin("/debug/pprof").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/debug/pprof/"))
    );
}

#[tokio::test]
async fn other_methods_than_get_are_refused_and_head_has_no_body() {
    let server = TestServer::start(&[]).await;
    for path in ["/health", "/stats", "/ws"] {
        for method in ["POST", "PUT", "DELETE"] {
            let reply = request(server.public, method, path, "").await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert!(reply.header("allow").unwrap().contains("GET"));
        }
    }
    for path in ["/livez", "/metrics", "/debug/pprof/heap"] {
        assert_eq!(
            request(server.admin, "POST", path, "").await.status,
            405,
            "{path}"
        );
    }
    for (address, path) in [(server.public, "/health"), (server.admin, "/livez")] {
        let whole = get(address, path).await;
        let head = request(address, "HEAD", path, "").await;
        assert_eq!(head.status, 200);
        assert_eq!(
            head.header("content-length"),
            whole.header("content-length")
        );
        assert!(head.body.is_empty());
    }
}

/// What answers this handshake, with `remove` taken out of it and `insert` put in.
async fn shake(
    server: &TestServer,
    remove: &str,
    insert: &str,
) -> (u16, Option<String>, RawSocket) {
    let mut socket = RawSocket::connect(server).await;
    let whole = handshake(server);
    assert!(whole.contains(remove));
    let text = whole.replace(remove, insert);
    socket.write(text.as_bytes()).await;
    let response = socket.response().await;
    let version = response.header("sec-websocket-version").map(str::to_owned);
    (response.status, version, socket)
}

#[tokio::test]
async fn handshakes_that_are_not_in_order_are_refused() {
    let server = TestServer::start(&[]).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let thirteen = Some("13".to_owned());
    let cases = [
        ("Upgrade: websocket\r\n", "", 426, None),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", 426, None),
        ("Connection: Upgrade\r\n", "", 426, None),
        (
            "Connection: Upgrade\r\n",
            "Connection: close\r\n",
            426,
            None,
        ),
        (version, "", 426, thirteen.clone()),
        (
            version,
            "Sec-WebSocket-Version: 8\r\n",
            426,
            thirteen.clone(),
        ),
        (version, "Sec-WebSocket-Version: 14\r\n", 426, thirteen),
        (key, "", 400, None),
        (key, "Sec-WebSocket-Key: \r\n", 400, None),
        (
            key,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",
            400,
            None,
        ),
        (
            key,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=\r\n",
            400,
            None,
        ),
        (
            key,
            "Sec-WebSocket-Key: dGhl!HNhbXBsZSBub25jZQ==\r\n",
            400,
            None,
        ),
        ("GET /ws", "POST /ws", 405, None),
        ("GET /ws", "GET /wss", 404, None),
    ];
    for (remove, insert, status, version) in cases {
        let (got, got_version, _) = shake(&server, remove, insert).await;
        assert_eq!(got, status, "{remove:?} -> {insert:?}");
        if version.is_some() {
            assert_eq!(got_version, version);
        }
    }
    assert_eq!(server.metric("sessions_total", "").await, 0.0);
    let plain = server.public("/ws").await;
    assert_eq!(
        (plain.status, plain.header("upgrade")),
        (426, Some("websocket"))
    );
}

#[tokio::test]
async fn a_handshake_in_http_1_0_is_refused() {
    let server = TestServer::start(&[]).await;
    let (status, _, _) = shake(&server, "HTTP/1.1", "HTTP/1.0").await;
    // RFC 6455 section 4.2.1: an HTTP/1.1 or higher GET request.
    assert!((400..=505).contains(&status), "{status}");
}

#[tokio::test]
async fn handshakes_that_look_unusual_and_are_in_order_pass() {
    let server = TestServer::start(&[]).await;
    let cases = [
        ("Upgrade: websocket\r\n", "upgrade: WebSocket\r\n"),
        (
            "Connection: Upgrade\r\n",
            "connection: keep-alive, UPGRADE\r\n",
        ),
        ("/ws HTTP", "/ws?app=x HTTP"),
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        ),
    ];
    for (remove, insert) in cases {
        let (status, _, mut socket) = shake(&server, remove, insert).await;
        assert_eq!(status, 101, "{insert:?}");
        socket.expect("session").await;
    }
}

#[tokio::test]
async fn the_answer_to_a_handshake_proves_that_the_key_was_read() {
    let server = TestServer::start(&[]).await;
    let mut socket = RawSocket::connect(&server).await;
    socket.write(handshake(&server).as_bytes()).await;
    let response = socket.response().await;
    // The key and its answer are the example of RFC 6455 section 1.3.
    let accept = response.header("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.status, 101);
    assert!(
        response
            .header("upgrade")
            .unwrap()
            .eq_ignore_ascii_case("websocket")
    );
    assert!(
        response
            .header("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    assert_eq!(response.header("sec-websocket-extensions"), None);
    assert_eq!(response.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn a_wrong_flag_ends_the_start_with_2_and_a_line_that_names_it() {
    let cases = [
        "--nonsense",
        "--listen nowhere",
        "--workers 1000000",
        "--heartbeat 0",
        "--heartbeat 1ns",
        "--heartbeat fast",
        "--heartbeat-deadline 1ns",
        "--handshake-timeout 1ns",
        "--idle-timeout 1ns",
        "--drain-timeout 1year",
        "--max-message-bytes 5",
        "--max-message-bytes 64KB",
        "--max-message-bytes 1GiB",
        "--outbox-messages 0",
        "--outbox-bytes 1000",
        "--max-header-bytes 1KiB",
        "--message-burst 0",
        "--max-connections 99999999",
        "--ice-server http://example.org",
        "--log inof",
        "--log sqlx=debug",
    ];
    for case in cases {
        let args: Vec<&str> = case.split(' ').collect();
        let (code, said) = run(&args).await;
        assert_eq!(code, Some(2), "{case} {said}");
        assert!(args.iter().all(|part| said.contains(part)), "{case} {said}");
    }
}

#[tokio::test]
async fn the_environment_sets_what_flags_do_not() {
    let variables = [
        ("VOICEMATCH_MAX_CONNECTIONS", "1"),
        ("VOICEMATCH_HEARTBEAT", "9s"),
        ("VOICEMATCH_MAX_MESSAGE_BYTES", "5000"),
        (
            "VOICEMATCH_ICE_SERVERS",
            "stun:a.example.org stun:b.example.org",
        ),
    ];
    let server = TestServer::start_with_env(&variables).await;
    let user = User::connect(&server).await;
    assert_eq!(user.session["heartbeat_ms"], 9000);
    assert_eq!(user.session["limits"]["max_message_bytes"], 5000);
    assert_eq!(user.session["ice_servers"].as_array().unwrap().len(), 2);
    assert_eq!(User::try_connect(&server).await.err(), Some(503));

    let mut command = binary();
    command.envs(variables);
    let flags = ["--heartbeat", "3s"];
    let server = TestServer::start_command(command, "127.0.0.1:0", &flags).await;
    let user = User::connect(&server).await;
    assert_eq!(user.session["heartbeat_ms"], 3000, "the flag wins");
}

#[tokio::test]
async fn help_names_every_flag_with_its_variable_and_default() {
    let mut command = binary();
    command.arg("--help");
    let mut process = Process::spawn(command);
    assert_eq!(process.exit_code().await, Some(0));
    let lines = process.stdout();
    let help = lines.join(" ");
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    let names: std::collections::BTreeSet<_> = flags
        .map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_lowercase()))
        .filter(|flag| {
            !matches!(
                *flag,
                "--help" | "--version" | "--user" | "--users" | "--url"
            )
        })
        .collect();
    assert!(names.len() >= 20, "{names:?}");
    for flag in names {
        let variable = flag[2..].replace('-', "_").to_uppercase();
        assert!(
            help.contains(&format!("[env: VOICEMATCH_{variable}")),
            "{flag}"
        );
    }
    let options = lines.split(|line| line.trim_start().starts_with("--"));
    let texts = options.skip(1).map(|lines| lines.join(" "));
    for text in texts.filter(|text| text.contains("[env: ")) {
        assert!(text.contains("[default: "), "{text}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let server = TestServer::start(&[]).await;
    let mut kept = RawSocket::connect(&server).await;
    for path in ["/health", "/stats", "/nothing", "/poll?wait=0", "/ws"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
        kept.write(request.as_bytes()).await;
        let status = kept.response().await.status;
        assert!([200, 404, 426].contains(&status), "{path} {status}");
    }
    // And becomes a stream in the end.
    let request = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
    kept.write(request.as_bytes()).await;
    let response = kept.response().await;
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    assert_eq!(response.header("x-accel-buffering"), Some("no"));
    server
        .reaches("sessions_active", r#"transport="sse""#, 1.0)
        .await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_the_answers() {
    let server = TestServer::start(&["--allowed-origin", "https://app.example"]).await;
    let origin = "Origin: https://app.example\r\n";
    for (method, path, status) in [
        ("GET", "/health", 200),
        ("GET", "/poll?wait=0", 200),
        ("GET", "/nothing", 404),
        ("GET", "/ws", 426),
        ("OPTIONS", "/send", 204),
    ] {
        let reply = request(server.public, method, path, origin).await;
        assert_eq!(reply.status, status, "{path}");
        let allowed = reply.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.example"), "{path}");
        assert_eq!(reply.header("vary"), Some("origin"));
    }
    let other = "Origin: https://evil.example\r\n";
    for (path, status) in [("/health", 200), ("/poll", 403), ("/events", 403)] {
        let reply = request(server.public, "GET", path, other).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
    }
}
