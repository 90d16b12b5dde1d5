//! Requests of a session that reach another node than its own: behind a balancer that does not know where a client was.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    TestServer, becomes,
    client::{Client, Via, pair},
    engine::{Engine, knows, stands},
    eventually,
    http::{Response, request, request_with_body},
};

/// How often this node has passed a request on, with this result.
async fn forwarded(node: &TestServer, kind: &str, result: &str) -> f64 {
    let labels = [format!(r#"kind="{kind}""#), format!(r#"result="{result}""#)];
    let metrics = node.metrics().await;
    let all = metrics.all("session_forwards_total");
    all.filter(|(found, _)| labels.iter().all(|label| found.contains(label)))
        .map(|(_, count)| count)
        .sum()
}

async fn post(address: SocketAddr, token: &str, body: &str) -> Response {
    let headers = format!(
        "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    request_with_body(address, "POST", "/send", &headers, body).await
}

async fn poll(address: SocketAddr, token: &str, wait: u64) -> Response {
    let headers = format!("Authorization: Bearer {token}\r\n");
    request(address, "GET", &format!("/poll?wait={wait}"), &headers).await
}

fn message(seq: u64) -> String {
    json!({"type": "message", "payload": seq, "seq": seq}).to_string()
}

async fn three() -> (Engine, [TestServer; 3]) {
    let engine = Engine::start().await;
    let nodes = [
        engine.node(&[]).await,
        engine.node(&[]).await,
        engine.node(&[]).await,
    ];
    for node in &nodes {
        knows(node, "alive", 2.0).await;
    }
    (engine, nodes)
}

#[tokio::test]
async fn a_stream_at_one_node_is_fed_through_the_others() {
    let (_engine, [a, b, c]) = three().await;
    let mut first = Client::begin(&a, Via::EventStream).await;
    let mut second = Client::begin(&c, Via::WebSocket).await;
    second.send(json!({"type": "find_match"})).await;
    second.expect("waiting").await;
    first.sends_to(&b);
    first.send(json!({"type": "find_match"})).await;
    let mut found = first.next().await.unwrap();
    if found["type"] == "waiting" {
        found = first.next().await.unwrap();
    }
    assert_eq!(found["type"], "match_found");
    second.expect("match_found").await;
    for number in 0..100 {
        first.sends_to([&b, &c][number % 2]);
        first.say(number).await;
        second.say(number).await;
    }
    for number in 0..100 {
        second.hears(number).await;
        first.hears(number).await;
    }
    for node in [&b, &c] {
        assert!(forwarded(node, "send", "answered").await >= 50.0);
    }
    assert_eq!(forwarded(&a, "send", "answered").await, 0.0);
    // What is missing is said as by the session's own node, and what comes twice is taken once.
    let ahead = post(b.public, &first.token, &message(first.sent + 2)).await;
    assert_eq!((ahead.status, &ahead.json()["code"]), (409, &json!("gap")));
    assert_eq!(ahead.json()["received"], first.sent);
    let again = post(c.public, &first.token, &message(first.sent)).await;
    assert_eq!(again.status, 200);
    // A page that is left says so with a beacon, wherever it comes.
    let beacon = json!({"token": first.token, "messages": [{"type": "leave"}]}).to_string();
    let headers = format!(
        "Content-Type: text/plain\r\nContent-Length: {}\r\n",
        beacon.len()
    );
    let left = request_with_body(b.public, "POST", "/send", &headers, &beacon).await;
    assert_eq!(left.status, 200, "{}", left.text());
    second.expect("peer_left").await;
}

#[tokio::test]
async fn a_conversation_by_polls_of_two_nodes_in_turn() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair(&a, Via::Polling, Via::Polling).await;
    for number in 0..40 {
        let (here, there) = if number % 2 == 0 { (&a, &b) } else { (&b, &a) };
        first.sends_to(here);
        second.sends_to(there);
        first.say(number).await;
        second.hears(number).await;
        second.say(number).await;
        first.hears(number).await;
    }
    assert!(forwarded(&b, "poll", "answered").await >= 20.0);
    // Nothing new is an answer, before the client gives up.
    first.sends_to(&b);
    let began = Instant::now();
    let nothing = first.poll("wait=2").await;
    assert_eq!(nothing.status, 304, "{}", nothing.text());
    assert_eq!(
        nothing.header("etag"),
        Some(&*format!("\"{}\"", first.arrived))
    );
    assert!(began.elapsed() > Duration::from_millis(900));
    second.sends_to(&b);
    second.send(json!({"type": "leave_room"})).await;
    first.expect("peer_left").await;
    // A later poll takes the place of an earlier one, wherever the two come.
    let (earlier, later) = tokio::join!(poll(b.public, &first.token, 10), async {
        a.reaches("polls_held", "", 1.0).await;
        poll(a.public, &first.token, 0).await
    });
    assert_eq!((earlier.status, later.status), (409, 304));
}

#[tokio::test]
async fn a_poll_whose_client_goes_away_ends_at_the_sessions_node() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let first = Client::begin(&a, Via::Polling).await;
    let (address, token) = (b.public, first.token.clone());
    let held = tokio::spawn(async move { poll(address, &token, 25).await.status });
    let began = Instant::now();
    a.reaches("polls_held", "", 1.0).await;
    held.abort();
    a.reaches("polls_held", "", 0.0).await;
    // By itself it would have ended after 24 s.
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_node_that_is_killed_ends_the_polls_of_its_sessions() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let first = Client::begin(&a, Via::Polling).await;
    let killed = async {
        a.reaches("polls_held", "", 1.0).await;
        drop(a);
    };
    let (answer, ()) = tokio::join!(poll(b.public, &first.token, 25), killed);
    let refused = |answer: &Response| {
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(answer.json()["code"], "resume_refused");
    };
    refused(&answer);
    assert_eq!(forwarded(&b, "poll", "lost").await, 1.0);
    refused(&post(b.public, &first.token, &message(1)).await);
}

#[tokio::test]
async fn a_node_that_stands_still_or_cannot_be_reached_is_asked_again() {
    let mut engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair(&a, Via::EventStream, Via::WebSocket).await;
    first.sends_to(&b);
    first.say("before").await;
    second.hears("before").await;
    a.process.signal(Signal::STOP);
    let seq = first.sent + 1;
    let answer = post(b.public, &first.token, &message(seq)).await;
    a.process.signal(Signal::CONT);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["code"], "node_unreachable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(forwarded(&b, "send", "unanswered").await, 1.0);
    // Nobody waits for it any more. Should the node have been taken for dead, it begins another life, with the same sessions.
    let fenced = r#"reason="fenced""#;
    eventually("it is not carried out", async || {
        forwarded(&a, "send", "late").await + a.metric("cluster_lives_total", fenced).await >= 1.0
    })
    .await;
    eventually("it is taken", async || {
        post(b.public, &first.token, &message(seq)).await.status == 200
    })
    .await;
    second.hears(seq).await;
    first.sent = seq;
    first.say("after").await;
    second.hears("after").await;
    engine.kill();
    stands(&b, "down").await;
    eventually("nothing comes through", async || {
        post(b.public, &first.token, &message(first.sent + 1))
            .await
            .status
            == 503
    })
    .await;
    engine.run().await;
    stands(&b, "up").await;
    eventually("it is taken", async || {
        let body = message(first.sent + 1);
        post(b.public, &first.token, &body).await.status == 200
    })
    .await;
    second.hears(first.sent + 1).await;
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair(&a, Via::EventStream, Via::WebSocket).await;
    let long = |seq| json!({"type": "message", "payload": "x".repeat(60 << 10), "seq": seq});
    let seq = first.sent + 1;
    let body = json!((seq..seq + 4).map(long).collect::<Vec<_>>()).to_string();
    // Of 11 MiB at once the link takes a part.
    a.process.signal(Signal::STOP);
    let answers = join_all((0..48).map(|_| post(b.public, &first.token, &body))).await;
    a.process.signal(Signal::CONT);
    for answer in answers {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["code"], "node_unreachable");
    }
    let refused = forwarded(&b, "send", "full").await + forwarded(&b, "send", "unreachable").await;
    let asked = forwarded(&b, "send", "unanswered").await;
    assert!(refused >= 1.0 && asked >= 1.0, "{refused}, {asked}");
    assert_eq!(refused + asked, 48.0);
    eventually("there is room again", async || {
        post(b.public, &first.token, &body).await.status == 200
    })
    .await;
    for _ in 0..4 {
        second.expect("message").await;
    }
    first.sent += 4;
    first.sends_to(&b);
    first.say("after").await;
    second.hears("after").await;
}

#[tokio::test]
async fn who_shows_wrong_tokens_is_counted_where_they_come() {
    let engine = Engine::start().await;
    let flags = ["--limit-loopback", "--reconnects-per-minute", "5"];
    let (a, b) = engine.two_with(&flags).await;
    let first = Client::begin(&a, Via::EventStream).await;
    let (known, secret) = first.token.split_at(26);
    let other = if secret.starts_with('A') { "B" } else { "A" };
    let wrong = format!("{known}{other}{}", &secret[1..]);
    // Nobody's process.
    let strange = format!("AQ{}{secret}", "A".repeat(24));
    for _ in 0..9 {
        assert_eq!(post(b.public, &strange, &message(1)).await.status, 401);
        assert_eq!(poll(b.public, &strange, 0).await.status, 401);
    }
    let mut statuses = Vec::new();
    for number in 0..9 {
        let answer = match number % 2 {
            0 => post(b.public, &wrong, &message(1)).await,
            _ => poll(b.public, &wrong, 0).await,
        };
        statuses.push(answer.status);
    }
    assert_eq!(statuses[0], 401, "{statuses:?}");
    assert_eq!(statuses[8], 429, "{statuses:?}");
    // The user is not kept out elsewhere.
    assert_eq!(post(a.public, &first.token, &message(1)).await.status, 200);
}

#[tokio::test]
async fn bodies_have_the_bounds_that_they_have_at_home() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (first, mut second) = pair(&a, Via::EventStream, Via::WebSocket).await;
    let long = |seq: u64, length: usize| json!({"type": "message", "payload": "x".repeat(length), "seq": seq});
    let seq = first.sent + 1;
    let bodies = [
        (long(seq, 300 << 10).to_string(), 413),
        (long(seq, 70 << 10).to_string(), 413),
        (json!(vec![long(seq, 1); 65]).to_string(), 413),
        ("no json".to_owned(), 400),
    ];
    for (body, status) in &bodies {
        for node in [&a, &b] {
            let answer = post(node.public, &first.token, body).await;
            assert_eq!(answer.status, *status, "{}", answer.text());
        }
    }
    let whole: Vec<Value> = (0..4).map(|index| long(seq + index, 60 << 10)).collect();
    let answer = post(b.public, &first.token, &json!(whole).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for _ in 0..4 {
        let heard = second.expect("message").await;
        assert_eq!(heard["payload"].as_str().unwrap().len(), 60 << 10);
    }
}

#[tokio::test]
async fn an_answer_of_any_length_comes_whole() {
    let engine = Engine::start().await;
    let flags = ["--max-message-bytes", "1MiB", "--outbox-bytes", "4MiB"];
    let flags = [&flags[..], &["--resume-log-bytes", "4MiB"]].concat();
    let (a, b) = engine.two_with(&flags).await;
    let (mut first, mut second) = pair(&a, Via::Polling, Via::WebSocket).await;
    first.sends_to(&b);
    for length in [100, 700_000, 1_000_000] {
        second.say("y".repeat(length)).await;
        first.hears("y".repeat(length)).await;
    }
}

#[tokio::test]
async fn three_hundred_sends_at_once() {
    let (_engine, [a, b, c]) = three().await;
    let mut pairs = Vec::new();
    for _ in 0..20 {
        pairs.push(pair(&a, Via::EventStream, Via::WebSocket).await);
    }
    let all = pairs.iter().flat_map(|(first, _)| {
        (1..=15).map(|number| {
            let (seq, token) = (first.sent + number, first.token.clone());
            let node = [&b, &c][usize::from(number % 2 == 0)];
            // Those that overtake others come again.
            async move {
                while post(node.public, &token, &message(seq)).await.status != 200 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        })
    });
    join_all(all).await;
    for (first, second) in &mut pairs {
        for number in 1..=15 {
            second.hears(first.sent + number).await;
        }
        second.is_heard().await;
    }
    becomes(0.0, "requests that went nowhere", async || {
        forwarded(&b, "send", "unreachable").await + forwarded(&c, "send", "unanswered").await
    })
    .await;
}

#[tokio::test]
async fn requests_follow_a_session_that_has_gone_on() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let mut client = Client::begin(&a, Via::EventStream).await;
    let old = client.token.clone();
    client.cut();
    client.sends_to(&b);
    assert_eq!(client.resume(Via::EventStream).await, Ok(()));
    client.sends_to(&a);
    // Both the new token, which names the new node, and the old one, which names this one.
    client.send(json!({"type": "find_match"})).await;
    client.expect("waiting").await;
    client.token = old;
    client.send(json!({"type": "cancel_match", "id": 7})).await;
    let answer = client.next().await.unwrap();
    assert_eq!(answer["id"], 7, "{answer}");
    // What the client confirms is passed on, too.
    assert!(forwarded(&a, "send", "answered").await >= 2.0);
}
