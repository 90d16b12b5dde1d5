//! Traces: what a collector of OpenTelemetry is told of sessions, and that nobody else hears or feels anything of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use rustix::process::Signal;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    Client, RawSocket, TestServer, User, Via, becomes, binary, eventually, http,
    jwt::{Folder, SECRET, Signer, claims},
    pair,
    receiver::{Answer, Receiver},
    within,
};

const WELL: Answer = Answer::Status(200, "");

/// What has come at a collector.
impl Receiver {
    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let posted = self.posted().into_iter();
        posted
            .map(|posted| ExportTraceServiceRequest::decode(&posted.body[..]).unwrap())
            .collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests().into_iter();
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The spans of this name, once there are so many in all.
    async fn spans_of(&self, name: &str, all: usize) -> Vec<Span> {
        let come = async || {
            let names = Vec::from_iter(self.spans().into_iter().map(|span| span.name));
            if names.len() == all {
                Ok(())
            } else {
                Err(names)
            }
        };
        becomes(Ok(()), format!("{all} spans"), come).await;
        let mut spans = self.spans();
        spans.retain(|span| span.name == name);
        spans
    }
}

/// Attributes as text, by name.
fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let text = match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            Value::BoolValue(yes) => yes.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(text).collect()
}

/// The attributes, and the values of those that are named.
fn has(span: &Span, expected: &[(&str, &str)]) -> bool {
    let found = texts(&span.attributes);
    expected
        .iter()
        .all(|(name, value)| found.get(*name).is_some_and(|found| found == value))
}

#[track_caller]
fn the<'a>(spans: &'a [Span], expected: &[(&str, &str)]) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| has(span, expected)).collect();
    assert_eq!(found.len(), 1, "{expected:?} in {spans:#?}");
    found[0]
}

fn in_order(span: &Span) -> bool {
    let events = span.events.iter().map(|event| event.time_unix_nano);
    let mut times = vec![span.start_time_unix_nano];
    times.extend(events.chain([span.end_time_unix_nano]));
    times.is_sorted()
}

async fn traced(receiver: &Receiver, flags: &[&str]) -> TestServer {
    let url = receiver.url();
    TestServer::start(&[&["--otlp-endpoint", &url], flags].concat()).await
}

/// Lets the server end, and all that is traced with it; returns how long that took.
async fn end(server: &mut TestServer) -> Duration {
    let begun = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    begun.elapsed()
}

#[tokio::test]
async fn a_session_is_a_trace_of_connect_match_and_close() {
    let receiver = Receiver::start(WELL).await;
    let folder = Folder::new("traced");
    let (secret, _) = folder.secret();
    let mut command = binary();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url());
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=calls");
    command.env("OTEL_SERVICE_NAME", "voice-eu");
    command.env(
        "OTEL_RESOURCE_ATTRIBUTES",
        "deployment.environment.name=test",
    );
    let flags = ["--jwt-secret-file", &secret];
    let server = TestServer::start_command(command, "127.0.0.1:0", &flags).await;
    let token = |user| Signer::Secret(SECRET).token(&claims(user));
    let tokens = [token("annabelle"), token("bartholomew")];
    let path = |token: &str| format!("/ws?access_token={token}");
    let mut ann = User::connect_to(&server, &path(&tokens[0])).await.unwrap();
    let mut bob = User::connect_to(&server, &path(&tokens[1])).await.unwrap();
    ann.wait_with(json!({"language": "tlh", "interests": ["needlework"]}))
        .await;
    bob.find_with(json!({"language": "tlh", "interests": ["needlework"]}))
        .await;
    let room = ann.expect_match().await.room;
    bob.expect_match().await;
    let (ann_id, bob_id) = (ann.id.clone(), bob.id.clone());
    ann.close().await;
    bob.expect_peer_left().await;
    bob.reset();

    let connects = receiver.spans_of("connect", 6).await;
    let (matches, closes) = (
        receiver.spans_of("match", 6).await,
        receiver.spans_of("close", 6).await,
    );
    let mut traces = Vec::new();
    for (id, reason) in [(&ann_id, "closed"), (&bob_id, "lost")] {
        let session = ("session.id", id.as_str());
        let expected = [
            session,
            ("voicematch.transport", "ws"),
            ("voicematch.outcome", "opened"),
            ("voicematch.resumable", "false"),
        ];
        let connect = the(&connects, &expected);
        assert_eq!(connect.kind, SpanKind::Server as i32);
        assert!(connect.parent_span_id.is_empty());
        assert!(in_order(connect), "{connect:?}");
        let events: Vec<_> = connect.events.iter().map(|event| &event.name[..]).collect();
        assert_eq!(events, ["request", "admitted"]);
        assert!(connect.end_time_unix_nano > connect.start_time_unix_nano);

        let expected = [
            session,
            ("voicematch.pool", "interest"),
            ("voicematch.room_id", &room),
        ];
        let matched = the(&matches, &expected);
        let close = the(&closes, &[session, ("voicematch.reason", reason)]);
        let length = &texts(&close.attributes)["voicematch.session_seconds"];
        let length: f64 = length.parse().unwrap();
        assert!(length > 0.0 && length < 60.0, "{length}");
        for span in [matched, close] {
            assert_eq!(span.kind, SpanKind::Internal as i32);
            assert_eq!(span.trace_id, connect.trace_id);
            assert_eq!(span.parent_span_id, connect.span_id);
            assert!(span.start_time_unix_nano >= connect.start_time_unix_nano);
            assert!(in_order(span), "{span:?}");
        }
        traces.push(connect.trace_id.clone());
    }
    assert_ne!(traces[0], traces[1], "each session is a trace of its own");
    let waits: Vec<_> = matches
        .iter()
        .map(|span| span.end_time_unix_nano - span.start_time_unix_nano)
        .collect();
    assert!(waits.iter().any(|wait| *wait > 0), "{waits:?}");

    let resource = texts(
        &receiver.requests()[0].resource_spans[0]
            .resource
            .as_ref()
            .unwrap()
            .attributes,
    );
    assert_eq!(resource["service.name"], "voice-eu");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["deployment.environment.name"], "test");
    for posted in receiver.posted() {
        assert_eq!(posted.line, "POST /v1/traces HTTP/1.1");
        let headers = &posted.headers;
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["x-team"], "calls");
    }
    let signature = tokens[0].rsplit_once('.').unwrap().1;
    receiver.never_heard_of(&[
        "annabelle",
        "bartholomew",
        "needlework",
        "tlh",
        "127.0.0.1",
        signature,
    ]);
    server
        .reaches("trace_spans_total", r#"result="sent""#, 6.0)
        .await;
}

#[tokio::test]
async fn a_session_that_is_carried_on_stays_in_its_trace() {
    let receiver = Receiver::start(WELL).await;
    let mut server = traced(&receiver, &[]).await;
    let mut client = Client::begin(&server, Via::Polling).await;
    client.resume(Via::EventStream).await.unwrap();
    client.resume(Via::WebSocket).await.unwrap();
    let session = ("session.id", client.id.clone());
    client.close(1000).await;
    end(&mut server).await;
    let spans = receiver.spans();
    let of = |expected: &[(&str, &str)]| {
        let session = [(session.0, session.1.as_str())];
        the(&spans, &[&session[..], expected].concat()).clone()
    };
    let first = of(&[
        ("voicematch.outcome", "opened"),
        ("voicematch.transport", "poll"),
    ]);
    let others = [
        of(&[
            ("voicematch.outcome", "resumed"),
            ("voicematch.transport", "sse"),
        ]),
        of(&[
            ("voicematch.outcome", "resumed"),
            ("voicematch.transport", "ws"),
        ]),
        of(&[("voicematch.reason", "closed")]),
    ];
    for span in others {
        assert_eq!(span.trace_id, first.trace_id);
        assert_eq!(span.parent_span_id, first.span_id);
    }
    assert_eq!(spans.len(), 4, "{spans:#?}");
}

#[tokio::test]
async fn who_does_not_come_in_is_traced_with_the_reason() {
    let receiver = Receiver::start(WELL).await;
    let folder = Folder::new("refused-traced");
    let (secret, _) = folder.secret();
    let flags = ["--handshake-timeout", "300ms", "--jwt-secret-file", &secret];
    let mut server = traced(&receiver, &flags).await;
    let silent = TcpStream::connect(server.public).await.unwrap();
    let page = "Origin: https://other.example\r\n";
    let get = async |path: &str, headers: &str| {
        http::request(server.public, "GET", path, headers)
            .await
            .status
    };
    assert_eq!(get("/poll", page).await, 403);
    assert_eq!(get("/events", "").await, 401);
    assert_eq!(get("/ws", "").await, 426);
    // Nor are these requests for a session.
    assert_eq!(get("/health", "").await, 200);
    assert_eq!(get("/nothing", "").await, 404);
    assert_eq!(
        http::request(server.public, "OPTIONS", "/poll", "")
            .await
            .status,
        204
    );
    // The token opens nothing, but that is said over the WebSocket.
    let refused = Client::refused(
        &server,
        "/ws?token=AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw",
    )
    .await;
    assert_eq!(refused, 101);
    server
        .reaches("limit_hits_total", r#"limit="handshake_timeout""#, 1.0)
        .await;
    drop(silent);
    end(&mut server).await;
    let spans = receiver.spans();
    for (transport, reason) in [
        (Some("poll"), "origin_not_allowed"),
        (Some("sse"), "token_missing"),
        (Some("ws"), "upgrade_required"),
        (Some("ws"), "resume_refused"),
        (None, "handshake_timeout"),
    ] {
        let span = the(
            &spans,
            &[
                ("voicematch.reason", reason),
                ("voicematch.outcome", "refused"),
            ],
        );
        let found = texts(&span.attributes);
        assert_eq!(
            found.get("voicematch.transport").map(String::as_str),
            transport
        );
        assert!(!found.contains_key("session.id"));
        assert_eq!(span.name, "connect");
        assert!(
            span.status
                .as_ref()
                .is_none_or(|status| status.code != StatusCode::Error as i32)
        );
        assert!(in_order(span), "{span:?}");
    }
    assert_eq!(spans.len(), 5, "{spans:#?}");
}

#[tokio::test]
async fn nothing_is_sent_of_sessions_that_are_not_traced() {
    let receiver = Receiver::start(WELL).await;
    for flags in [
        &[][..],
        &["--otlp-endpoint", &receiver.url(), "--trace-sample", "0"],
    ] {
        let mut server = TestServer::start(flags).await;
        let (first, mut second) = pair(&server).await;
        first.close().await;
        second.expect_peer_left().await;
        second.close().await;
        server.reaches("connections_open", "", 0.0).await;
        let metrics = server.metrics().await;
        assert!(
            metrics
                .all("trace_spans_total")
                .all(|(_, spans)| spans == 0.0)
        );
        end(&mut server).await;
    }
    assert!(receiver.posted().is_empty(), "{:?}", receiver.posted());
}

#[tokio::test]
async fn a_share_of_the_sessions_is_traced_whole() {
    let receiver = Receiver::start(WELL).await;
    let mut server = traced(&receiver, &["--trace-sample", "0.5"]).await;
    for _ in 0..60 {
        let user = User::connect(&server).await;
        user.close().await;
    }
    end(&mut server).await;
    let spans = receiver.spans();
    let count = |name| spans.iter().filter(|span| span.name == name).count();
    assert_eq!(count("connect"), count("close"));
    // Of 60, with a chance of less than one in a million.
    assert!(
        (10..=50).contains(&count("connect")),
        "{}",
        count("connect")
    );
}

#[tokio::test]
async fn a_client_may_name_the_trace_that_it_is_part_of() {
    let receiver = Receiver::start(WELL).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let flags = |sampled| format!("traceparent: 00-{trace}-00f067aa0ba902b7-0{sampled}\r\n");
    // Who decides is the client for no, and a trusted proxy for yes; else the share.
    for (sample, sampled, more, spans) in [
        ("1", "1", &[][..], 1),
        ("1", "0", &[], 0),
        ("0", "1", &[], 0),
        ("0", "1", &["--trusted-proxy", "127.0.0.1"], 1),
        ("0", "0", &["--trusted-proxy", "127.0.0.1"], 0),
    ] {
        let before = receiver.spans().len();
        let flags_of_server = [&["--trace-sample", sample], more].concat();
        let mut server = traced(&receiver, &flags_of_server).await;
        let headers = flags(sampled);
        let answer = http::request(server.public, "GET", "/poll?wait=0", &headers).await;
        assert_eq!(answer.status, 200);
        end(&mut server).await;
        let found = receiver.spans().split_off(before);
        let connects: Vec<_> = found.iter().filter(|span| span.name == "connect").collect();
        assert_eq!(connects.len(), spans, "{sample} {sampled} {more:?}");
        for span in connects {
            let hex = |bytes: &[u8]| {
                bytes
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            };
            assert_eq!(hex(&span.trace_id), trace);
            assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
        }
    }
}

/// Users meet and part, whatever the collector does.
async fn users_feel_nothing(server: &TestServer) {
    let (mut first, mut second) = within("a match", pair(server)).await;
    first.send(json!({"type": "message", "payload": 1})).await;
    second.expect("message").await;
    first.close().await;
    second.expect_peer_left().await;
}

async fn counted(server: &TestServer, result: &str) -> f64 {
    server
        .metric("trace_spans_total", &format!("result=\"{result}\""))
        .await
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nobody_anything() {
    // Bound, so that nobody else is there, and not listening.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    let mut server = TestServer::start(&["--otlp-endpoint", &url]).await;
    for spans in [5.0, 10.0] {
        users_feel_nothing(&server).await;
        eventually("the spans are given up", async || {
            counted(&server, "failed").await >= spans
        })
        .await;
    }
    let log = server.process.stderr().join("\n");
    assert_eq!(log.matches("spans cannot be sent").count(), 1, "{log}");
    assert!(end(&mut server).await < Duration::from_secs(4));
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let receiver = Receiver::start(Answer::Hang).await;
    let mut server = traced(&receiver, &[]).await;
    users_feel_nothing(&server).await;
    eventually("the first spans", async || !receiver.posted().is_empty()).await;
    // Each of these is a span, and the queue takes 8,192.
    const REQUESTS: usize = 8_300;
    let mut socket = RawSocket::connect(&server).await;
    let request = format!("GET /ws HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
    let mut answers = 0;
    while answers < REQUESTS {
        let some = 100;
        let requests = request.repeat(some);
        socket.stream.write_all(requests.as_bytes()).await.unwrap();
        for _ in 0..some {
            let answer = within("an answer", http::read_response(&mut socket.stream, true)).await;
            assert_eq!(answer.status, 426);
            answers += 1;
        }
    }
    assert!(counted(&server, "queue_full").await > 0.0);
    users_feel_nothing(&server).await;
    drop(socket);
    let took = end(&mut server).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_slow_collector_gets_all_spans() {
    let receiver = Receiver::start(Answer::Late(Duration::from_millis(700))).await;
    let mut server = traced(&receiver, &[]).await;
    users_feel_nothing(&server).await;
    eventually("the first spans", async || !receiver.posted().is_empty()).await;
    users_feel_nothing(&server).await;
    server.reaches("connections_open", "", 0.0).await;
    eventually("all spans are sent", async || {
        counted(&server, "sent").await == 12.0
    })
    .await;
    end(&mut server).await;
    assert_eq!(receiver.spans().len(), 12);
}

#[tokio::test]
async fn a_collector_that_wants_quiet_gets_it() {
    let receiver = Receiver::start(Answer::Status(429, "Retry-After: 300\r\n")).await;
    let mut server = traced(&receiver, &[]).await;
    users_feel_nothing(&server).await;
    eventually("the first spans are refused", async || {
        counted(&server, "refused").await > 0.0
    })
    .await;
    let refused = receiver.posted().len();
    users_feel_nothing(&server).await;
    end(&mut server).await;
    assert_eq!(receiver.posted().len(), refused);
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_collector_that_refuses_is_not_asked_twice_for_the_same() {
    let receiver = Receiver::start(Answer::Status(400, "")).await;
    let mut server = traced(&receiver, &[]).await;
    users_feel_nothing(&server).await;
    server.reaches("connections_open", "", 0.0).await;
    eventually("all are refused", async || {
        counted(&server, "refused").await == 6.0
    })
    .await;
    end(&mut server).await;
    assert_eq!(receiver.spans().len(), 6);
}

#[tokio::test]
async fn the_last_spans_are_sent_at_the_end() {
    let receiver = Receiver::start(WELL).await;
    let mut server = traced(&receiver, &[]).await;
    let user = User::connect(&server).await;
    end(&mut server).await;
    let spans = receiver.spans();
    let session = ("session.id", user.id.as_str());
    the(&spans, &[session, ("voicematch.outcome", "opened")]);
    the(&spans, &[session, ("voicematch.reason", "draining")]);
    assert_eq!(spans.len(), 2);
}

#[tokio::test]
async fn many_spans_go_out_in_several_requests() {
    let receiver = Receiver::start(WELL).await;
    let mut server = traced(&receiver, &[]).await;
    let mut socket = RawSocket::connect(&server).await;
    let request = format!("GET /ws HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
    for _ in 0..10 {
        socket
            .stream
            .write_all(request.repeat(100).as_bytes())
            .await
            .unwrap();
        for _ in 0..100 {
            within("an answer", http::read_response(&mut socket.stream, true)).await;
        }
    }
    drop(socket);
    end(&mut server).await;
    let of_requests = receiver.requests().into_iter().map(|request| {
        let scopes = request
            .resource_spans
            .iter()
            .flat_map(|spans| &spans.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum::<usize>()
    });
    let of_requests: Vec<_> = of_requests.collect();
    assert_eq!(of_requests.iter().sum::<usize>(), 1000);
    assert!(
        of_requests.iter().all(|spans| *spans <= 512),
        "{of_requests:?}"
    );
}
