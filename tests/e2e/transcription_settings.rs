//! Flags of transcription, and what a server does by them.

use serde_json::{Value, json};

use rustix::process::Signal;

use crate::support::{
    TestServer, becomes, eventually,
    hearing::Hearing,
    http,
    jwt::Folder,
    run, sqlite,
    talk::{Part, Talk, ask},
};

const NO_MIGRATION: &str = "--no-database-migrate";

/// Creates a session, and ends it.
async fn over(server: &TestServer, slug: &str) {
    let talk = Talk::create(server, json!({"slug": slug})).await;
    let path = format!("/api/sessions/{slug}/end");
    let ended = ask(server, "POST", &path, Some(&talk.host), &Value::Null).await;
    assert_eq!(ended.0, 200, "{}", ended.1);
}

#[tokio::test]
async fn rows_are_written_together_and_deleted_as_the_flags_say() {
    let folder = Folder::new("storage-flags");
    let state = folder.path("state");
    let fake = "fake:?delay=400ms";
    let common = ["--transcribe", fake, "--state-dir", &state];
    // Without its tables the database is refused.
    let nowhere = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (code, said) = run(&[&common[..], &nowhere, &[NO_MIGRATION]].concat()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("migrations are off"), "{said}");

    let mut before = TestServer::start(&common).await;
    over(&before, "old").await;
    over(&before, "new").await;
    before.process.signal(Signal::TERM);
    assert_eq!(before.process.exit_code().await, Some(0));
    let aged = "UPDATE sessions SET created_ms = created_ms - 7200000, ended_ms = ended_ms - 7200000 WHERE slug = 'old'";
    sqlite::ask(&folder.path("state/transcripts.db"), aged);

    let together = [
        "--transcribe-flush-interval",
        "10s",
        "--transcribe-batch-size",
        "3",
    ];
    let more = ["--transcribe-retention", "1h", NO_MIGRATION];
    let server = TestServer::start(&[&common[..], &together, &more].concat()).await;
    let mut hearing = Hearing::begin(&server).await;
    // With the track these are three rows, and then three more: nothing waits for the interval, and none is written alone.
    for finals in [2, 5] {
        while hearing.last() < finals {
            hearing.goes_on().await;
        }
        hearing.until(|now| now.stored_through == finals).await;
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("transcribe_gathered_batches_total", ""), 2.0);
    let delays = "transcribe_store_delay_seconds";
    let stored = metrics.get(&format!("{delays}_count"), "");
    let soon = metrics.get(&format!("{delays}_bucket"), r#"le="10""#);
    assert_eq!(soon, stored, "rows that did not wait for the interval");

    let status = async |slug: &str| {
        let path = format!("/api/sessions/{slug}");
        ask(&server, "GET", &path, None, &Value::Null).await.0
    };
    becomes(404, "the old session", async || status("old").await).await;
    assert_eq!(status("new").await, 200);
}

#[tokio::test]
async fn audio_of_all_speakers_together_is_kept_up_to_its_bound() {
    let folder = Folder::new("buffers");
    let state = folder.path("state");
    // Nobody ever hears it.
    let flags = [
        "--transcribe",
        "fake:?open_fails=100%",
        "--state-dir",
        &state,
    ];
    let server = TestServer::start(&[&flags[..], &["--transcribe-buffers", "1MiB"]].concat()).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let mut speakers = Vec::new();
    for name in ["ann", "ben", "cleo", "dan"] {
        let (_, token) = talk.join(&server, name, "speaker").await;
        let mut speaker = Part::connect(&server, &token, "").await.unwrap();
        speaker.send(json!({"type": "start", "live": false})).await;
        // Less than the 10 s that are kept of each.
        speaker.say(1, 95).await;
        speaker.send(json!({"type": "stop"})).await;
        speakers.push(speaker);
    }
    while host.expect("gap").await["reason"] != "memory" {}
    // 38 s were said, and 32.8 s are a MiB.
    eventually("the rest is dropped", async || {
        let label = r#"reason="memory""#;
        let dropped = server.metric("transcribe_audio_dropped_seconds_total", label);
        let dropped = dropped.await;
        assert!(dropped < 10.0, "{dropped} s");
        dropped >= 5.0
    })
    .await;
}

#[tokio::test]
async fn what_is_said_is_in_the_log_only_if_it_is_wanted_there() {
    for (name, flags, is_logged) in [
        ("without", &[][..], false),
        ("with", &["--transcribe-log-text"], true),
    ] {
        let folder = Folder::new(&format!("log-text-{name}"));
        let state = folder.path("state");
        let common = [
            "--transcribe",
            "fake:",
            "--state-dir",
            &state,
            "--log",
            "trace",
        ];
        let server = TestServer::start(&[&common[..], flags].concat()).await;
        let mut hearing = Hearing::begin(&server).await;
        hearing.goes_on().await;
        hearing.assert_stored(&server).await;
        let log = server.process.stderr().join("\n");
        let word = hearing.heard.first().unwrap();
        assert_eq!(log.contains(word.as_str()), is_logged, "{name}: {word}");
    }
}

#[tokio::test]
async fn the_description_has_what_the_readme_has_and_needs_no_token() {
    let folder = Folder::new("api-described");
    let state = folder.path("state");
    let server = TestServer::start(&["--transcribe", "fake:", "--state-dir", &state]).await;
    let answer = http::get(server.public, "/api/openapi.json").await;
    assert_eq!(answer.status, 200);
    let api = answer.json();
    let version = api["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1"), "{version}");
    let readme = include_str!("../../server/README.md");
    let mut described = 0;
    for said in readme.split('`') {
        let Some((method, path)) = said.split_once(' ') else {
            continue;
        };
        let is_call = ["GET", "POST", "DELETE"].contains(&method) && path.starts_with("/api/");
        if !is_call || path == "/api/openapi.json" {
            continue;
        }
        let path = path.replace("transcript.json", "transcript.{format}");
        let operation = &api["paths"][&path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        let takes_body = operation["requestBody"].is_object();
        for (status, is_answered) in [
            ("401", true),
            ("404", true),
            ("405", true),
            ("408", takes_body),
            ("411", takes_body),
            ("413", takes_body),
            ("415", takes_body),
            ("429", true),
            ("500", true),
            ("503", true),
        ] {
            let described = &operation["responses"][status];
            assert_eq!(
                described.is_object(),
                is_answered,
                "{method} {path} {status}"
            );
        }
        described += 1;
    }
    assert!(described >= 7, "README names {described} calls");
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_at_the_start() {
    let transcribe = ["--transcribe", "fake"];
    for (flags, said) in [
        (
            &["--cluster", "redis://127.0.0.1:1", "--transcribe", "fake"][..],
            "DATABASE_URL",
        ),
        (
            &["--public-url", "https://a.example.org"],
            "--transcribe or --survey",
        ),
        (&["--public-url", "a.example.org:443"], "https, ws or wss"),
        (&["--public-url", "ftp://a.example.org"], "https, ws or wss"),
        (
            &["--public-url", "https://u:p@a.example.org"],
            "https, ws or wss",
        ),
        (&["--public-url", "https://a.example.org/vm"], "no path"),
        (&["--public-url", "https://a.example.org?x=1"], "no path"),
        (&["--public-url", "https://a.example.org/#x"], "no path"),
    ] {
        let is_url = said != "DATABASE_URL" && said != "--transcribe or --survey";
        let more = if is_url { &transcribe[..] } else { &[] };
        let (code, log) = run(&[flags, more].concat()).await;
        assert_eq!(code, Some(2), "{flags:?}: {log}");
        assert!(log.contains(said), "{flags:?}: {log}");
    }
}
