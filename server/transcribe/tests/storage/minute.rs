//! A database that is gone for a whole minute: rows sent beside rows stored, and how soon each was told to be safe.

use std::time::Duration;

use rustix::process::Signal;
use sqlx::sqlite::SqliteConnection;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval},
};
use voicematch_test_postgres::Postgres;
use voicematch_transcribe::record::Record;
use voicematch_transcribe::store::writer::{Health, Outcome};

use crate::support::{IN_DATABASE, IN_SPILL, Rig, connect, run, segment};

/// How long it is gone.
const GONE: Duration = Duration::from_secs(60);

/// How soon a row is safe, whatever the database does.
const SAFE: Duration = Duration::from_secs(2);

/// A row: when it was handed over, and, when that was told, what has become of it.
struct Row {
    sent: Instant,
    told: JoinHandle<(Outcome, Instant)>,
}

/// Rows that come all the time.
#[derive(Default)]
struct Rows {
    all: Vec<Row>,
    /// The most by which this test's own clock was late: a busy machine delays the writer, too.
    late: Duration,
}

impl Rows {
    /// 200 a second for so long.
    async fn come(&mut self, rig: &Rig, time: Duration) {
        let mut each = interval(Duration::from_millis(5));
        let until = Instant::now() + time;
        while Instant::now() < until {
            let due = each.tick().await;
            let sent = Instant::now();
            self.late = self.late.max(sent - due);
            let seq = self.all.len() as i64 + 1;
            let receipt = rig.writer.write(Record::Segment(segment(rig.session, seq)));
            let told = tokio::spawn(async { (receipt.await, Instant::now()) });
            self.all.push(Row { sent, told });
        }
    }
}

async fn postgres() -> (Rig, Postgres) {
    let server = Postgres::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let rig = Rig::over(dir, &server.url("postgres"), |_| {}).await;
    (rig, server)
}

/// And another connection to the same file.
async fn sqlite() -> (Rig, SqliteConnection) {
    let rig = Rig::sqlite().await;
    let other = connect(rig.dir.path()).await;
    (rig, other)
}

/// Rows come while a database is there, gone, and there again.
async fn gone<D>(
    what: &str,
    (rig, mut database): (Rig, D),
    leave: impl AsyncFnOnce(&mut D),
    come_back: impl AsyncFnOnce(&mut D),
) {
    let mut rows = Rows::default();
    rows.come(&rig, Duration::from_secs(1)).await;
    leave(&mut database).await;
    let left = Instant::now();
    rows.come(&rig, GONE).await;
    assert_eq!(rig.writer.health(), Health::Spilling, "{what}");
    come_back(&mut database).await;
    let back = Instant::now();
    rows.come(&rig, Duration::from_secs(1)).await;
    rig.becomes(Health::Good).await;
    let took = back.elapsed();

    let (late, sent) = (rows.late, rows.all.len());
    let (mut spilled, mut slowest) = (0, Duration::ZERO);
    for (index, row) in rows.all.into_iter().enumerate() {
        let (outcome, told) = row.told.await.expect("a receipt");
        let is_safe = outcome == IN_DATABASE || outcome == IN_SPILL;
        assert!(is_safe, "{what}: row {index}: {outcome:?}");
        spilled += usize::from(outcome == IN_SPILL);
        slowest = slowest.max(told - row.sent);
        let since = row.sent.saturating_duration_since(left);
        assert!(
            told - row.sent <= SAFE + late,
            "{what}: row {index}, sent {since:?} after the database had gone, was safe after {:?}",
            told - row.sent
        );
    }
    let stored = rig.stored().await;
    eprintln!(
        "{what} for {GONE:?}: {sent} rows sent, {} stored, {spilled} of them by the spill file; each was safe within \
         {slowest:?} (this clock was late by {late:?}); {took:?} after the return all were in the database",
        stored.len()
    );
    assert_eq!(stored, (1..=sent as i64).collect::<Vec<_>>(), "{what}");
    assert!(spilled > 10_000, "{what}: {spilled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_for_a_minute() {
    let stopped = gone(
        "PostgreSQL that is stopped",
        postgres().await,
        async |server: &mut Postgres| server.stop(),
        async |server: &mut Postgres| server.run(),
    );
    let hanging = gone(
        "PostgreSQL that hangs",
        postgres().await,
        async |server: &mut Postgres| server.signal(Signal::STOP),
        async |server: &mut Postgres| server.signal(Signal::CONT),
    );
    let locked = gone(
        "SQLite that another one has locked",
        sqlite().await,
        async |other: &mut SqliteConnection| run(other, "BEGIN IMMEDIATE").await,
        async |other: &mut SqliteConnection| run(other, "ROLLBACK").await,
    );
    tokio::join!(stopped, hanging, locked);
}
