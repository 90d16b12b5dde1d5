//! Surveys: begun over HTTP, held over HTTP, over a socket and by MCP, and each answer stored once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{
    TestServer, http,
    jwt::Folder,
    run,
    talk::{Part, Talk, ask},
    user::text,
};

pub(crate) const SURVEY: &str = r#"
id = "mobility"
languages = ["en"]

[[question]]
id = "use"
type = "scale"
min = 0
max = 7
text = { en = "How many days a week do you use public transport?" }
next = [{ when = "answer == 0", goto = "why_not" }, { goto = "line" }]

[[question]]
id = "why_not"
type = "text"
text = { en = "Why not?" }
next = [{ goto = "again" }]

[[question]]
id = "line"
type = "text"
text = { en = "Which line?" }

[[question]]
id = "again"
type = "yes_no"
text = { en = "May we ask again?" }
"#;

pub(crate) struct Held {
    pub(crate) server: TestServer,
    file: String,
    state: String,
}

impl Held {
    pub(crate) async fn start(folder: &Folder) -> Self {
        let file = folder.write("mobility.toml", SURVEY);
        let state = folder.path("state");
        let server = TestServer::start(&["--survey", &file, "--state-dir", &state]).await;
        Self {
            server,
            file,
            state,
        }
    }

    async fn restart(self) -> Self {
        let Self {
            server,
            file,
            state,
        } = self;
        server.process.signal(Signal::KILL);
        drop(server);
        let server = TestServer::start(&["--survey", &file, "--state-dir", &state]).await;
        Self {
            server,
            file,
            state,
        }
    }

    /// Begins an interview: its id, and its token.
    pub(crate) async fn begin(&self, respondent: &str) -> (String, String) {
        let body = json!({"respondent": respondent});
        let (status, answer) = ask(
            &self.server,
            "POST",
            "/api/surveys/mobility/sessions",
            None,
            &body,
        )
        .await;
        assert_eq!(status, 201, "{answer}");
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("session"), text("token"))
    }

    async fn tool(
        &self,
        interview: &(String, String),
        tool: &str,
        arguments: Value,
    ) -> (u16, Value) {
        let path = format!("/api/surveys/sessions/{}/{tool}", interview.0);
        ask(&self.server, "POST", &path, Some(&interview.1), &arguments).await
    }

    async fn export(&self) -> Vec<Value> {
        let answer = http::get(self.server.admin, "/api/surveys/mobility/answers.jsonl").await;
        assert_eq!(answer.status, 200);
        let lines = answer.text().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn an_interview_goes_its_way_and_each_answer_is_stored_once() {
    let folder = Folder::new("survey");
    let held = Held::start(&folder).await;
    let ann = held.begin("ann").await;
    let (status, next) = held.tool(&ann, "get_next_question", json!({})).await;
    assert_eq!((status, &next["question"]["id"]), (200, &json!("use")));
    let wrong = json!({"question": "use", "value": 9});
    let (_, checked) = held.tool(&ann, "validate_answer", wrong.clone()).await;
    assert_eq!(checked["valid"], false);
    assert_eq!(checked["problem"], "out_of_range");
    let refused = json!({"question": "use", "value": 9, "request_id": "r0"});
    let (status, answer) = held.tool(&ann, "record_response", refused).await;
    assert_eq!((status, &answer["code"]), (422, &json!("invalid_answer")));
    let given = json!({"question": "use", "spoken": "zero", "request_id": "r1"});
    let (status, first) = held.tool(&ann, "record_response", given.clone()).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(first["next"]["question"]["id"], "why_not");

    // The same call again, also of a server that was killed meanwhile: the same reply, and nothing is stored twice.
    assert_eq!(
        held.tool(&ann, "record_response", given.clone()).await,
        (200, first.clone())
    );
    let held = held.restart().await;
    assert_eq!(
        held.tool(&ann, "record_response", given).await,
        (200, first)
    );
    let other = json!({"question": "why_not", "value": "far", "request_id": "r1"});
    let (status, answer) = held.tool(&ann, "record_response", other).await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("request_id_reused"))
    );
    for (question, value, request) in [
        ("why_not", json!("too far"), "r2"),
        ("again", json!(true), "r3"),
    ] {
        let given = json!({"question": question, "value": value, "request_id": request});
        let (status, answer) = held.tool(&ann, "record_response", given).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (_, over) = held.tool(&ann, "get_next_question", json!({})).await;
    assert_eq!(over["done"], true);
    let stored = held.export().await;
    let answers: Vec<_> = stored
        .iter()
        .map(|line| (line["question"].as_str().unwrap(), line["value"].clone()))
        .collect();
    assert_eq!(
        answers,
        [
            ("use", json!(0)),
            ("why_not", json!("too far")),
            ("again", json!(true))
        ]
    );
    assert!(stored.iter().all(|line| line["respondent"] == "ann"));
    // Who has read so far asks for the interviews behind it.
    for (after, status, lines) in [("0", 200, 3), (&*ann.0, 200, 0), ("x", 400, 1)] {
        let path = format!("/api/surveys/mobility/answers.jsonl?after={after}");
        let answer = http::get(held.server.admin, &path).await;
        let found = (answer.status, answer.text().lines().count());
        assert_eq!(found, (status, lines), "{after}");
    }
}

/// Says an answer; `None`: the server was gone before it had replied.
async fn says(to: SocketAddr, interview: &(String, String)) -> Option<u16> {
    let (id, token) = interview;
    let body = json!({"question": "use", "value": 3, "request_id": format!("r-{id}")}).to_string();
    let length = body.len();
    let request = format!(
        "POST /api/surveys/sessions/{id}/record_response HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let mut socket = TcpStream::connect(to).await.ok()?;
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut reply = String::new();
    // What has come before the end counts.
    let _ = socket.read_to_string(&mut reply).await;
    reply.get(9..12)?.parse().ok()
}

#[tokio::test]
async fn a_server_that_is_killed_with_answers_under_way_has_each_once_when_they_are_said_again() {
    const RESPONDENTS: usize = 12;
    let folder = Folder::new("survey-killed");
    let mut held = Held::start(&folder).await;
    let mut unanswered = 0;
    for killed_after in 0..RESPONDENTS {
        let mut interviews = Vec::new();
        for n in 0..RESPONDENTS {
            interviews.push(held.begin(&format!("{killed_after}-{n}")).await);
        }
        let mut under_way = JoinSet::new();
        for interview in interviews.clone() {
            let public = held.server.public;
            under_way.spawn(async move { says(public, &interview).await });
        }
        for _ in 0..killed_after {
            let reply = under_way.join_next().await.unwrap().unwrap();
            assert_eq!(reply, Some(200));
        }
        held = held.restart().await;
        let replies = under_way.join_all().await;
        unanswered += replies.iter().filter(|reply| reply.is_none()).count();
        for interview in &interviews {
            assert_eq!(says(held.server.public, interview).await, Some(200));
        }
    }
    assert!(unanswered > 0, "the kills came too late for all of them");
    let stored = held.export().await;
    let respondents: BTreeSet<_> = stored.iter().map(|line| text(line, "respondent")).collect();
    assert_eq!(stored.len(), RESPONDENTS * RESPONDENTS);
    assert_eq!(respondents.len(), RESPONDENTS * RESPONDENTS);
}

#[tokio::test]
async fn tools_answer_over_the_socket_too() {
    let folder = Folder::new("survey-socket");
    let held = Held::start(&folder).await;
    let ann = held.begin("ann").await;
    let mut agent = Part::open(&held.server, &ann.1).await;
    agent
        .send(json!({"type": "tool", "id": "1", "name": "get_next_question"}))
        .await;
    let told = agent.expect("tool_result").await;
    assert_eq!((&told["id"], &told["ok"]), (&json!("1"), &json!(true)));
    assert_eq!(told["result"]["question"]["id"], "use");
    let call = json!({"type": "tool", "id": 2, "name": "record_response",
        "arguments": {"question": "use", "request_id": "r1"}, "answer": 3});
    agent.send(call).await;
    let told = agent.expect("tool_result").await;
    assert_eq!(told["result"]["next"]["question"]["id"], "line");
    agent
        .send(json!({"type": "tool", "id": 3, "name": "dance"}))
        .await;
    let told = agent.expect("tool_result").await;
    assert_eq!(
        (&told["ok"], &told["code"]),
        (&json!(false), &json!("bad_message"))
    );
    assert!(agent.audio(vec![0; 3_200]).await);
    assert_eq!(agent.expect("error").await["code"], "role_forbidden");
    assert_eq!(held.export().await.len(), 1);
}

#[tokio::test]
async fn the_host_of_a_session_leads_the_interviews_that_are_held_in_it() {
    let folder = Folder::new("survey-session");
    let held = Held::start(&folder).await;
    let talk = Talk::create(&held.server, json!({"slug": "tea"})).await;
    let other = Talk::create(&held.server, json!({"slug": "coffee"})).await;
    let (_, ann) = talk.join(&held.server, "ann", "speaker").await;
    let mut host = Part::connect(&held.server, &talk.host, "").await.unwrap();
    let asks = json!({"type": "tool", "id": 1, "name": "get_next_question"});
    host.send(asks.clone()).await;
    let told = host.expect("tool_result").await;
    assert_eq!(told["code"], "unknown_session", "none is held: {told}");

    let begin = async |respondent: &str, session: &str| {
        let body = json!({"respondent": respondent, "session": session});
        let path = "/api/surveys/mobility/sessions";
        let (status, begun) = ask(&held.server, "POST", path, None, &body).await;
        assert_eq!(status, 201, "{begun}");
        begun["session"].as_str().unwrap().to_owned()
    };
    let (first, second) = (begin("ann", "tea").await, begin("ben", "tea").await);
    let call = |id: u32, session: Value, value: u32| {
        let arguments = json!({"session": session, "value": value, "request_id": id.to_string()});
        json!({"type": "tool", "id": id, "name": "record_response", "arguments": arguments})
    };
    // The one that began last, unless one is named; and never one of another session.
    host.send(call(2, Value::Null, 2)).await;
    assert_eq!(host.expect("tool_result").await["ok"], true);
    host.send(call(3, json!(first), 0)).await;
    assert_eq!(host.expect("tool_result").await["ok"], true);
    let mut stranger = Part::connect(&held.server, &other.host, "").await.unwrap();
    for session in [json!(second), json!("x"), Value::Null] {
        stranger.send(call(4, session, 1)).await;
        let told = stranger.expect("tool_result").await;
        assert_eq!(told["code"], "unknown_session", "{told}");
    }
    let mut speaker = Part::connect(&held.server, &ann, "").await.unwrap();
    speaker.send(asks.clone()).await;
    let told = speaker.expect("tool_result").await;
    assert_eq!(told["code"], "role_forbidden");

    // A server that was killed knows it from its database.
    let held = held.restart().await;
    let mut host = Part::connect(&held.server, &talk.host, "").await.unwrap();
    host.send(asks).await;
    let told = host.expect("tool_result").await;
    assert_eq!(told["result"]["question"]["id"], "line", "{told}");
    let answers = held.export().await;
    let answers = answers
        .iter()
        .map(|it| (it["respondent"].as_str().unwrap(), &it["value"]));
    let answers: BTreeMap<_, _> = answers.collect();
    assert_eq!(json!(answers), json!({"ann": 0, "ben": 2}));
}

#[tokio::test]
async fn whose_interview_it_is_decides_who_may_hold_it() {
    let folder = Folder::new("survey-access");
    let held = Held::start(&folder).await;
    let (ann, ben) = (held.begin("ann").await, held.begin("ben").await);
    let theirs = (ann.0.clone(), ben.1.clone());
    for token in [&ben.1, "", "a.b.c"] {
        let path = format!("/api/surveys/sessions/{}/get_next_question", theirs.0);
        let (status, _) = ask(&held.server, "POST", &path, Some(token), &json!({})).await;
        assert!([401, 403].contains(&status), "{token}: {status}");
    }
    // The same respondent comes back to the same interview.
    let body = json!({"respondent": "ann"});
    let (status, again) = ask(
        &held.server,
        "POST",
        "/api/surveys/mobility/sessions",
        None,
        &body,
    )
    .await;
    assert_eq!((status, again["session"].as_str()), (200, Some(&*ann.0)));
    let public = ask(
        &held.server,
        "POST",
        "/api/surveys/mobility/sessions",
        Some(""),
        &body,
    )
    .await;
    assert_eq!(public.0, 403);
    let none = ask(
        &held.server,
        "POST",
        "/api/surveys/none/sessions",
        None,
        &body,
    )
    .await;
    assert_eq!(none.0, 404);
    let answer = http::get(held.server.public, "/api/surveys/mobility/answers.csv").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn a_questionnaire_is_checked_and_its_faults_are_named_by_line() {
    let folder = Folder::new("survey-check");
    let good = folder.write("good.toml", SURVEY);
    assert_eq!(run(&["survey", "check", &good]).await.0, Some(0));
    let bad = folder.write(
        "bad.toml",
        &SURVEY.replace("goto = \"line\"", "goto = \"lime\""),
    );
    let (code, said) = run(&["survey", "check", &bad]).await;
    assert_eq!(code, Some(2));
    assert!(
        said.contains("bad.toml:11") && said.contains("lime"),
        "{said}"
    );
    let (code, said) = run(&[
        "--survey",
        &bad,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ])
    .await;
    assert_ne!(code, Some(0));
    assert!(said.contains("lime"), "{said}");
}
