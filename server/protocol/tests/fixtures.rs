//! The golden messages in `fixtures/`: what the types write, byte for byte, and what they read.
#![allow(
    clippy::unwrap_used,
    reason = "a fixture that is not there or not as it should be fails the test"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::value::{RawValue, to_raw_value};
use voicematch_protocol::{
    CallReport, ClientType, CloseReason, ErrorCode, IceServer, JoinRoom, LeaveReason, Limits,
    Numbers, Rejoin, RelayKind, RenewToken, Report, Request, ResumedPlace, ResumedRoom, RoomId,
    RoomMember, RoomSelf, ServerMessage, ServerType, ServerView, SessionId,
    server::{RELAY_TAIL, relay_head},
};

fn folder(side: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(side)
}

fn fixture(side: &str, name: &str) -> String {
    fs::read_to_string(folder(side).join(format!("{name}.json")))
        .unwrap()
        .trim_end()
        .to_owned()
}

fn names(side: &str) -> BTreeSet<String> {
    let names = fs::read_dir(folder(side))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| name.trim_end_matches(".json").to_owned())
        .collect()
}

const SELF: SessionId = SessionId(0x00f1_a2b3_c4d5_e6f7);
const PEER: SessionId = SessionId(0x8899_aabb_ccdd_eeff);
const TOKEN: &str = "AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw";
const TICKET: &str = "AQAAAQIDBAUGBwECAwQFBgcI8Q";
const ROOM: RoomId = RoomId(0x0123_4567_89ab_cdef);

#[test]
fn the_server_writes_each_message_as_in_its_fixture() {
    let id: Box<RawValue> = to_raw_value(&1).unwrap();
    let object = RawValue::from_string(r#"{"n":7}"#.to_owned()).unwrap();
    let (two, three) = (to_raw_value(&2).unwrap(), to_raw_value(&3).unwrap());
    let stun = [IceServer {
        urls: vec!["stun:stun.example.org:3478".to_owned()],
        username: None,
        credential: None,
    }];
    let turn = [IceServer {
        urls: vec!["turn:turn.example.org:3478".to_owned()],
        username: Some("1700003600:00f1a2b3c4d5e6f7".to_owned()),
        credential: Some("dHVybg==".to_owned()),
    }];
    let limits = Limits {
        max_message_bytes: 65536,
        max_messages_per_second: 100,
        message_burst: 200,
    };
    let interests = ["chess".to_owned()];
    let code = ErrorCode::NotInRoom;
    let message = "you are not in a room, or your partner has just left; send find_match";
    let messages = [
        ServerMessage::Session {
            session_id: SELF,
            resume_token: None,
            resume_window_ms: None,
            heartbeat_ms: 25000,
            ice_servers: &stun,
            limits,
        },
        ServerMessage::Resumed {
            session_id: SELF,
            resume_token: Some(TOKEN),
            epoch: 3,
            after: 41,
            received: 17,
            replay: 3,
            place: ResumedPlace::InRoom,
            room: Some(ResumedRoom {
                room: None,
                room_id: ROOM,
                peers: vec![PEER],
            }),
            ice_servers: &stun,
        },
        ServerMessage::IceServers { ice_servers: &turn },
        ServerMessage::TokenExpiring {
            expires_in_ms: 60000,
        },
        ServerMessage::Ping {
            received: 17,
            next_ms: 7000,
        },
        ServerMessage::Waiting { id: Some(&id) },
        ServerMessage::MatchFound {
            room_id: ROOM,
            peer_id: PEER,
            peer_name: None,
            batch: None,
            initiator: true,
            waited_ms: 1234,
            shared_interests: &interests,
            room_ticket: None,
            id: Some(&id),
        },
        ServerMessage::PeerLeft {
            room_id: ROOM,
            peer_id: PEER,
            reason: LeaveReason::Ended(CloseReason::Closed),
        },
        ServerMessage::RelayGap {
            room_id: ROOM,
            peer_id: PEER,
        },
        ServerMessage::RoomJoined {
            room: "tea",
            room_id: ROOM,
            you: RoomSelf {
                peer_id: SELF,
                n: 4,
            },
            members: vec![RoomMember {
                peer_id: PEER,
                n: 2,
                was: Some(SessionId(0x0123_4567_89ab_cdef)),
                name: Some("Ann".to_owned()),
                offer: true,
                polite: true,
                batch: true,
                away: true,
            }],
            room_ticket: Some(TICKET),
            id: Some(&id),
        },
        ServerMessage::PeerJoined {
            room_id: ROOM,
            peer: RoomMember {
                peer_id: PEER,
                n: 5,
                was: None,
                name: None,
                offer: false,
                polite: false,
                batch: false,
                away: false,
            },
        },
        ServerMessage::Rejoining {
            room_id: ROOM,
            expires_in_ms: 20000,
        },
        ServerMessage::Rejoined {
            room_id: ROOM,
            peer_id: PEER,
            initiator: true,
            room_ticket: Some(TICKET),
        },
        ServerMessage::Ack { id: &object },
        ServerMessage::Pong { id: Some(&two) },
        ServerMessage::Error {
            code,
            message,
            temporary: code.temporary(),
            received: None,
            id: Some(&three),
        },
        ServerMessage::Draining {
            reconnect_in_ms: 4200,
        },
    ];
    let resumable = ServerMessage::Session {
        session_id: SELF,
        resume_token: Some(TOKEN),
        resume_window_ms: Some(15000),
        heartbeat_ms: 7000,
        ice_servers: &stun,
        limits,
    };
    let resumable = serde_json::to_string(&resumable).unwrap();
    assert_eq!(resumable, fixture("server", "session_resumable"));
    let gap = ServerMessage::Error {
        code: ErrorCode::Gap,
        message: "message 20 came, and 18 is missing; send again from 18",
        temporary: ErrorCode::Gap.temporary(),
        received: Some(17),
        id: None,
    };
    let gap = serde_json::to_string(&gap).unwrap();
    assert_eq!(gap, fixture("server", "error_gap"));
    let mut missing = names("server");
    missing.remove("session_resumable");
    missing.remove("error_gap");
    for message in messages {
        let text = serde_json::to_string(&message).unwrap();
        let name = serde_json::from_str::<serde_json::Value>(&text).unwrap()["type"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(text, fixture("server", &name));
        missing.remove(&name);
    }
    for &kind in RelayKind::ALL {
        let sent = fixture("client", kind.as_str());
        let request: Request<'_> = serde_json::from_str(&sent).unwrap();
        let (head, len) = relay_head(kind, PEER);
        let parts = [
            &head[..len],
            request.payload.unwrap().get().as_bytes(),
            RELAY_TAIL,
        ];
        assert_eq!(
            String::from_utf8(parts.concat()).unwrap(),
            fixture("server", kind.as_str())
        );
        missing.remove(kind.as_str());
    }
    assert!(missing.is_empty(), "no message for {missing:?}");
}

#[test]
fn both_sides_know_the_type_of_each_fixture() {
    for name in names("client") {
        let text = fixture("client", &name);
        let request: Request<'_> = serde_json::from_str(&text).unwrap();
        assert_ne!(request.kind, ClientType::Unknown, "{name}");
        let numbers: Numbers = serde_json::from_str(&text).unwrap();
        let room = serde_json::from_str::<JoinRoom<'_>>(&text).ok();
        let mut fields = serde_json::to_value(&request).unwrap();
        let rejoin = serde_json::from_str::<Rejoin<'_>>(&text).ok();
        let renew = serde_json::from_str::<RenewToken<'_>>(&text).ok();
        let report = serde_json::from_str::<Report<'_>>(&text).ok();
        let call_report = serde_json::from_str::<CallReport>(&text).ok();
        for more in [
            serde_json::to_value(numbers),
            serde_json::to_value(room),
            serde_json::to_value(rejoin),
            serde_json::to_value(renew),
            serde_json::to_value(report),
            serde_json::to_value(call_report),
        ] {
            if let serde_json::Value::Object(more) = more.unwrap() {
                fields.as_object_mut().unwrap().extend(more);
            }
        }
        let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(fields, whole, "{name} has a field that is lost");
    }
    for name in names("server") {
        let text = fixture("server", &name);
        let view: ServerView<'_> = serde_json::from_str(&text).unwrap();
        assert_ne!(view.kind, ServerType::Unknown, "{name}");
    }
}

#[test]
fn criteria_payload_and_id_are_read_as_they_were_sent() {
    let text = fixture("client", "find_match_criteria");
    let request: Request<'_> = serde_json::from_str(&text).unwrap();
    let criteria = request.criteria.unwrap();
    assert_eq!(
        (criteria.language.as_deref(), criteria.region.as_deref()),
        (Some("en"), Some("eu"))
    );
    assert_eq!(criteria.interests, ["chess", "tea"]);

    let odd = r#"{"type":"\u006dessage","id" : [1, 2],"payload": null,"new":{"field":[]}}"#;
    let request: Request<'_> = serde_json::from_str(odd).unwrap();
    assert_eq!(request.kind, ClientType::Message);
    assert_eq!(request.id.map(RawValue::get), Some("[1, 2]"));
    assert_eq!(request.payload.map(RawValue::get), Some("null"));
}
