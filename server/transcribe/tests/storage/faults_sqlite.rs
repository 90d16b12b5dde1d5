//! SQLite that is locked, full, or gone.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use voicematch_transcribe::record::Record;
use voicematch_transcribe::store;
use voicematch_transcribe::store::writer::{Health, Left, Outcome, Where};

use crate::support::{
    IN_DATABASE, IN_SPILL, PATIENCE, Rig, answer, connect, count, interview, outcomes, run, soon,
    sqlite_url,
};

#[tokio::test]
async fn locked_by_another_process() {
    let rig = Rig::sqlite().await;
    let mut other = connect(rig.dir.path()).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let first = rig.write(1..=150);
    let asked = interview("bob");
    let id = asked.id;
    let opened = rig.writer.write(Record::Interview(asked));
    let given = rig.writer.write_now(Record::Answer(answer(id, 1)));
    // Nobody waits for the lock.
    let mut told = outcomes(first).await;
    told.extend(outcomes(vec![opened, given]).await);
    assert_eq!(told, vec![IN_SPILL; 152]);
    assert_eq!(rig.writer.health(), Health::Spilling);
    let second = outcomes(rig.write(151..=200)).await;
    assert_eq!(count(&second, IN_SPILL), 50);
    run(&mut other, "ROLLBACK").await;
    rig.becomes(Health::Good).await;
    assert_eq!(rig.stored().await, (1..=200).collect::<Vec<_>>());
    assert_eq!(rig.store.answers(id).await.expect("read").len(), 1);
    assert_eq!(outcomes(rig.write(201..=201)).await, [IN_DATABASE]);
}

#[tokio::test]
async fn locked_for_a_moment_only() {
    let rig = Rig::sqlite().await;
    let mut other = connect(rig.dir.path()).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let waiting = rig.write(1..=150);
    sleep(Duration::from_millis(300)).await;
    run(&mut other, "ROLLBACK").await;
    let told = outcomes(waiting).await;
    assert!(
        told.iter()
            .all(|outcome| matches!(outcome, Outcome::Stored(_)))
    );
    rig.becomes(Health::Good).await;
    assert_eq!(rig.stored().await.len(), 150);
}

#[tokio::test]
async fn another_program_that_looks_at_it_takes_nothing_away() {
    let rig = Rig::sqlite().await;
    let file = rig.dir.path().join("transcripts.db");
    let counted = async || {
        // Locks are a process's: only another one shows whether they hold.
        let mut python = Command::new("python3");
        let script = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
                      print(db.execute('SELECT count(*) FROM segments').fetchone()[0])\ndb.close()";
        let output = python.args(["-c", script]).arg(&file).output();
        let output = output.expect("there is a python3");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(outcomes(rig.write(1..=10)).await, [IN_DATABASE; 10]);
    assert_eq!(counted().await, "10");
    let wal = rig.dir.path().join("transcripts.db-wal");
    assert!(wal.exists(), "it is in use");
    assert_eq!(outcomes(rig.write(11..=20)).await, [IN_DATABASE; 10]);
    assert_eq!(counted().await, "20");
    assert_eq!(rig.stored().await.len(), 20);
}

/// A database of few free pages, and as many that somebody may free.
async fn nearly_full(change: impl FnOnce(&mut store::writer::Settings)) -> Rig {
    let dir = tempfile::tempdir().expect("a folder");
    store::connect(&sqlite_url(dir.path()), true)
        .await
        .expect("migrated");
    let mut other = connect(dir.path()).await;
    run(&mut other, "CREATE TABLE ballast (bytes BLOB)").await;
    run(&mut other, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO ballast SELECT zeroblob(4000) FROM n").await;
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count")
        .fetch_one(&mut other)
        .await
        .expect("pages");
    let url = format!("{}?max_page_count={}", sqlite_url(dir.path()), pages + 4);
    Rig::over(dir, &url, change).await
}

#[tokio::test]
async fn full() {
    let rig = nearly_full(|_| {}).await;
    let told = outcomes(rig.write(1..=2_000)).await;
    assert!(count(&told, IN_SPILL) > 1_000, "{}", count(&told, IN_SPILL));
    assert!(
        told.iter()
            .all(|outcome| matches!(outcome, Outcome::Stored(_)))
    );
    assert_eq!(rig.writer.health(), Health::Spilling);
    run(&mut connect(rig.dir.path()).await, "DELETE FROM ballast").await;
    rig.becomes(Health::Good).await;
    assert_eq!(rig.stored().await, (1..=2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn full_and_the_spill_file_too() {
    let rig = nearly_full(|settings| {
        settings.spill_bytes = 100_000;
        settings.queue = 50;
    })
    .await;
    let receipts = rig.write(1..=700);
    rig.becomes(Health::Full).await;
    let more = rig.write(701..=1_000);
    run(&mut connect(rig.dir.path()).await, "DELETE FROM ballast").await;
    rig.becomes(Health::Good).await;
    let mut told = outcomes(receipts).await;
    told.extend(outcomes(more).await);
    let lost = count(&told, Outcome::Lost);
    assert!(lost > 0, "there was no room for all");
    // What was promised is there, what was reported as lost is not, and the latest were kept.
    let stored = rig.stored().await;
    let promised: Vec<i64> = (1..)
        .zip(&told)
        .filter(|(_, outcome)| **outcome != Outcome::Lost)
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(stored, promised);
    assert!(stored.ends_with(&(951..=1_000).collect::<Vec<_>>()));
    let registry = prometheus::Registry::new();
    rig.metrics.register(&registry).expect("free names");
    let families = registry.gather();
    let counted = families
        .iter()
        .find(|family| family.name() == "transcribe_lost_segments_total");
    assert_eq!(
        counted.expect("the family").get_metric()[0]
            .get_counter()
            .get_value(),
        lost as f64
    );
}

#[tokio::test]
async fn closed_while_it_is_locked() {
    let rig = Rig::sqlite().await;
    let mut other = connect(rig.dir.path()).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let waiting = rig.write(1..=99);
    let left = rig.writer.close(Instant::now() + Duration::from_secs(10));
    let left = soon("closed", left).await;
    assert_eq!(
        left,
        Some(Left {
            spilled: 99,
            lost: 0
        })
    );
    assert_eq!(outcomes(waiting).await, [Outcome::Stored(Where::Spill); 99]);
    run(&mut other, "ROLLBACK").await;
    // The next start writes them.
    let Rig {
        dir,
        session,
        store,
        writer,
        ..
    } = rig;
    drop(writer);
    let again = Rig::again(dir, store, session).await;
    assert_eq!(again.stored().await, (1..=99).collect::<Vec<_>>());
    assert_eq!(again.writer.close(Instant::now() + PATIENCE).await, None);
}
