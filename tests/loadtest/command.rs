//! Flags and exit codes.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    LOAD, command,
    fake::{Fake, Faults},
    run,
};

#[tokio::test]
async fn a_run_in_which_nothing_was_sent_is_invalid() {
    let more = ["--duration", "200ms", "--signal-interval", "1h"];
    let fake = Fake::start(Faults::default()).await;
    let ran = run(
        &fake.url(),
        &[&["--users", "2", "--spacing", "1ms"][..], &more].concat(),
    )
    .await;
    assert_eq!(
        (ran.code, &ran.json["outcome"]),
        (Some(98), &Value::from("invalid")),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("nothing was measured"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn metrics_asked_for_and_not_there_are_no_pass() {
    let fake = Fake::start(Faults::default()).await;
    let admin = format!("http://{}/metrics", fake.address);
    let url = fake.url();
    let args = [&[&url, "--admin-url", &admin], &LOAD[..]].concat();
    let output = command(&args).output().await.expect("the binary runs");
    assert_eq!(
        output.status.code(),
        Some(98),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    // Bound and dropped: nobody listens on this port now.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound")
    };
    let ran = run(&format!("ws://{address}/ws"), &[]).await;
    assert_eq!(ran.code, Some(3));
    let wanted = [
        &address.to_string()[..],
        "connect_refused",
        "start the server",
    ];
    assert!(
        wanted.iter().all(|part| ran.stderr.contains(part)),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn wrong_flags_are_named() {
    let far = ["--shard", "1/2", "--start-at", "9999-01-31T12:00:00Z"];
    let wrong: [(&[&str], &str); 11] = [
        (&["--users", "0"], "0 users"),
        (&["--duration", "soon"], "soon"),
        (&["--duration", "-5s"], "such as 10ms, 5s, 30m or 1h"),
        (&["--threshold", "match_success >= 200%"], "100%"),
        (&["--nonsense"], "--nonsense"),
        (&["--users", "900000"], "open files"),
        (&["--report", "/dev/null/x.json"], "/dev/null/x.json"),
        (&["--signal-interval", "1us"], "once in 1ms"),
        // No machine has an address of this block (RFC 1112, section 4).
        (
            &["--source-ips", "240.0.0.1"],
            "not an address of this machine",
        ),
        (&["ws://me:secret@127.0.0.1:1/"], "Authorization"),
        (&far, "next 24 hours"),
    ];
    for (args, part) in wrong {
        let output = command(args).output().await.expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn without_files_to_open_it_says_so() {
    let binary = env!("CARGO_BIN_EXE_loadtest");
    for (limit, part) in [(4, "cannot start"), (20, "open files")] {
        let script = format!("ulimit -n {limit}; exec {binary} --users 2");
        let mut shell = tokio::process::Command::new("sh");
        let output = shell.args(["-c", &script]).output().await;
        let output = output.expect("there is a shell");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(part), "{limit}: {stderr}");
        assert!(!stderr.contains("panicked"), "{limit}: {stderr}");
    }
}

#[tokio::test]
async fn help_names_every_default_and_environment_twin() {
    let output = command(&["--help"])
        .output()
        .await
        .expect("the binary runs");
    let help = String::from_utf8_lossy(&output.stdout);
    for part in [
        "--users",
        "LOADTEST_USERS",
        "[default: 100]",
        "Examples:",
        "Exit code:",
    ] {
        assert!(help.contains(part), "no {part} in {help}");
    }
}

#[tokio::test]
async fn help_for_shells_and_readers_is_made_from_the_flags() {
    for (args, expected) in [
        (&["completions", "bash"][..], "--signal-interval"),
        (&["completions", "fish"], "signal-interval"),
        (&["man"], "signal\\-interval"),
    ] {
        let output = command(args).output().await.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}");
        assert!(said.contains(expected), "{args:?}: {said}");
        // A reader who has read enough is no error.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut deaf = command(args);
        let deaf = deaf.stdout(writer).stderr(Stdio::piped()).spawn();
        let output = deaf.expect("the binary runs").wait_with_output().await;
        let output = output.expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{args:?}: {said}"
        );
    }
}
