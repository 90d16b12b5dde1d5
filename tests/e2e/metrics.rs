//! The metrics are true against what was done, and readable by those who scrape them.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Frame, RawSocket, TestServer, User, client_frame, http::request, pair};

#[tokio::test]
async fn metrics_count_what_was_done() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    let (third, mut fourth) = pair(&server).await;
    let mut choosy = User::connect(&server).await;
    choosy
        .wait_with(json!({"language": "en", "interests": ["jazz"]}))
        .await;
    let mut indifferent = User::connect(&server).await;
    indifferent.wait().await;
    let _idle = User::connect(&server).await;

    let said = [
        ("offer", 1),
        ("answer", 2),
        ("ice_candidate", 3),
        ("message", 4),
    ];
    for (kind, count) in said {
        for i in 0..count {
            first.send(json!({"type": kind, "payload": i})).await;
            second.expect(kind).await;
        }
    }
    first.find().await;
    first.expect_error("already_in_room").await;
    fourth.send(json!({"type": "dance"})).await;
    fourth.expect_error("unknown_type").await;
    third.close().await;
    fourth.expect_peer_left().await;
    fourth.reset();

    // What is counted after a client has been told is counted before that client is heard again.
    second.is_undisturbed().await;
    server
        .reaches("sessions_closed_total", r#"reason="lost""#, 1.0)
        .await;
    server.reaches("connections_open", "", 5.0).await;
    let metrics = server.metrics().await;
    let expected = [
        ("connections_total", "", 7.0),
        ("connections_open", "", 5.0),
        ("sessions_total", "", 7.0),
        ("websocket_active_connections", "", 5.0),
        ("sessions", r#"state="idle""#, 1.0),
        ("sessions", r#"state="waiting""#, 2.0),
        ("sessions", r#"state="in_room""#, 2.0),
        ("matchmaking_waiting_users", r#"pool="interest""#, 1.0),
        ("matchmaking_waiting_users", r#"pool="language""#, 0.0),
        ("matchmaking_waiting_users", r#"pool="region""#, 0.0),
        ("matchmaking_waiting_users", r#"pool="anyone""#, 1.0),
        ("rooms_active", "", 1.0),
        ("matches_total", r#"pool="anyone",reach="local""#, 2.0),
        ("matches_total", r#"pool="interest",reach="local""#, 0.0),
        ("matchmaking_duration_seconds_count", "", 4.0),
        ("matchmaking_duration_seconds_bucket", r#"le="+Inf""#, 4.0),
        ("match_wait_seconds_count", r#"pool="anyone""#, 4.0),
        ("match_wait_seconds_count", r#"pool="interest""#, 0.0),
        ("messages_relayed_total", r#"type="offer""#, 1.0),
        ("messages_relayed_total", r#"type="answer""#, 2.0),
        ("messages_relayed_total", r#"type="ice_candidate""#, 3.0),
        ("messages_relayed_total", r#"type="message""#, 4.0),
        ("relay_duration_seconds_count", "", 10.0),
        ("relay_duration_seconds_bucket", r#"le="+Inf""#, 10.0),
        ("errors_total", r#"code="already_in_room""#, 1.0),
        ("errors_total", r#"code="unknown_type""#, 1.0),
        ("errors_total", r#"code="bad_json""#, 0.0),
        ("sessions_closed_total", r#"reason="closed""#, 1.0),
        ("sessions_closed_total", r#"reason="lost""#, 1.0),
        ("http_requests_total", r#"class="1xx""#, 7.0),
    ];
    for (name, labels, value) in expected {
        assert_eq!(metrics.get(name, labels), value, "{name}{{{labels}}}");
    }
    let relayed = metrics.get("relay_duration_seconds_sum", "");
    assert!(relayed > 0.0 && relayed < 10.0, "{relayed}");
    let waited = metrics.get("matchmaking_duration_seconds_sum", "");
    assert!(waited > 0.0 && waited < 60.0, "{waited}");
    let of_pool = metrics.get("match_wait_seconds_sum", r#"pool="anyone""#);
    assert_eq!(of_pool, waited, "all were matched in one kind of pool");
}

#[tokio::test]
async fn bytes_are_counted_as_they_cross_the_wire() {
    let server = TestServer::start(&[]).await;
    let mut socket = RawSocket::open(&server).await;
    let mut user = User::connect(&server).await;
    socket.meet(&mut user).await;
    let before = server.metrics().await;
    let frame = client_frame(Frame::TEXT, br#"{"type":"message","payload":"0123456789"}"#);
    socket.write(&frame).await;
    let text = user.next_text().await;
    let grown = [
        ("network_receive_bytes_total", frame.len()),
        ("network_transmit_bytes_total", text.len() + 2),
        ("relayed_bytes_total", text.len() + 2),
    ];
    for (name, bytes) in grown {
        let expected = before.get(name, "") + bytes as f64;
        server.reaches(name, "", expected).await;
    }
}

#[tokio::test]
async fn the_process_and_its_runtime_are_described() {
    let server = TestServer::start(&["--workers", "2"]).await;
    let _users = pair(&server).await;
    let metrics = server.metrics().await;
    let positive = [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ];
    for name in positive {
        let value = metrics.get(name, "");
        assert!(value > 0.0 || name.contains("cpu"), "{name} {value}");
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let started = metrics.get("process_start_time_seconds", "");
    assert!((now.as_secs_f64() - started).abs() < 60.0, "{started}");
    assert_eq!(metrics.get("runtime_workers", ""), 2.0);
    let tasks: f64 = metrics
        .all("runtime_tasks_alive")
        .map(|(_, count)| count)
        .sum();
    // At least that of the admin's own request; WebSockets without TLS have none.
    assert!(tasks >= 1.0, "{tasks}");
    let busy: Vec<f64> = metrics
        .all("runtime_worker_busy_seconds_total")
        .map(|(_, seconds)| seconds)
        .collect();
    assert!(
        busy.len() == 2 && busy.iter().sum::<f64>() > 0.0,
        "{busy:?}"
    );
    assert!(metrics.get("allocator_bytes", r#"kind="allocated""#) > 0.0);
    assert!(metrics.get("process_open_fds", "") >= 4.0);
}

/// Whether `text` is a name as Prometheus allows one.
fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[tokio::test]
async fn the_text_is_in_the_exposition_format() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "offer", "payload": 1})).await;
    second.expect("offer").await;
    let reply = server.admin("/metrics").await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let mut family = String::new();
    let mut kind = String::new();
    for line in reply.text().lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(is_name(name) && text.ends_with('.'), "{line}");
            assert!(name > family.as_str(), "in order, and each once: {line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, what) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(matches!(what, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(what == "counter", name.ends_with("_total"), "{line}");
            kind = what.to_owned();
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let _: f64 = value.parse().unwrap();
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            let suffix = name.strip_prefix(family.as_str()).unwrap();
            match kind.as_str() {
                "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            for label in labels.strip_suffix('}').unwrap().split_terminator(',') {
                let (name, value) = label.split_once('=').unwrap();
                assert!(is_name(name), "{line}");
                assert!(
                    value.len() >= 2 && value.starts_with('"') && value.ends_with('"'),
                    "{line}"
                );
            }
        }
    }
    check_with_promtool(reply.text());
}

fn check_with_promtool(text: &str) {
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else {
        eprintln!("skipped: promtool is not installed (Debian: prometheus)");
        return;
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn the_same_numbers_are_there_as_json() {
    let server = TestServer::start(&[]).await;
    let (_first, mut second) = pair(&server).await;
    second.is_undisturbed().await;
    let reply = request(
        server.admin,
        "GET",
        "/metrics",
        "Accept: application/json\r\n",
    )
    .await;
    let json: Value = reply.json();
    assert_eq!(json["rooms_active"], 1.0);
    assert_eq!(json["websocket_active_connections"], 2.0);
    assert_eq!(json["matches_total"]["anyone,local"], 1.0);
    assert_eq!(json["matchmaking_duration_seconds"]["count"], 2);
    let text = server.metrics().await;
    for name in json.as_object().unwrap().keys() {
        let plain = text.all(name).count();
        let bucket = format!("{name}_bucket");
        assert!(plain + text.all(&bucket).count() > 0, "{name}");
    }
    // One who takes anything gets text, as Prometheus and browsers do.
    let accept = "Accept: text/html,application/json;q=0.9,*/*;q=0.8\r\n";
    let reply = request(server.admin, "GET", "/metrics", accept).await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
}

#[tokio::test]
async fn no_label_comes_from_a_user() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    user.send(json!({"type": "m4rk3r", "id": "m4rk3r"})).await;
    user.expect("error").await;
    let words = json!({"language": "m4rk3r", "region": "m4rk3r", "interests": ["m4rk3r"]});
    user.wait_with(words).await;
    server.public("/m4rk3r").await;
    let text = server.admin("/metrics").await;
    assert!(!text.text().contains("m4rk3r"));
    let stats = server.public("/stats").await;
    assert!(!stats.text().contains("m4rk3r"));
}
