//! Every error of the wire: its code, whether trying again may help, and that the session goes on.

use rustix::process::Signal;
use serde_json::{Value, json};
use voicematch_protocol::ErrorCode;

use crate::support::{TestServer, User, pair};

/// Does what is answered with `code`, and returns the answer and the user, whose session must go on. A
/// code without a case here does not compile.
async fn provoke(code: ErrorCode) -> (Value, User, Option<User>, TestServer) {
    let flags: &[&str] = match code {
        ErrorCode::RateLimited => &["--max-messages-per-second", "20", "--message-burst", "2"],
        ErrorCode::TooManyRooms => &["--max-rooms", "1"],
        _ => &[],
    };
    let server = TestServer::start(flags).await;
    let (mut user, mut partner) = match code {
        ErrorCode::AlreadyInRoom | ErrorCode::UnknownPeer | ErrorCode::Draining => {
            let (user, partner) = pair(&server).await;
            (user, Some(partner))
        }
        ErrorCode::Gap | ErrorCode::RoomTicketInvalid => {
            let user = User::connect_to(&server, "/ws?resume=1").await.unwrap();
            (user, None)
        }
        _ => (User::connect(&server).await, None),
    };
    match code {
        ErrorCode::BadJson => user.send_text(r#"{"type":"ping""#).await,
        ErrorCode::BadMessage => user.send(json!({"id": 1})).await,
        ErrorCode::UnknownType => user.send(json!({"type": "dance"})).await,
        ErrorCode::InvalidCriteria => user.find_with(json!({"language": "x".repeat(65)})).await,
        ErrorCode::AlreadyWaiting => {
            user.wait().await;
            user.find().await;
        }
        ErrorCode::AlreadyInRoom => user.find().await,
        ErrorCode::NotWaiting => user.send(json!({"type": "cancel_match"})).await,
        ErrorCode::NotInRoom => user.send(json!({"type": "offer", "payload": 1})).await,
        ErrorCode::UnknownPeer => {
            user.send(json!({"type": "offer", "payload": 1, "to": "x"}))
                .await;
        }
        ErrorCode::Gap => user.send(json!({"type": "leave_room", "seq": 2})).await,
        ErrorCode::RoomTicketInvalid => {
            user.send(json!({"type": "rejoin", "ticket": "x", "seq": 1}))
                .await;
        }
        ErrorCode::RoomTicketExpired
        | ErrorCode::RoomClosed
        | ErrorCode::UseResume
        | ErrorCode::RelayLost
        | ErrorCode::RoomUnavailable
        | ErrorCode::NotAllowed => {
            unreachable!(
                "see rejoin.rs and auth.rs; relays are lost, and rooms unavailable, between nodes only"
            )
        }
        ErrorCode::TokenRefused => {
            user.send(json!({"type": "renew_token", "token": "x"}))
                .await;
        }
        ErrorCode::NoPartner => user.send(json!({"type": "block"})).await,
        ErrorCode::BadRoomName => join(&mut user, "a room").await,
        ErrorCode::RoomFull => {
            for _ in 0..20 {
                let mut other = User::connect(&server).await;
                join(&mut other, "full").await;
                other.expect("room_joined").await;
                // They stay until the server ends.
                std::mem::forget(other);
            }
            join(&mut user, "full").await;
        }
        ErrorCode::TooManyRooms => {
            let mut other = User::connect(&server).await;
            join(&mut other, "first").await;
            other.expect("room_joined").await;
            std::mem::forget(other);
            join(&mut user, "second").await;
        }
        ErrorCode::RateLimited => {
            for _ in 0..3 {
                user.send(json!({"type": "ping"})).await;
            }
            user.expect("pong").await;
            user.expect("pong").await;
        }
        ErrorCode::Draining => {
            server.process.signal(Signal::TERM);
            user.expect("draining").await;
            partner.as_mut().unwrap().expect("draining").await;
            user.send(json!({"type": "next"})).await;
        }
    }
    (user.next_json().await, user, partner, server)
}

async fn join(user: &mut User, room: &str) {
    user.send(json!({"type": "join_room", "room": room})).await;
}

#[tokio::test]
async fn every_error_has_its_code_and_the_session_goes_on() {
    let temporary = [
        "not_waiting",
        "not_in_room",
        "gap",
        "room_full",
        "too_many_rooms",
        "rate_limited",
        "draining",
    ];
    // They need the ticket of a room, see rejoin.rs, or a token, see auth.rs, or another node.
    let elsewhere = [
        ErrorCode::NotAllowed,
        ErrorCode::RelayLost,
        ErrorCode::RoomUnavailable,
        ErrorCode::RoomTicketExpired,
        ErrorCode::RoomClosed,
        ErrorCode::UseResume,
    ];
    let codes = ErrorCode::ALL
        .iter()
        .filter(|code| !elsewhere.contains(code));
    for &code in codes {
        let (error, mut user, partner, server) = provoke(code).await;
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(error["code"], code.as_str(), "{error}");
        assert_eq!(
            error["temporary"],
            temporary.contains(&code.as_str()),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().len() > 10, "{error}");
        let label = format!(r#"code="{}""#, code.as_str());
        server.reaches("errors_total", &label, 1.0).await;
        if code == ErrorCode::RateLimited {
            // The budget must fill up again: only time does that, and asking would use it up.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        if code == ErrorCode::Draining {
            assert_eq!(user.expect_close().await, 4000);
            continue;
        }
        user.is_undisturbed().await;
        if let Some(mut partner) = partner {
            user.send(json!({"type": "message", "payload": "here"}))
                .await;
            assert_eq!(partner.expect("message").await["payload"], "here");
        }
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_bad_json() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    let texts = [
        "",
        " ",
        "hello",
        "{",
        r#"{"type":"ping"}}"#,
        "[]",
        r#"[{"type":"ping"}]"#,
        "null",
        "\"ping\"",
        "{'type':'ping'}",
        r#"{"type":"ping"} {"type":"ping"}"#,
        r#"{"type":"ping","payload":01}"#,
        "{\"type\":\"ping\",\"x\":\"\u{1}\"}",
        "\u{feff}{\"type\":\"ping\"}",
    ];
    for text in texts {
        user.send_text(text).await;
        let error = user.next_json().await;
        assert_eq!(error["code"], "bad_json", "{text:?} {error}");
    }
    user.is_undisturbed().await;
}

#[tokio::test]
async fn an_object_with_a_field_amiss_is_a_bad_message() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    let texts = [
        "{}",
        r#"{"type":null}"#,
        r#"{"type":7}"#,
        r#"{"type":["ping"]}"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"message","payload":1,"payload":2}"#,
        r#"{"type":"message","payload":1,"to":5}"#,
        r#"{"type":"find_match","criteria":7}"#,
        r#"{"type":"offer"}"#,
    ];
    for text in texts {
        user.send_text(text).await;
        let error = user.next_json().await;
        assert_eq!(error["code"], "bad_message", "{text} {error}");
    }
    user.is_undisturbed().await;
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let server = TestServer::start(&[]).await;
    let (mut user, mut partner) = pair(&server).await;
    user.send_text(
        r#"{"v":2,"type":"ping","":{"x":[]},"Type":1,"id":7,"payload":{},"criteria":{"mood":1}}"#,
    )
    .await;
    assert_eq!(user.expect("pong").await["id"], 7);
    user.send_text(r#"{"seq":1,"type":"offer","payload":1,"from":"nobody","room":"x"}"#)
        .await;
    let offer = partner.expect("offer").await;
    assert_eq!(offer["from"], user.id);
}

#[tokio::test]
async fn null_is_as_good_as_absent_where_a_field_is_optional() {
    let server = TestServer::start(&["--widen-anyone-after", "never"]).await;
    for criteria in [
        "null",
        r#"{"language":null}"#,
        r#"{"region":null}"#,
        r#"{"interests":null}"#,
        r#"{"language":null,"region":null,"interests":null}"#,
    ] {
        let mut user = User::connect(&server).await;
        user.send_text(format!(
            r#"{{"type":"find_match","criteria":{criteria},"id":null}}"#
        ))
        .await;
        let waiting = user.expect("waiting").await;
        assert!(waiting.get("id").is_none(), "{waiting}");
        user.send(json!({"type": "cancel_match", "id": 1})).await;
        user.expect("ack").await;
    }
    let (mut user, mut partner) = pair(&server).await;
    user.send_text(r#"{"type":"message","to":null,"id":null,"payload":1}"#)
        .await;
    assert_eq!(partner.expect("message").await["payload"], 1);
}

#[tokio::test]
async fn the_column_in_an_error_is_that_of_the_message() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    for (text, bad) in [
        (r#"{"type":17}"#, "17"),
        (r#"{"type":"find_match","criteria":{"interests":7}}"#, "7"),
        (
            r#"{"type":"find_match","criteria":{"interests":["tea",7]}}"#,
            "7]",
        ),
        (
            r#"{"type":"find_match",  "criteria":{"language":"de","region":[]}}"#,
            "[]",
        ),
        (r#"{"type":"find_match","criteria":["en"]}"#, r#"["en"]"#),
        (r#"{"type":"message","payload":1,"to":5}"#, "5}"),
    ] {
        user.send_text(text).await;
        let error = user.expect_error("bad_message").await;
        let message = error["message"].as_str().unwrap();
        let (_, column) = message.rsplit_once("column ").expect(message);
        let column: usize = column.parse().unwrap();
        let begins = text.find(bad).unwrap();
        let expected = begins..=begins + bad.len();
        assert!(expected.contains(&column), "{text}: {message}");
    }
}
