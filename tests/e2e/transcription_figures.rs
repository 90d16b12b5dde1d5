//! What operators see of transcription among the server's own figures.

use serde_json::json;

use crate::{
    support::{
        TestServer, User,
        jwt::Folder,
        talk::{Part, Talk, ask},
    },
    surveys::SURVEY,
};

#[tokio::test]
async fn sockets_of_participants_and_respondents_are_among_the_connections() {
    let folder = Folder::new("sockets");
    let (state, survey) = (folder.path("state"), folder.write("mobility.toml", SURVEY));
    let flags = ["--transcribe", "fake", "--survey", &survey];
    let server = TestServer::start(&[&flags[..], &["--state-dir", &state]].concat()).await;
    let talk = Talk::create(&server, json!({})).await;
    let (_, token) = talk.join(&server, "ann", "speaker").await;
    let path = "/api/surveys/mobility/sessions";
    let (_, begun) = ask(&server, "POST", path, None, &json!({})).await;

    let user = User::connect(&server).await;
    let host = Part::connect(&server, &talk.host, "").await.unwrap();
    let speaker = Part::connect(&server, &token, "").await.unwrap();
    let respondent = Part::open(&server, begun["token"].as_str().unwrap()).await;
    server
        .reaches("websocket_active_connections", "", 4.0)
        .await;
    server
        .reaches("transcribe_active_connections", "", 2.0)
        .await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("survey_sessions_active", ""), 1.0);
    // The rest are no users who could be matched.
    assert_eq!(metrics.get("sessions", r#"state="idle""#), 1.0);

    for part in [host, speaker, respondent] {
        part.close(1000).await;
    }
    server
        .reaches("websocket_active_connections", "", 1.0)
        .await;
    drop(user);
    server
        .reaches("websocket_active_connections", "", 0.0)
        .await;
}
