//! What is in the log, and what must never be.

use std::{
    fs::File,
    io::{PipeReader, Write, pipe},
    process::Stdio,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{RawSocket, TestServer, User, client_frame, eventually, pair};

const MARKER: &str = "m4rk3r-0f-a-pr1vate-talk";

#[tokio::test]
async fn a_json_log_is_one_object_a_line_from_start_to_stop() {
    let flags = ["--log-format", "json", "--drain-timeout", "1s"];
    let mut server = TestServer::start(&flags).await;
    let _user = User::connect(&server).await;
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    let log: Vec<Value> = server
        .process
        .stderr()
        .iter()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    for line in &log {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    let position = |message: &str| log.iter().position(|line| line["message"] == message);
    let starting = position("starting").unwrap();
    assert_eq!(log[starting]["version"], env!("CARGO_PKG_VERSION"));
    let listening = position("listening").unwrap();
    assert_eq!(log[listening]["public"], server.public.to_string());
    assert_eq!(log[listening]["admin"], server.admin.to_string());
    let draining = position("draining").unwrap();
    assert_eq!(log[draining]["sessions"], 1);
    let stopped = position("stopped").unwrap();
    assert!(starting == 0 && listening < draining && draining < stopped);
    assert_eq!(stopped, log.len() - 1);
}

#[tokio::test]
async fn a_server_that_cannot_listen_has_said_what_was_started() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = crate::support::binary();
    command.args(["--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    let mut process = crate::support::Process::spawn(command);
    assert_eq!(process.exit_code().await, Some(1));
    let log = process.stderr();
    assert!(log.iter().any(|line| line.contains("starting")), "{log:#?}");
}

#[tokio::test]
async fn an_unusual_close_is_one_line_and_a_usual_one_none() {
    let server = TestServer::start(&["--log-format", "json"]).await;
    let user = User::connect(&server).await;
    user.close().await;
    User::connect(&server).await.reset();
    let reasons = [
        (client_frame(0x82, b"x"), "unsupported_data"),
        (client_frame(0x83, b"x"), "protocol_error"),
        (client_frame(0x81, b"\xff"), "invalid_utf8"),
    ];
    let mut ids = Vec::new();
    for (frame, _) in &reasons {
        let mut socket = RawSocket::open(&server).await;
        socket.write(frame).await;
        socket.expect_close().await;
        ids.push(socket.id);
    }
    server
        .reaches("websocket_active_connections", "", 0.0)
        .await;
    let closed = || -> Vec<Value> {
        let log = server.process.stderr();
        let lines = log.iter().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line.get("reason").is_some())
            .collect()
    };
    eventually("every line is written", async || {
        closed().len() >= reasons.len()
    })
    .await;
    let closed = closed();
    assert_eq!(closed.len(), reasons.len(), "{closed:#?}");
    for ((line, (_, reason)), id) in closed.iter().zip(&reasons).zip(&ids) {
        assert_eq!(
            (&line["level"], &line["message"]),
            (&json!("INFO"), &json!("closed"))
        );
        assert_eq!(
            (&line["reason"], &line["session"]),
            (&json!(reason), &json!(id))
        );
    }
}

#[tokio::test]
async fn no_word_of_a_user_is_logged_at_any_level() {
    let mut server = TestServer::start(&["--log", "trace", "--drain-timeout", "0"]).await;
    let (mut first, mut second) = pair(&server).await;
    for kind in ["offer", "answer", "ice_candidate", "message"] {
        first.send(json!({"type": kind, "payload": MARKER})).await;
        second.expect(kind).await;
    }
    let text = format!(r#"{{"type":"{MARKER}","id":"{MARKER}"}}"#);
    first.send_text(text).await;
    first.expect("error").await;
    first.send_text(format!("{MARKER} is no JSON")).await;
    first.expect("error").await;
    first
        .send(json!({"type": "offer", "payload": 1, "to": MARKER}))
        .await;
    first.expect("error").await;
    first.send(json!({"type": "leave_room"})).await;
    first
        .wait_with(json!({"language": MARKER, "interests": [MARKER]}))
        .await;
    let mut binary = RawSocket::open(&server).await;
    binary.write(&client_frame(0x82, MARKER.as_bytes())).await;
    binary.expect_close().await;
    let mut closing = RawSocket::open(&server).await;
    let farewell = [&1000u16.to_be_bytes()[..], MARKER.as_bytes()].concat();
    closing.write(&client_frame(0x88, &farewell)).await;
    closing.expect_close().await;
    server.process.signal(Signal::TERM);
    server.process.exit_code().await;
    let log = server.process.stderr();
    assert!(log.iter().any(|line| line.contains("stopped")));
    let detailed = log.iter().any(|line| line.contains("DEBUG"));
    assert!(detailed, "the level was not taken");
    for line in log {
        assert!(!line.contains(MARKER), "{line}");
    }
}

#[tokio::test]
async fn nothing_is_logged_for_each_message() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let (mut first, mut second) = pair(&server).await;
    let before = server.process.stderr();
    for i in 0..200 {
        first
            .send(json!({"type": "message", "payload": i, "id": i}))
            .await;
        first.expect("ack").await;
        second.expect("message").await;
        first.send(json!({"type": "dance"})).await;
        first.expect("error").await;
    }
    assert_eq!(server.process.stderr(), before);
}

#[tokio::test]
async fn a_quiet_log_is_quiet() {
    let server = TestServer::start(&["--log", "error"]).await;
    pair(&server).await;
    assert!(server.process.stderr().is_empty());
}

#[tokio::test]
async fn many_sessions_that_end_for_the_same_reason_are_a_sum_in_the_log() {
    let flags = [
        "--heartbeat",
        "300ms",
        "--heartbeat-deadline",
        "300ms",
        "--log-format",
        "json",
    ];
    let server = TestServer::start(&flags).await;
    // Raw sockets answer no ping.
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(RawSocket::open(&server).await);
    }
    let closed = || -> Vec<Value> {
        let log = server.process.stderr();
        let lines = log.iter().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["reason"] == "heartbeat_timeout")
            .collect()
    };
    let sessions = |line: &Value| line["sessions"].as_u64().unwrap_or(1);
    eventually("every session is in the log", async || {
        closed().iter().map(sessions).sum::<u64>() == 60
    })
    .await;
    assert!(closed().len() <= 30, "{:#?}", closed());
}

/// A pipe that is full, as long as nobody reads from it.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = pipe().unwrap();
    let mut fill = writer.try_clone().unwrap();
    // As much as a pipe holds by default, see pipe(7); the thread fills what is left, and waits.
    fill.write_all(&[b'x'; 1 << 16]).unwrap();
    std::thread::spawn(move || fill.write_all(&[b'x'; 1 << 20]));
    (reader, writer.into())
}

#[tokio::test]
async fn a_server_serves_and_ends_although_nobody_reads_its_output_or_log() {
    let flags = ["--drain-timeout", "300ms"];
    for is_log in [false, true] {
        let (_reader, pipe) = full_pipe();
        let (stdout, stderr) = if is_log {
            (None, Some(pipe))
        } else {
            (Some(pipe), None)
        };
        let mut server = TestServer::start_into(stdout, stderr, &flags).await;
        pair(&server).await;
        server.process.signal(Signal::TERM);
        assert_eq!(server.process.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn log_lines_that_find_no_room_are_counted() {
    let (_reader, pipe) = full_pipe();
    let server = TestServer::start_into(None, Some(pipe), &["--log", "debug"]).await;
    eventually("lines are lost", async || {
        for _ in 0..500 {
            let mut socket = RawSocket::connect(&server).await;
            socket.write(b"no request\r\n\r\n").await;
            socket.response().await;
        }
        server.metric("log_lines_dropped_total", "").await > 0.0
    })
    .await;
    pair(&server).await;
}

#[tokio::test]
async fn log_lines_that_cannot_be_written_are_counted() {
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    let server =
        TestServer::start_into(None, Some(full_disk.into()), &["--max-connections", "9"]).await;
    // "starting" and "listening".
    server.reaches("log_lines_dropped_total", "", 2.0).await;
    pair(&server).await;
}

/// What a server logs at its start in a terminal, with this in its environment.
async fn log_in_a_terminal(name: &str, value: &str) -> String {
    use rustix::{
        fs::{Mode, OFlags, open},
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    };
    let reader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&reader).unwrap();
    unlockpt(&reader).unwrap();
    let name_of_terminal = ptsname(&reader, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let terminal = open(name_of_terminal.as_c_str(), flags, Mode::empty()).unwrap();
    let mut command = crate::support::binary();
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command.env(name, value).stderr(terminal);
    let mut server = command.stdout(Stdio::null()).spawn().unwrap();
    drop(command);
    let read = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        while !text.windows(9).any(|word| word == b"listening") {
            let mut part = [0; 4096];
            let n = rustix::io::read(&reader, &mut part).unwrap();
            text.extend_from_slice(&part[..n]);
        }
        String::from_utf8(text).unwrap()
    });
    let text = crate::support::within("the log", read).await.unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    text
}

#[tokio::test]
async fn in_a_terminal_the_log_has_colours_unless_they_are_unwanted() {
    for (name, value, colours) in [
        ("TERM", "xterm", true),
        ("TERM", "dumb", false),
        ("NO_COLOR", "1", false),
        ("NO_COLOR", "", true),
    ] {
        let text = log_in_a_terminal(name, value).await;
        assert_eq!(text.contains('\u{1b}'), colours, "{name}={value} {text:?}");
    }
}
