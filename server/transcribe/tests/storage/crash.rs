//! A process that is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use voicematch_test_postgres::Postgres;
use voicematch_transcribe::record::{Record, RowId};
use voicematch_transcribe::store;
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{Outcome, Settings, Writer};

use crate::support::{PATIENCE, segment, session, sqlite_url, stored};

/// Where the child writes, its folder and its database: the parent sets them.
const FOLDER: &str = "VOICEMATCH_TEST_STORAGE_CHILD";
const DATABASE: &str = "VOICEMATCH_TEST_STORAGE_DATABASE";

const KILLS: i64 = 100;

/// Rows that the child has handed over and that are not stored yet: what a kill can lose at the most.
const UNDER_WAY: usize = 100;

/// How often a child is killed that stores as a server does by default, and how long each of its rows comes after the one before.
const KILLS_BY_DEFAULT: usize = 9;
const EACH: Duration = Duration::from_millis(10);

/// What the middle one of these kills may lose. It is [`Settings::flush_interval`] and a commit, which takes its time on a busy machine.
const MOST_LOST: Duration = Duration::from_millis(600);

/// Where rows go.
#[derive(Clone)]
struct Place {
    folder: PathBuf,
    url: String,
}

impl Place {
    fn sqlite(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            url: sqlite_url(folder),
        }
    }

    /// Where the parent says.
    fn given() -> Option<Self> {
        Some(Self {
            folder: std::env::var_os(FOLDER)?.into(),
            url: std::env::var(DATABASE).ok()?,
        })
    }

    fn by_default(&self) -> Settings {
        Settings::new(self.folder.join("state"))
    }

    fn hurried(&self) -> Settings {
        Settings {
            batch: 37,
            flush_interval: Duration::from_millis(5),
            ..self.by_default()
        }
    }

    async fn begin(&self, settings: Settings) -> (Writer, Arc<dyn store::Store>) {
        let store = store::connect(&self.url, true).await.expect("a database");
        let metrics = StorageMetrics::new().expect("metrics");
        let writer = Writer::start(Arc::clone(&store), settings, metrics).await;
        (writer.expect("a writer"), store)
    }

    /// Makes a session, in which the rows are.
    async fn with_a_session(&self) -> Arc<dyn store::Store> {
        let (writer, store) = self.begin(self.by_default()).await;
        let mut row = session("session");
        row.id = RowId(7);
        writer.write_now(Record::Session(row)).await;
        assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
        store
    }
}

/// Not a test of its own: what the killed process runs, which is this program again.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(place) = Place::given() else {
        return;
    };
    let (writer, store) = place.begin(place.hurried()).await;
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
    let Some(place) = Place::given() else {
        return;
    };
    let (writer, store) = place.begin(place.by_default()).await;
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

#[tokio::test]
async fn killed_in_a_batch() {
    let dir = tempfile::tempdir().expect("a folder");
    kill_in_batches("SQLite", Place::sqlite(dir.path())).await;
}

#[tokio::test]
async fn killed_in_a_batch_to_postgresql() {
    let (server, dir) = (Postgres::start().await, tempfile::tempdir());
    let dir = dir.expect("a folder");
    let place = Place {
        folder: dir.path().to_owned(),
        url: server.url("postgres"),
    };
    kill_in_batches("PostgreSQL", place).await;
}

#[allow(clippy::print_stdout, reason = "what a kill loses is to be seen")]
async fn kill_in_batches(database: &str, place: Place) {
    let store = place.with_a_session().await;
    let (mut promised, mut lost, mut most_lost) = (0, 0, 0);
    for _ in 0..KILLS {
        let place = place.clone();
        let count = rand::rng().random_range(UNDER_WAY..UNDER_WAY + 400);
        let child = "child_that_is_killed";
        let told = tokio::task::spawn_blocking(move || run_and_kill(&place, child, count)).await;
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
        "{database}, {KILLS} kills: {promised} rows called stored are there once; of others {lost} lost, {most_lost} at a time"
    );
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "what a kill loses is to be seen")]
async fn killed_between_two_batches() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = Place::sqlite(dir.path());
    let store = place.with_a_session().await;
    let mut lost = Vec::new();
    for _ in 0..KILLS_BY_DEFAULT {
        let place = place.clone();
        // A batch has thirty of them.
        let count = rand::rng().random_range(60..180);
        let child = "child_that_stores_by_default";
        let told = tokio::task::spawn_blocking(move || run_and_kill(&place, child, count)).await;
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
fn run_and_kill(place: &Place, child: &str, count: usize) -> Told {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("crash::{child}"), "--nocapture"])
        .env(FOLDER, &place.folder)
        .env(DATABASE, &place.url)
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
