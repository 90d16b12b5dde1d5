//! Several servers with one database: a session is at one of them, and who comes to another one is told where.

use std::{net::SocketAddr, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use voicematch_test_postgres::Postgres;

use crate::{
    support::{
        PATIENCE, TestServer, becomes,
        gate::Gate,
        http,
        jwt::Folder,
        talk::{Part, Talk, ask, words},
    },
    surveys::SURVEY,
};

/// Finals late, so that the last words come with the end.
const FAKE: &str = "fake:?delay=10ms&final=5s";

/// How long a session belongs to a server that is not heard of.
const LEASE: Duration = Duration::from_secs(20);

/// One of several servers.
struct Node {
    server: TestServer,
    gate: Gate,
}

impl Node {
    /// What it says of where it is.
    fn url(&self) -> String {
        format!("http://{}", self.gate.address)
    }
}

/// A database, and what its servers have in common.
struct Cluster {
    postgres: Postgres,
    folder: Folder,
    common: Vec<String>,
}

impl Cluster {
    async fn new(name: &str) -> Self {
        let (postgres, folder) = (Postgres::start().await, Folder::new(name));
        let key = folder.write("key", &"k".repeat(32));
        let survey = folder.write("mobility.toml", SURVEY);
        let database = postgres.url("postgres");
        let common = [
            "--transcribe",
            FAKE,
            "--survey",
            &survey,
            "--database",
            &database,
        ];
        let common = [&common[..], &["--transcribe-token-key-file", &key]].concat();
        Self {
            postgres,
            folder,
            common: common.into_iter().map(str::to_owned).collect(),
        }
    }

    async fn start(&self, name: &str, more: &[&str]) -> TestServer {
        let state = self.folder.path(name);
        let common: Vec<_> = self.common.iter().map(String::as_str).collect();
        TestServer::start(&[&common[..], &["--state-dir", &state], more].concat()).await
    }

    /// A server that says where it is.
    async fn node(&self, name: &str) -> Node {
        let gate = Gate::open().await;
        let url = format!("ws://{}/", gate.address);
        let server = self.start(name, &["--public-url", &url]).await;
        gate.leads_to(&server);
        Node { server, gate }
    }

    /// Sessions that some server has.
    async fn held(&self) -> String {
        let now = "(extract(epoch FROM clock_timestamp()) * 1000)";
        let sql = format!("SELECT count(*) FROM session_owners WHERE until_ms >= {now}");
        self.postgres.ask(&sql).await
    }

    /// Waits until no server has a session.
    async fn holds_none(&self) {
        becomes("0".to_owned(), "sessions held", async || self.held().await).await;
    }
}

/// Is told that the session is elsewhere; where.
async fn moved(server: &TestServer, token: &str) -> String {
    let mut part = Part::connect(server, token, "").await.unwrap();
    assert_eq!(part.ready["type"], "moved", "{}", part.ready);
    assert_eq!(part.closed().await, Some(4005));
    part.ready["url"].as_str().unwrap().to_owned()
}

/// The server at this URL.
fn at(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// Waits until all that was told is stored.
async fn all_stored(host: &mut Part, last: u64) {
    while host.expect("stored").await["through"] != last {}
}

#[tokio::test]
async fn who_comes_to_another_server_is_told_where_the_session_is_and_speaks_there() {
    let cluster = Cluster::new("moved").await;
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let talk = Talk::create(&b.server, json!({"open": true})).await;
    // Where it was created is not where it is: the host decides.
    let mut host = Part::connect(&a.server, &talk.host, "").await.unwrap();
    assert_eq!(host.ready["type"], "ready", "{}", host.ready);

    let path = format!("/api/sessions/{}/participants/join", talk.slug);
    let wanted = json!({"user": "ann"});
    let body = wanted.to_string();
    let headers = format!(
        "Authorization: Bearer {}\r\nContent-Length: {}\r\n",
        talk.host,
        body.len()
    );
    let answer = http::request_with_body(b.server.public, "POST", &path, &headers, &body).await;
    assert_eq!(answer.status, 421, "{}", answer.text());
    let location = format!("{}{path}", a.url());
    assert_eq!(answer.header("location"), Some(&*location));
    let problem = answer.json();
    assert_eq!(
        (&problem["code"], &problem["url"]),
        (&json!("moved"), &json!(a.url()))
    );
    let there = http::request_with_body(at(&a.url()), "POST", &path, &headers, &body).await;
    assert_eq!(there.status, 200, "{}", there.text());
    let ann = there.json()["participant"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, carl) = talk.join(&a.server, "carl", "listener").await;

    for token in [&ann, &carl, &talk.host] {
        assert_eq!(moved(&b.server, token).await, a.url());
    }
    let url = moved(&b.server, &ann).await;
    let mut speaker = Part::connect_to(at(&url), &ann, "").await.unwrap();
    let said = speaker.record(17).await;
    speaker.send(json!({"type": "stop"})).await;
    let told = host.expect("final").await;
    assert_eq!(words(told["text"].as_str()), said);
    all_stored(&mut host, 1).await;

    // What only the database knows any server answers.
    assert_eq!(talk.stored(&b.server).await, (vec![1], said));
    let own = Some(&*talk.host);
    let shown = format!("/api/sessions/{}", talk.slug);
    for (method, path) in [
        ("GET", &shown),
        ("DELETE", &shown),
        ("POST", &format!("{shown}/end")),
    ] {
        let (status, answer) = ask(&b.server, method, path, own, &Value::Null).await;
        assert_eq!(
            (status, &answer["url"]),
            (421, &json!(a.url())),
            "{method} {path}: {answer}"
        );
    }
    // Before a stranger is told anything, they are refused.
    let (status, _) = ask(
        &b.server,
        "POST",
        &format!("{shown}/end"),
        Some(&ann),
        &Value::Null,
    )
    .await;
    assert_eq!(status, 403);
    let told = r#"result="moved""#;
    assert_eq!(b.server.metric("transcribe_moved_total", told).await, 8.0);
    assert_eq!(a.server.metric("transcribe_moved_total", told).await, 0.0);

    let (status, _) = ask(
        &a.server,
        "POST",
        &format!("{shown}/end"),
        own,
        &Value::Null,
    )
    .await;
    assert_eq!(status, 200);
    let (status, view) = ask(&b.server, "GET", &shown, own, &Value::Null).await;
    assert_eq!(
        (status, view["segments"].as_u64()),
        (200, Some(1)),
        "{view}"
    );
    let ended = Part::connect(&b.server, &talk.host, "").await.unwrap();
    assert_eq!(ended.ready["code"], "session_ended");
}

#[tokio::test]
async fn a_session_that_all_have_left_is_where_its_host_comes_next() {
    let cluster = Cluster::new("left").await;
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let talk = Talk::create(&a.server, json!({})).await;
    assert_eq!(cluster.held().await, "0", "nobody has come yet");
    let (mut said, mut last) = (Vec::new(), 0);
    let mut chunk = 0;
    for (here, there) in [(&a, &b), (&b, &a), (&a, &b)] {
        let (mut host, _) = Part::come_back(&here.server, &talk.host, "").await;
        assert_eq!(host.ready["next_seq"], last + 1);
        host.begin_at(chunk);
        assert_eq!(moved(&there.server, &talk.host).await, here.url());
        said.extend(host.record(7).await);
        chunk = host.next_chunk();
        // Text comes when the audio has ended; the host leaves before.
        host.send(json!({"type": "pause"})).await;
        host.close(1000).await;
        last += 1;
        cluster.holds_none().await;
    }
    let numbers: Vec<u64> = (1..=last).collect();
    assert_eq!(talk.stored(&b.server).await, (numbers, said));
    // Who joins over HTTP alone does not keep it there.
    talk.join(&a.server, "ann", "speaker").await;
    cluster.holds_none().await;
    let (_, ann) = talk.join(&b.server, "ann", "speaker").await;
    let (speaker, _) = Part::come_back(&b.server, &ann, "").await;
    assert_eq!(speaker.ready["role"], "speaker");
}

#[tokio::test]
async fn a_killed_servers_sessions_go_on_elsewhere_after_the_lease_and_a_drained_ones_at_once() {
    let cluster = Cluster::new("killed").await;
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut c = cluster.node("c").await;
    let talk = Talk::create(&a.server, json!({})).await;
    let (mut host, _) = Part::come_back(&a.server, &talk.host, "").await;
    let mut said = host.record(17).await;
    host.send(json!({"type": "pause"})).await;
    host.expect("final").await;
    all_stored(&mut host, 1).await;
    // Of this nothing was told to be stored.
    let chunk = host.next_chunk();

    a.server.process.signal(Signal::KILL);
    assert_eq!(host.closed().await, None);
    assert_eq!(
        moved(&b.server, &talk.host).await,
        a.url(),
        "by its last word"
    );
    let (mut host, waited) = Part::come_back(&b.server, &talk.host, "?after=0").await;
    eprintln!("{} ms after the kill", waited.as_millis());
    assert!(waited <= LEASE + PATIENCE, "{waited:?}");
    assert_eq!(host.ready["next_seq"], 2);
    host.begin_at(chunk);
    let replayed = host.expect("final").await;
    assert_eq!(
        (&replayed["seq"], &replayed["replayed"]),
        (&json!(1), &json!(true))
    );
    said.extend(host.record(7).await);

    // The last words are transcribed before it ends.
    let chunk = host.next_chunk();
    b.server.process.signal(Signal::TERM);
    assert_eq!(
        words(host.expect("final").await["text"].as_str()),
        said[17..]
    );
    assert_eq!(host.closed().await, Some(4000));
    let (mut host, waited) = Part::come_back(&c.server, &talk.host, "").await;
    assert!(
        waited < LEASE,
        "{waited:?}: at once, and not when a lease is over"
    );
    assert_eq!(host.ready["next_seq"], 3);
    host.begin_at(chunk);
    said.extend(host.record(7).await);
    host.send(json!({"type": "stop"})).await;
    let ended = host.expect("ended").await;
    assert_eq!(ended["segments"], 3, "{ended}");
    assert_eq!(talk.stored(&c.server).await, (vec![1, 2, 3], said));
    c.server.process.signal(Signal::TERM);
    assert_eq!(c.server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_server_that_was_stopped_for_longer_than_its_lease_numbers_nothing_any_more() {
    let cluster = Cluster::new("stopped").await;
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let talk = Talk::create(&a.server, json!({})).await;
    let (mut old, _) = Part::come_back(&a.server, &talk.host, "").await;
    let mut said = old.record(7).await;
    old.send(json!({"type": "pause"})).await;
    all_stored(&mut old, 1).await;
    a.server.process.signal(Signal::STOP);
    let (mut host, _) = Part::come_back(&b.server, &talk.host, "").await;
    // It will read this when it goes on.
    old.say(1, 7).await;
    host.begin_at(old.next_chunk());
    a.server.process.signal(Signal::CONT);
    // It looks at its leases, and sends its own away.
    let url = old.expect("moved").await["url"].clone();
    assert_eq!(url, b.url());
    assert_eq!(old.closed().await, Some(4005));
    said.extend(host.record(7).await);
    host.send(json!({"type": "stop"})).await;
    host.expect("ended").await;
    assert_eq!(talk.stored(&a.server).await, (vec![1, 2], said));
    // Nor did it try to.
    for server in [&a.server, &b.server] {
        let rejected = server.metric("transcribe_records_rejected_total", "");
        assert_eq!(rejected.await, 0.0);
    }
}

#[tokio::test]
async fn a_server_without_an_address_asks_for_patience() {
    let cluster = Cluster::new("nowhere").await;
    let a = cluster.start("a", &[]).await;
    let b = cluster.node("b").await;
    let talk = Talk::create(&a, json!({})).await;
    let (host, _) = Part::come_back(&a, &talk.host, "").await;
    let mut part = Part::connect(&b.server, &talk.host, "").await.unwrap();
    assert_eq!(part.ready["code"], "session_elsewhere", "{}", part.ready);
    assert_eq!(part.closed().await, Some(4000));
    let path = format!("/api/sessions/{}", talk.slug);
    let headers = format!("Authorization: Bearer {}\r\n", talk.host);
    let answer = http::request(b.server.public, "GET", &path, &headers).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["code"], "session_elsewhere");
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(answer.header("location"), None);
    let silent = r#"result="elsewhere""#;
    assert_eq!(b.server.metric("transcribe_moved_total", silent).await, 2.0);
    host.close(1000).await;
    Part::come_back(&b.server, &talk.host, "").await;
}

#[tokio::test]
async fn an_interview_is_led_at_any_server_and_each_answer_is_stored_once() {
    let cluster = Cluster::new("interviews").await;
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let begin = json!({"respondent": "ann"});
    let path = "/api/surveys/mobility/sessions";
    let (status, begun) = ask(&a.server, "POST", path, None, &begin).await;
    assert_eq!(status, 201, "{begun}");
    let (status, again) = ask(&b.server, "POST", path, None, &begin).await;
    assert_eq!((status, &again["session"]), (200, &begun["session"]));
    let id = begun["session"].as_str().unwrap();
    let token = begun["token"].as_str().unwrap();
    let tool = async |node: &Node, tool: &str, arguments: Value| {
        let path = format!("/api/surveys/sessions/{id}/{tool}");
        ask(&node.server, "POST", &path, Some(token), &arguments).await
    };
    // Both know it from the start.
    for node in [&a, &b] {
        let (_, next) = tool(node, "get_next_question", json!({})).await;
        assert_eq!(next["question"]["id"], "use", "{next}");
    }
    let first = json!({"value": 3, "request_id": "1"});
    let (status, recorded) = tool(&a, "record_response", first.clone()).await;
    assert_eq!(
        (status, &recorded["next"]["question"]["id"]),
        (200, &json!("line"))
    );
    assert_eq!(tool(&b, "record_response", first).await, (200, recorded));

    // Over the socket at the other one, and by MCP at the first again.
    let mut socket = Part::open(&b.server, token).await;
    let call = json!({"type": "tool", "id": 1, "name": "record_response", "arguments": {"value": "U2", "request_id": "2"}});
    socket.send(call).await;
    let result = socket.expect("tool_result").await;
    assert_eq!(
        result["result"]["next"]["question"]["id"], "again",
        "{result}"
    );
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "record_response", "arguments": {"value": true, "request_id": "3"}}})
    .to_string();
    let headers = format!(
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2025-06-18\r\nContent-Length: {}\r\nAuthorization: Bearer {token}\r\n",
        call.len()
    );
    let answer = http::request_with_body(a.server.public, "POST", "/mcp", &headers, &call).await;
    assert_eq!(
        answer.json()["result"]["structuredContent"]["next"]["done"],
        true,
        "{}",
        answer.text()
    );
    let (status, over) = tool(
        &b,
        "record_response",
        json!({"value": 1, "request_id": "4"}),
    )
    .await;
    assert_eq!((status, &over["code"]), (409, &json!("survey_done")));
    assert_eq!(
        cluster
            .postgres
            .ask("SELECT count(*), count(DISTINCT question_id) FROM answers")
            .await,
        "3|3"
    );
}
