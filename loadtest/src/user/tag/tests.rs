use super::*;

const LONGEST: Tag = Tag {
    run: u32::MAX,
    room: u64::MAX,
    sender: u32::MAX,
    node: NodeId(35),
    seq: u32::MAX,
    nth: u32::MAX,
    route: Route {
        kind: Kind::ICE_CANDIDATE,
        direction: Direction::OffererToAnswerer,
    },
    due: Duration::from_secs(30 * 24 * 3600),
    lateness: Duration::from_secs(3600),
    len: MIN_PAYLOAD_BYTES,
};

const KINDS: [Kind; 5] = [
    Kind::OFFER,
    Kind::ANSWER,
    Kind::ICE_CANDIDATE,
    Kind::MESSAGE,
    Kind::ECHO,
];

#[test]
fn a_tag_reads_back_from_a_payload_of_the_length_asked_for() {
    for len in [MIN_PAYLOAD_BYTES, 500, MAX_PAYLOAD_BYTES] {
        for kind in KINDS {
            let direction = if kind == Kind::ECHO {
                Direction::ToServer
            } else {
                Direction::AnswererToOfferer
            };
            let route = Route { kind, direction };
            let small = Tag {
                run: 0,
                room: 1,
                sender: 2,
                node: NodeId(1),
                seq: 3,
                nth: 4,
                route,
                due: Duration::from_micros(5),
                lateness: Duration::ZERO,
                len,
            };
            let long = Tag {
                route,
                len,
                ..LONGEST
            };
            for tag in [small, long] {
                let payload = tag.to_payload();
                assert_eq!(payload.len(), len, "{payload}");
                assert_eq!(Tag::read(&payload), Some(tag));
                assert!(!tag.altered(&payload));
                assert!(tag.altered(&payload.replacen(".x", ".y", 1)));
            }
        }
    }
}

#[test]
fn payloads_for_partners_are_json() {
    for kind in &KINDS[..4] {
        let route = Route {
            kind: *kind,
            ..LONGEST.route
        };
        let payload = Tag { route, ..LONGEST }.to_payload();
        let parsed = serde_json::from_str::<serde_json::Value>(&payload);
        assert!(parsed.is_ok_and(|value| value.is_object()), "{payload}");
    }
}

#[test]
fn an_echo_is_known_within_another_message() {
    let route = Route {
        kind: Kind::ECHO,
        direction: Direction::ToServer,
    };
    let tag = Tag { route, ..LONGEST };
    let around = format!(r#"{{"you_said":"{}"}}"#, tag.to_payload());
    assert_eq!(Tag::read(&around), Some(tag));
    assert!(!tag.altered(&around));
}

#[test]
fn what_is_not_ours_is_no_tag() {
    for other in [
        "",
        "1",
        "{}",
        r#"{"candidate":"fake-ice-candidate"}"#,
        r#"{"candidate":" vm 1.2"}"#,
        "a vm 00000000.0000000000000000.1.1.1.1.s0.1.1.99999999999.",
    ] {
        assert_eq!(Tag::read(other), None, "{other}");
    }
}

#[test]
fn a_tag_with_one_changed_letter_is_no_other_tag() {
    let payload = LONGEST.to_payload();
    let (start, end) = (payload.find(MARK), payload.find('x'));
    let (start, end) = (start.expect("a tag") + MARK.len(), end.expect("padding"));
    for at in start..end {
        for letter in ["0", "1", "a", "."] {
            let mut changed = payload.clone();
            changed.replace_range(at..=at, letter);
            let read = Tag::read(&changed);
            assert!(changed == payload || read.is_none(), "{changed}");
        }
    }
}

#[test]
fn the_request_is_what_a_browser_would_send() {
    let text = relay(ClientType::IceCandidate, LONGEST.to_payload()).expect("valid JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(value["type"], "ice_candidate");
    assert_eq!(value["payload"]["sdpMid"], "0");
    let find = request(ClientType::FindMatch, None).expect("valid JSON");
    assert_eq!(find, r#"{"type":"find_match"}"#);
}

#[test]
fn room_keys_differ_as_their_ids_do() {
    assert_eq!(
        room_key("a"),
        0xaf63_dc4c_8601_ec8c,
        "the published FNV-1a value"
    );
    assert_ne!(room_key("room-1"), room_key("room-2"));
}
