//! A connection of `/transcribe` is open for as long as the token that has opened it is good.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use crate::{
    support::{
        RawSocket, TestServer, eventually,
        jwt::{Folder, SECRET, Signer, in_seconds},
        talk::{Part, Talk, ask, handshake},
    },
    surveys::SURVEY,
};

/// A server whose key of tokens is [`SECRET`].
async fn server(folder: &Folder) -> TestServer {
    let (key, _) = folder.secret();
    let (state, survey) = (folder.path("state"), folder.write("mobility.toml", SURVEY));
    TestServer::start(&[
        "--transcribe",
        "fake:?final=500ms",
        "--survey",
        &survey,
        "--transcribe-token-key-file",
        &key,
        "--state-dir",
        &state,
    ])
    .await
}

/// The same token, as if it had been made so long ago that it is good for these seconds.
fn ending(token: &str, seconds: i64) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let mut claims: Value = serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap();
    assert!(claims["exp"].as_i64() > Some(in_seconds(11 * 3600)));
    claims["exp"] = in_seconds(seconds).into();
    Signer::Secret(SECRET).token(&claims)
}

#[tokio::test]
async fn a_connection_ends_with_its_token_and_goes_on_with_another() {
    let folder = Folder::new("token-ends");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({"slug": "tea"})).await;
    let (_, token) = talk.join(&server, "ann", "speaker").await;
    let mut speaker = Part::connect(&server, &token, "").await.unwrap();
    speaker.send(json!({"type": "start", "live": false})).await;
    let short = ending(&talk.host, 2);
    let mut host = Part::connect(&server, &short, "").await.unwrap();
    speaker.say(1, 10).await;
    assert_eq!(host.expect("final").await["seq"], 1);
    assert_eq!(host.closed().await, Some(4505));
    // Its last second may not be over.
    eventually("the token is refused", async || {
        Part::connect(&server, &short, "").await.err() == Some(401)
    })
    .await;

    // The others stay, and the app lets the host in again.
    speaker.say(1, 10).await;
    let join = "/api/sessions/tea/participants/join";
    let (status, answer) = ask(&server, "POST", join, None, &json!({"user": "host"})).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["participant"]["token"].as_str().unwrap();
    let mut host = Part::connect(&server, token, "?after=0").await.unwrap();
    assert_eq!(host.ready["role"], "host");
    for seq in 1..=4 {
        assert_eq!(host.expect("final").await["seq"], seq);
    }
}

#[tokio::test]
async fn a_token_opens_no_later_session_of_the_same_name() {
    let folder = Folder::new("token-of-another");
    let server = server(&folder).await;
    let old = Talk::create(&server, json!({"slug": "tea"})).await;
    let (_, ann) = old.join(&server, "ann", "speaker").await;
    let session = "/api/sessions/tea";
    let (status, _) = ask(&server, "DELETE", session, Some(&old.host), &Value::Null).await;
    assert_eq!(status, 200);

    let new = Talk::create(&server, json!({"slug": "tea"})).await;
    let (join, end) = (
        &*format!("{session}/participants/join"),
        &*format!("{session}/end"),
    );
    let transcript = &*format!("{session}/transcript.json");
    let eve = json!({"user": "eve", "role": "listener"});
    for (method, path, body) in [
        ("GET", session, &Value::Null),
        ("GET", transcript, &Value::Null),
        ("POST", join, &eve),
        ("POST", end, &Value::Null),
        ("DELETE", session, &Value::Null),
    ] {
        for token in [&old.host, &ann] {
            let (status, answer) = ask(&server, method, path, Some(token), body).await;
            assert_eq!(
                (status, &answer["code"]),
                (403, &json!("role_forbidden")),
                "{method} {path}"
            );
        }
    }
    for token in [&old.host, &ann] {
        let part = Part::connect(&server, token, "").await.unwrap();
        assert_eq!(part.ready["code"], "unknown_session", "{}", part.ready);
    }
    // Its own host does all of that.
    let (status, seen) = ask(&server, "GET", session, Some(&new.host), &Value::Null).await;
    assert_eq!(
        (status, seen["participants"].as_array().unwrap().len()),
        (200, 1)
    );
    for (method, path, body) in [
        ("GET", transcript, &Value::Null),
        ("POST", join, &eve),
        ("POST", end, &Value::Null),
        ("GET", transcript, &Value::Null),
        ("DELETE", session, &Value::Null),
    ] {
        let (status, answer) = ask(&server, method, path, Some(&new.host), body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn so_does_that_of_an_interview() {
    let folder = Folder::new("interview-ends");
    let server = server(&folder).await;
    let path = "/api/surveys/mobility/sessions";
    let (status, answer) = ask(&server, "POST", path, None, &json!({})).await;
    assert_eq!(status, 201, "{answer}");
    let token = ending(answer["token"].as_str().unwrap(), 2);
    let mut respondent = Part::open(&server, &token).await;
    let tool = json!({"type": "tool", "name": "get_next_question"});
    respondent.send(tool).await;
    assert_eq!(respondent.expect("tool_result").await["ok"], true);
    assert_eq!(respondent.closed().await, Some(4505));
}

/// A browser can give a WebSocket no header of its own but this one, and a query ends up in logs.
#[tokio::test]
async fn a_token_comes_as_a_subprotocol_and_is_never_the_answer() {
    let folder = Folder::new("token-offered");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    let host = &talk.host;
    let forged = format!("{host}x");
    for (offers, status, answered) in [
        (format!("token.{host}"), 101, None),
        (
            format!("voicematch.1, token.{host}"),
            101,
            Some("voicematch.1"),
        ),
        (
            format!("token.{host}, voicematch.1"),
            101,
            Some("voicematch.1"),
        ),
        (format!("token.{host}, other"), 101, Some("other")),
        (format!("voicematch.1, token.{forged}"), 401, None),
        (format!("voicematch.1, {host}"), 401, None),
        ("voicematch.1".to_owned(), 401, None),
    ] {
        let offered = handshake(&server, host).replace(&format!("token.{host}"), &offers);
        let mut socket = RawSocket::connect(&server).await;
        socket.write(offered.as_bytes()).await;
        let answer = socket.response().await;
        let chosen = answer.header("sec-websocket-protocol");
        assert_eq!((answer.status, chosen), (status, answered), "{offers}");
        if status == 101 {
            assert_eq!(socket.expect("ready").await["role"], "host");
        }
    }
}
