//! Who may do what with sessions and surveys: by tokens of the app, by none, and whom the limits of connections keep out.

use serde_json::{Value, json};

use super::support_api;
use crate::{
    support::{
        RawSocket, TestServer, eventually,
        http::{self, Response},
        jwt::{Folder, SECRET, Signer, claims_with},
        talk::{Part, Talk, ask, handshake},
    },
    surveys::SURVEY,
};

const REFUSED: &str = "connections_refused_total";

/// A server with sessions and a survey.
async fn server(folder: &Folder, survey: &str, more: &[&str]) -> TestServer {
    let (state, survey) = (folder.path("state"), folder.write("mobility.toml", survey));
    let flags = ["--transcribe", "fake:", "--survey", &survey];
    TestServer::start(&[&flags[..], &["--state-dir", &state], more].concat()).await
}

#[tokio::test]
async fn who_may_create_join_see_and_end() {
    let folder = Folder::new("access");
    let server = server(&folder, SURVEY, &[]).await;
    let nobody = Some("");
    let (status, answer) = ask(
        &server,
        "POST",
        "/api/sessions",
        nobody,
        &json!({"slug": "mine"}),
    )
    .await;
    assert_eq!((status, &answer["code"]), (403, &json!("role_forbidden")));
    let talk = Talk::create(&server, json!({"slug": "mine"})).await;
    let (status, answer) = ask(
        &server,
        "POST",
        "/api/sessions",
        None,
        &json!({"slug": "mine"}),
    )
    .await;
    assert_eq!((status, &answer["code"]), (409, &json!("slug_taken")));
    for slug in ["", "a b", "ä", &"x".repeat(65)] {
        let (status, answer) = ask(
            &server,
            "POST",
            "/api/sessions",
            None,
            &json!({"slug": slug}),
        )
        .await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("bad_slug")),
            "{slug}"
        );
    }
    let join = "/api/sessions/mine/participants/join";
    let user = json!({"user": "ann"});
    assert_eq!(ask(&server, "POST", join, nobody, &user).await.0, 403);
    assert_eq!(
        ask(&server, "POST", join, Some("a.b.c"), &user).await.0,
        401
    );
    let (ann, token) = talk.join(&server, "ann", "speaker").await;
    let (again, _) = talk.join(&server, "ann", "speaker").await;
    assert_eq!(ann, again);
    // A speaker is no host, and opens no other session.
    let other = Talk::create(&server, json!({"open": true})).await;
    for path in ["mine/end", &format!("{}/end", other.slug)] {
        let (status, _) = ask(
            &server,
            "POST",
            &format!("/api/sessions/{path}"),
            Some(&token),
            &Value::Null,
        )
        .await;
        assert_eq!(status, 403, "{path}");
    }
    assert_eq!(
        ask(
            &server,
            "GET",
            "/api/sessions/mine",
            Some(&token),
            &Value::Null
        )
        .await
        .0,
        200
    );
    assert_eq!(
        ask(&server, "GET", "/api/sessions/mine", nobody, &Value::Null)
            .await
            .0,
        403
    );
    assert_eq!(
        ask(&server, "GET", "/api/sessions/none", None, &Value::Null)
            .await
            .0,
        404
    );
    // An open session takes speakers, once each.
    let join = format!("/api/sessions/{}/participants/join", other.slug);
    assert_eq!(ask(&server, "POST", &join, nobody, &user).await.0, 200);
    assert_eq!(ask(&server, "POST", &join, nobody, &user).await.0, 409);
    let listener = json!({"user": "eve", "role": "listener"});
    assert_eq!(ask(&server, "POST", &join, nobody, &listener).await.0, 403);
    for token in ["", "x", "a.b.c"] {
        assert_eq!(Part::connect(&server, token, "").await.err(), Some(401));
    }
    assert_eq!(
        ask(
            &server,
            "DELETE",
            "/api/sessions/mine",
            Some(&talk.host),
            &Value::Null
        )
        .await
        .0,
        200
    );
    assert_eq!(
        ask(&server, "GET", "/api/sessions/mine", None, &Value::Null)
            .await
            .0,
        404
    );
}

/// A token of the app for this user, who has these rights.
fn of_app(user: &str, rights: &[&str]) -> String {
    let claims = claims_with(user, json!({"voicematch": {"rights": rights}}));
    Signer::Secret(SECRET).token(&claims)
}

/// A call by the Model Context Protocol.
async fn mcp(server: &TestServer, more: &str) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).to_string();
    let headers = format!(
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2025-06-18\r\nContent-Length: {}\r\n{more}",
        body.len()
    );
    http::request_with_body(server.public, "POST", "/mcp", &headers, &body).await
}

#[tokio::test]
async fn the_rights_in_a_token_of_the_app_say_what_it_opens() {
    let folder = Folder::new("rights");
    let (secret, _) = folder.secret();
    let server = server(&folder, SURVEY, &["--jwt-secret-file", &secret]).await;
    let [sessions, surveys, none] =
        [&["sessions"][..], &["surveys"], &[]].map(|rights| of_app("backend", rights));
    let create = json!({"slug": "tea", "language": "en"});
    let (begin, join) = (json!({"respondent": "ann"}), json!({"user": "ann"}));
    let interview = "/api/surveys/mobility/sessions";
    let status = async |method: &str, path: &str, token: &str, body: &Value| {
        ask(&server, method, path, Some(token), body).await.0
    };
    for (method, path, body, right, good) in [
        ("POST", "/api/sessions", &create, &sessions, 201),
        (
            "POST",
            "/api/sessions/tea/participants/join",
            &join,
            &sessions,
            200,
        ),
        ("GET", "/api/sessions/tea", &Value::Null, &sessions, 200),
        (
            "GET",
            "/api/sessions/tea/transcript.json",
            &Value::Null,
            &sessions,
            200,
        ),
        (
            "POST",
            "/api/sessions/tea/end",
            &Value::Null,
            &sessions,
            200,
        ),
        ("DELETE", "/api/sessions/tea", &Value::Null, &sessions, 200),
        ("POST", interview, &begin, &surveys, 201),
        (
            "GET",
            "/api/surveys/mobility/answers.csv",
            &Value::Null,
            &surveys,
            200,
        ),
    ] {
        for token in [&sessions, &surveys, &none] {
            if token != right {
                assert_eq!(
                    status(method, path, token, body).await,
                    403,
                    "{method} {path}"
                );
            }
        }
        assert_eq!(
            status(method, path, right, body).await,
            good,
            "{method} {path}"
        );
    }
    let (_, begun) = ask(&server, "POST", interview, Some(&surveys), &begin).await;
    let tool = format!(
        "/api/surveys/sessions/{}/get_next_question",
        begun["session"].as_str().unwrap()
    );
    for (token, expected) in [(&surveys, 200), (&sessions, 403), (&none, 403)] {
        assert_eq!(status("POST", &tool, token, &json!({})).await, expected);
    }
    // Who joins comes in with the token of the session, and with no other one.
    let talk = Talk::create(&server, json!({})).await;
    let (_, ann) = talk.join(&server, "ann", "speaker").await;
    assert_eq!(
        Part::connect(&server, &ann, "").await.unwrap().ready["role"],
        "speaker"
    );
    for token in [&sessions, &surveys] {
        assert_eq!(Part::connect(&server, token, "").await.err(), Some(401));
    }

    // Who is banned has no rights.
    let wanted = json!({"user": "backend", "seconds": 60}).to_string();
    let done = support_api::ask(&server, "POST", "/support/bans", &wanted).await;
    assert_eq!(done.status, 201, "{}", done.text());
    let (status, answer) = ask(
        &server,
        "POST",
        "/api/sessions",
        Some(&sessions),
        &json!({}),
    )
    .await;
    assert_eq!((status, &answer["code"]), (403, &json!("banned")));
    #[cfg(feature = "mcp")]
    {
        let token = format!("Authorization: Bearer {surveys}\r\n");
        assert_eq!(mcp(&server, &token).await.status, 403);
        let token = format!(
            "Authorization: Bearer {}\r\n",
            of_app("other", &["surveys"])
        );
        assert_eq!(mcp(&server, &token).await.status, 200);
    }
}

#[tokio::test]
async fn anybody_begins_an_open_survey_and_goes_on_with_their_own_interview_only() {
    let folder = Folder::new("survey-open");
    let open = format!("open = true\n{SURVEY}");
    let server = server(&folder, &open, &[]).await;
    let begin = async |token: &str, respondent: Value| {
        let path = "/api/surveys/mobility/sessions";
        let body = json!({"respondent": respondent});
        ask(&server, "POST", path, Some(token), &body).await
    };
    let (status, ann) = begin("", json!("ann")).await;
    assert_eq!(status, 201, "{ann}");
    let (status, ben) = begin("", json!("ben")).await;
    assert_eq!(status, 201, "{ben}");
    let token = |of: &Value| of["token"].as_str().unwrap().to_owned();
    for shown in ["", &token(&ben)] {
        let (status, refused) = begin(shown, json!("ann")).await;
        assert_eq!(
            (status, &refused["code"]),
            (409, &json!("participant_known"))
        );
    }
    let (status, again) = begin(&token(&ann), json!("ann")).await;
    assert_eq!((status, &again["session"]), (200, &ann["session"]));
    // Who says no name is somebody else each time.
    let (first, second) = (begin("", Value::Null).await, begin("", Value::Null).await);
    assert_eq!((first.0, second.0), (201, 201));
    assert_ne!(first.1["session"], second.1["session"]);
    let path = "/api/surveys/mobility/answers.csv";
    let (status, _) = ask(&server, "GET", path, Some(&token(&ann)), &Value::Null).await;
    assert_eq!(status, 403, "open is who may begin, not who may read");
}

#[tokio::test]
async fn who_holds_an_interview_in_a_session_takes_part_in_it() {
    let folder = Folder::new("survey-held-in");
    let open = format!("open = true\n{SURVEY}");
    let (secret, _) = folder.secret();
    let server = server(&folder, &open, &["--jwt-secret-file", &secret]).await;
    let tea = Talk::create(&server, json!({"slug": "tea"})).await;
    let (_, ann) = tea.join(&server, "ann", "speaker").await;
    let other = Talk::create(&server, json!({"slug": "coffee"})).await;
    let begin = async |token: &str, slug: &str| {
        let path = "/api/surveys/mobility/sessions";
        ask(
            &server,
            "POST",
            path,
            Some(token),
            &json!({"session": slug}),
        )
        .await
    };
    let (_, stranger) = begin("", "none").await;
    assert_eq!(
        stranger["code"], "role_forbidden",
        "nor is it said which there are"
    );
    let interview = ask(
        &server,
        "POST",
        "/api/surveys/mobility/sessions",
        Some(""),
        &json!({}),
    )
    .await;
    let interview = interview.1["token"].as_str().unwrap();
    for token in ["", &other.host, interview, &of_app("backend", &[])] {
        let (status, refused) = begin(token, "tea").await;
        assert_eq!((status, &refused["code"]), (403, &json!("role_forbidden")));
    }
    let [sessions, surveys] = ["sessions", "surveys"].map(|right| of_app("backend", &[right]));
    for token in [&tea.host, &ann, &sessions, &surveys] {
        let (status, begun) = begin(token, "tea").await;
        assert_eq!(status, 201, "{begun}");
    }
    // Nor does a token of an earlier session of that name.
    let gone = ask(&server, "DELETE", "/api/sessions/tea", None, &Value::Null).await;
    assert_eq!(gone.0, 200);
    Talk::create(&server, json!({"slug": "tea"})).await;
    assert_eq!(begin(&tea.host, "tea").await.0, 403);
}

/// The answer to a handshake at `/transcribe` with this token and these header lines.
async fn shake(server: &TestServer, token: &str, more: &str) -> Response {
    let mut socket = RawSocket::connect(server).await;
    let text = handshake(server, token).replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
    socket.write(text.as_bytes()).await;
    socket.response().await
}

#[tokio::test]
async fn pages_of_other_origins_and_banned_addresses_are_kept_out_here_too() {
    let folder = Folder::new("transcribe-origin");
    let server = server(
        &folder,
        SURVEY,
        &["--allowed-origin", "https://app.example"],
    )
    .await;
    let talk = Talk::create(&server, json!({})).await;
    let path = format!("/api/sessions/{}", talk.slug);
    let host = format!("Authorization: Bearer {}\r\n", talk.host);
    let answers = async |more: &str| {
        let token = format!("{host}{more}");
        let mut all = vec![
            shake(&server, &talk.host, more).await,
            http::request(server.public, "GET", &path, &token).await,
        ];
        if cfg!(feature = "mcp") {
            all.push(mcp(&server, &token).await);
        }
        all
    };
    let codes = |answers: Vec<Response>| -> Vec<(u16, Value)> {
        let each = answers.into_iter();
        each.map(|answer| (answer.status, answer.json()["code"].clone()))
            .collect()
    };
    let refused = codes(answers("Origin: https://evil.example\r\n").await);
    let expected = (403, json!("origin_not_allowed"));
    assert!(
        refused.iter().all(|found| *found == expected),
        "{refused:?}"
    );
    for origin in ["Origin: https://app.example\r\n", ""] {
        let [socket, shown, ..] = &answers(origin).await[..] else {
            panic!()
        };
        assert_eq!((socket.status, shown.status), (101, 200), "{origin}");
    }

    let wanted = json!({"address": "127.0.0.1", "seconds": 60}).to_string();
    let done = support_api::ask(&server, "POST", "/support/bans", &wanted).await;
    assert_eq!(done.status, 201, "{}", done.text());
    let refused = codes(answers("").await);
    assert!(
        refused.iter().all(|found| *found == (403, json!("banned"))),
        "{refused:?}"
    );
    let metrics = server.metrics().await;
    for reason in ["origin", "banned"] {
        let label = format!(r#"reason="{reason}""#);
        assert_eq!(
            metrics.get(REFUSED, &label),
            refused.len() as f64,
            "{reason}"
        );
    }
}

#[tokio::test]
async fn connections_of_transcribe_count_as_all_others_do() {
    let most = "--max-connections";
    for (name, flags, status) in [
        ("all", &[most, "2"][..], 503),
        (
            "address",
            &["--max-connections-per-address", "2", "--limit-loopback"],
            429,
        ),
    ] {
        let folder = Folder::new(&format!("transcribe-limit-{name}"));
        let server = server(&folder, SURVEY, flags).await;
        let talk = Talk::create(&server, json!({})).await;
        let (_, ann) = talk.let_in(&server, "ann", "speaker").await;
        let (_, ben) = talk.let_in(&server, "ben", "speaker").await;
        let host = Part::connect(&server, &talk.host, "").await.unwrap();
        let _ann = Part::connect(&server, &ann, "").await.unwrap();
        assert_eq!(
            Part::connect(&server, &ben, "").await.err(),
            Some(status),
            "{name}"
        );
        assert_eq!(mcp(&server, "").await.status, status, "{name}");
        host.close(1000).await;
        eventually("there is room again", async || {
            Part::connect(&server, &ben, "").await.is_ok()
        })
        .await;
    }
}
