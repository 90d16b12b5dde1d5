//! Profiles, as Go's tools expect them.

use std::{io::Read, process::Command};

use flate2::read::GzDecoder;

use crate::support::{TestServer, User, eventually, http::Response, pair};

/// What was compressed; panics where it was not.
fn unzipped(reply: &Response) -> Vec<u8> {
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    assert_eq!(reply.body[..2], [0x1f, 0x8b], "gzip's magic number");
    let mut bytes = Vec::new();
    GzDecoder::new(&reply.body[..])
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// What `go tool pprof -top` prints of a profile; `None` without Go.
fn top(profile: &[u8], name: &str) -> Option<String> {
    let directory = std::env::temp_dir().join(format!("voicematch-e2e-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(name);
    std::fs::write(&file, profile).unwrap();
    let output = Command::new("go")
        .args(["tool", "pprof", "-top"])
        .arg(&file)
        .output();
    std::fs::remove_file(&file).unwrap();
    let Ok(output) = output else {
        eprintln!("skipped: go is not installed (Debian: golang-go)");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn the_index_leads_to_every_profile() {
    let server = TestServer::start(&[]).await;
    let index = server.admin("/debug/pprof/").await;
    assert!(
        index
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    for name in ["profile", "flamegraph", "heap", "tasks"] {
        assert!(index.text().contains(&format!("href=\"{name}")), "{name}");
    }
    assert_eq!(server.admin("/debug/pprof/nonsense").await.status, 404);
}

#[tokio::test]
async fn a_cpu_profile_opens_in_go_and_names_functions() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let (mut first, mut second) = pair(&server).await;
    let text = format!(r#"{{"type":"message","payload":"{}"}}"#, "x".repeat(20_000));
    let busy = async {
        loop {
            first.send_text(text.as_str()).await;
            second.next_text().await;
        }
    };
    let reply = tokio::select! {
        reply = server.admin("/debug/pprof/profile?seconds=1") => reply,
        () = busy => unreachable!(),
    };
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    assert!(unzipped(&reply).len() > 100);
    if let Some(top) = top(&reply.body, "cpu") {
        assert!(top.contains("flat%"), "{top}");
        assert!(top.contains("voicematch_server::"), "{top}");
    }
}

#[tokio::test]
async fn a_flamegraph_is_svg() {
    let server = TestServer::start(&[]).await;
    let reply = server.admin("/debug/pprof/flamegraph?seconds=0.2").await;
    assert_eq!(reply.header("content-type"), Some("image/svg+xml"));
    assert!(reply.text().contains("<svg") && reply.text().trim_end().ends_with("</svg>"));
}

#[tokio::test]
async fn a_heap_profile_opens_in_go() {
    let server = TestServer::start(&[]).await;
    let reply = server.admin("/debug/pprof/heap").await;
    unzipped(&reply);
    if let Some(top) = top(&reply.body, "heap") {
        assert!(top.contains("flat%"), "{top}");
    }
}

#[tokio::test]
async fn tasks_are_counted_by_what_they_do() {
    let server = TestServer::start(&[]).await;
    let _pair = pair(&server).await;
    let mut waiting = User::connect(&server).await;
    waiting.wait().await;
    let _idle = [User::connect(&server).await, User::connect(&server).await];
    let text = server.admin("/debug/pprof/tasks?debug=1").await;
    let text = text.text();
    for line in [
        "2 @ websocket connection > session: in a room\n",
        "1 @ websocket connection > session: waiting\n",
        "2 @ websocket connection > session: idle\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let reply = server.admin("/debug/pprof/tasks").await;
    unzipped(&reply);
    if let Some(top) = top(&reply.body, "tasks") {
        assert!(top.contains("session: in a room"), "{top}");
    }
}

#[tokio::test]
async fn one_capture_at_a_time_and_none_outlives_its_client() {
    let server = TestServer::start(&[]).await;
    {
        // Either may come first: the long one is refused, too, while a short one runs.
        let first =
            async { while server.admin("/debug/pprof/profile?seconds=60").await.status == 409 {} };
        let refused = eventually("a second capture is refused", async || {
            server
                .admin("/debug/pprof/flamegraph?seconds=0.01")
                .await
                .status
                == 409
        });
        tokio::select! {
            () = first => panic!("a minute cannot have passed"),
            () = refused => {}
        }
    }
    // The first client has hung up: its capture ends with it.
    eventually("a capture is free again", async || {
        server
            .admin("/debug/pprof/profile?seconds=0.01")
            .await
            .status
            == 200
    })
    .await;
}

#[tokio::test]
async fn nonsense_for_a_length_is_refused() {
    let server = TestServer::start(&[]).await;
    for seconds in ["0", "-1", "x", "", "nan", "inf", "301", "1e99"] {
        for profile in ["profile", "flamegraph"] {
            let path = format!("/debug/pprof/{profile}?seconds={seconds}");
            let reply = server.admin(&path).await;
            assert_eq!(reply.status, 400, "{path}");
            assert!(reply.json()["error"].as_str().unwrap().contains("300"));
        }
    }
}
