//! One server numbers the segments of a session, and another one takes it up when that one has written all of it.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    TestServer, binary,
    jwt::Folder,
    place::Place,
    talk::{Part, Talk, words},
};

/// Finals late, so that the last words come with the drain.
const FAKE: &str = "fake:?delay=10ms&final=5s";

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
        said.extend(speaker.record(17).await);
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
        let query = format!("?after={last}");
        (host, _) = Part::come_back(&next, &talk.host, &query).await;
        let chunk = speaker.next_chunk();
        (speaker, _) = Part::come_back(&next, &ann, "").await;
        speaker.begin_at(chunk);
        let numbers: Vec<u64> = (1..=last).collect();
        assert_eq!(talk.stored(&next).await, (numbers, said.clone()));
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
    let said = host.record(10).await;
    let mut stranger = Part::connect(&second, &talk.host, "").await.unwrap();
    assert_eq!(stranger.ready["code"], "session_elsewhere");
    assert_eq!(stranger.closed().await, Some(4000));
    host.send(json!({"type": "pause"})).await;
    while host.expect("stored").await["through"] == 0 {}
    first.process.signal(Signal::KILL);
    let (mut host, _) = Part::come_back(&second, &talk.host, "?after=0").await;
    assert_eq!(words(host.expect("final").await["text"].as_str()), said);
}
