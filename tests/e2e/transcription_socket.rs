//! What a connection of `/transcribe` may ask for, how fast it is read, and what it gets of old segments.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Frame, RawSocket, TestServer, eventually,
    hearing::Hearing,
    jwt::Folder,
    sqlite,
    talk::{Part, Talk, handshake, words},
};

async fn server(folder: &Folder) -> TestServer {
    let (state, fake) = (folder.path("state"), "fake:?final=1s&delay=10ms");
    TestServer::start(&["--transcribe", fake, "--state-dir", &state]).await
}

/// Reads what was sent to one who did not read, to its end: whole messages, and a close as the last one.
async fn read_to_the_close(slow: &mut RawSocket) -> u16 {
    loop {
        let frame = slow.frame().await.expect("it is closed");
        match frame.first {
            Frame::TEXT => drop(frame.json()),
            Frame::PING => {}
            _ => {
                assert_eq!(frame.first, Frame::CLOSE);
                return u16::from_be_bytes(*frame.payload.first_chunk().unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_host_who_does_not_read_is_closed_and_finds_all_finals_when_they_come_back() {
    let folder = Folder::new("slow-host");
    let server = server(&folder).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.goes_on().await;
    // It takes the place of the host, asks, and reads no answer.
    let mut slow = RawSocket::connect_narrow(&server).await;
    let handshake = handshake(&server, &hearing.talk.host);
    slow.write(handshake.as_bytes()).await;
    assert_eq!(slow.response().await.status, 101);
    slow.expect("ready").await;
    assert_eq!(hearing.host.closed().await, Some(4501));
    let ping = json!({"type": "ping", "id": "x".repeat(60_000)}).to_string();
    let asks = async {
        for _ in 0..300 {
            slow.send(&ping).await;
        }
    };
    let label = r#"limit="outbox_messages""#;
    let is_closed = server.reaches("limit_hits_total", label, 1.0);
    tokio::pin!(is_closed);
    tokio::select! {
        () = asks => is_closed.as_mut().await,
        () = &mut is_closed => {}
    }
    assert_eq!(read_to_the_close(&mut slow).await, 4002);
    // Nobody reads what is said meanwhile, and it is text before the host is back.
    let finals = "transcribe_finals_total";
    let before = server.metric(finals, "").await;
    hearing.say(25).await;
    eventually("there are finals", async || {
        server.metric(finals, "").await >= before + 2.0
    })
    .await;
    hearing.come_back(&server).await;
    hearing.goes_on().await;
    hearing.assert_all_heard();
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn a_host_is_answered_while_the_end_is_under_way() {
    let folder = Folder::new("end-under-way");
    let (state, stalls) = (folder.path("state"), "fake:?stall_after=0ms");
    let server = TestServer::start(&["--transcribe", stalls, "--state-dir", &state]).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    host.record(10).await;
    host.send(json!({"type": "stop"})).await;
    host.send(json!({"type": "ping", "id": 1})).await;
    // The last words have 5 s to become text.
    assert_eq!(host.expect("pong").await["id"], 1);
    assert_eq!(host.expect("gap").await["to_ms"], 1_000);
    assert_eq!(host.expect("ended").await["reason"], "host");
    assert_eq!(host.closed().await, Some(1000));
}

#[tokio::test]
async fn the_end_goes_on_when_the_host_leaves_at_once() {
    let folder = Folder::new("end-left");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    host.record(10).await;
    // What is unread when a connection is closed takes with it what was sent.
    host.expect("stored").await;
    host.send(json!({"type": "stop"})).await;
    host.close(1000).await;
    eventually("the session has ended", async || {
        let mut late = Part::connect(&server, &talk.host, "").await.unwrap();
        late.ready["code"] == "session_ended" && late.closed().await == Some(4504)
    })
    .await;
    let text = talk.transcript(&server, "transcript.txt").await;
    assert!(text.contains("host: "), "{text}");
}

#[tokio::test]
async fn a_recording_is_read_at_four_times_its_speed_and_also_as_text() {
    let folder = Folder::new("held-back");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let (_, token) = talk.join(&server, "ann", "speaker").await;
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    let recording = json!({"type": "start", "live": false, "ack": "each"});
    speaker.send(recording).await;
    let begun = Instant::now();
    let mut said = speaker.say(1, 90).await;
    for _ in 0..10 {
        let (bytes, word) = speaker.chunk(1);
        let data = json!({"chunk": BASE64.encode(bytes)});
        speaker
            .send(json!({"type": "audio_chunk", "data": data}))
            .await;
        said.push(word);
    }
    for chunk in 1..=100 {
        assert_eq!(speaker.expect("audio_ack").await["ms"], chunk * 100);
    }
    // 10 s of audio, of which 2 s are read at once.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    speaker.send(json!({"type": "stop"})).await;
    let mut heard = Vec::new();
    while heard.len() < said.len() {
        heard.extend(words(host.expect("final").await["text"].as_str()));
    }
    assert_eq!(heard, said);
}

/// More segments than a connection is sent.
const MANY: u64 = 6_000;

/// A transcript's numbers, behind this one.
async fn exported(talk: &Talk, server: &TestServer, after: u64) -> Vec<u64> {
    let file = format!("transcript.json?after={after}");
    let file: Value = serde_json::from_str(&talk.transcript(server, &file).await).unwrap();
    let segments = file["segments"].as_array().unwrap().iter();
    let mut numbers: Vec<_> = segments.map(|row| row["seq"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn old_segments_come_from_the_store_page_by_page_and_5000_of_them_at_the_most() {
    let folder = Folder::new("replay");
    let mut before = server(&folder).await;
    let mut hearing = Hearing::begin(&before).await;
    hearing.goes_on().await;
    before.process.signal(Signal::TERM);
    assert_eq!(before.process.exit_code().await, Some(0));
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT (SELECT max(seq) FROM segments) + 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) \
         INSERT INTO segments (session_id, seq, track_id, kind, source, start_ms, end_ms, text, created_ms) \
         SELECT session_id, i, track_id, kind, source, i, i, 'old-' || i, created_ms FROM n, (SELECT * FROM segments LIMIT 1)"
    );
    sqlite::ask(&folder.path("state/transcripts.db"), &rows);

    let server = server(&folder).await;
    let talk = hearing.talk;
    let (_, token) = talk.join(&server, "ann", "speaker").await;
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    speaker.send(json!({"type": "start", "live": false})).await;
    for (after, first) in [(0, MANY - 5_000 + 1), (MANY - 300, MANY - 300 + 1)] {
        let query = format!("?after={after}");
        let mut host = Part::connect(&server, &talk.host, &query).await.unwrap();
        let next = host.ready["next_seq"].as_u64().unwrap();
        let said = speaker.say(2, 10).await;
        speaker.send(json!({"type": "pause"})).await;
        for seq in first..=next {
            let told = host.expect("final").await;
            assert_eq!(told["seq"], seq);
            assert_eq!(told["replayed"] == true, seq < next, "{told}");
            if seq <= MANY {
                assert_eq!(told["text"], format!("old-{seq}"));
            } else if seq == next {
                assert_eq!(words(told["text"].as_str()), said);
            }
        }
    }
    // What was told last is stored a moment later.
    for after in [0, MANY - 10] {
        eventually("all of it is exported", async || {
            exported(&talk, &server, after).await == (after + 1..=MANY + 2).collect::<Vec<_>>()
        })
        .await;
    }
}
