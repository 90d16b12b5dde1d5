use super::*;

fn said(id: &str, start_ms: i64, end_ms: i64, text: &str) -> Utterance {
    Utterance {
        id: id.to_owned(),
        start_ms,
        end_ms,
        text: text.to_owned(),
        ..Utterance::default()
    }
}

/// The number and the text of a final that is told, and of nothing else.
fn told(transcript: &mut Transcript, said: Utterance) -> (String, String) {
    assert_eq!(transcript.last(said), Verdict::Told);
    match transcript.take_told().as_slice() {
        [
            ..,
            Heard::Final {
                utterance,
                cut: false,
            },
        ] => (utterance.id.clone(), utterance.text.clone()),
        other => panic!("{other:?}"),
    }
}

fn revision(heard: Option<Heard>) -> (String, u32) {
    match heard {
        Some(Heard::Partial {
            utterance,
            revision,
        }) => (utterance.id, revision),
        other => panic!("{other:?}"),
    }
}

#[test]
fn partials_have_revisions_and_the_final_their_number() {
    let mut transcript = Transcript::default();
    assert_eq!(
        revision(transcript.partial(said("a", 0, 300, "how"))),
        ("1".to_owned(), 1)
    );
    assert_eq!(
        revision(transcript.partial(said("a", 0, 600, "how often"))),
        ("1".to_owned(), 2)
    );
    assert_eq!(
        told(&mut transcript, said("a", 0, 900, "How often?")).0,
        "1"
    );
    assert_eq!(transcript.partial(said("a", 0, 900, "late")), None);
    assert_eq!(told(&mut transcript, said("b", 900, 1200, "Daily.")).0, "2");
    assert_eq!(
        revision(transcript.partial(said("c", 1200, 1500, "and"))),
        ("3".to_owned(), 1)
    );
}

#[test]
fn what_comes_twice_is_told_once() {
    let mut transcript = Transcript::default();
    told(&mut transcript, said("a", 0, 1000, "one"));
    assert_eq!(
        transcript.last(said("a", 500, 1500, "one")),
        Verdict::Duplicate,
        "the same name"
    );
    assert_eq!(
        transcript.last(said("b", 50, 960, "one")),
        Verdict::Duplicate,
        "the same time"
    );
    told(&mut transcript, said("b", 51, 1040, "two"));
    transcript.begin_stream();
    told(&mut transcript, said("a", 2000, 3000, "another a"));
    for n in 0..100 {
        let start = 3000 + n * 1000;
        told(
            &mut transcript,
            said(&n.to_string(), start, start + 1000, "more"),
        );
    }
    assert_eq!(transcript.finals.len(), REMEMBERED);
}

#[test]
fn times_do_not_go_backwards() {
    let mut transcript = Transcript::default();
    told(&mut transcript, said("a", 5000, 6000, "one"));
    assert_eq!(
        transcript.last(said("b", 1000, 2000, "zero")),
        Verdict::Backwards
    );
    told(&mut transcript, said("c", 5900, 7000, "two"));
}

#[test]
fn a_new_stream_goes_on_with_what_the_lost_one_began() {
    let mut transcript = Transcript::default();
    revision(transcript.partial(said("7", 1000, 1600, "how often")));
    transcript.begin_stream();
    assert!(transcript.is_open());
    assert_eq!(
        revision(transcript.partial(said("0", 1000, 1900, "how often do"))),
        ("1".to_owned(), 2)
    );
    assert_eq!(
        told(&mut transcript, said("0", 1000, 2500, "How often do you?")).0,
        "1"
    );
    assert!(!transcript.is_open());
    revision(transcript.partial(said("1", 3000, 3500, "noise")));
    transcript.begin_stream();
    assert_eq!(told(&mut transcript, said("0", 4000, 5000, "Next")).0, "2");
    assert!(!transcript.is_open());
}

#[test]
fn a_later_final_ends_what_was_open() {
    let mut transcript = Transcript::default();
    revision(transcript.partial(said("a", 0, 900, "how often")));
    assert_eq!(
        transcript.last(said("b", 1000, 2000, "Next.")),
        Verdict::Told
    );
    match transcript.take_told().as_slice() {
        [
            Heard::Final {
                utterance: first,
                cut: true,
            },
            Heard::Final {
                utterance: second,
                cut: false,
            },
        ] => {
            assert_eq!(
                (first.text.as_str(), second.text.as_str()),
                ("how often", "Next.")
            );
        }
        other => panic!("{other:?}"),
    }
    // Partials with names of their own are the same utterance.
    revision(transcript.partial(said("guess", 2000, 2900, "and")));
    assert_eq!(
        transcript.last(said("c", 2000, 3000, "And?")),
        Verdict::Told
    );
    match transcript.take_told().as_slice() {
        [
            Heard::Partial {
                utterance,
                revision: 2,
            },
            Heard::Final { cut: false, .. },
        ] => assert_eq!(utterance.text, ""),
        other => panic!("{other:?}"),
    }
    assert!(!transcript.is_open());
}

#[test]
fn what_gets_no_final_is_cut() {
    let mut transcript = Transcript::default();
    revision(transcript.partial(said("b", 2000, 2500, "second")));
    revision(transcript.partial(said("a", 1000, 1500, "first")));
    let cut: Vec<_> = transcript.cut();
    let texts = cut.iter().map(|heard| match heard {
        Heard::Final {
            utterance,
            cut: true,
        } => utterance.text.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(
        transcript.last(said("a", 1000, 1500, "First.")),
        Verdict::Duplicate
    );
    assert_eq!(transcript.cut(), vec![]);
}

#[test]
fn empty_text_is_nothing_and_the_number_of_unfinished_ones_is_bounded() {
    let mut transcript = Transcript::default();
    assert_eq!(transcript.partial(said("a", 0, 100, " ")), None);
    assert_eq!(transcript.last(said("a", 0, 100, "")), Verdict::Nothing);
    assert_eq!(transcript.take_told(), vec![], "nothing was told");
    revision(transcript.partial(said("b", 100, 200, "uh")));
    assert_eq!(transcript.last(said("b", 100, 200, "")), Verdict::Nothing);
    assert_eq!(revision(transcript.take_told().pop()), ("1".to_owned(), 2));
    for n in 0..100 {
        revision(transcript.partial(said(&n.to_string(), n, n + 1, "x")));
    }
    assert_eq!(transcript.open.len(), MAX_OPEN);
}
