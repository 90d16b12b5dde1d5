//! Transcription sessions: audio in, transcripts out to whom they are for, and stored.

use std::{collections::BTreeSet, fs, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::support::{
    TestServer, becomes, http,
    jwt::Folder,
    run,
    talk::{Part, Talk, words},
};

/// Finals soon, so that tests are fast.
const FAKE: &str = "fake:?delay=10ms&partial=200ms&final=1s";

async fn server(folder: &Folder, more: &[&str]) -> TestServer {
    let state = folder.path("state");
    let flags = ["--transcribe", FAKE, "--state-dir", &state];
    TestServer::start(&[&flags[..], more].concat()).await
}

/// As a recording, so that it need not be spoken slowly.
fn recording() -> Value {
    json!({"type": "start", "live": false, "ack": "each"})
}

/// Reads finals until these words were heard; all that was told until then.
async fn hear(host: &mut Part, expected: &[String]) -> Vec<Value> {
    let mut told = Vec::new();
    let mut left: BTreeSet<_> = expected.iter().cloned().collect();
    while !left.is_empty() {
        let message = host.next().await.expect("goes on");
        if message["type"] == "final" {
            for word in words(message["text"].as_str()) {
                assert!(left.remove(&word), "{word} twice, or never said");
            }
        }
        told.push(message);
    }
    told
}

/// The figures of `/metrics` as JSON that other transcription services have, too.
async fn figures(server: &TestServer) -> Value {
    let only_json = "Accept: application/json\r\n";
    let answer = http::request(server.admin, "GET", "/metrics", only_json).await;
    let all = answer.json();
    let named = ["activeConnections", "activeGladiaBridges", "queue"];
    named
        .map(|name| (name.to_owned(), all[name].clone()))
        .into_iter()
        .collect()
}

#[tokio::test]
async fn the_host_reads_what_a_speaker_says_and_it_is_stored() {
    let folder = Folder::new("talk");
    let server = server(&folder, &[]).await;
    let talk = Talk::create(
        &server,
        json!({"slug": "talk-1", "title": "A talk", "language": "en"}),
    )
    .await;
    let (id, token) = talk.join(&server, "ann", "speaker").await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    assert_eq!(host.ready["role"], "host");
    assert_eq!(host.ready["next_seq"], 1);
    assert_eq!(host.ready["provider"], "fake");
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    assert_eq!(speaker.ready["participant"], id.as_str());
    speaker.send(recording()).await;
    let said = speaker.say(1, 25).await;
    assert_eq!(speaker.expect("audio_ack").await["ms"], 100);
    let now = figures(&server).await;
    assert_eq!(
        (&now["activeConnections"], &now["activeGladiaBridges"]),
        (&json!(2), &json!(1)),
        "{now}"
    );
    speaker.send(json!({"type": "stop"})).await;

    let told = hear(&mut host, &said).await;
    let partials = told.iter().filter(|message| message["type"] == "partial");
    assert!(partials.count() > 0);
    let finals: Vec<_> = told
        .iter()
        .filter(|message| message["type"] == "final")
        .collect();
    assert!(finals.len() >= 2, "{finals:?}");
    for (index, message) in finals.iter().enumerate() {
        assert_eq!(message["seq"], index + 1);
        assert_eq!(message["speaker"], id.as_str());
    }
    let last = finals.len() as u64;
    while host.expect("stored").await["through"].as_u64() < Some(last) {}
    // The session, two participants, the track and its end, and what was said.
    let rows = 5 + last;
    let queue =
        json!({"queueLength": 0, "totalQueued": rows, "totalFlushed": rows, "totalErrors": 0});
    let at_rest = json!({"activeConnections": 2, "activeGladiaBridges": 0, "queue": queue});
    becomes(at_rest, "/metrics as JSON", async || figures(&server).await).await;

    // A speaker reads nothing of it.
    speaker.send(json!({"type": "ping", "id": 7})).await;
    loop {
        let message = speaker.next().await.unwrap();
        assert!(
            !["partial", "final", "stored"].contains(&message["type"].as_str().unwrap()),
            "{message}"
        );
        if message["type"] == "pong" {
            assert_eq!(message["id"], 7);
            break;
        }
    }

    let file: Value =
        serde_json::from_str(&talk.transcript(&server, "transcript.json").await).unwrap();
    assert_eq!(file["title"], "A talk");
    let stored = file["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| segment["text"].as_str().unwrap());
    assert_eq!(words(stored), said);
    assert!(
        talk.transcript(&server, "transcript.vtt")
            .await
            .starts_with("WEBVTT\n\n00:00:0")
    );
    assert!(
        talk.transcript(&server, "transcript.srt")
            .await
            .starts_with("1\n00:00:0")
    );
    assert!(
        talk.transcript(&server, "transcript.txt")
            .await
            .contains("] ann: ")
    );

    host.send(json!({"type": "stop"})).await;
    let ended = host.expect("ended").await;
    assert_eq!(ended["reason"], "host");
    assert_eq!(ended["segments"], last);
    assert_eq!(ended["stored_through"], last);
    assert_eq!(ended["audio_ms"], 2_500);
    assert_eq!(host.closed().await, Some(1000));
    speaker.expect("ended").await;
    assert_eq!(speaker.closed().await, Some(1000));
    let mut late = Part::connect(&server, &talk.host, "").await.unwrap();
    assert_eq!(late.ready["code"], "session_ended");
    assert_eq!(late.closed().await, Some(4504));
}

#[tokio::test]
async fn who_comes_late_or_back_reads_all_after_their_position_once() {
    let folder = Folder::new("late");
    let server = server(&folder, &[]).await;
    let talk = Talk::create(&server, json!({})).await;
    let (_, token) = talk.join(&server, "ann", "speaker").await;
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    speaker.send(recording()).await;
    let said = speaker.say(1, 60).await;
    let mut host = Part::connect(&server, &talk.host, "?after=0")
        .await
        .unwrap();
    hear(&mut host, &said[..40]).await.clear();
    host.close(1000).await;
    let more = speaker.say(1, 20).await;
    speaker.send(json!({"type": "stop"})).await;
    let mut host = Part::connect(&server, &talk.host, "?after=0")
        .await
        .unwrap();
    let told = hear(&mut host, &[said, more].concat()).await;
    let finals: Vec<_> = told
        .iter()
        .filter(|message| message["type"] == "final")
        .collect();
    let numbers: Vec<_> = finals
        .iter()
        .map(|message| message["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(finals[0]["replayed"], true);

    // A second host takes the place of the first.
    let mut second = Part::connect(&server, &talk.host, "").await.unwrap();
    assert_eq!(second.ready["next_seq"], numbers.len() + 1);
    assert_eq!(host.closed().await, Some(4501));
    second.send(json!({"type": "ping"})).await;
    second.expect("pong").await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_the_server_was_killed() {
    let folder = Folder::new("killed");
    let talk;
    let (mut heard, mut stored) = (Vec::new(), 0);
    let token;
    {
        let server = server(&folder, &[]).await;
        talk = Talk::create(&server, json!({})).await;
        token = talk.join(&server, "ann", "speaker").await.1;
        let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
        let mut speaker = Part::connect(&server, &token, "").await.unwrap();
        speaker.send(recording()).await;
        speaker.say(1, 50).await;
        while stored < 3 {
            let message = host.next().await.unwrap();
            match message["type"].as_str() {
                Some("final") => heard.push(message["text"].as_str().unwrap().to_owned()),
                Some("stored") => stored = message["through"].as_u64().unwrap(),
                _ => {}
            }
        }
        server.process.signal(Signal::KILL);
    }
    let server = server(&folder, &[]).await;
    let mut host = Part::connect(&server, &talk.host, "?after=0")
        .await
        .unwrap();
    let next = host.ready["next_seq"].as_u64().unwrap();
    assert!(next > stored, "{next} after {stored} were stored");
    for (text, _) in heard.iter().zip(0..stored) {
        assert_eq!(host.expect("final").await["text"], text.as_str());
    }
    // And it goes on.
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    speaker.send(recording()).await;
    let said = speaker.say(2, 20).await;
    speaker.send(json!({"type": "stop"})).await;
    let mut left: BTreeSet<_> = said.into_iter().collect();
    while !left.is_empty() {
        let message = host.expect("final").await;
        words(message["text"].as_str())
            .iter()
            .for_each(|word| _ = left.remove(word));
    }
}

#[tokio::test]
async fn a_drain_transcribes_and_stores_the_last_words() {
    let folder = Folder::new("drained");
    let mut server = server(&folder, &[]).await;
    let talk = Talk::create(&server, json!({})).await;
    let token = talk.join(&server, "ann", "speaker").await.1;
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    speaker.send(recording()).await;
    let said = speaker.say(1, 15).await;
    for _ in 0..15 {
        speaker.expect("audio_ack").await;
    }
    server.process.signal(Signal::TERM);
    assert_eq!(speaker.closed().await, Some(4000));
    assert_eq!(server.process.exit_code().await, Some(0));
    let server = self::server(&folder, &[]).await;
    let file: Value =
        serde_json::from_str(&talk.transcript(&server, "transcript.json").await).unwrap();
    let stored = file["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| segment["text"].as_str().unwrap());
    assert_eq!(words(stored), said);
}

#[tokio::test]
async fn a_session_says_who_receives_its_transcript() {
    let folder = Folder::new("deliver");
    let server = server(&folder, &[]).await;
    for (deliver, own, listener) in [
        ("host", false, false),
        ("own", true, false),
        ("listeners", false, true),
    ] {
        let talk = Talk::create(&server, json!({"deliver": deliver})).await;
        let (ann, ben) = (
            talk.join(&server, "ann", "speaker").await,
            talk.join(&server, "ben", "speaker").await,
        );
        let eve = talk.join(&server, "eve", "listener").await;
        let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
        let mut others = Vec::new();
        for (token, receives) in [(&ann.1, own), (&ben.1, false), (&eve.1, listener)] {
            others.push((Part::connect(&server, token, "").await.unwrap(), receives));
        }
        others[0].0.send(recording()).await;
        let said = others[0].0.say(1, 12).await;
        others[0].0.send(json!({"type": "stop"})).await;
        hear(&mut host, &said).await;
        for (part, receives) in &mut others {
            part.send(json!({"type": "ping"})).await;
            if *receives {
                hear(part, &said).await;
            } else {
                // What came together with a ping is told behind its pong.
                let mut pongs = 0;
                while pongs < 2 {
                    let message = part.next().await.unwrap();
                    let kind = message["type"].as_str().unwrap();
                    let is_said = ["partial", "final", "gap", "stored", "lost"].contains(&kind);
                    assert!(!is_said, "{deliver}: {message}");
                    if kind == "pong" {
                        pongs += 1;
                        part.send(json!({"type": "ping"})).await;
                    }
                }
            }
        }
        // A listener does not speak.
        let eve = &mut others[2].0;
        assert!(eve.audio(vec![0; 3_200]).await);
        assert_eq!(eve.expect("error").await["code"], "role_forbidden");
    }
}

#[tokio::test]
async fn bad_audio_costs_its_sender_only() {
    let folder = Folder::new("bad");
    let server = server(&folder, &[]).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let good = talk.join(&server, "good", "speaker").await.1;
    let mut good = Part::connect(&server, &good, "").await.unwrap();
    good.send(recording()).await;
    let bad = talk.join(&server, "bad", "speaker").await.1;
    let mut bad = Part::connect(&server, &bad, "").await.unwrap();
    for (bytes, code) in [
        (vec![0; 3_201], "bad_audio"),
        (vec![0; 1], "bad_audio"),
        (vec![0; 40_000], "bad_audio"),
        (b"OggS".repeat(200), "bad_audio"),
    ] {
        assert!(bad.audio(bytes).await);
        assert_eq!(bad.expect("error").await["code"], code);
    }
    for (message, code) in [
        (
            json!({"type": "start", "sample_rate": 44_100}),
            "unsupported_rate",
        ),
        (
            json!({"type": "audio_chunk", "data": {"chunk": "?"}}),
            "bad_audio",
        ),
        (json!({"type": "dance"}), "unknown_type"),
        (json!(["start"]), "bad_message"),
    ] {
        bad.send(message).await;
        assert_eq!(bad.expect("error").await["code"], code);
    }
    // 48 kHz that is said to be 16 kHz: live, and three times too fast.
    bad.send(json!({"type": "start"})).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let error = loop {
        tokio::select! {
            _ = ticks.tick() => assert!(bad.audio(vec![1; 9_600]).await),
            message = bad.next() => match message.unwrap() {
                message if message["type"] == "error" => break message,
                _ => {}
            },
        }
    };
    assert_eq!(error["code"], "audio_rate_mismatch");
    let measured = error["measured_hz"].as_u64().unwrap();
    // A busy machine sends more slowly than it means to.
    assert!((17_000..=60_000).contains(&measured), "{measured}");
    // So little more than may be that it is written before the server closes.
    assert!(bad.audio(vec![0; 70_000]).await);
    assert_eq!(bad.closed().await, Some(1009));

    let said = good.say(2, 15).await;
    good.send(json!({"type": "stop"})).await;
    let mut left: BTreeSet<_> = said.into_iter().collect();
    while !left.is_empty() {
        let message = host.expect("final").await;
        words(message["text"].as_str())
            .iter()
            .for_each(|word| _ = left.remove(word));
    }
}

/// The threads of transcription that a server has.
fn threads(server: &TestServer) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process.id())).unwrap();
    let names = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("transcribe")).count()
}

/// The files in a folder.
fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn without_its_flags_there_is_none_of_it() {
    let folder = Folder::new("none-of-it");
    let state = folder.path("without");
    let server = TestServer::start(&["--state-dir", &state]).await;
    for (method, path) in [
        ("POST", "/api/sessions"),
        ("GET", "/transcribe"),
        ("POST", "/mcp"),
    ] {
        let answer = http::request(server.public, method, path, "Content-Length: 0\r\n").await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(threads(&server), 0);
    assert_eq!(files(&state), ["room.key"]);
    // With one of them there is what was looked for.
    let server = self::server(&folder, &[]).await;
    assert!(threads(&server) > 0);
    assert!(files(&folder.path("state")).contains(&"transcripts.db".into()));

    let (code, said) = run(&["--transcribe", "wosk:ws://x"]).await;
    assert_ne!(code, Some(0));
    assert!(said.contains("vosk"), "{said}");
}
