//! One server numbers the segments of a session, and another one takes it up when that one has written all of it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{
    TestServer, binary,
    jwt::Folder,
    place::Place,
    talk::{Part, Talk, words},
};

/// Finals late, so that the last words come with the drain.
const FAKE: &str = "fake:?delay=10ms&final=5s";

/// Connects as soon as the server has the session.
async fn come_back(server: &TestServer, token: &str, query: &str) -> Part {
    let begun = Instant::now();
    loop {
        let part = Part::connect(server, token, query).await.unwrap();
        if part.ready["type"] == "ready" {
            return part;
        }
        let code = part.ready["code"].as_str().unwrap();
        assert!(["draining", "session_elsewhere"].contains(&code), "{code}");
        assert!(begun.elapsed() < Duration::from_secs(60), "never");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The words of all segments that are stored, whose numbers have no hole.
async fn stored(talk: &Talk, server: &TestServer) -> Vec<String> {
    let file = talk.transcript(server, "transcript.json").await;
    let file: Value = serde_json::from_str(&file).unwrap();
    let mut segments = file["segments"].as_array().unwrap().clone();
    segments.sort_by_key(|segment| segment["seq"].as_u64());
    for (index, segment) in segments.iter().enumerate() {
        assert_eq!(segment["seq"], index + 1, "{file}");
    }
    let texts = segments.iter().map(|segment| segment["text"].as_str());
    words(texts.map(Option::unwrap))
}

/// Says something as a recording.
async fn say(speaker: &mut Part, chunks: u32) -> Vec<String> {
    speaker
        .send(json!({"type": "start", "live": false, "ack": "each"}))
        .await;
    let said = speaker.say(1, chunks).await;
    for _ in 0..chunks {
        speaker.expect("audio_ack").await;
    }
    said
}

#[tokio::test]
async fn a_session_goes_on_at_the_server_that_takes_the_place_with_each_word_once() {
    let place = Place::new("10s");
    let state = place.folder.path().join("state");
    let flags = ["--transcribe", FAKE, "--state-dir", state.to_str().unwrap()];
    let mut server = place.start_with(&flags).await;
    let talk = Talk::create(&server, json!({})).await;
    let (_, ann) = talk.join(&server, "ann", "speaker").await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let mut speaker = Part::connect(&server, &ann, "").await.unwrap();
    let (mut said, mut heard, mut last) = (Vec::new(), Vec::new(), 0);
    for _ in 0..3 {
        said.extend(say(&mut speaker, 17).await);
        let next = place.start_with(&flags).await;
        // The last words come before the end.
        let code = loop {
            match host.next().await {
                Ok(told) if told["type"] == "final" => {
                    last = told["seq"].as_u64().unwrap();
                    heard.extend(words(told["text"].as_str()));
                }
                Ok(_) => {}
                Err(code) => break code,
            }
        };
        assert_eq!((code, &heard), (Some(4000), &said));
        assert_eq!(speaker.closed().await, Some(4000));
        host = come_back(&next, &talk.host, &format!("?after={last}")).await;
        let chunk = speaker.next_chunk();
        speaker = come_back(&next, &ann, "").await;
        speaker.begin_at(chunk);
        assert_eq!(stored(&talk, &next).await, said);
        server = next;
    }
    drop(server);
}

#[tokio::test]
async fn a_session_of_a_server_that_is_lost_with_its_disk_is_free_when_its_lease_is_over() {
    let folder = Folder::new("lease");
    let database = format!("sqlite:{}", folder.path("shared.db"));
    let key = "k".repeat(32);
    let file = folder.write("key", &key);
    let (states, common) = (
        ["first", "second"].map(|name| folder.path(name)),
        ["--transcribe", FAKE, "--database", &database, "--state-dir"],
    );
    let own = [&*states[0], "--transcribe-token-key-file", &file];
    let first = TestServer::start(&[&common[..], &own].concat()).await;
    // The key as other transcription services take it.
    let mut command = binary();
    command.env("TRANSCRIPTION_JWT_SECRET", &key);
    let flags = [&common[..], &[&*states[1]]].concat();
    let second = TestServer::start_command(command, "127.0.0.1:0", &flags).await;
    let log = second.process.stderr().join("\n");
    assert!(
        log.contains("TRANSCRIPTION_JWT_SECRET holds a secret"),
        "{log}"
    );
    let talk = Talk::create(&first, json!({})).await;
    let mut host = Part::connect(&first, &talk.host, "").await.unwrap();
    let said = say(&mut host, 10).await;
    let mut stranger = Part::connect(&second, &talk.host, "").await.unwrap();
    assert_eq!(stranger.ready["code"], "session_elsewhere");
    assert_eq!(stranger.closed().await, Some(4000));
    host.send(json!({"type": "pause"})).await;
    while host.expect("stored").await["through"] == 0 {}
    first.process.signal(Signal::KILL);
    let mut host = come_back(&second, &talk.host, "?after=0").await;
    assert_eq!(words(host.expect("final").await["text"].as_str()), said);
}
