//! Frames that RFC 6455 forbids, sent byte by byte as no library would.

use serde_json::json;

use crate::support::{Frame, RawSocket, TestServer, User, client_frame};

const CONTINUATION: u8 = 0x00;
const TEXT_BEGINS: u8 = 0x01;
const FIN: u8 = 0x80;

/// Sends `bytes` from within a room: the sender is closed with `code`, and the partner hears `reason`.
async fn violate(server: &TestServer, name: &str, bytes: &[u8], code: u16, reason: &str) {
    let mut socket = RawSocket::open(server).await;
    let mut partner = User::connect(server).await;
    socket.meet(&mut partner).await;
    socket.write(bytes).await;
    let frame = socket.frame().await.expect(name);
    assert_eq!(frame.first, Frame::CLOSE, "{name}: {frame:?}");
    assert_eq!(
        frame.payload.first_chunk(),
        Some(&code.to_be_bytes()),
        "{name}"
    );
    socket.expect_end().await;
    assert_eq!(partner.expect_peer_left().await, reason, "{name}");
    partner.is_undisturbed().await;
    partner.close().await;
}

async fn violations(code: u16, reason: &str, cases: &[(&str, Vec<u8>)]) {
    let server = TestServer::start(&[]).await;
    for (name, bytes) in cases {
        violate(&server, name, bytes, code, reason).await;
    }
    let label = format!(r#"reason="{reason}""#);
    let closed = cases.len() as f64;
    server
        .reaches("sessions_closed_total", &label, closed)
        .await;
}

fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

#[tokio::test]
async fn frames_that_break_the_protocol_are_closed_with_1002() {
    let hello = br#"{"type":"ping"}"#;
    let text = client_frame(Frame::TEXT, hello);
    let mut unmasked = vec![Frame::TEXT, 15];
    unmasked.extend(hello);
    let mut cases = vec![
        ("unmasked", unmasked),
        ("an unmasked close", vec![Frame::CLOSE, 0]),
        ("a continuation of nothing", client_frame(FIN, hello)),
        (
            "a continuation after a whole message",
            joined(&[text.clone(), client_frame(CONTINUATION, hello)])[text.len()..].to_vec(),
        ),
        (
            "a new message within fragments",
            joined(&[client_frame(TEXT_BEGINS, hello), text.clone()]),
        ),
        (
            "new fragments within fragments",
            joined(&[
                client_frame(TEXT_BEGINS, hello),
                client_frame(TEXT_BEGINS, hello),
            ]),
        ),
        ("a long ping", client_frame(Frame::PING, &[0; 126])),
        ("a long pong", client_frame(Frame::PONG, &[0; 126])),
        ("a long close", {
            let mut payload = 1000u16.to_be_bytes().to_vec();
            payload.resize(126, b'x');
            client_frame(Frame::CLOSE, &payload)
        }),
        ("a ping in fragments", client_frame(0x09, b"x")),
        ("a close in fragments", client_frame(0x08, b"")),
        (
            "a length of 5 in two bytes",
            vec![Frame::TEXT, 0xfe, 0, 5, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        ),
        (
            "a length of 65,535 in eight bytes",
            vec![Frame::TEXT, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        ),
        (
            "a length with its highest bit set",
            vec![Frame::TEXT, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            "a close with half a code",
            client_frame(Frame::CLOSE, b"\x03"),
        ),
    ];
    for bit in [0x40, 0x20, 0x10] {
        cases.push(("a reserved bit", client_frame(Frame::TEXT | bit, hello)));
        cases.push((
            "a reserved bit on a ping",
            client_frame(Frame::PING | bit, b""),
        ));
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        cases.push(("a reserved opcode", client_frame(FIN | opcode, b"x")));
    }
    for code in [
        0u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535,
    ] {
        let close = client_frame(Frame::CLOSE, &code.to_be_bytes());
        cases.push(("a close code that may not be sent", close));
    }
    violations(1002, "protocol_error", &cases).await;
}

#[tokio::test]
async fn text_that_is_not_utf8_is_closed_with_1007() {
    let text = |bytes: &[u8]| client_frame(Frame::TEXT, bytes);
    let cases = [
        ("a lone continuation byte", text(b"{\"x\":\"\x80\"}")),
        ("an overlong form", text(b"\"\xc0\xaf\"")),
        ("a surrogate", text(b"\"\xed\xa0\x80\"")),
        ("above the last letter", text(b"\"\xf4\x90\x80\x80\"")),
        ("a letter cut short", text(b"\"\xc3")),
        (
            "a letter cut short in fragments",
            joined(&[
                client_frame(TEXT_BEGINS, b"\"\xc3"),
                client_frame(FIN, b"\""),
            ]),
        ),
        (
            "the reason of a close",
            client_frame(Frame::CLOSE, b"\x03\xe8\xff"),
        ),
    ];
    violations(1007, "invalid_utf8", &cases).await;
}

#[tokio::test]
async fn binary_messages_are_closed_with_1003() {
    let cases = [
        ("binary", client_frame(0x82, b"{\"type\":\"ping\"}")),
        ("binary in fragments", client_frame(0x02, b"x")),
        ("empty binary", client_frame(0x82, b"")),
    ];
    violations(1003, "unsupported_data", &cases).await;
}

#[tokio::test]
async fn an_announced_giant_is_closed_with_1009_and_costs_nothing() {
    let server = TestServer::start(&[]).await;
    let giant = |length: u64, opcode: u8| {
        let mut header = vec![opcode, 0xff];
        header.extend(length.to_be_bytes());
        header.extend([1, 2, 3, 4]);
        header
    };
    let before = server.resident_bytes().await;
    // They are all held open: what was reserved for them would be there together.
    let mut sockets = Vec::new();
    for length in [60 << 20, 1 << 40, (1 << 63) - 1] {
        for opcode in [Frame::TEXT, TEXT_BEGINS] {
            let mut socket = RawSocket::open(&server).await;
            socket.write(&giant(length, opcode)).await;
            let frame = socket.frame().await.unwrap();
            assert_eq!(frame.first, Frame::CLOSE);
            assert_eq!(frame.payload[..2], 1009u16.to_be_bytes());
            sockets.push(socket);
        }
    }
    let grown = server.resident_bytes().await - before;
    assert!(grown < 8e6, "{grown}");
    server
        .reaches("limit_hits_total", r#"limit="max_message_bytes""#, 6.0)
        .await;
}

#[tokio::test]
async fn what_is_announced_and_not_sent_costs_nothing() {
    let server =
        TestServer::start(&["--max-message-bytes", "60MiB", "--outbox-bytes", "64MiB"]).await;
    let before = server.resident_bytes().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = RawSocket::open(&server).await;
        let mut header = vec![Frame::TEXT, 0xff];
        header.extend((50u64 << 20).to_be_bytes());
        header.extend([1, 2, 3, 4, b'x']);
        socket.write(&header).await;
        sockets.push(socket);
    }
    // All of it has been read, and everyone is still there.
    server
        .reaches("network_receive_bytes_total", "", 20.0 * 15.0)
        .await;
    server
        .reaches("websocket_active_connections", "", 20.0)
        .await;
    let grown = server.resident_bytes().await - before;
    assert!(grown < 16e6, "{grown}");
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let server = TestServer::start(&[]).await;
    let mut socket = RawSocket::open(&server).await;
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        socket.write(&client_frame(Frame::PING, payload)).await;
        let pong = socket.frame().await.unwrap();
        assert_eq!(
            (pong.first, pong.payload.as_slice()),
            (Frame::PONG, payload)
        );
    }
    socket.write(&client_frame(Frame::PONG, b"unasked")).await;
    socket.send(r#"{"type":"ping"}"#).await;
    socket.expect("pong").await;
}

#[tokio::test]
async fn a_close_is_answered_and_the_connection_ends() {
    let server = TestServer::start(&[]).await;
    for code in [1000u16, 1001, 1003, 1011, 1014, 3000, 4999] {
        let mut socket = RawSocket::open(&server).await;
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend("bye é".as_bytes());
        socket.write(&client_frame(Frame::CLOSE, &payload)).await;
        assert_eq!(socket.expect_close().await, code);
    }
    let mut socket = RawSocket::open(&server).await;
    socket.write(&client_frame(Frame::CLOSE, b"")).await;
    let answer = socket.frame().await.unwrap();
    assert_eq!(
        (answer.first, answer.payload.as_slice()),
        (Frame::CLOSE, &b""[..])
    );
    socket.expect_end().await;
    server
        .reaches("websocket_active_connections", "", 0.0)
        .await;
}

#[tokio::test]
async fn messages_sent_right_behind_the_handshake_are_read() {
    let server = TestServer::start(&[]).await;
    let mut socket = RawSocket::connect(&server).await;
    let mut bytes = crate::support::raw::handshake(&server).into_bytes();
    let ping = json!({"type": "ping", "id": "early"}).to_string();
    bytes.extend(client_frame(Frame::TEXT, ping.as_bytes()));
    let late = client_frame(Frame::TEXT, br#"{"type":"ping","id":"late"}"#);
    bytes.extend(&late[..7]);
    socket.write(&bytes).await;
    assert_eq!(socket.response().await.status, 101);
    socket.expect("session").await;
    assert_eq!(socket.expect("pong").await["id"], "early");
    socket.write(&late[7..]).await;
    assert_eq!(socket.expect("pong").await["id"], "late");
}
