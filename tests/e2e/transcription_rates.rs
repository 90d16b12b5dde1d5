//! Who sends other samples than they say is told so, and so is who reads what they say.

use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::support::{
    TestServer,
    jwt::Folder,
    talk::{Part, Talk},
};

#[tokio::test]
async fn a_wrong_rate_is_told_to_the_host_and_is_a_gap() {
    let folder = Folder::new("rates");
    let state = folder.path("state");
    let flags = ["--transcribe", "fake:?final=500ms", "--state-dir", &state];
    let server = TestServer::start(&flags).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    let (id, token) = talk.join(&server, "ann", "speaker").await;
    let mut ann = Part::connect(&server, &token, "").await.unwrap();
    // 48 kHz that is said to be 16 kHz: a second more of it after the first word of that.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = 0;
    while refused < 10 {
        tokio::select! {
            _ = ticks.tick() => assert!(ann.audio(vec![1; 9_600]).await),
            message = ann.next() => match message.unwrap() {
                message if message["code"] == "audio_rate_mismatch" => refused += 1,
                _ => {}
            },
        }
    }
    let error = host.expect("error").await;
    assert_eq!(error["code"], "audio_rate_mismatch");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with(&id), "{message}");
    let dropped = r#"reason="audio_rate_mismatch""#;
    let dropped = server
        .metric("transcribe_audio_dropped_seconds_total", dropped)
        .await;
    // Of 10 frames; a busy machine sends more slowly than it means to.
    assert!((0.5..=10.0).contains(&dropped), "{dropped} s");

    let right = json!({"type": "start", "sample_rate": 48_000});
    ann.send(right).await;
    let gap = host.expect("gap").await;
    assert_eq!(
        (&gap["speaker"], &gap["reason"]),
        (&id.into(), &json!("audio_rate_mismatch"))
    );
    let length = gap["to_ms"].as_i64().unwrap() - gap["from_ms"].as_i64().unwrap();
    assert!((500..=10_000).contains(&length), "{gap}");
    while host.expect("stored").await["through"].as_u64() < gap["seq"].as_u64() {}
    let transcript = talk.transcript(&server, "transcript.txt").await;
    assert!(transcript.contains("not transcribed"), "{transcript}");
}
