//! Spill files that were not written to their end, and who has them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use tokio::time::Instant;
use voicematch_transcribe::record::{Record, RowId};
use voicematch_transcribe::store::Store;
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{Settings, Writer};

use crate::model::List;
use crate::support::{IN_SPILL, PATIENCE, outcomes, segment};

/// How often a child is started at the wrong moment is chance.
const ROUNDS: usize = 300;

/// The bytes of a spill file with the session's segments 1 to 3.
async fn spilled(session: RowId) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let down = Arc::new(List::down());
    let mut settings = Settings::new(dir.path());
    settings.queue = 1;
    let writer = Writer::start(down, settings, StorageMetrics::new().expect("metrics"))
        .await
        .expect("a writer");
    let receipts = (1..=3).map(|seq| writer.write_now(Record::Segment(segment(session, seq))));
    let told = outcomes(receipts.collect()).await;
    assert_eq!(told, [IN_SPILL; 3]);
    let file = spill_files(dir.path()).remove(0);
    std::fs::read(file).expect("the spill file")
}

fn spill_files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect()
}

/// What a start makes of the file.
async fn replayed(bytes: &[u8]) -> (Vec<i64>, Vec<std::path::PathBuf>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("spill-1.log"), bytes).expect("written");
    let store = Arc::new(List::default());
    let writer = Writer::start(
        Arc::<List>::clone(&store),
        Settings::new(dir.path()),
        StorageMetrics::new().expect("metrics"),
    );
    let writer = writer.await.expect("a writer");
    assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
    let files = spill_files(dir.path());
    (store.seqs(), files, dir)
}

/// Starts one program after another until it is dropped.
struct Programs {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Programs {
    fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = ends.clone();
        let start = move || {
            while !told.load(Relaxed) {
                Command::new("true").status().expect("a program");
            }
        };
        let thread = Some(thread::spawn(start));
        Self { ends, thread }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A child has copies of all descriptors until it is a program of its own, and a lock is held by copies, too (flock(2)).
#[tokio::test]
async fn who_starts_a_program_does_not_keep_the_file_of_a_writer_that_has_ended() {
    let _programs = Programs::start();
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::new(dir.path());
        settings.queue = 1;
        let metrics = || StorageMetrics::new().expect("metrics");
        let first = Writer::start(Arc::new(List::down()), settings.clone(), metrics()).await;
        let first = first.expect("a writer");
        let segment = first.write_now(Record::Segment(segment(RowId(7), 1)));
        assert_eq!(segment.await, IN_SPILL);
        first.close(Instant::now() + PATIENCE).await;
        let store = Arc::new(List::default());
        let next = Writer::start(Arc::<List>::clone(&store), settings, metrics()).await;
        next.expect("a writer");
        assert_eq!(store.seqs(), [1], "round {round}");
    }
}

#[tokio::test]
async fn torn_at_every_byte() {
    let bytes = spilled(RowId(7)).await;
    let record = bytes.len() / 3;
    let mut before = 0;
    for end in 0..=bytes.len() {
        let (seqs, files, _dir) = replayed(&bytes[..end]).await;
        let whole = seqs.len();
        assert_eq!(seqs, (1..).take(whole).collect::<Vec<_>>(), "torn at {end}");
        assert!(
            whole == before || whole == before + 1,
            "{before} and then {whole} at {end}"
        );
        assert!(
            whole * record <= end + 2 && end < (whole + 1) * record + 2,
            "{whole} at {end}"
        );
        assert_eq!(files, Vec::<std::path::PathBuf>::new(), "torn at {end}");
        before = whole;
    }
    assert_eq!(before, 3);
}

#[tokio::test]
async fn a_damaged_byte_costs_nothing_before_it_and_the_file_is_kept() {
    let bytes = spilled(RowId(7)).await;
    // In the JSON of the second record.
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let (seqs, files, _dir) = replayed(&damaged).await;
    assert_eq!(seqs, [1]);
    assert_eq!(files.len(), 1);
    assert!(files[0].ends_with("damaged-1.log"), "{files:?}");
    assert_eq!(std::fs::read(&files[0]).expect("kept"), damaged);
}

#[tokio::test]
async fn what_is_behind_a_damaged_length_is_kept() {
    let bytes = spilled(RowId(7)).await;
    let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let second = 8 + length as usize;
    for (at, expected) in [(3, &[][..]), (second + 3, &[1])] {
        let mut damaged = bytes.clone();
        damaged[at] = 0x7f;
        let (seqs, files, _dir) = replayed(&damaged).await;
        assert_eq!(seqs, expected);
        assert!(files[0].ends_with("damaged-1.log"), "{files:?}");
        assert_eq!(std::fs::read(&files[0]).expect("kept"), damaged);
    }
}

#[tokio::test]
async fn a_file_in_use_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = |store: Arc<dyn Store>| {
        Writer::start(
            store,
            Settings::new(dir.path()),
            StorageMetrics::new().expect("metrics"),
        )
    };
    let down = start(Arc::new(List::down())).await.expect("a writer");
    let told = outcomes(vec![down.write_now(Record::Segment(segment(RowId(7), 1)))]).await;
    assert_eq!(told, [IN_SPILL]);
    let store = Arc::new(List::default());
    let other = start(Arc::<List>::clone(&store))
        .await
        .expect("a second writer");
    assert!(store.seqs().is_empty());
    assert_eq!(spill_files(dir.path()).len(), 2);
    drop(other);
    let left = down
        .close(Instant::now() + PATIENCE)
        .await
        .expect("something is left");
    assert_eq!((left.spilled, left.lost), (1, 0));
    let third = start(Arc::<List>::clone(&store))
        .await
        .expect("a third writer");
    assert_eq!(store.seqs(), [1]);
    drop(third);
}
