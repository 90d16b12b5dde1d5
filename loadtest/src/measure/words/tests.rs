use super::*;

/// A session with two speakers, of whom each said ten words.
fn tracks() -> Tracks {
    let track = |speaker: &str| Track {
        speaker: speaker.into(),
        first_due: Duration::from_secs(5),
        every: Duration::from_millis(100),
        said: 10,
    };
    Tracks([(1, track("p1")), (2, track("p2"))].into())
}

fn words(track: u32, chunks: std::ops::Range<u32>) -> String {
    let words = chunks.map(|chunk| format!("c{track}-{chunk:06}"));
    words.collect::<Vec<_>>().join(" ")
}

fn one(speaker: &str, start_ms: i64, text: &str) -> Final {
    Final {
        speaker: speaker.into(),
        start_ms,
        text: text.into(),
    }
}

#[test]
fn each_word_is_told_by_what_became_of_it() {
    let (tracks, mut host) = (tracks(), Hearing::default());
    let mut hear = |speaker, text: &str| host.hear(&tracks, speaker, 0, text);
    assert_eq!(hear("p1", &words(1, 3..6)).heard, 3);
    let again = hear("p1", &words(1, 5..7));
    assert_eq!((again.heard, again.twice), (1, 1));
    let earlier = hear("p1", &words(1, 0..2));
    assert_eq!((earlier.heard, earlier.reordered), (2, 2));
    let wrong_speaker = hear("p2", &words(1, 7..8));
    assert_eq!((wrong_speaker.heard, wrong_speaker.misdelivered), (0, 1));
    assert_eq!(hear("p1", "c3-000000").misdelivered, 1, "another session's");
    for never_said in ["c1-000010", "c1-4294967295", "word", "c1-x", "hello"] {
        let heard = hear("p1", never_said);
        assert_eq!(
            heard,
            Heard {
                altered: 1,
                ..Heard::default()
            },
            "{never_said}"
        );
    }
    let missing: Vec<_> = host
        .missing(&tracks)
        .filter(|(track, _)| *track == 1)
        .collect();
    assert_eq!(missing, [(1, 2), (1, 7), (1, 8), (1, 9)]);
}

#[test]
fn a_word_is_as_old_as_its_chunk() {
    let tracks = tracks();
    let due = tracks.newest_due(&words(1, 0..4));
    assert_eq!(due, Some(Duration::from_millis(5_300)));
    assert_eq!(tracks.newest_due("c9-000001"), None);
    assert_eq!(tracks.foreign("c9-000001 c1-000001 word"), 1);
}

#[test]
fn a_missing_word_is_lost_unless_a_gap_says_so() {
    let (tracks, mut host) = (tracks(), Hearing::default());
    host.hear(&tracks, "p1", 40, &words(1, 0..3));
    host.hear(&tracks, "p2", 40, &words(2, 0..10));
    let told = BTreeMap::new();
    let gap = |speaker: &str, from_ms, to_ms| Gap {
        speaker: speaker.into(),
        from_ms,
        to_ms,
    };
    // Chunks 3 to 9 lie from 340 to 1,040 ms.
    for (gaps, lost, in_gaps) in [
        (vec![], 7, 0),
        (vec![gap("p2", 0, 2_000)], 7, 0),
        (vec![gap("p1", 340, 1_040)], 0, 7),
        (vec![gap("p1", 740, 1_040)], 3, 4),
    ] {
        let settled = settle(&tracks, &host, &gaps, &told, None);
        assert_eq!((settled.lost, settled.in_gaps), (lost, in_gaps), "{gaps:?}");
        assert_eq!(settled.transcripts, 0);
    }
    // Nothing was heard of the speaker: any gap of theirs counts.
    let settled = settle(
        &tracks,
        &Hearing::default(),
        &[gap("p1", 0, 9)],
        &told,
        None,
    );
    assert_eq!((settled.lost, settled.in_gaps), (10, 10));
}

#[test]
fn a_transcript_has_what_was_told_and_nothing_else() {
    let (tracks, mut host) = (tracks(), Hearing::default());
    let all = [
        (1, one("p1", 0, &words(1, 0..10))),
        (2, one("p2", 0, &words(2, 0..10))),
    ];
    for (_, said) in &all {
        host.hear(&tracks, &said.speaker, said.start_ms, &said.text);
    }
    let told = BTreeMap::from(all);
    let settled = |stored: &BTreeMap<i64, Final>| settle(&tracks, &host, &[], &told, Some(stored));
    let good = Settled {
        transcripts: 1,
        ..Settled::default()
    };
    assert_eq!(settled(&told), good);
    let mut without = told.clone();
    without.remove(&2);
    assert_eq!(
        settled(&without),
        Settled {
            not_stored: 10,
            ..good
        }
    );
    let mut again = told.clone();
    again.insert(3, one("p2", 0, &words(2, 0..10)));
    assert_eq!(
        settled(&again),
        Settled {
            wrongly_stored: 10,
            ..good
        }
    );
    let mut altered = told.clone();
    altered.insert(1, one("p1", 0, "something else"));
    let wrong = Settled {
        not_stored: 10,
        wrongly_stored: 2,
        ..good
    };
    assert_eq!(settled(&altered), wrong);
}
