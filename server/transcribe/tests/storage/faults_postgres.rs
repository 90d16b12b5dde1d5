//! PostgreSQL that is killed, restarted, hanging or read-only: rows sent beside rows stored.

use std::time::Duration;

use rand::RngExt;
use rustix::process::Signal;
use tokio::time::{Instant, interval, sleep};
use voicematch_test_postgres::Postgres;
use voicematch_transcribe::record::Record;
use voicematch_transcribe::store::writer::{Health, Outcome, Receipt};
use voicematch_transcribe::store::{self, StoreError};

use crate::support::{
    IN_DATABASE, IN_SPILL, PATIENCE, Rig, answer, count, interview, outcomes, segment, soon,
};

async fn rig(server: &Postgres) -> Rig {
    let dir = tempfile::tempdir().expect("a folder");
    Rig::over(dir, &server.url("postgres"), |_| {}).await
}

/// 200 rows a second for so long.
async fn rows_for(rig: &Rig, time: Duration, receipts: &mut Vec<Receipt>) {
    let mut each = interval(Duration::from_millis(5));
    let until = Instant::now() + time;
    while Instant::now() < until {
        each.tick().await;
        let seq = receipts.len() as i64 + 1;
        receipts.push(rig.writer.write(Record::Segment(segment(rig.session, seq))));
    }
}

/// Waits until the writer is well again, and compares.
async fn nothing_lost(rig: &Rig, receipts: Vec<Receipt>) -> Vec<Outcome> {
    rig.becomes(Health::Good).await;
    let told = outcomes(receipts).await;
    assert!(
        told.iter()
            .all(|outcome| matches!(outcome, Outcome::Stored(_)))
    );
    assert_eq!(
        rig.stored().await,
        (1..=told.len() as i64).collect::<Vec<_>>()
    );
    told
}

#[tokio::test]
async fn killed_and_away_for_four_seconds() {
    let mut server = Postgres::start().await;
    let rig = rig(&server).await;
    let mut receipts = vec![];
    rows_for(&rig, Duration::from_secs(1), &mut receipts).await;
    server.kill();
    rows_for(&rig, Duration::from_secs(4), &mut receipts).await;
    assert_eq!(rig.writer.health(), Health::Spilling);
    server.run();
    rows_for(&rig, Duration::from_secs(1), &mut receipts).await;
    let told = nothing_lost(&rig, receipts).await;
    assert!(
        count(&told, IN_DATABASE) > 0 && count(&told, IN_SPILL) > 0,
        "{}",
        count(&told, IN_SPILL)
    );
    assert!(rig.metrics.queue().errors > 0);
}

#[tokio::test]
async fn restarted() {
    let mut server = Postgres::start().await;
    let rig = rig(&server).await;
    let mut receipts = vec![];
    rows_for(&rig, Duration::from_millis(500), &mut receipts).await;
    server.stop();
    server.run();
    rows_for(&rig, Duration::from_millis(500), &mut receipts).await;
    nothing_lost(&rig, receipts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_in_mid_run() {
    let mut server = Postgres::start().await;
    let rig = rig(&server).await;
    let mut receipts = vec![];
    for round in 0..6 {
        let kill = async {
            sleep(Duration::from_millis(rand::rng().random_range(100..600))).await;
            if round % 2 == 0 {
                server.kill_backends().await;
            } else {
                server.kill();
                server.run();
            }
            server.is_ready().await;
        };
        let rows = rows_for(&rig, Duration::from_secs(1), &mut receipts);
        tokio::join!(rows, kill);
    }
    let sent = receipts.len();
    let told = nothing_lost(&rig, receipts).await;
    let errors = rig.metrics.queue().errors;
    eprintln!(
        "6 kills: {sent} rows sent, {} stored, {} of them by the spill file, {errors} errors",
        told.len(),
        count(&told, IN_SPILL)
    );
    assert!(errors >= 6, "{errors}");
}

#[tokio::test]
async fn hanging() {
    let server = Postgres::start().await;
    let rig = rig(&server).await;
    assert_eq!(outcomes(rig.write(1..=10)).await, [IN_DATABASE; 10]);
    server.signal(Signal::STOP);
    let asked = interview("bob");
    let id = asked.id;
    let mut receipts = rig.write(11..=50);
    receipts.push(rig.writer.write(Record::Interview(asked)));
    receipts.push(rig.writer.write_now(Record::Answer(answer(id, 1))));
    // The receipts come although the database says nothing: it is still stopped.
    let told = outcomes(receipts).await;
    assert_eq!(told, vec![IN_SPILL; 42]);
    assert_eq!(rig.writer.health(), Health::Spilling);
    // Reads have an end too.
    let read = soon("a read ends", rig.store.last_seq(rig.session)).await;
    assert!(matches!(read, Err(StoreError::Temporary(_))), "{read:?}");
    let later = outcomes(rig.write(51..=60)).await;
    assert_eq!(later, [IN_SPILL; 10]);
    server.signal(Signal::CONT);
    rig.becomes(Health::Good).await;
    assert_eq!(rig.stored().await, (1..=60).collect::<Vec<_>>());
    assert_eq!(rig.store.answers(id).await.expect("read").len(), 1);
}

#[tokio::test]
async fn hanging_at_the_start_and_at_the_end() {
    let server = Postgres::start().await;
    let rig = rig(&server).await;
    server.signal(Signal::STOP);
    let url = server.url("postgres");
    let started = soon("an answer", store::connect(&url, true)).await;
    assert!(matches!(started.err(), Some(StoreError::Temporary(_))));
    let waiting = rig.write(1..=99);
    let closed = rig.writer.close(Instant::now() + Duration::from_secs(10));
    let left = soon("closed", closed).await.expect("something is left");
    assert_eq!((left.spilled, left.lost), (99, 0));
    assert_eq!(outcomes(waiting).await, [IN_SPILL; 99]);
    server.signal(Signal::CONT);
    let Rig {
        dir,
        session,
        store,
        writer,
        ..
    } = rig;
    drop(writer);
    let again = soon("started again", Rig::again(dir, store, session)).await;
    assert_eq!(again.stored().await, (1..=99).collect::<Vec<_>>());
    assert_eq!(again.writer.close(Instant::now() + PATIENCE).await, None);
}

#[tokio::test]
async fn read_only() {
    let server = Postgres::start().await;
    let rig = rig(&server).await;
    assert_eq!(outcomes(rig.write(1..=5)).await, [IN_DATABASE; 5]);
    server.set_read_only(true).await;
    let told = outcomes(rig.write(6..=50)).await;
    assert_eq!(count(&told, IN_SPILL), 45);
    server.set_read_only(false).await;
    rig.becomes(Health::Good).await;
    assert_eq!(rig.stored().await, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn refused_rows_of_postgresql() {
    let server = Postgres::start().await;
    let rig = rig(&server).await;
    let mut receipts = rig.write(1..=20);
    // Longer than PostgreSQL puts into an index.
    let mut row = interview("bob");
    let noise = std::iter::repeat_with(|| char::from(rand::random_range(b'a'..=b'z')));
    row.respondent = Some(noise.take(20_000).collect());
    receipts.push(rig.writer.write(Record::Interview(row)));
    receipts.extend(rig.write(21..=60));
    let told = outcomes(receipts).await;
    assert_eq!(told[20], Outcome::Rejected);
    assert_eq!(count(&told, IN_DATABASE), 60);
    assert_eq!(rig.stored().await.len(), 60);
}
