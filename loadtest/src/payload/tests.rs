use super::*;

const LONGEST: Tag = Tag {
    run: u32::MAX,
    room: u64::MAX,
    sender: u32::MAX,
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
                assert!(tag.altered(&payload.replacen("xxx", "xyx", 1)));
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
        "a vm 00000000.0000000000000000.1.1.1.1.s.1.1.99999999999.",
    ] {
        assert_eq!(Tag::read(other), None, "{other}");
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

fn sizes(size: &Size) -> Vec<usize> {
    let mut sizes: Vec<_> = (0..100)
        .flat_map(|user| (0..100).map(move |n| (user, n)))
        .map(|(user, n)| size.of(user, n))
        .collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn sizes_are_spread_as_they_say() {
    assert!(sizes(&Size::Fixed(500)).iter().all(|n| *n == 500));
    let even = sizes(&Size::Between(1000, 2000));
    assert!((1000..1010).contains(&even[0]) && (1990..=2000).contains(&even[9_999]));
    assert!((1450..1550).contains(&even[5_000]), "{}", even[5_000]);
    let weighted = sizes(&Size::Weighted(vec![(9, 200), (1, 5000)]));
    let long = weighted.iter().filter(|n| **n == 5000).count();
    assert!((900..1100).contains(&long), "{long}");
    let log = sizes(&Size::LogNormal {
        median: 800,
        p99: 5000,
    });
    assert!((750..850).contains(&log[5_000]), "{}", log[5_000]);
    assert!((4000..6000).contains(&log[9_900]), "{}", log[9_900]);
}

#[test]
fn sizes_that_cannot_be_sent_are_refused() {
    for bad in [
        Size::Fixed(10),
        Size::Fixed(70_000),
        Size::Between(500, 400),
        Size::Weighted(vec![]),
        Size::Weighted(vec![(0, 500)]),
        Size::LogNormal {
            median: 5000,
            p99: 800,
        },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    assert_eq!(Size::Between(192, 65_000).check(), Ok(()));
}
