//! The bounds of sessions, of speakers and of what may be spent, in a server that has small ones.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    TestServer, becomes, eventually,
    hearing::Hearing,
    jwt::Folder,
    sqlite,
    talk::{Part, Talk, ask},
};

const FAKE: &str = "fake:?delay=10ms&partial=200ms&final=1s";

async fn server(folder: &Folder, limits: &[&str]) -> TestServer {
    let state = folder.path("state");
    let flags = ["--transcribe", FAKE, "--state-dir", &state];
    TestServer::start(&[&flags[..], limits].concat()).await
}

async fn speaker(server: &TestServer, talk: &Talk, user: &str) -> Part {
    let (_, token) = talk.join(server, user, "speaker").await;
    Part::connect(server, &token, "").await.unwrap()
}

/// What a speaker is told of the next frame: `audio_ack`, or the code of an error.
async fn answer(part: &mut Part) -> String {
    let start = json!({"type": "start", "live": false, "ack": "each"});
    part.send(start).await;
    part.say(1, 1).await;
    part.send(json!({"type": "ping"})).await;
    let mut answer = String::new();
    loop {
        let message = part.next().await.unwrap();
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        match &*text("type") {
            "pong" => return answer,
            "audio_ack" => answer = text("type"),
            "error" => answer = text("code"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn so_many_sessions_and_speakers_and_no_more() {
    let folder = Folder::new("counts");
    let limits = [
        "--transcribe-max-sessions",
        "1",
        "--transcribe-max-tracks",
        "1",
    ];
    let server = server(&folder, &limits).await;
    let talk = Talk::create(&server, json!({})).await;
    let (status, refusal) = ask(&server, "POST", "/api/sessions", None, &json!({})).await;
    assert_eq!(
        (status, &refusal["code"]),
        (429, &json!("too_many_sessions"))
    );
    let refused = "transcribe_refused_total";
    let count = server.metric(refused, r#"code="too_many_sessions""#).await;
    assert_eq!(count, 1.0);

    let mut ann = speaker(&server, &talk, "ann").await;
    assert_eq!(ann.ready["limits"]["tracks"], 1);
    assert_eq!(answer(&mut ann).await, "audio_ack");
    let mut ben = speaker(&server, &talk, "ben").await;
    assert_eq!(answer(&mut ben).await, "too_many_tracks");
    // When one has said all there is room for another.
    ann.send(json!({"type": "stop"})).await;
    eventually("there is room for Ben", async || {
        answer(&mut ben).await == "audio_ack"
    })
    .await;

    let end = format!("/api/sessions/{}/end", talk.slug);
    assert_eq!(ask(&server, "POST", &end, None, &Value::Null).await.0, 200);
    Talk::create(&server, json!({})).await;
    let count = server.metric(refused, r#"code="too_many_tracks""#).await;
    assert!(count >= 1.0, "{count}");
}

#[tokio::test]
async fn a_session_is_as_long_as_it_may_be_and_ends() {
    let folder = Folder::new("duration");
    let server = server(&folder, &["--transcribe-max-duration", "2s"]).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let mut ann = speaker(&server, &talk, "ann").await;
    assert_eq!(answer(&mut ann).await, "audio_ack");
    let ended = host.expect("ended").await;
    assert_eq!(ended["reason"], "max_duration");
    assert_eq!(
        (&ended["segments"], &ended["stored_through"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(host.closed().await, Some(1000));
    assert_eq!(ann.expect("ended").await["reason"], "max_duration");
    let mut late = Part::connect(&server, &talk.host, "").await.unwrap();
    assert_eq!(late.closed().await, Some(4504));
    // What was said until then is there.
    let text = talk.transcript(&server, "transcript.txt").await;
    assert!(text.contains("ann: "), "{text}");
}

const THREE_SECONDS: [&str; 2] = ["--transcribe-max-seconds-per-day", "3"];

/// A server that may transcribe three seconds a day, and has heard two of them.
async fn two_of_three_seconds(folder: &Folder) -> (TestServer, Hearing) {
    let server = server(folder, &THREE_SECONDS).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(20).await;
    hearing.breathe().await;
    hearing.until(|now| now.heard.len() == 20).await;
    (server, hearing)
}

#[tokio::test]
async fn the_seconds_of_a_day_are_spent_once_also_over_a_restart() {
    let folder = Folder::new("budget");
    let (mut server, mut hearing) = two_of_three_seconds(&folder).await;
    hearing.say(30).await;
    hearing.until(|now| now.errors == ["budget"]).await;
    let stop = json!({"type": "stop"});
    hearing.speaker.send(stop.clone()).await;
    hearing.until(|now| now.is_settled()).await;
    assert!(hearing.gaps.iter().all(|gap| gap.2 == "budget"));
    hearing.assert_gaps_are_what_is_missing();
    hearing.assert_stored(&server).await;
    let metrics = server.metrics().await;
    let refused = metrics.get("transcribe_refused_total", r#"code="budget""#);
    assert_eq!(refused, 1.0);
    let sent = metrics.get("transcribe_audio_seconds_total", "");
    // The sum of many fractions is not exact.
    assert!((2.7..3.01).contains(&sent), "{sent} s");
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));

    let server = self::server(&folder, &THREE_SECONDS).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(20).await;
    hearing.until(|now| now.errors == ["budget"]).await;
    hearing.speaker.send(stop).await;
    hearing.until(|now| now.is_settled()).await;
    assert_eq!(hearing.heard.len(), 0);
    assert_eq!(
        server.metric("transcribe_audio_seconds_total", "").await,
        0.0
    );
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn the_seconds_of_a_day_are_spent_once_also_by_a_server_that_is_killed() {
    let folder = Folder::new("budget-killed");
    let (mut server, _hearing) = two_of_three_seconds(&folder).await;
    let file = folder.path("state/transcripts.db");
    let spent = "SELECT SUM(audio_ms) FROM spent";
    // In the middle of their track.
    becomes("2700".to_owned(), "what the day has spent", async || {
        sqlite::ask(&file, spent)
    })
    .await;
    server.process.signal(Signal::KILL);
    assert_eq!(server.process.exit_code().await, None);

    let server = self::server(&folder, &THREE_SECONDS).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(10).await;
    hearing.until(|now| now.errors == ["budget"]).await;
    let sent = server.metric("transcribe_audio_seconds_total", "").await;
    // The sum of many fractions is not exact.
    assert!(sent < 0.301, "{sent} s");
}

#[tokio::test]
async fn a_speaker_who_is_back_at_once_goes_on_with_their_track() {
    let folder = Folder::new("back");
    let server = server(&folder, &[]).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let (id, token) = talk.join(&server, "ann", "speaker").await;
    for count in 0..3 {
        let mut ann = Part::connect(&server, &token, "").await.unwrap();
        if count > 0 {
            let gap = host.expect("gap").await;
            assert_eq!(gap["speaker"], id.as_str());
            assert_eq!(gap["reason"], "speaker_away");
            assert!(gap["from_ms"].as_u64() <= gap["to_ms"].as_u64(), "{gap}");
        }
        assert_eq!(answer(&mut ann).await, "audio_ack");
        ann.say(1, 10).await;
        host.expect("final").await;
        ann.close(1000).await;
        // The server notices it before the speaker is back.
        server
            .reaches("transcribe_active_connections", "", 1.0)
            .await;
    }
    let bridges = server
        .metric("transcribe_active_bridges", r#"provider="fake""#)
        .await;
    assert_eq!(bridges, 1.0);
}

#[tokio::test]
async fn a_speaker_whose_connection_was_dead_is_back_with_a_gap() {
    let folder = Folder::new("replaced");
    let server = server(&folder, &[]).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let (id, token) = talk.join(&server, "ann", "speaker").await;
    let mut ann = Part::connect(&server, &token, "").await.unwrap();
    let away = Duration::from_millis(700);
    // The second time they have said that they pause.
    for pauses in [false, true] {
        assert_eq!(answer(&mut ann).await, "audio_ack");
        if pauses {
            ann.send(json!({"type": "pause"})).await;
            ann.send(json!({"type": "ping"})).await;
            ann.expect("pong").await;
        }
        // Nothing comes, and for the server the connection is there.
        tokio::time::sleep(away).await;
        let next = Part::connect(&server, &token, "").await.unwrap();
        assert_eq!(ann.closed().await, Some(4501));
        ann = next;
    }
    host.send(json!({"type": "stop"})).await;
    let mut gaps = Vec::new();
    loop {
        let message = host.next().await.unwrap();
        match message["type"].as_str() {
            Some("gap") => gaps.push(message),
            Some("ended") => break,
            _ => {}
        }
    }
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(gap["speaker"], id.as_str());
    assert_eq!(gap["reason"], "speaker_away");
    let ms = |name: &str| gap[name].as_u64().unwrap();
    let missing = Duration::from_millis(ms("to_ms") - ms("from_ms"));
    assert!(missing >= away - Duration::from_millis(50), "{gap}");
}
