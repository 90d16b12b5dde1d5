//! The provider is told what a speaker speaks: what `start` says, else what the session does.

use serde_json::{Value, json};

use crate::support::{
    TestServer,
    hearing::Hearing,
    jwt::Folder,
    providers::{
        gladia::{GladiaServer, KEY},
        server::Plan,
    },
    talk::Part,
};

/// What the provider was asked for, in this order.
fn asked(gladia: &GladiaServer) -> Vec<Value> {
    gladia.state.languages.lock().unwrap().clone()
}

#[tokio::test]
async fn a_speaker_says_in_which_language() {
    let folder = Folder::new("languages");
    let gladia = GladiaServer::start(Plan::default()).await;
    let (key, state) = (folder.write("gladia", KEY), folder.path("state"));
    let provider = format!("gladia:{}", gladia.url);
    let flags = ["--transcribe", &provider, "--gladia-key-file", &key];
    let server = TestServer::start(&[&flags[..], &["--state-dir", &state]].concat()).await;
    let mut hearing = Hearing::begin_in(&server, json!({"language": "en"})).await;
    hearing.goes_on().await;
    assert_eq!(asked(&gladia), [json!(["en"])]);

    // Another one from now on; said again, it changes nothing.
    let german = json!({"type": "start", "live": false, "language": "de-AT"});
    for _ in 0..2 {
        hearing.speaker.send(german.clone()).await;
        hearing.goes_on().await;
        assert_eq!(asked(&gladia), [json!(["en"]), json!(["de"])]);
    }
    let usual = json!({"type": "start", "live": false});
    hearing.speaker.send(usual).await;
    hearing.goes_on().await;
    assert_eq!(asked(&gladia)[2..], [json!(["en"])]);

    // Of each speaker their own.
    let (_, token) = hearing.talk.join(&server, "ben", "speaker").await;
    let mut ben = Part::connect(&server, &token, "").await.unwrap();
    let french = json!({"type": "start", "live": false, "language": "fr"});
    ben.send(french).await;
    ben.say(2, 5).await;
    ben.expect("provider_state").await;
    assert_eq!(asked(&gladia)[3..], [json!(["fr"])]);
    ben.send(json!({"type": "start", "language": "x".repeat(200)}))
        .await;
    assert_eq!(ben.expect("error").await["code"], "bad_message");

    hearing.assert_all_heard();
    hearing.assert_stored(&server).await;
    assert_eq!(*gladia.state.mistakes.lock().unwrap(), [""; 0]);
}
