//! What operators see of transcription among the server's own figures.

use std::fs;

use serde_json::json;

use crate::{
    support::{
        TestServer, User, becomes, http,
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

/// What requirements of survey services ask `/metrics` as JSON for.
#[tokio::test]
async fn surveys_have_the_figures_that_load_tests_of_them_look_at() {
    let folder = Folder::new("figures");
    let (state, survey) = (folder.path("state"), folder.write("mobility.toml", SURVEY));
    let flags = [
        "--transcribe",
        "fake:?delay=20ms&final=1s",
        "--survey",
        &survey,
    ];
    let server = TestServer::start(&[&flags[..], &["--state-dir", &state]].concat()).await;
    let figures = async || {
        let only_json = "Accept: application/json\r\n";
        let answer = http::request(server.admin, "GET", "/metrics", only_json).await;
        answer.json()
    };
    let before = figures().await;
    assert_eq!(before["BedrockLatency"], json!(null));
    assert_eq!(before["ErrorRate"], 0.0);
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    host.record(15).await;
    host.expect("final").await;
    let (_, begun) = ask(
        &server,
        "POST",
        "/api/surveys/mobility/sessions",
        None,
        &json!({}),
    )
    .await;
    let token = begun["token"].as_str();
    let session = begun["session"].as_str().unwrap();
    let refused = json!({"value": "nonsense", "request_id": "1"});
    for (tool, arguments, status) in [
        ("get_next_question", json!({}), 200),
        ("record_response", refused, 422),
    ] {
        let path = format!("/api/surveys/sessions/{session}/{tool}");
        let (answered, answer) = ask(&server, "POST", &path, token, &arguments).await;
        assert_eq!(answered, status, "{answer}");
    }
    becomes(true, "a mean of the provider's delay", async || {
        let mean = figures().await["BedrockLatency"].as_f64();
        mean.is_some_and(|ms| (20.0..5_000.0).contains(&ms))
    })
    .await;
    let now = figures().await;
    assert!(now["DatabaseLatency"].as_f64().unwrap() > 0.0, "{now}");
    assert_eq!(now["ConcurrentSessions"], 1.0);
    assert_eq!(now["WebSocketConnections"], 1.0);
    assert_eq!(now["AudioChunksProcessed"], 15.0);
    assert_eq!(now["ErrorRate"], 50.0);
}

/// The nice value of each thread of a process, with its name.
fn niceness(process: u32) -> Vec<(String, i32)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |thread: fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        // After the name in brackets: the state is the third field, and this the nineteenth.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some((name.trim().to_owned(), fields.nth(16)?.parse().ok()?))
    };
    threads.flatten().filter_map(of).collect()
}

#[tokio::test]
async fn where_both_want_the_processor_the_relay_goes_first() {
    let folder = Folder::new("priority");
    let state = folder.path("state");
    let server = TestServer::start(&["--transcribe", "fake", "--state-dir", &state]).await;
    Talk::create(&server, json!({})).await;
    let threads = niceness(server.process.id());
    let main = server.process.id();
    let stat = fs::read_to_string(format!("/proc/{main}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let own: i32 = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
    let is_ours = |name: &str| name.starts_with("transcribe") || name.starts_with("sqlx");
    let (ours, others): (Vec<_>, Vec<_>) = threads.iter().partition(|(name, _)| is_ours(name));
    assert!(ours.len() >= 2 && !others.is_empty(), "{threads:?}");
    let lower = (own + 5).min(19);
    assert!(ours.iter().all(|(_, nice)| *nice == lower), "{threads:?}");
    assert!(others.iter().all(|(_, nice)| *nice == own), "{threads:?}");
}
