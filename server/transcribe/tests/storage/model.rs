//! The writer over a store that fails on demand, beside a plain list.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use voicematch_transcribe::record::{
    Answer, Interview, JobPiece, Participant, ProviderJob, Record, RowId, Segment, Session,
    SurveyVersion, Track,
};
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{Outcome, Receipt, Settings, Writer};
use voicematch_transcribe::store::{Answered, Held, Old, Owner, Progress, Store, StoreError};

use crate::support::{PATIENCE, segment};

/// What the store does when it is asked to write.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Write,
    Fail,
    Full,
    /// Writes, but the answer gets lost.
    WriteAndFail,
    /// Answers late, or not within the ten seconds of the contract.
    Delay(u64, bool),
}

/// A store in memory: segments in the order in which they came.
#[derive(Default)]
pub(crate) struct List {
    written: Mutex<Vec<Segment>>,
    deeds: Mutex<VecDeque<Deed>>,
    always: Option<Deed>,
}

impl List {
    /// One that never works.
    pub(crate) fn down() -> Self {
        Self {
            always: Some(Deed::Fail),
            ..Self::default()
        }
    }

    pub(crate) fn seqs(&self) -> Vec<i64> {
        let written = self.written.lock().expect("no panic");
        written.iter().map(|segment| segment.seq).collect()
    }

    async fn act(&self, batch: &[Record]) -> Result<Vec<usize>, StoreError> {
        let deed = self.deeds.lock().expect("no panic").pop_front();
        let fail = || Err(StoreError::Temporary("on demand".to_owned()));
        match self.always.or(deed).unwrap_or(Deed::Write) {
            Deed::Write => self.write(batch),
            Deed::Fail => fail(),
            Deed::Full => Err(StoreError::Full("on demand".to_owned())),
            Deed::WriteAndFail => self.write(batch).and_then(|_| fail()),
            Deed::Delay(seconds, works) => {
                sleep(Duration::from_secs(seconds)).await;
                if works { self.write(batch) } else { fail() }
            }
        }
    }

    fn write(&self, batch: &[Record]) -> Result<Vec<usize>, StoreError> {
        let mut written = self.written.lock().expect("no panic");
        let mut next = written.clone();
        for record in batch {
            let Record::Segment(row) = record else {
                continue;
            };
            if row.text == POISON {
                return Err(StoreError::Rejected("poison".to_owned()));
            }
            match next.iter().find(|there| there.seq == row.seq) {
                Some(there) => assert_eq!(there, row, "written again, it is the same"),
                None => next.push(row.clone()),
            }
        }
        *written = next;
        Ok(vec![])
    }
}

const POISON: &str = "poison";

impl Store for List {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Answered<'a, Vec<usize>> {
        Box::pin(self.act(batch))
    }

    fn expire(&self, _: Old, _: u32) -> Answered<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn hold<'a>(&'a self, _: &'a Owner, _: &'a [RowId]) -> Answered<'a, Held> {
        Box::pin(async { Ok(Held::default()) })
    }

    fn owner(&self, _: RowId) -> Answered<'_, Option<Owner>> {
        Box::pin(async { Ok(None) })
    }

    fn release(&self, _: RowId) -> Answered<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn let_go<'a>(&'a self, _: RowId, _: &'a [RowId]) -> Answered<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn session<'a>(&'a self, _: &'a str) -> Answered<'a, Option<Session>> {
        Box::pin(async { Ok(None) })
    }

    fn participants(&self, _: RowId) -> Answered<'_, Vec<Participant>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn tracks(&self, _: RowId) -> Answered<'_, Vec<Track>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn segments(&self, _: RowId, _: i64, _: u32) -> Answered<'_, Vec<Segment>> {
        Box::pin(async { Ok(self.written.lock().expect("no panic").clone()) })
    }

    fn jobs(&self, _: RowId) -> Answered<'_, Vec<ProviderJob>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn job_pieces(&self, _: RowId) -> Answered<'_, Vec<JobPiece>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn audio_ms(&self, _: i64) -> Answered<'_, i64> {
        Box::pin(async { Ok(0) })
    }

    fn spent_ms(&self, _: i64, _: RowId) -> Answered<'_, i64> {
        Box::pin(async { Ok(0) })
    }

    fn last_seq(&self, _: RowId) -> Answered<'_, i64> {
        Box::pin(async { Ok(self.seqs().into_iter().max().unwrap_or(0)) })
    }

    fn survey<'a>(&'a self, _: &'a str) -> Answered<'a, Option<SurveyVersion>> {
        Box::pin(async { Ok(None) })
    }

    fn survey_version<'a>(&'a self, _: &'a str, _: i64) -> Answered<'a, Option<SurveyVersion>> {
        Box::pin(async { Ok(None) })
    }

    fn interview(&self, _: RowId) -> Answered<'_, Option<Interview>> {
        Box::pin(async { Ok(None) })
    }

    fn progress(&self, _: RowId) -> Answered<'_, Option<Progress>> {
        Box::pin(async { Ok(None) })
    }

    fn interview_in(&self, _: RowId) -> Answered<'_, Option<Interview>> {
        Box::pin(async { Ok(None) })
    }

    fn interview_of<'a>(&'a self, _: &'a str, _: &'a str) -> Answered<'a, Option<Interview>> {
        Box::pin(async { Ok(None) })
    }

    fn interviews<'a>(&'a self, _: &'a str, _: RowId, _: u32) -> Answered<'a, Vec<Interview>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn answers(&self, _: RowId) -> Answered<'_, Vec<Answer>> {
        Box::pin(async { Ok(vec![]) })
    }
}

/// What the writer's user does.
#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    WriteNow,
    Poison,
    /// Milliseconds.
    Pass(u16),
    /// Ends the writer within so many milliseconds, and begins with another one.
    Restart(u16),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::Write),
        3 => Just(Deed::Fail),
        1 => Just(Deed::Full),
        2 => Just(Deed::WriteAndFail),
        2 => (1..10_u64, any::<bool>()).prop_map(|(seconds, works)| Deed::Delay(seconds, works)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => any::<u8>().prop_map(Step::Write),
        2 => Just(Step::WriteNow),
        1 => Just(Step::Poison),
        4 => (1..4_000_u16).prop_map(Step::Pass),
        1 => (1..8_000_u16).prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_promised_is_there_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..30),
        deeds in proptest::collection::vec(deed(), 0..30),
        spill_bytes in prop_oneof![Just(1 << 30), 0..40_000_u64],
    ) {
        // Time passes when everybody waits.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(play(&steps, deeds, spill_bytes));
    }
}

async fn play(steps: &[Step], deeds: Vec<Deed>, spill_bytes: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Arc::new(List::default());
    let mut settings = Settings::new(dir.path());
    (settings.spill_bytes, settings.queue) = (spill_bytes, 200);
    let begin = || {
        Writer::start(
            Arc::<List>::clone(&store),
            settings.clone(),
            StorageMetrics::new().expect("metrics"),
        )
    };
    let mut writer = begin().await.expect("nothing fails yet");
    *store.deeds.lock().expect("no panic") = deeds.into();
    let mut receipts: Vec<(i64, Receipt)> = vec![];
    let mut poisoned = vec![];
    for step in steps {
        match step {
            Step::Write(count) => {
                for _ in 0..*count {
                    let seq = receipts.len() as i64 + 1;
                    receipts.push((seq, writer.write(Record::Segment(segment(RowId(7), seq)))));
                }
            }
            Step::WriteNow | Step::Poison => {
                let seq = receipts.len() as i64 + 1;
                let mut row = segment(RowId(7), seq);
                if matches!(step, Step::Poison) {
                    row.text = POISON.to_owned();
                    poisoned.push(seq);
                }
                receipts.push((seq, writer.write_now(Record::Segment(row))));
            }
            Step::Pass(millis) => sleep(Duration::from_millis((*millis).into())).await,
            Step::Restart(millis) => {
                writer
                    .close(Instant::now() + Duration::from_millis((*millis).into()))
                    .await;
                drop(writer);
                // A start with a database that does not work fails, and the operator tries again.
                writer = loop {
                    if let Ok(writer) = begin().await {
                        break writer;
                    }
                };
            }
        }
    }
    let left = writer.close(Instant::now() + PATIENCE).await;
    store.deeds.lock().expect("no panic").clear();
    begin()
        .await
        .expect("nothing fails any more")
        .close(Instant::now() + PATIENCE)
        .await;
    check(&store, receipts, &poisoned, dir.path()).await;
    assert!(
        left.is_none_or(|left| left.lost == 0 || spill_bytes < 1 << 30),
        "{left:?}"
    );
}

async fn check(
    store: &List,
    receipts: Vec<(i64, Receipt)>,
    poisoned: &[i64],
    dir: &std::path::Path,
) {
    let written = store.seqs();
    let mut told = BTreeMap::new();
    for (seq, receipt) in receipts {
        // Each is known by now.
        told.insert(
            seq,
            tokio::time::timeout(Duration::from_millis(1), receipt)
                .await
                .expect("a receipt"),
        );
    }
    let mut sorted = written.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(written.len(), sorted.len(), "nothing twice");
    assert_eq!(written, sorted, "in order");
    let rejected = std::fs::read_to_string(dir.join("rejected.jsonl")).unwrap_or_default();
    for (seq, outcome) in told {
        let poison = poisoned.contains(&seq);
        match outcome {
            Outcome::Stored(_) if poison => {
                assert!(rejected.contains(&format!("\"seq\":{seq},")), "{seq}")
            }
            Outcome::Stored(_) => assert!(written.contains(&seq), "{seq} was promised"),
            Outcome::Rejected => assert!(
                poison && rejected.contains(&format!("\"seq\":{seq},")),
                "{seq}"
            ),
            // A commit whose answer got lost may be there all the same.
            Outcome::Lost => {}
            Outcome::Deleted => panic!("nothing is deleted"),
        }
    }
}
