use super::*;
use crate::plan::{Greeting, template::Names};

const SECOND: Duration = Duration::from_secs(1);

fn send(rounds: Rounds) -> Step {
    Step::Send {
        message: Message::Relay {
            kind: Relayed::Message,
            size: Size::Fixed(200),
        },
        every: SECOND,
        rounds,
    }
}

fn greeting() -> Greeting {
    Greeting::Type("session".to_owned())
}

fn expect(kind: &str) -> Step {
    Step::Expect {
        kind: kind.to_owned(),
        within: SECOND,
    }
}

fn call(text: &str, answer: Option<&str>) -> Step {
    Step::Call(Call {
        name: "ask".to_owned(),
        template: Template::parse(text, &Names::default()).expect("good"),
        frame: Frame::Text,
        size: Size::Fixed(200),
        answer: answer.map(str::to_owned),
        within: SECOND,
        every: Duration::ZERO,
        rounds: Rounds::Times(1),
    })
}

/// The same again and again.
fn paced(text: &str, answer: Option<&str>, often: Rounds) -> Step {
    let mut step = call(text, answer);
    if let Step::Call(call) = &mut step {
        (call.every, call.rounds) = (2 * SECOND, often);
    }
    step
}

fn twice(steps: Vec<Step>) -> Step {
    Step::Loop {
        rounds: Rounds::Times(2),
        steps,
    }
}

#[test]
fn good_flows_are_played() {
    let good = [
        vec![Step::Connect, Step::FindMatch, send(Rounds::Endless)],
        vec![
            Step::Connect,
            Step::FindMatch,
            Step::Leave,
            Step::Close,
            Step::Connect,
        ],
        vec![twice(vec![
            Step::Connect,
            Step::FindMatch,
            send(Rounds::Times(3)),
            Step::Close,
        ])],
        vec![
            Step::Connect,
            Step::FindMatch,
            twice(vec![send(Rounds::For(SECOND)), Step::Next]),
        ],
        vec![Step::Connect, call("{{id}}", None), call("x", Some("pong"))],
        vec![
            Step::Connect,
            paced("{{id}}", None, Rounds::For(SECOND)),
            paced("x", Some("pong"), Rounds::Endless),
        ],
        vec![Step::Connect, Step::Think(Between::ENDLESS)],
        vec![
            Step::Connect,
            call("{{id}}", None),
            expect("session"),
            Step::FindMatch,
            expect("peer_left"),
            Step::Next,
            send(Rounds::Times(1)),
            expect("match_found"),
        ],
    ];
    for steps in good {
        assert_eq!(Flow::new("some", steps).check(&greeting()), Ok(()));
    }
}

#[test]
fn a_step_that_cannot_be_played_is_found_with_its_place() {
    let think = Step::Think(Between {
        from: SECOND,
        to: SECOND,
    });
    let wrong = [
        (vec![], &[0][..], "needs steps"),
        (vec![Step::FindMatch], &[0], "connect"),
        (vec![Step::Connect, Step::Connect], &[1], "already"),
        (vec![Step::Connect, Step::Next], &[1], "find_match"),
        (
            vec![Step::Connect, send(Rounds::Endless)],
            &[1],
            "find_match",
        ),
        (
            vec![
                Step::Connect,
                Step::FindMatch,
                send(Rounds::Endless),
                Step::Close,
            ],
            &[2],
            "never ends",
        ),
        (
            vec![Step::Connect, Step::FindMatch, send(Rounds::Times(0))],
            &[2],
            "never done",
        ),
        (vec![Step::Connect, call("x", None)], &[1], "{{id}}"),
        (
            vec![
                Step::Connect,
                paced("{{id}}", None, Rounds::Endless),
                Step::Close,
            ],
            &[1],
            "never ends",
        ),
        (
            vec![Step::Connect, paced("{{id}}", None, Rounds::Times(0))],
            &[1],
            "never done",
        ),
        (
            vec![Step::Connect, twice(vec![think.clone(), Step::Leave])],
            &[1, 1],
            "find_match",
        ),
        (vec![twice(vec![Step::Connect])], &[0, 0], "already"),
        (
            vec![Step::Connect, twice(vec![Step::FindMatch])],
            &[1, 0],
            "next",
        ),
        (
            vec![twice(vec![Step::Connect, Step::Close, Step::Close])],
            &[0, 2],
            "connect",
        ),
        (
            vec![
                Step::Connect,
                Step::FindMatch,
                Step::Leave,
                send(Rounds::Times(1)),
            ],
            &[3],
            "find_match",
        ),
        (
            vec![Step::Connect, expect("session")],
            &[1],
            "take this one out",
        ),
        (
            vec![Step::Connect, Step::FindMatch, think, expect("match_found")],
            &[3],
            "take this one out",
        ),
    ];
    for (steps, place, part) in wrong {
        let error = Flow::new("some", steps.clone())
            .check(&greeting())
            .expect_err(part);
        assert_eq!(error.steps, place, "{steps:?}: {error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn ask(save: &[&str]) -> Step {
    let save = save.iter();
    Step::Http(Request {
        name: "ask".to_owned(),
        method: Method::GET,
        origin: None,
        path: template("/"),
        body: None,
        status: 200,
        within: SECOND,
        save: save
            .map(|name| ((*name).to_owned(), "/x".to_owned()))
            .collect(),
    })
}

fn template(text: &str) -> Template {
    let names = Names {
        saved: ["token".to_owned(), "id2".to_owned()].into(),
        ..Names::default()
    };
    Template::parse(text, &names).expect("good")
}

#[test]
fn what_is_filled_in_has_to_be_saved_before() {
    let connect = || Step::ConnectTo(template("/ws?t={{token}}"));
    let both = || ask(&["token", "id2"]);
    let good = [
        vec![both(), connect()],
        vec![twice(vec![ask(&["token"]), connect(), Step::Close])],
        vec![twice(vec![ask(&["token"])]), connect()],
    ];
    for steps in good {
        assert_eq!(Flow::new("some", steps).check(&greeting()), Ok(()));
    }
    let wrong = [
        (vec![connect()], &[0][..]),
        (vec![ask(&["id2"]), connect(), ask(&["token"])], &[1]),
        (
            vec![ask(&["id2"]), twice(vec![connect(), ask(&["token"])])],
            &[1, 0],
        ),
    ];
    for (steps, place) in wrong {
        let error = Flow::new("some", steps)
            .check(&greeting())
            .expect_err("unknown");
        assert_eq!(error.steps, place, "{error}");
        assert!(error.what.contains("{{token}}"), "{error}");
    }
}

#[test]
fn a_loop_that_takes_no_time_is_refused() {
    let idle = Step::Loop {
        rounds: Rounds::Endless,
        steps: vec![Step::Think(Between {
            from: Duration::ZERO,
            to: Duration::ZERO,
        })],
    };
    let error = Flow::new("some", vec![idle])
        .check(&greeting())
        .expect_err("spins");
    assert!(error.what.contains("think"), "{error}");
}

#[test]
fn flows_know_how_long_they_take_and_whom_they_call() {
    let think = Step::Think(Between {
        from: SECOND,
        to: 2 * SECOND,
    });
    let steps = vec![
        Step::Connect,
        twice(vec![think, call("{{id}}", None)]),
        call("{{id}}", None),
    ];
    let flow = Flow::new("some", steps);
    assert_eq!(flow.longest(), 7 * SECOND);
    let mut calls = Vec::new();
    flow.calls(&mut calls);
    assert_eq!(calls, ["ask"]);
    let often = [Rounds::Times(3), Rounds::For(SECOND)].map(|often| paced("{{id}}", None, often));
    assert_eq!(Flow::new("some", often.to_vec()).longest(), 9 * SECOND);
    assert_eq!(Flow::signaling(SECOND, 200, None).longest(), Duration::MAX);
}

#[test]
fn what_goes_on_without_end_can_be_slowed_down() {
    let mut flow = Flow::signaling(SECOND, 200, None);
    flow.adjust(Some(5 * SECOND), Some(500));
    assert_eq!(flow, Flow::signaling(5 * SECOND, 500, None));
    let mut flow = Flow::signaling(SECOND, 200, Some(SECOND));
    flow.adjust(Some(5 * SECOND), None);
    assert_eq!(flow, Flow::signaling(SECOND, 200, Some(SECOND)));
}
