//! What a database no longer keeps.

use std::sync::Arc;

use voicematch_transcribe::record::{Record, RowId};
use voicematch_transcribe::store::{Old, Owner, Store};

use crate::conformance::write;
use crate::support::{answer, interview, participant, segments, session, stored, track};

fn old_at(ended_before: i64, unused_since: i64) -> Old {
    Old {
        ended_before,
        unused_since,
    }
}

pub(crate) async fn expired_rows_go(store: Arc<dyn Store>) {
    let (mut old, new) = (session("old"), session("new"));
    old.created_ms = 1_000;
    let mut asked = interview("bob");
    asked.ended_ms = Some(2_000);
    let mut batch = vec![
        Record::Session(old.clone()),
        Record::Session(new.clone()),
        Record::Participant(participant(old.id, "ann")),
        Record::Interview(asked.clone()),
    ];
    batch.extend(segments(old.id, 1..=250));
    batch.extend(segments(new.id, 1..=5));
    batch.extend((1..=3).map(|request| Record::Answer(answer(asked.id, request))));
    write(&*store, &batch).await;
    let mut rounds = vec![];
    loop {
        match store
            .expire(old_at(3_000, 3_000), 100)
            .await
            .expect("expired")
        {
            0 => break,
            rows => rounds.push(rows),
        }
    }
    assert_eq!(rounds, [100, 100, 50, 3, 1, 1]);
    assert_eq!(store.session("old").await.expect("read"), None);
    assert!(store.participants(old.id).await.expect("read").is_empty());
    assert_eq!(store.interview(asked.id).await.expect("read"), None);
    assert_eq!(stored(&*store, new.id).await, [1, 2, 3, 4, 5]);
}

/// Deletes all that is old; the slugs of these sessions that are still there.
async fn left<'a>(store: &dyn Store, old: Old, slugs: &[&'a str]) -> Vec<&'a str> {
    while store.expire(old, 100).await.expect("expired") > 0 {}
    let mut left = vec![];
    for slug in slugs {
        if store.session(slug).await.expect("read").is_some() {
            left.push(*slug);
        }
    }
    left
}

pub(crate) async fn what_goes_on_is_kept(store: Arc<dyn Store>) {
    let slugs = ["never used", "spoken in", "speaks", "held", "ended"];
    let sessions = slugs.map(|slug| {
        let mut row = session(slug);
        row.created_ms = 1_000;
        row
    });
    let [_, spoken_in, speaks, held, ended] = sessions.each_ref().map(|row| row.id);
    let mut batch: Vec<_> = sessions.iter().cloned().map(Record::Session).collect();
    let mut before = track(spoken_in, RowId(1));
    (before.started_ms, before.ended_ms) = (1_500, Some(6_000));
    let mut now = track(speaks, RowId(1));
    now.started_ms = 7_000;
    batch.extend([Record::Track(before), Record::Track(now)]);
    batch.push(Record::SessionEnded {
        id: ended,
        ended_ms: 6_000,
    });
    batch.extend(sessions.iter().flat_map(|row| segments(row.id, 1..=3)));
    write(&*store, &batch).await;
    let owner = Owner {
        id: RowId(7),
        url: String::new(),
    };
    let now = store.hold(&owner, &[held]).await.expect("asked");
    assert_eq!(now.taken, [held]);

    // Ended ones are kept for less long than a session may go on.
    let short = old_at(9_000, 500);
    assert_eq!(left(&*store, short, &slugs).await, slugs[..4]);
    assert_eq!(stored(&*store, sessions[0].id).await, [1, 2, 3]);
    let next = old_at(9_000, 5_000);
    assert_eq!(left(&*store, next, &slugs).await, slugs[1..4]);
    let next = old_at(9_000, 6_001);
    assert_eq!(left(&*store, next, &slugs).await, slugs[2..4]);
    let next = old_at(9_000, 9_000);
    assert_eq!(left(&*store, next, &slugs).await, ["held"]);
    assert_eq!(stored(&*store, held).await, [1, 2, 3]);
    store.release(owner.id).await.expect("released");
    assert_eq!(left(&*store, next, &slugs).await, [""; 0]);

    let (asked, silent) = (interview("ann"), interview("bob"));
    let given = answer(asked.id, 5);
    let (begun, answered) = (asked.started_ms, given.created_ms);
    let batch = [
        Record::Interview(asked.clone()),
        Record::Interview(silent.clone()),
        Record::Answer(given),
    ];
    write(&*store, &batch).await;
    let there = async |id| store.interview(id).await.expect("read").is_some();
    left(&*store, old_at(answered + 1, begun), &[]).await;
    assert!(there(asked.id).await && there(silent.id).await);
    left(&*store, old_at(answered + 1, begun + 1), &[]).await;
    assert!(there(asked.id).await && !there(silent.id).await);
    left(&*store, old_at(0, answered + 1), &[]).await;
    assert!(!there(asked.id).await);
}
