//! A process that is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use voicematch_transcribe::record::{Record, RowId};
use voicematch_transcribe::store;
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{Outcome, Settings, Writer};

use crate::support::{PATIENCE, segment, session, sqlite_url, stored};

/// Where the child writes: the parent sets it.
const FOLDER: &str = "VOICEMATCH_TEST_STORAGE_CHILD";

const KILLS: i64 = 20;

/// Not a test of its own: what the killed process runs, which is this program again.
#[tokio::test]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var(FOLDER) else {
        return;
    };
    let (writer, store) = begin(std::path::Path::new(&dir)).await;
    let id = RowId(7);
    let mut seq = store.last_seq(id).await.expect("read");
    let mut waiting = std::collections::VecDeque::new();
    loop {
        // A hundred are under way at any time.
        for _ in waiting.len()..100 {
            seq += 1;
            waiting.push_back((seq, writer.write(Record::Segment(segment(id, seq)))));
        }
        if let Some((seq, receipt)) = waiting.pop_front() {
            assert!(matches!(receipt.await, Outcome::Stored(_)));
            // Told by hand: what is printed in a test is kept until its end.
            writeln!(std::io::stderr(), "stored {seq}").expect("the parent listens");
        }
    }
}

async fn begin(dir: &std::path::Path) -> (Writer, Arc<dyn store::Store>) {
    let store = store::connect(&sqlite_url(dir), true)
        .await
        .expect("a database");
    let mut settings = Settings::new(dir.join("state"));
    settings.batch = 37;
    settings.flush_interval = Duration::from_millis(5);
    let metrics = StorageMetrics::new().expect("metrics");
    let writer = Writer::start(Arc::clone(&store), settings, metrics).await;
    (writer.expect("a writer"), store)
}

#[tokio::test]
async fn killed_in_a_batch() {
    let dir = tempfile::tempdir().expect("a folder");
    let (writer, store) = begin(dir.path()).await;
    let mut row = session("session");
    row.id = RowId(7);
    writer.write_now(Record::Session(row)).await;
    assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
    let mut promised = 0;
    for _ in 0..KILLS {
        let path = dir.path().to_owned();
        let last = tokio::task::spawn_blocking(move || run_and_kill(&path)).await;
        promised = last.expect("the child has said something").max(promised);
        let seqs = stored(&*store, RowId(7)).await;
        let end = seqs.len() as i64;
        assert_eq!(
            seqs,
            (1..=end).collect::<Vec<_>>(),
            "no hole, nothing twice"
        );
        assert!(end >= promised, "{promised} promised, {end} stored");
    }
    assert!(promised > KILLS, "the children have worked");
}

/// Runs the child for a moment, kills it, and answers with the last row that it called stored.
fn run_and_kill(dir: &std::path::Path) -> i64 {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut last = 0;
    let told = rand::rng().random_range(1..400);
    let note = |line: std::io::Result<String>| line.ok()?.strip_prefix("stored ")?.parse().ok();
    for line in lines.by_ref().take(told) {
        last = note(line).unwrap_or(last);
    }
    child.kill().expect("killed");
    // What it had told before it died counts too; a line may be torn.
    for line in lines {
        last = note(line).unwrap_or(last).max(last);
    }
    child.wait().expect("ended");
    last
}
