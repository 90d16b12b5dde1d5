//! What every database has to do: one list of checks, run over each.

use std::pin::Pin;
use std::sync::Arc;

use voicematch_transcribe::record::{JobPiece, ProviderJob, Record, RowId, Segment, SurveyVersion};
use voicematch_transcribe::store::{self, Elsewhere, Owner, Progress, Store, StoreError};

use crate::retention::{expired_rows_go, what_goes_on_is_kept};
use crate::support::{
    answer, interview, participant, segment, segments, session, sqlite_url, stored, track,
};

type Check = fn(Arc<dyn Store>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// Each check with its name; it wants a database of its own.
        pub(crate) const CHECKS: &[(&str, Check)] = &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
}

checks![
    everything_is_read_back,
    the_interview_of_a_session_is_the_latest,
    one_process_holds_a_session,
    a_number_is_one_segments,
    texts_are_kept_as_they_are,
    writing_again_changes_nothing,
    how_far_an_interview_has_come,
    what_is_said_is_written_whole_or_not,
    all_or_nothing,
    a_second_answer_of_the_same_revision_is_refused,
    a_participant_of_the_same_name_is_refused,
    what_belongs_to_a_session_goes_with_it,
    rows_of_a_deleted_session_are_dropped,
    a_slug_is_free_after_its_session,
    segments_come_in_pages,
    large_batches,
    the_newest_survey,
    what_was_spent_on_a_day,
    expired_rows_go,
    what_goes_on_is_kept,
    readers_do_not_wait_for_each_other,
];

#[tokio::test]
async fn sqlite_conforms() {
    for (_, check) in CHECKS {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store::connect(&sqlite_url(dir.path()), true).await;
        check(store.expect("a database")).await;
    }
}

/// Writes all of it.
pub(crate) async fn write(store: &dyn Store, batch: &[Record]) {
    let dropped = append(store, batch).await;
    assert!(dropped.is_empty(), "{dropped:?}");
}

async fn append(store: &dyn Store, batch: &[Record]) -> Vec<usize> {
    store.append(batch).await.expect("written")
}

async fn refuse(store: &dyn Store, batch: &[Record]) {
    let refused = store.append(batch).await;
    assert!(
        matches!(refused, Err(StoreError::Rejected(_))),
        "{refused:?}"
    );
}

/// A session that is in the database.
async fn begun(store: &dyn Store, slug: &str) -> RowId {
    let row = session(slug);
    let id = row.id;
    write(store, &[Record::Session(row)]).await;
    id
}

async fn everything_is_read_back(store: Arc<dyn Store>) {
    let mut begun = session("a");
    let ann = participant(begun.id, "ann");
    let mut voice = track(begun.id, ann.id);
    let said = segment(begun.id, 1);
    let mut asked = interview("bob");
    let given = answer(asked.id, 1);
    let job = ProviderJob {
        track_id: voice.id,
        job: "job 7".to_owned(),
        start_ms: 300,
    };
    let piece = JobPiece {
        track_id: voice.id,
        number: 1,
        job: "job 7".to_owned(),
        job_ms: 200,
        start_ms: 9_500,
    };
    let batch = [
        Record::Session(begun.clone()),
        Record::Participant(ann.clone()),
        Record::Track(voice.clone()),
        Record::Segment(said.clone()),
        Record::Interview(asked.clone()),
        Record::Answer(given.clone()),
        Record::ProviderJob(job.clone()),
        Record::JobPiece(piece.clone()),
        Record::TrackEnded {
            id: voice.id,
            audio_ms: 4_000,
            ended_ms: 9,
        },
        Record::SessionEnded {
            id: begun.id,
            ended_ms: 10,
        },
        Record::InterviewEnded {
            id: asked.id,
            ended_ms: 11,
        },
    ];
    write(&*store, &batch).await;
    (voice.audio_ms, voice.ended_ms) = (Some(4_000), Some(9));
    begun.ended_ms = Some(10);
    asked.ended_ms = Some(11);
    let id = begun.id;
    assert_eq!(store.session("a").await.expect("read"), Some(begun));
    assert_eq!(store.session("b").await.expect("read"), None);
    assert_eq!(store.participants(id).await.expect("read"), [ann]);
    assert_eq!(store.tracks(id).await.expect("read"), [voice.clone()]);
    assert_eq!(store.jobs(id).await.expect("read"), [job]);
    assert_eq!(store.job_pieces(voice.id).await.expect("read"), [piece]);
    assert_eq!(store.audio_ms(voice.started_ms).await.expect("read"), 4_000);
    assert_eq!(store.audio_ms(voice.started_ms + 1).await.expect("read"), 0);
    assert_eq!(store.segments(id, 0, 9).await.expect("read"), [said]);
    let found = store.interview(asked.id).await.expect("read");
    assert_eq!(found.as_ref(), Some(&asked));
    let found = store.interview_of("mobility", "bob").await.expect("read");
    assert_eq!(found.as_ref(), Some(&asked));
    let after = async |id| store.interviews("mobility", id, 9).await.expect("read");
    assert_eq!(after(RowId(0)).await, [asked.clone()]);
    assert_eq!(after(asked.id).await, []);
    assert_eq!(store.answers(asked.id).await.expect("read"), [given]);
}

async fn the_interview_of_a_session_is_the_latest(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    let mut held = ["ann", "bob", "eve"].map(interview);
    held[0].session_id = Some(id);
    (held[1].session_id, held[1].started_ms) = (Some(id), held[0].started_ms + 1);
    held[2].started_ms += 2;
    write(&*store, &held.clone().map(Record::Interview)).await;
    let found = store.interview_in(id).await.expect("read");
    assert_eq!(found.as_ref(), Some(&held[1]));
    assert_eq!(store.interview_in(RowId(1)).await.expect("read"), None);
}

async fn one_process_holds_a_session(store: Arc<dyn Store>) {
    let owner = |id, url: &str| Owner {
        id: RowId(id),
        url: url.to_owned(),
    };
    let (ours, theirs) = (owner(7, "https://a:8080"), owner(8, ""));
    let both = [begun(&*store, "a").await, begun(&*store, "b").await];
    let hold = async |owner, ids: &[RowId]| {
        let held = store.hold(owner, ids).await.expect("asked");
        (held.elsewhere, held.taken)
    };
    let owner_of = async |id| store.owner(id).await.expect("asked");
    let elsewhere = |session, owner: &Owner| Elsewhere {
        session,
        url: owner.url.clone(),
    };
    assert_eq!(owner_of(both[0]).await, None);
    let (none, nobody) = (vec![], vec![]);
    assert_eq!(
        hold(&ours, &both[..1]).await,
        (nobody.clone(), vec![both[0]])
    );
    let again = hold(&ours, &both[..1]).await;
    assert_eq!(again, (nobody.clone(), none.clone()), "again");
    let others = vec![elsewhere(both[0], &ours)];
    assert_eq!(hold(&theirs, &both).await, (others, vec![both[1]]));
    let others = vec![elsewhere(both[1], &theirs)];
    assert_eq!(hold(&ours, &both).await, (others, none.clone()));
    assert_eq!(owner_of(both[0]).await.as_ref(), Some(&ours));
    assert_eq!(owner_of(both[1]).await.as_ref(), Some(&theirs));
    // Who is reached elsewhere than before says so with the next lease.
    let ours = owner(7, "https://a:9090");
    assert_eq!(
        hold(&ours, &both[..1]).await,
        (nobody.clone(), none.clone())
    );
    let others = vec![elsewhere(both[0], &ours)];
    assert_eq!(hold(&theirs, &both).await, (others, none.clone()));
    store.let_go(theirs.id, &both).await.expect("let go");
    assert_eq!(owner_of(both[0]).await.as_ref(), Some(&ours), "not theirs");
    assert_eq!(owner_of(both[1]).await, None);
    store.let_go(ours.id, &[]).await.expect("none is let go");
    assert_eq!(hold(&ours, &both).await, (nobody.clone(), vec![both[1]]));
    store.let_go(ours.id, &both[..1]).await.expect("let go");
    let others = vec![elsewhere(both[1], &ours)];
    assert_eq!(hold(&theirs, &both).await, (others, vec![both[0]]));
    assert_eq!(owner_of(both[0]).await.as_ref(), Some(&theirs));
    store.release(theirs.id).await.expect("released");
    assert_eq!(hold(&ours, &both).await, (nobody.clone(), vec![both[0]]));
    let missing = hold(&theirs, &[RowId(9)]).await;
    assert_eq!(
        missing,
        (nobody.clone(), none.clone()),
        "nobody holds what is not there"
    );
    assert_eq!(hold(&theirs, &[]).await, (nobody, none));
    write(&*store, &[Record::SessionDeleted { id: both[0] }]).await;
    assert_eq!(owner_of(both[0]).await, None);
    store.release(ours.id).await.expect("released");
}

async fn a_number_is_one_segments(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    let rows: Vec<_> = (1..=3).map(|seq| segment(id, seq)).collect();
    let records = |rows: &[Segment]| {
        rows.iter()
            .cloned()
            .map(Record::Segment)
            .collect::<Vec<_>>()
    };
    write(&*store, &records(&rows[..2])).await;
    write(&*store, &records(&rows)).await;
    let mut other = segment(id, 2);
    other.text = "by a process that numbers it too".to_owned();
    refuse(&*store, &[Record::Segment(other)]).await;
    assert_eq!(store.segments(id, 0, 9).await.expect("read"), rows);
}

async fn texts_are_kept_as_they_are(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    let texts = [
        "",
        " ",
        "it's \"so\"; -- $1 ? {} \\ %",
        "näher 🎤\r\n\t",
        &"x".repeat(100_000),
    ];
    let rows: Vec<_> = (1..)
        .zip(texts)
        .map(|(seq, text)| {
            let mut row = segment(id, seq);
            row.text = text.to_owned();
            row.words = Some(text.to_owned());
            (row.language, row.confidence) = (None, None);
            (row.start_ms, row.end_ms) = (i64::MIN, i64::MAX);
            row
        })
        .collect();
    let records: Vec<_> = rows.iter().cloned().map(Record::Segment).collect();
    write(&*store, &records).await;
    assert_eq!(store.segments(id, 0, 9).await.expect("read"), rows);
}

async fn writing_again_changes_nothing(store: Arc<dyn Store>) {
    let begun = session("a");
    let ann = participant(begun.id, "ann");
    let asked = interview("bob");
    let mut batch = vec![
        Record::Session(begun.clone()),
        Record::Participant(ann.clone()),
        Record::Track(track(begun.id, ann.id)),
        Record::Interview(asked.clone()),
        Record::Answer(answer(asked.id, 1)),
        Record::Survey(SurveyVersion {
            id: "s".to_owned(),
            version: 1,
            definition: "{}".to_owned(),
        }),
    ];
    batch.extend(segments(begun.id, 1..=5));
    // Twice in one batch, and twice one after the other.
    batch.extend(batch.clone());
    write(&*store, &batch).await;
    write(&*store, &batch).await;
    assert_eq!(stored(&*store, begun.id).await, [1, 2, 3, 4, 5]);
    assert_eq!(store.participants(begun.id).await.expect("read").len(), 1);
    assert_eq!(store.tracks(begun.id).await.expect("read").len(), 1);
    assert_eq!(store.answers(asked.id).await.expect("read").len(), 1);
}

async fn how_far_an_interview_has_come(store: Arc<dyn Store>) {
    let (asked, other) = (interview("bob"), interview("eve"));
    let (id, ended_ms) = (asked.id, 1_800_000_000_000);
    let progress = async |id| store.progress(id).await.expect("read");
    assert_eq!(progress(id).await, None);
    let mut batch = vec![
        Record::Interview(asked),
        Record::Interview(other.clone()),
        Record::Answer(answer(other.id, 1)),
    ];
    write(&*store, &batch).await;
    let come = |answers, ended_ms| Some(Progress { answers, ended_ms });
    assert_eq!(progress(id).await, come(0, None));
    batch = (1..=3)
        .map(|request| Record::Answer(answer(id, request)))
        .collect();
    write(&*store, &batch).await;
    assert_eq!(progress(id).await, come(3, None));
    write(&*store, &[Record::InterviewEnded { id, ended_ms }]).await;
    assert_eq!(progress(id).await, come(3, Some(ended_ms)));
}

async fn what_is_said_is_written_whole_or_not(store: Arc<dyn Store>) {
    let (id, asked) = (begun(&*store, "a").await, interview("bob"));
    write(&*store, &[Record::Interview(asked.clone())]).await;
    let first = answer(asked.id, 1);
    write(&*store, &[Record::Answer(first.clone())]).await;
    let mut said = segments(id, 1..=3);
    let mut second = answer(asked.id, 2);
    second.question_id = first.question_id.clone();
    said.push(Record::Answer(second));
    refuse(&*store, &said).await;
    assert_eq!(stored(&*store, id).await, [0_i64; 0]);
    // Of these, two are there already, two are the same, and two belong to nothing.
    let mut said = segments(id, [1, 2, 3, 3]);
    said.push(Record::Answer(first.clone()));
    said.push(Record::Answer(answer(RowId::random(), 1)));
    said.extend(segments(RowId::random(), [1]));
    write(&*store, &said[..2]).await;
    assert_eq!(append(&*store, &said).await, [6, 5]);
    assert_eq!(stored(&*store, id).await, [1, 2, 3]);
    assert_eq!(store.answers(asked.id).await.expect("read"), [first]);
}

async fn all_or_nothing(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    let mut batch = segments(id, 1..=3);
    batch.push(Record::Session(session("a")));
    refuse(&*store, &batch).await;
    assert_eq!(store.last_seq(id).await.expect("read"), 0);
    // The next one is not hindered.
    write(&*store, &batch[..3]).await;
    assert_eq!(store.last_seq(id).await.expect("read"), 3);
}

async fn a_second_answer_of_the_same_revision_is_refused(store: Arc<dyn Store>) {
    let asked = interview("bob");
    let first = answer(asked.id, 1);
    write(
        &*store,
        &[
            Record::Interview(asked.clone()),
            Record::Answer(first.clone()),
        ],
    )
    .await;
    let mut second = answer(asked.id, 2);
    second.question_id = first.question_id.clone();
    refuse(&*store, &[Record::Answer(second.clone())]).await;
    second.revision = 2;
    write(&*store, &[Record::Answer(second.clone())]).await;
    assert_eq!(
        store.answers(asked.id).await.expect("read"),
        [first, second]
    );
}

async fn a_participant_of_the_same_name_is_refused(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    write(&*store, &[Record::Participant(participant(id, "ann"))]).await;
    refuse(&*store, &[Record::Participant(participant(id, "ann"))]).await;
    let mut other = interview("bob");
    write(&*store, &[Record::Interview(other.clone())]).await;
    other.id = RowId::random();
    refuse(&*store, &[Record::Interview(other)]).await;
}

async fn what_belongs_to_a_session_goes_with_it(store: Arc<dyn Store>) {
    let (id, other) = (begun(&*store, "a").await, begun(&*store, "b").await);
    let ann = participant(id, "ann");
    let mut batch = vec![
        Record::Participant(ann.clone()),
        Record::Track(track(id, ann.id)),
    ];
    batch.extend(segments(id, 1..=50));
    batch.extend(segments(other, 1..=2));
    write(&*store, &batch).await;
    write(&*store, &[Record::SessionDeleted { id }]).await;
    assert_eq!(store.session("a").await.expect("read"), None);
    assert!(store.participants(id).await.expect("read").is_empty());
    assert!(store.tracks(id).await.expect("read").is_empty());
    assert!(stored(&*store, id).await.is_empty());
    assert_eq!(stored(&*store, other).await, [1, 2]);
}

async fn rows_of_a_deleted_session_are_dropped(store: Arc<dyn Store>) {
    let (id, other) = (begun(&*store, "a").await, begun(&*store, "b").await);
    write(&*store, &[Record::SessionDeleted { id }]).await;
    let asked = RowId::random();
    let batch = [
        Record::Segment(segment(id, 1)),
        Record::Segment(segment(other, 1)),
        Record::Participant(participant(id, "ann")),
        Record::Answer(answer(asked, 1)),
        Record::Track(track(id, RowId(1))),
        Record::SessionEnded { id, ended_ms: 1 },
    ];
    let mut dropped = append(&*store, &batch).await;
    dropped.sort_unstable();
    assert_eq!(dropped, [0, 2, 3, 4]);
    assert_eq!(stored(&*store, other).await, [1]);
    assert!(store.answers(asked).await.expect("read").is_empty());
}

async fn a_slug_is_free_after_its_session(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    let next = session("a");
    let batch = [
        Record::SessionDeleted { id },
        Record::Session(next.clone()),
        Record::Segment(segment(next.id, 1)),
    ];
    write(&*store, &batch).await;
    assert_eq!(store.session("a").await.expect("read"), Some(next));
}

async fn segments_come_in_pages(store: Arc<dyn Store>) {
    let (id, other) = (begun(&*store, "a").await, begun(&*store, "b").await);
    assert_eq!(store.last_seq(id).await.expect("read"), 0);
    // Not in their order, and with others between them.
    let mut batch = segments(id, (1..=10).rev());
    batch.extend(segments(other, 1..=99));
    write(&*store, &batch).await;
    let page = store.segments(id, 4, 3).await.expect("read");
    let seqs: Vec<_> = page.iter().map(|segment| segment.seq).collect();
    assert_eq!(seqs, [5, 6, 7]);
    assert_eq!(store.last_seq(id).await.expect("read"), 10);
}

async fn large_batches(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    write(&*store, &segments(id, 1..=2_500)).await;
    assert_eq!(stored(&*store, id).await, (1..=2_500).collect::<Vec<_>>());
    write(&*store, &[]).await;
}

async fn the_newest_survey(store: Arc<dyn Store>) {
    let version = |version| SurveyVersion {
        id: "s".to_owned(),
        version,
        definition: format!("{{\"version\":{version}}}"),
    };
    let batch = [2, 1, 3].map(|number| Record::Survey(version(number)));
    write(&*store, &batch).await;
    assert_eq!(store.survey("s").await.expect("read"), Some(version(3)));
    assert_eq!(
        store.survey_version("s", 1).await.expect("read"),
        Some(version(1))
    );
    assert_eq!(store.survey_version("s", 4).await.expect("read"), None);
    assert_eq!(store.survey("t").await.expect("read"), None);
}

async fn what_was_spent_on_a_day(store: Arc<dyn Store>) {
    let spent = |day, process, audio_ms| Record::Spent {
        day,
        process: RowId(process),
        audio_ms,
    };
    let others = async |day, but| store.spent_ms(day, RowId(but)).await.expect("read");
    assert_eq!(others(20_000, 3).await, 0);
    let batch = [
        spent(20_000, 1, 500),
        spent(20_000, 1, 800),
        spent(20_000, 2, 90),
        spent(20_001, 1, 7),
    ];
    write(&*store, &batch).await;
    assert_eq!(others(20_000, 3).await, 890);
    assert_eq!(others(20_000, 2).await, 800);
    // An older figure, which a spill file had.
    write(&*store, &batch[..1]).await;
    assert_eq!(others(20_000, 3).await, 890);
    assert_eq!(others(20_001, 3).await, 7);
}

async fn readers_do_not_wait_for_each_other(store: Arc<dyn Store>) {
    let id = begun(&*store, "a").await;
    write(&*store, &segments(id, 1..=100)).await;
    let reads = (0..50).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.last_seq(id).await.expect("read") })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.expect("no panic"), 100);
    }
}
