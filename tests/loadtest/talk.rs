//! Scenarios against a server that gives out tokens over HTTP, lets in who has one, and answers in its own way.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Ran,
    fake::{Fake, Faults},
    node::{Server, Tally},
    report_file, run,
};

async fn play(faults: &[&str], scenario: &str, stages: &str) -> (Ran, Tally) {
    let server = Server::talk(faults).await;
    let ran = run(&server.url(), &["--scenario", scenario, "--stage", stages]).await;
    (ran, server.tally().await)
}

impl Ran {
    fn call(&self, name: &str, what: &str) -> usize {
        let calls = self.json["calls"].as_array().expect("a list");
        let call = calls.iter().find(|call| call["name"] == name);
        let count = call.and_then(|call| call[what].as_u64());
        let count = count.unwrap_or_else(|| panic!("no {what} of {name} in {calls:?}"));
        usize::try_from(count).expect("a small number")
    }

    fn assert_no_token(&self) {
        let told = format!("{}{}{}", self.json, self.stdout, self.stderr);
        assert!(!told.contains("tk+"), "a report tells no token");
    }
}

#[tokio::test]
async fn who_chats_has_a_token_and_every_message_is_acknowledged() {
    let (ran, tally) = play(&[], "chat-ack", "200ms:20,3s:20").await;
    ran.assert_ended(0);
    assert_eq!(ran.json["errors"], Value::Array(Vec::new()));
    for what in ["tokens", "joins", "connections"] {
        assert_eq!(tally.get(what), 20, "{what}");
    }
    assert_eq!((tally.get("refused"), tally.get("bad_requests")), (0, 0));
    assert_eq!(ran.call("token", "answered"), 20);
    // One a second each.
    assert!((20 * 2..=20 * 4).contains(&tally.get("acks")), "{tally:?}");
    assert_eq!(ran.call("say", "sent"), tally.get("acks"));
    assert_eq!(ran.call("say", "answered"), tally.get("acks"));
    assert_eq!(ran.messages("sent"), 0, "nothing is for the ledger");
    ran.assert_no_token();
}

#[tokio::test]
async fn an_answer_without_what_is_needed_of_it_is_wrong_and_ends_the_flow() {
    for fault in ["--tokenless", "--longwinded"] {
        let (ran, tally) = play(&[fault], "chat-ack", "100ms:5,1s:5").await;
        assert!(matches!(ran.code, Some(98 | 99)), "{}", ran.stdout);
        // They come again after half a second, and then not before a second has passed.
        assert_eq!(tally.get("tokens"), 5 * 2, "{fault}: {tally:?}");
        assert_eq!(ran.call("token", "wrong"), tally.get("tokens"));
        assert_eq!(ran.count("/connections/attempted"), 0);
        let flow = &ran.json["flows"][0];
        assert_eq!(
            (&flow["completed"], &flow["failed"]),
            (&0.into(), &tally.get("tokens").into()),
            "{flow}"
        );
        ran.assert_no_token();
    }
}

#[tokio::test]
async fn a_server_need_not_answer_all_that_it_is_told() {
    let (ran, tally) = play(&[], "echo-transcription", "100ms:10,300ms:20,2s:20").await;
    ran.assert_ended(0);
    assert_eq!((tally.get("tokens"), tally.get("connections")), (20, 20));
    assert_eq!(ran.messages("sent"), tally.get("chunks"));
    assert_eq!(ran.messages("delivered"), tally.get("answers"));
    assert!(tally.get("answers") > 80, "{tally:?}");
    assert_eq!(ran.count("/latency/message/count"), tally.get("answers"));
    ran.assert_no_token();
}

/// A scenario file; removed at the end.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let file = report_file().with_extension("toml");
        std::fs::write(&file, text).expect("it can be written");
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The visits as they are, but for the times that they take.
#[tokio::test]
async fn visitors_come_ever_faster_and_find_a_partner_and_a_sign_of_life() {
    let mut text = include_str!("../../loadtest/scenarios/gradual.toml").to_owned();
    for (long, short) in [
        ("think = \"1s\"", "think = \"100ms\""),
        ("think = \"5s\"", "think = \"200ms\""),
        ("think = \"10s\"", "think = \"300ms\""),
        ("duration = \"1m\"", "duration = \"1s\""),
        ("duration = \"2m\"", "duration = \"1s\""),
        ("duration = \"5m\"", "duration = \"2s\""),
        // One is left over at the end, when there is nobody to come any more.
        ("match_success >= 99.9%", "match_success >= 99%"),
    ] {
        assert!(text.contains(long), "{long}");
        text = text.replace(long, short);
    }
    let file = File::new(&text);
    let fake = Fake::start(Faults::default()).await;
    let ran = run(&fake.url(), &["--scenario", file.path()]).await;
    ran.assert_ended(0);
    assert_eq!(ran.json["errors"], Value::Array(Vec::new()));
    assert_eq!(ran.count("/connections/succeeded"), 10 + 50 + 200);
    let answered = ran.call("ping", "answered");
    assert!((200..=260).contains(&answered), "{answered}");
}

#[tokio::test]
async fn headers_go_along_to_the_host_under_test_and_to_no_other() {
    let server = Server::talk(&["--header", "x-tenant: blue"]).await;
    let port = server.port;
    let file = File::new(&format!(
        r#"
name = "hosts"
greeting = "none"
thresholds = ["call_success >= 100%"]
[[phase]]
duration = "1s"
arrival_rate = "10/s"
[[flow]]
name = "ask"
steps = [
    {{ http = "/token", text = '{{"user":"a"}}' }},
    {{ http = "http://127.0.0.1:{port}/token?key=tk+1", text = '{{"user":"b"}}' }},
    {{ http = "http://localhost:{port}/token", name = "other", text = '{{"user":"c"}}', status = 403 }},
]
"#
    ));
    let args = ["--scenario", file.path(), "--header", "X-Tenant: blue"];
    let ran = run(&server.url(), &args).await;
    ran.assert_ended(0);
    let own = format!("POST http://127.0.0.1:{port}/token");
    for name in ["POST /token", &own, "other"] {
        assert_eq!(ran.call(name, "answered"), 10, "{name}");
    }
    assert_eq!(server.tally().await.get("tokens"), 20);
    ran.assert_no_token();
}

#[tokio::test]
async fn a_host_that_nobody_knows_is_told_before_anybody_comes() {
    let server = Server::talk(&[]).await;
    let file = File::new(
        r#"
name = "nowhere"
greeting = "none"
[[phase]]
duration = "1s"
arrival_rate = "10/s"
[[flow]]
name = "ask"
steps = [{ http = "https://nowhere.invalid/token" }]
"#,
    );
    let ran = run(&server.url(), &["--scenario", file.path()]).await;
    assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("nowhere.invalid"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_user_who_was_connected_comes_again_as_soon_as_after_a_first_failure() {
    let server = Server::broken(&["--destroy", "1"]).await;
    let file = File::new(
        r#"
name = "again"
greeting = "none"
[message.a]
text = "{{payload}}"
[[phase]]
duration = "100ms"
users = 20
[[phase]]
duration = "3s"
users = 20
[[flow]]
name = "talk"
reconnect = true
steps = ["connect", { send = "a", every = "100ms" }]
"#,
    );
    run(&server.url(), &["--scenario", file.path()]).await;
    // Had each failure made the wait longer, there would be three for each user.
    let connections = server.tally().await.get("connections");
    assert!((20 * 4..=20 * 8).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_user_who_asks_over_http_hears_what_comes_meanwhile() {
    let server = Server::talk(&["--slow", "400"]).await;
    let file = File::new(
        r#"
name = "meanwhile"
greeting = "none"
[message.chunk]
frame = "binary"
text = "{{payload}}"
comes_back = "some"
[[phase]]
duration = "2s"
arrival_rate = "10/s"
[[flow]]
name = "ask"
steps = [
    { http = "/token", text = '{"user":"a"}', save = { token = "/token" } },
    { connect = "/?token={{token}}" },
    { send = "chunk", times = 1 },
    { http = "/token", name = "again", text = '{"user":"a"}' },
    "close",
]
"#,
    );
    let ran = run(&server.url(), &["--scenario", file.path()]).await;
    assert!(ran.call("again", "answered") > 10, "{}", ran.stdout);
    assert!(ran.ms("message", "max") < 300.0, "{}", ran.stdout);
}

#[tokio::test]
async fn nobody_outstays_the_run_for_an_answer_over_http() {
    let server = Server::talk(&["--slow", "60000"]).await;
    let file = File::new(
        r#"
name = "endless"
greeting = "none"
[[phase]]
duration = "100ms"
users = 5
[[phase]]
duration = "1s"
users = 5
[[flow]]
name = "ask"
steps = [{ http = "/token", name = "token", text = '{"user":"a"}', within = "1h" }]
"#,
    );
    let begin = Instant::now();
    let ran = run(&server.url(), &["--scenario", file.path()]).await;
    assert!(begin.elapsed() < Duration::from_secs(30), "{}", ran.stdout);
    assert_eq!(ran.call("token", "pending"), 5);
}
