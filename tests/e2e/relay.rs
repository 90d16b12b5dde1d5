//! What users tell each other: every byte, in order, to the right one.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Frame, RawSocket, TestServer, User, client_frame, pair, within};

const KINDS: [&str; 4] = ["offer", "answer", "ice_candidate", "message"];

/// What the partner of `from` must read, byte for byte.
fn relayed(kind: &str, from: &str, payload: &str) -> String {
    format!(r#"{{"type":"{kind}","from":"{from}","payload":{payload}}}"#)
}

#[tokio::test]
async fn a_payload_arrives_as_the_very_bytes_that_were_sent() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let payloads = [
        "null",
        "true",
        "0",
        "-0.0",
        "1e400",
        "123456789012345678901234567890.00000000000000000001",
        r#""""#,
        r#""\u0041\/\ud83d\ude00 \"quoted\" \\ \n""#,
        "\"😀 żółć \u{202e} \u{7f}\"",
        r#"{"a":1,"a":2,"":null}"#,
        "{ \"sdp\" :\t\"v=0\\r\\n\" ,\r\n  \"list\" : [ 1 ,2,  3 ]  }",
        r#"{"type":"session","from":"me","payload":"}"}"#,
        &deep,
    ];
    for kind in KINDS {
        for payload in payloads {
            let text = format!(r#" {{ "payload" :  {payload} , "type":"{kind}"}} "#);
            first.send_text(text).await;
            assert_eq!(second.next_text().await, relayed(kind, &first.id, payload));
        }
    }
    second
        .send_text(r#"{"type":"answer","payload":{"b":[]}}"#)
        .await;
    assert_eq!(
        first.next_text().await,
        relayed("answer", &second.id, r#"{"b":[]}"#)
    );
}

/// A `message` of exactly `bytes` bytes, and the payload in it.
fn message_of(bytes: usize) -> (String, String) {
    let around = r#"{"type":"message","payload":}"#.len();
    let payload = format!("\"{}\"", "x".repeat(bytes - around - 2));
    let text = format!(r#"{{"type":"message","payload":{payload}}}"#);
    assert_eq!(text.len(), bytes);
    (text, payload)
}

#[tokio::test]
async fn a_message_of_the_greatest_size_passes_and_one_byte_more_does_not() {
    // 125, 126, 65,535 and 65,536 are where the length of a frame is written in another form.
    for limit in [300, 1000, 65_535, 65_536, 1 << 20] {
        let (bytes, outbox) = (limit.to_string(), (2 * limit + 256).to_string());
        let flags = ["--max-message-bytes", &bytes, "--outbox-bytes", &outbox];
        let server = TestServer::start(&flags).await;
        let (mut first, mut second) = pair(&server).await;
        let sizes = [126 + 32, 65_535, 65_536, limit];
        for size in sizes.into_iter().filter(|&size| size <= limit) {
            let (text, payload) = message_of(size);
            first.send_text(text).await;
            let expected = relayed("message", &first.id, &payload);
            assert!(second.next_text().await == expected, "{size} of {limit}");
        }
        first.send_text(message_of(limit + 1).0).await;
        assert_eq!(first.expect_close().await, 1009, "{limit}");
        assert_eq!(second.expect_peer_left().await, "too_large");
        let label = r#"limit="max_message_bytes""#;
        server.reaches("limit_hits_total", label, 1.0).await;
    }
}

#[tokio::test]
async fn a_message_in_fragments_may_not_be_longer_either() {
    let server = TestServer::start(&["--max-message-bytes", "1000"]).await;
    let mut socket = RawSocket::open(&server).await;
    let (text, _) = message_of(1001);
    socket
        .write(&client_frame(0x01, &text.as_bytes()[..500]))
        .await;
    socket
        .write(&client_frame(0x00, &text.as_bytes()[500..900]))
        .await;
    socket
        .write(&client_frame(0x80, &text.as_bytes()[900..]))
        .await;
    assert_eq!(socket.expect_close().await, 1009);
}

#[tokio::test]
async fn a_relay_may_name_the_partner_and_nobody_else() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    let (_third, fourth) = pair(&server).await;
    for kind in KINDS {
        first
            .send(json!({"type": kind, "to": second.id, "payload": 1}))
            .await;
        assert_eq!(second.next_text().await, relayed(kind, &first.id, "1"));
        for to in [&fourth.id, &first.id.clone(), "", "nobody"] {
            let message = json!({"type": kind, "to": to, "payload": 2, "id": to});
            first.send(message).await;
            let error = first.expect_error("unknown_peer").await;
            assert_eq!(error["id"], *to);
        }
    }
    let escaped = second.id.replacen(
        &second.id[..1],
        &format!("\\u00{:02x}", second.id.as_bytes()[0]),
        1,
    );
    first
        .send_text(format!(
            r#"{{"type":"message","to":"{escaped}","payload":3}}"#
        ))
        .await;
    assert_eq!(second.next_text().await, relayed("message", &first.id, "3"));
    second.is_undisturbed().await;
}

#[tokio::test]
async fn a_message_with_an_id_is_acknowledged_and_others_are_not() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    for i in 0..5 {
        first
            .send(json!({"type": "message", "id": i, "payload": i}))
            .await;
        assert_eq!(first.expect("ack").await["id"], i);
        assert_eq!(second.expect("message").await["payload"], i);
    }
    for kind in KINDS {
        first.send(json!({"type": kind, "payload": kind})).await;
        second.expect(kind).await;
    }
    // Only `message` is answered.
    first
        .send(json!({"type": "offer", "id": 1, "payload": 1}))
        .await;
    second.expect("offer").await;
    first.is_undisturbed().await;
}

#[tokio::test]
async fn a_thousand_messages_arrive_in_order_both_ways_at_once() {
    const COUNT: u64 = 1000;
    // Who listens may not have its turn before all is said.
    let flags = [
        "--max-messages-per-second",
        "0",
        "--outbox-messages",
        "2000",
    ];
    let server = TestServer::start(&flags).await;
    let (first, second) = pair(&server).await;
    let (first_id, second_id) = (first.id.clone(), second.id.clone());
    let (first_out, first_in) = first.socket.split();
    let (second_out, second_in) = second.socket.split();
    let talk = async |mut out: futures_util::stream::SplitSink<_, Message>| {
        for i in 0..COUNT {
            let text = json!({"type": "message", "payload": {"i": i}}).to_string();
            out.send(Message::text(text)).await.unwrap();
        }
        out
    };
    let listen = async |mut messages: futures_util::stream::SplitStream<_>, from: &str| {
        for i in 0..COUNT {
            let next: Option<Result<Message, _>> = messages.next().await;
            let expected = relayed("message", from, &format!(r#"{{"i":{i}}}"#));
            assert_eq!(next.unwrap().unwrap(), Message::text(expected));
        }
    };
    let all = async {
        tokio::join!(
            talk(first_out),
            talk(second_out),
            listen(first_in, &second_id),
            listen(second_in, &first_id)
        )
    };
    let _sinks = within("the talk", all).await;
    let label = r#"type="message""#;
    server
        .reaches("messages_relayed_total", label, 2.0 * COUNT as f64)
        .await;
}

/// A raw socket in a room with a user.
async fn raw_pair(server: &TestServer) -> (RawSocket, User) {
    let mut socket = RawSocket::open(server).await;
    let mut user = User::connect(server).await;
    socket.meet(&mut user).await;
    (socket, user)
}

fn message(payload: &Value) -> Vec<u8> {
    let text = json!({"type": "message", "payload": payload}).to_string();
    client_frame(Frame::TEXT, text.as_bytes())
}

#[tokio::test]
async fn a_message_may_come_one_byte_at_a_time() {
    let server = TestServer::start(&[]).await;
    let (mut socket, mut user) = raw_pair(&server).await;
    for payload in [json!("short"), json!("long".repeat(60))] {
        for byte in message(&payload) {
            socket.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(user.expect("message").await["payload"], payload);
    }
}

#[tokio::test]
async fn many_messages_may_come_in_one_segment_and_break_anywhere() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let (mut socket, mut user) = raw_pair(&server).await;
    let payloads: Vec<Value> = (0..30)
        .map(|i| json!({"i": i, "fill": "x".repeat(i * 9)}))
        .collect();
    let bytes: Vec<u8> = payloads.iter().flat_map(message).collect();
    for piece in [bytes.len(), 1000, 333, 7] {
        for segment in bytes.chunks(piece) {
            socket.write(segment).await;
        }
        for payload in &payloads {
            assert_eq!(user.expect("message").await["payload"], *payload);
        }
    }
    socket.write(&client_frame(Frame::PING, b"")).await;
    assert_eq!(socket.frame().await.unwrap().first, Frame::PONG);
}

#[tokio::test]
async fn a_message_may_come_in_fragments_with_a_ping_between() {
    let server = TestServer::start(&[]).await;
    let (mut socket, mut user) = raw_pair(&server).await;
    let text = r#"{"type":"offer","payload":"é and ü"}"#.as_bytes();
    // One of the cuts goes through the two bytes of a letter.
    let letter = text.iter().position(|&byte| byte == 0xc3).unwrap() + 1;
    socket.write(&client_frame(0x01, &text[..5])).await;
    socket.write(&client_frame(Frame::PING, b"between")).await;
    let pong = socket.frame().await.unwrap();
    assert_eq!(
        (pong.first, pong.payload.as_slice()),
        (Frame::PONG, b"between".as_slice())
    );
    socket.write(&client_frame(0x00, b"")).await;
    socket.write(&client_frame(0x00, &text[5..letter])).await;
    socket.write(&client_frame(Frame::PONG, b"unasked")).await;
    socket.write(&client_frame(0x80, &text[letter..])).await;
    assert_eq!(
        user.next_text().await,
        relayed("offer", &socket.id, r#""é and ü""#)
    );
    // All of it in one segment.
    let mut bytes = client_frame(0x01, &text[..5]);
    bytes.extend(client_frame(Frame::PING, b"again"));
    bytes.extend(client_frame(0x80, &text[5..]));
    socket.write(&bytes).await;
    assert_eq!(
        user.next_text().await,
        relayed("offer", &socket.id, r#""é and ü""#)
    );
    assert_eq!(socket.frame().await.unwrap().payload, b"again");
}

#[tokio::test]
async fn last_words_in_the_same_segment_as_the_close_are_relayed() {
    let server = TestServer::start(&[]).await;
    let (mut socket, mut user) = raw_pair(&server).await;
    let mut bytes: Vec<u8> = (0..10).flat_map(|i| message(&json!(i))).collect();
    bytes.extend(client_frame(Frame::CLOSE, &1000u16.to_be_bytes()));
    bytes.extend(message(&json!("after the close")));
    socket.write(&bytes).await;
    for i in 0..10 {
        assert_eq!(user.expect("message").await["payload"], i);
    }
    assert_eq!(user.expect_peer_left().await, "closed");
    assert_eq!(socket.expect_close().await, 1000);
    user.is_undisturbed().await;
}

#[tokio::test]
async fn what_was_said_before_leaving_arrives_before_the_leaving() {
    let server = TestServer::start(&[]).await;
    let (mut socket, mut user) = raw_pair(&server).await;
    for (last, reason) in [("next", "next"), ("leave_room", "left")] {
        let mut bytes = message(&json!("one"));
        bytes.extend(message(&json!("two")));
        let text = json!({"type": last}).to_string();
        bytes.extend(client_frame(Frame::TEXT, text.as_bytes()));
        bytes.extend(message(&json!("too late")));
        socket.write(&bytes).await;
        assert_eq!(user.expect("message").await["payload"], "one");
        assert_eq!(user.expect("message").await["payload"], "two");
        assert_eq!(user.expect_peer_left().await, reason);
        user.is_undisturbed().await;
        if last == "next" {
            socket.expect("waiting").await;
            assert_eq!(socket.expect("error").await["code"], "not_in_room");
            socket.send(r#"{"type":"cancel_match","id":1}"#).await;
            socket.expect("ack").await;
            // The user who was left asks first. A user with a new session may still get them.
            socket = RawSocket::open(&server).await;
            socket.meet(&mut user).await;
        }
    }
}
