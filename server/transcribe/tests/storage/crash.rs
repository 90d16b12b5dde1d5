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

const KILLS: i64 = 100;

/// Rows that the child has handed over and that are not stored yet: what a kill can lose at the most.
const UNDER_WAY: usize = 100;

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
        for _ in waiting.len()..UNDER_WAY {
            seq += 1;
            waiting.push_back((seq, writer.write(Record::Segment(segment(id, seq)))));
            tell("sent", seq);
        }
        if let Some((seq, receipt)) = waiting.pop_front() {
            assert!(matches!(receipt.await, Outcome::Stored(_)));
            tell("stored", seq);
        }
    }
}

/// By hand: what is printed in a test is kept until its end.
fn tell(what: &str, seq: i64) {
    writeln!(std::io::stderr(), "{what} {seq}").expect("the parent listens");
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
#[allow(clippy::print_stdout, reason = "what a kill loses is to be seen")]
async fn killed_in_a_batch() {
    let dir = tempfile::tempdir().expect("a folder");
    let (writer, store) = begin(dir.path()).await;
    let mut row = session("session");
    row.id = RowId(7);
    writer.write_now(Record::Session(row)).await;
    assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
    let (mut promised, mut lost, mut most_lost) = (0, 0, 0);
    for _ in 0..KILLS {
        let path = dir.path().to_owned();
        let told = tokio::task::spawn_blocking(move || run_and_kill(&path)).await;
        let told = told.expect("the child has said something");
        promised = told.stored.max(promised);
        let seqs = stored(&*store, RowId(7)).await;
        let end = seqs.len() as i64;
        assert_eq!(
            seqs,
            (1..=end).collect::<Vec<_>>(),
            "no hole, nothing twice"
        );
        assert!(end >= promised, "{promised} promised, {end} stored");
        lost += (told.sent - end).max(0);
        most_lost = most_lost.max(told.sent - end);
    }
    assert!(promised > KILLS, "the children have worked");
    println!(
        "{KILLS} kills: {promised} rows called stored are there once; of others {lost} lost, {most_lost} at a time"
    );
}

/// The last rows that a child has told of.
#[derive(Default)]
struct Told {
    sent: i64,
    stored: i64,
}

impl Told {
    fn note(&mut self, line: std::io::Result<String>) {
        let line = line.unwrap_or_default();
        let Some((what, seq)) = line.split_once(' ') else {
            return;
        };
        // A line may be torn.
        let seq = seq.parse().unwrap_or(0);
        match what {
            "sent" => self.sent = self.sent.max(seq),
            "stored" => self.stored = self.stored.max(seq),
            _ => {}
        }
    }
}

/// Runs the child for a moment, and kills it.
fn run_and_kill(dir: &std::path::Path) -> Told {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut told = Told::default();
    let count = rand::rng().random_range(UNDER_WAY..UNDER_WAY + 800);
    for line in lines.by_ref().take(count) {
        told.note(line);
    }
    child.kill().expect("killed");
    // What it had told before it died counts too.
    lines.for_each(|line| told.note(line));
    child.wait().expect("ended");
    told
}
