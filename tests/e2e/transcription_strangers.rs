//! How often callers without a right to it may begin what is stored.

use std::ops::Range;

use serde_json::{Value, json};

use crate::{
    support::{TestServer, http, jwt::Folder, talk::Talk},
    surveys::SURVEY,
};

/// Begins and joins that a stranger's address has at once, and more in the seconds that a test takes.
const AT_ONCE: Range<usize> = 60..90;

#[tokio::test]
async fn strangers_begin_and_join_only_so_often_a_minute() {
    let folder = Folder::new("strangers");
    let survey = folder.write("mobility.toml", &format!("open = true\n{SURVEY}"));
    let state = folder.path("state");
    let flags = ["--transcribe", "fake:", "--survey", &survey];
    let more = ["--state-dir", &state, "--trusted-proxy", "127.0.0.1"];
    let server = TestServer::start(&[flags, more].concat()).await;
    let talk = Talk::create(&server, json!({"open": true})).await;
    let (begin, join) = (
        "/api/surveys/mobility/sessions",
        &*format!("/api/sessions/{}/participants/join", talk.slug),
    );
    let post = async |from: &str, token: &str, path: &str, body: Value| {
        let bearer = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let body = body.to_string();
        let headers = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\nX-Forwarded-For: {from}\r\n{bearer}",
            body.len()
        );
        http::request_with_body(server.public, "POST", path, &headers, &body).await
    };
    let joins = |number: usize| json!({"user": format!("u{number}")});
    let (here, same_network, other_network) = ("2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1");
    let (mut begun, mut token) = (0, String::new());
    let refused = loop {
        let from = [here, same_network][begun % 2];
        let answer = post(from, &token, begin, json!({})).await;
        match answer.status {
            201 if begun < AT_ONCE.end => begun += 1,
            _ => break answer,
        }
        // The token of one interview begins no more of them.
        token = answer.json()["token"].as_str().unwrap().to_owned();
    };
    assert!(AT_ONCE.contains(&begun), "{begun}");
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.json()["code"], "rate_limited");
    assert!(refused.header("retry-after").is_some());
    let counted = server.metric("transcribe_refused_total", r#"code="rate_limited""#);
    assert_eq!(counted.await, 1.0);
    assert_eq!(post(other_network, "", begin, json!({})).await.status, 201);

    let (mut joined, mut token) = (0, String::new());
    loop {
        let answer = post("192.0.2.1", &token, join, joins(joined)).await;
        match answer.status {
            200 if joined < AT_ONCE.end => joined += 1,
            status => break assert_eq!(status, 429, "{}", answer.text()),
        }
        let pass = answer.json()["participant"]["token"].clone();
        token = pass.as_str().unwrap().to_owned();
    }
    assert!(AT_ONCE.contains(&joined), "{joined}");
    for (from, token, status) in [
        ("192.0.2.2", "", 200),
        // Who rules the session lets in whom they want.
        ("192.0.2.1", &talk.host, 200),
    ] {
        joined += 1;
        let answer = post(from, token, join, joins(joined)).await;
        assert_eq!(answer.status, status, "{from} {}", answer.text());
    }
}
