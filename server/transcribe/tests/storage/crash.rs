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

/// How often a child is killed that stores as a server does by default, and how long each of its rows comes after the one before.
const KILLS_BY_DEFAULT: usize = 9;
const EACH: Duration = Duration::from_millis(10);

/// What the middle one of these kills may lose. It is [`Settings::flush_interval`] and a commit, which takes its time on a busy machine.
const MOST_LOST: Duration = Duration::from_millis(600);

/// Not a test of its own: what the killed process runs, which is this program again.
#[tokio::test]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var(FOLDER) else {
        return;
    };
    let (writer, store) = begin(hurried(std::path::Path::new(&dir))).await;
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

/// The same, with the settings of a server that nobody has set anything at.
#[tokio::test]
async fn child_that_stores_by_default() {
    let Ok(dir) = std::env::var(FOLDER) else {
        return;
    };
    let (writer, store) = begin(by_default(std::path::Path::new(&dir))).await;
    let id = RowId(7);
    let mut seq = store.last_seq(id).await.expect("read");
    let mut each = tokio::time::interval(EACH);
    loop {
        each.tick().await;
        seq += 1;
        let receipt = writer.write(Record::Segment(segment(id, seq)));
        tell("sent", seq);
        tokio::spawn(async move {
            assert!(matches!(receipt.await, Outcome::Stored(_)));
            tell("stored", seq);
        });
    }
}

/// By hand: what is printed in a test is kept until its end.
fn tell(what: &str, seq: i64) {
    writeln!(std::io::stderr(), "{what} {seq}").expect("the parent listens");
}

fn by_default(dir: &std::path::Path) -> Settings {
    Settings::new(dir.join("state"))
}

fn hurried(dir: &std::path::Path) -> Settings {
    Settings {
        batch: 37,
        flush_interval: Duration::from_millis(5),
        ..by_default(dir)
    }
}

async fn begin(settings: Settings) -> (Writer, Arc<dyn store::Store>) {
    let dir = settings.dir.parent().expect("a folder");
    let store = store::connect(&sqlite_url(dir), true)
        .await
        .expect("a database");
    let metrics = StorageMetrics::new().expect("metrics");
    let writer = Writer::start(Arc::clone(&store), settings, metrics).await;
    (writer.expect("a writer"), store)
}

/// A database with a session, in which the rows are.
async fn with_a_session(dir: &std::path::Path) -> Arc<dyn store::Store> {
    let (writer, store) = begin(by_default(dir)).await;
    let mut row = session("session");
    row.id = RowId(7);
    writer.write_now(Record::Session(row)).await;
    assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
    store
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "what a kill loses is to be seen")]
async fn killed_in_a_batch() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = with_a_session(dir.path()).await;
    let (mut promised, mut lost, mut most_lost) = (0, 0, 0);
    for _ in 0..KILLS {
        let path = dir.path().to_owned();
        let count = rand::rng().random_range(UNDER_WAY..UNDER_WAY + 400);
        let child = "child_that_is_killed";
        let told = tokio::task::spawn_blocking(move || run_and_kill(&path, child, count)).await;
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

#[tokio::test]
#[allow(clippy::print_stdout, reason = "what a kill loses is to be seen")]
async fn killed_between_two_batches() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = with_a_session(dir.path()).await;
    let mut lost = Vec::new();
    for _ in 0..KILLS_BY_DEFAULT {
        let path = dir.path().to_owned();
        // A batch has thirty of them.
        let count = rand::rng().random_range(60..180);
        let child = "child_that_stores_by_default";
        let told = tokio::task::spawn_blocking(move || run_and_kill(&path, child, count)).await;
        let told = told.expect("the child has said something");
        let end = stored(&*store, RowId(7)).await.len() as i64;
        assert!(end >= told.stored, "{} promised, {end} stored", told.stored);
        let first = told.at.iter().find(|(seq, _)| *seq > end);
        lost.push(first.map_or(Duration::ZERO, |(_, since)| told.killed - *since));
    }
    lost.sort();
    let (middle, most) = (lost[KILLS_BY_DEFAULT / 2], lost[KILLS_BY_DEFAULT - 1]);
    println!("a kill loses what was said in the last {middle:.0?}, {most:.0?} at the most");
    assert!(most > Duration::ZERO, "each kill came just after a commit");
    assert!(middle < MOST_LOST, "{lost:?}");
}

/// The last rows that a child has told of.
struct Told {
    sent: i64,
    stored: i64,
    /// When it handed over which row.
    at: Vec<(i64, Instant)>,
    killed: Instant,
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
            "sent" => {
                self.sent = self.sent.max(seq);
                self.at.push((seq, Instant::now()));
            }
            "stored" => self.stored = self.stored.max(seq),
            _ => {}
        }
    }
}

/// Runs the child until it has handed over so many rows, and kills it.
fn run_and_kill(dir: &std::path::Path, child: &str, count: usize) -> Told {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("crash::{child}"), "--nocapture"])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut told = Told {
        sent: 0,
        stored: 0,
        at: Vec::new(),
        killed: Instant::now(),
    };
    while told.at.len() < count {
        told.note(lines.next().expect("it writes until it is killed"));
    }
    child.kill().expect("killed");
    told.killed = Instant::now();
    // What it had told before it died counts too.
    lines.for_each(|line| told.note(line));
    child.wait().expect("ended");
    told
}
