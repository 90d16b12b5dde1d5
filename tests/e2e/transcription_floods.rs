//! Who floods `/transcribe`, or sends what is no audio, loses their own connection, and nobody else a word.

use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::support::{
    Frame, RawSocket, TestServer,
    hearing::Hearing,
    http,
    jwt::Folder,
    talk::{Part, Talk, handshake},
};

/// A speaker who is not a recording, with a token of their own.
async fn speaker(server: &TestServer, talk: &Talk, name: &str) -> Part {
    let (_, token) = talk.join(server, name, "speaker").await;
    Part::connect(server, &token, "").await.unwrap()
}

/// Live audio that comes ten times too fast.
async fn too_fast(mut part: Part) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let error = loop {
        tokio::select! {
            _ = ticks.tick() => assert!(part.audio(vec![1; 16_000]).await),
            message = part.next() => match message.unwrap() {
                message if message["type"] == "error" => break message,
                _ => {}
            },
        }
    };
    assert_eq!(error["code"], "audio_rate_mismatch");
    let measured = error["measured_hz"].as_u64().unwrap();
    assert!((17_000..=200_000).contains(&measured), "{measured}");
    // It is refused from then on, and the connection stays.
    part.send(json!({"type": "ping"})).await;
    part.expect("pong").await;
}

/// A frame that says that it has 10 MB.
async fn too_long(server: &TestServer, talk: &Talk) {
    let (_, token) = talk.join(server, "long", "speaker").await;
    let mut socket = RawSocket::connect(server).await;
    socket.write(handshake(server, &token).as_bytes()).await;
    let answer: http::Response = socket.response().await;
    assert_eq!(answer.status, 101);
    socket.expect("ready").await;
    let mut head = vec![0x82, 0x80 | 127];
    head.extend(10_000_000_u64.to_be_bytes());
    head.extend([0; 4]);
    socket.write(&head).await;
    let close = loop {
        match socket.frame().await.expect("it is closed") {
            frame if frame.first == Frame::PING => {}
            frame => break frame,
        }
    };
    assert_eq!(close.first, Frame::CLOSE);
    assert_eq!(close.payload[..2], 1009_u16.to_be_bytes());
}

/// Frames that are no audio: each is refused, and after too many the connection is closed.
async fn no_audio(mut part: Part) {
    for bytes in [vec![0; 1], vec![0; 3_201], b"OggS".repeat(800)] {
        assert!(part.audio(bytes).await);
        assert_eq!(part.expect("error").await["code"], "bad_audio");
    }
    let wrong = json!({"type": "start", "sample_rate": 44_100});
    part.send(wrong).await;
    assert_eq!(part.expect("error").await["code"], "unsupported_rate");
    for _ in 0..100 {
        assert!(part.audio(vec![0; 1]).await);
    }
    for _ in 0..100 {
        assert_eq!(part.expect("error").await["code"], "bad_audio");
    }
}

/// Many more text messages than may come, as fast as they go.
async fn too_many(mut part: Part) {
    let ping = json!({"type": "ping"}).to_string();
    let mut sent = 0;
    while sent < 5_000 && part.try_send(&ping).await {
        sent += 1;
    }
    assert_eq!(part.closed().await, Some(4500), "after {sent}");
}

#[tokio::test]
async fn a_flood_costs_its_own_connection_and_nobody_else_a_word() {
    let folder = Folder::new("flood");
    let state = folder.path("state");
    let flags = ["--transcribe", "fake:?final=1s", "--state-dir", &state];
    let server = TestServer::start(&flags).await;
    let mut hearing = Hearing::begin(&server).await;
    let talk = Talk {
        slug: hearing.talk.slug.clone(),
        host: hearing.talk.host.clone(),
    };
    hearing.say(150).await;
    let fast = speaker(&server, &talk, "fast").await;
    let bad = speaker(&server, &talk, "bad").await;
    let storm = speaker(&server, &talk, "storm").await;
    tokio::join!(
        too_fast(fast),
        too_long(&server, &talk),
        no_audio(bad),
        too_many(storm)
    );
    let metrics = server.metrics().await;
    for limit in ["max_message_bytes", "max_messages_per_second"] {
        let label = format!(r#"limit="{limit}""#);
        assert_eq!(metrics.get("limit_hits_total", &label), 1.0, "{limit}");
    }
    let refused = "transcribe_refused_total";
    assert_eq!(metrics.get(refused, r#"code="bad_audio""#), 103.0);
    assert!(metrics.get(refused, r#"code="audio_rate_mismatch""#) >= 1.0);
    hearing.goes_on().await;
    hearing.assert_all_heard();
    hearing.assert_stored(&server).await;
}
