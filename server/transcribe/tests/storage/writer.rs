//! The writer over a database that works.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use voicematch_transcribe::record::{Record, Session};
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{Health, Left, Outcome, Receipt, Settings, Writer};
use voicematch_transcribe::store::{self, StoreError};

use crate::support::{
    IN_DATABASE, PATIENCE, Rig, answer, connect, count, interview, outcomes, run, segment,
    segments, session, soon, sqlite_url,
};

#[tokio::test]
async fn a_batch_waits_for_the_interval_or_for_its_size() {
    let rig =
        Rig::sqlite_with(|settings| settings.flush_interval = Duration::from_secs(3_600)).await;
    let mut first = rig.write(1..=99);
    assert!(told_soon(&mut first[0]).await.is_none());
    first.extend(rig.write(100..=100));
    assert_eq!(count(&outcomes(first).await, IN_DATABASE), 100);

    let rig = Rig::sqlite().await;
    assert_eq!(outcomes(rig.write(1..=3)).await, [IN_DATABASE; 3]);
    assert_eq!(rig.metrics.queue().flushed, 4);
}

#[test]
fn without_other_wishes_it_writes_as_was_measured_to_be_right() {
    let settings = Settings::new("/tmp");
    assert_eq!(settings.flush_interval, Duration::from_millis(300));
    assert_eq!((settings.batch, settings.queue), (100, 1_000));
    assert_eq!(settings.spill_bytes, 1 << 30);
    assert_eq!(settings.retention, None);
    assert_eq!(settings.longest, Duration::from_secs(4 * 3_600));
}

/// What the receipt says within a moment.
async fn told_soon(receipt: &mut Receipt) -> Option<Outcome> {
    tokio::time::timeout(Duration::from_millis(200), receipt)
        .await
        .ok()
}

#[test]
fn each_reason_for_a_drop_has_a_series_from_the_start() {
    let registry = prometheus::Registry::new();
    let metrics = StorageMetrics::new().expect("metrics");
    metrics.register(&registry).expect("free names");
    let families = registry.gather();
    let dropped = families
        .iter()
        .find(|family| family.name() == "transcribe_records_dropped_total");
    let series = dropped.expect("the family").get_metric();
    let reasons: Vec<_> = series
        .iter()
        .map(|one| (one.get_label()[0].value(), one.get_counter().get_value()))
        .collect();
    let all = ["closed", "deleted", "elsewhere", "full", "rejected"];
    assert_eq!(reasons, all.map(|reason| (reason, 0.0)));
}

#[tokio::test]
async fn an_answer_takes_with_it_what_waits() {
    let rig =
        Rig::sqlite_with(|settings| settings.flush_interval = Duration::from_secs(3_600)).await;
    let waiting = rig.write(1..=50);
    let asked = interview("bob");
    let id = asked.id;
    rig.writer.write(Record::Interview(asked));
    let given = rig.writer.write_now(Record::Answer(answer(id, 1)));
    assert_eq!(soon("the answer", given).await, IN_DATABASE);
    assert_eq!(count(&outcomes(waiting).await, IN_DATABASE), 50);
    assert_eq!(rig.store.answers(id).await.expect("read").len(), 1);
}

/// Refused rows in their file, refused rows that it did not take, and segments that are stored nowhere.
fn refused(rig: &Rig) -> (u64, u64, u64) {
    let registry = prometheus::Registry::new();
    rig.metrics.register(&registry).expect("names are free");
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
    let text = text.expect("text");
    let value = |series: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    };
    (
        value("transcribe_records_rejected_total"),
        value("transcribe_records_dropped_total{reason=\"rejected\"}"),
        value("transcribe_lost_segments_total"),
    )
}

#[tokio::test]
async fn a_refused_row_is_kept_in_a_file_of_its_own() {
    let rig = Rig::sqlite().await;
    let mut receipts = rig.write(1..=40);
    // The slug is taken.
    receipts.push(rig.writer.write(Record::Session(session("session"))));
    receipts.extend(rig.write(41..=90));
    let told = outcomes(receipts).await;
    assert_eq!(count(&told, IN_DATABASE), 90);
    assert_eq!(told[40], Outcome::Rejected);
    assert_eq!(rig.stored().await.len(), 90);
    let path = rig.dir.path().join("state/rejected.jsonl");
    let kept = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(kept.lines().count(), 1);
    assert!(
        kept.contains("\"record\":\"session\"") && kept.contains("\"error\":"),
        "{kept}"
    );
    let mode = std::fs::metadata(&path)
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
    assert_eq!(refused(&rig), (1, 0, 0));
    assert_eq!(rig.writer.health(), Health::Good);
}

#[tokio::test]
async fn a_refused_row_that_its_file_does_not_take_is_lost_and_counted() {
    let rig = Rig::sqlite().await;
    outcomes(rig.write(1..=2)).await;
    let file = File::create(rig.dir.path().join("state/rejected.jsonl")).expect("made");
    file.set_len(64 * 1024 * 1024).expect("it takes no room");
    let others = segments(rig.session, 1..=2).into_iter().map(|mut other| {
        if let Record::Segment(row) = &mut other {
            row.text = "the same number, other words".to_owned();
        }
        rig.writer.write(other)
    });
    let told = outcomes(others.collect()).await;
    assert_eq!(told, [Outcome::Rejected; 2]);
    assert_eq!(refused(&rig), (0, 2, 2));
}

#[tokio::test]
async fn rows_of_a_deleted_session_are_dropped() {
    let rig = Rig::sqlite().await;
    rig.writer.write(Record::SessionDeleted { id: rig.session });
    assert_eq!(outcomes(rig.write(1..=3)).await, [Outcome::Deleted; 3]);
    assert!(!rig.dir.path().join("state/rejected.jsonl").exists());
}

#[tokio::test]
async fn what_was_deleted_is_not_in_the_file_any_more() {
    let rig = Rig::sqlite().await;
    outcomes(rig.write(1..=50)).await;
    let has_text = async || {
        let mut other = connect(rig.dir.path()).await;
        run(&mut other, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        let file = std::fs::read(rig.dir.path().join("transcripts.db")).expect("the file");
        let text = b"of a person who talks";
        file.windows(text.len()).any(|part| part == text)
    };
    assert!(has_text().await);
    let id = rig.session;
    let deleted = rig.writer.write_now(Record::SessionDeleted { id });
    assert_eq!(soon("it is deleted", deleted).await, IN_DATABASE);
    assert!(!has_text().await);
}

#[tokio::test]
async fn nul_characters_are_removed() {
    let rig = Rig::sqlite().await;
    let mut row = segment(rig.session, 1);
    row.text = "a\0b\0".to_owned();
    row.words = Some("\0".to_owned());
    let told = rig.writer.write_now(Record::Segment(row));
    assert_eq!(soon("stored", told).await, IN_DATABASE);
    let found = rig.store.segments(rig.session, 0, 1).await.expect("read");
    assert_eq!(
        (found[0].text.as_str(), found[0].words.as_deref()),
        ("ab", Some(""))
    );
}

#[tokio::test]
async fn at_the_end_all_that_waits_is_written() {
    let rig =
        Rig::sqlite_with(|settings| settings.flush_interval = Duration::from_secs(3_600)).await;
    let waiting = rig.write(1..=99);
    assert_eq!(rig.close().await, None);
    assert_eq!(count(&outcomes(waiting).await, IN_DATABASE), 99);
    assert_eq!(rig.stored().await.len(), 99);
    // Nothing is left, and nothing more is taken.
    let files = std::fs::read_dir(rig.dir.path().join("state")).expect("the folder");
    assert_eq!(files.count(), 0);
    assert_eq!(outcomes(rig.write(100..=100)).await, [Outcome::Lost]);
}

#[tokio::test]
async fn what_comes_too_late_is_counted_as_lost() {
    let rig = Rig::sqlite().await;
    let late = async { outcomes(rig.write(1..=2)).await };
    let (left, late) = tokio::join!(rig.close(), late);
    assert_eq!(late, [Outcome::Lost, Outcome::Lost]);
    assert_eq!(
        left,
        Some(Left {
            spilled: 0,
            lost: 2
        })
    );
}

#[tokio::test]
async fn a_dropped_writer_writes_what_waits() {
    let rig =
        Rig::sqlite_with(|settings| settings.flush_interval = Duration::from_secs(3_600)).await;
    let waiting = rig.write(1..=99);
    drop(rig.writer);
    assert_eq!(count(&outcomes(waiting).await, IN_DATABASE), 99);
}

const HOUR: Duration = Duration::from_secs(3_600);

/// A session that was created so many hours ago, and has not ended.
fn hours_old(slug: &str, hours: u32) -> Session {
    let created = SystemTime::now() - HOUR * hours;
    let since = created.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.expect("after 1970").as_millis();
    Session {
        created_ms: i64::try_from(since).expect("before the year 292,000,000"),
        ..session(slug)
    }
}

#[tokio::test]
async fn expired_sessions_are_deleted() {
    for (retention, kept) in [
        // What nobody has ended cannot go on any more 28 hours after it has begun.
        (HOUR, &["young"][..]),
        // But it is kept no less long than what has ended.
        (HOUR * 240, &["young", "older", "over"]),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store::connect(&sqlite_url(dir.path()), true)
            .await
            .expect("a database");
        let mut old = session("old");
        old.ended_ms = Some(1_000);
        let mut over = hours_old("over", 40);
        over.ended_ms = Some(over.created_ms);
        let (young, older) = (hours_old("young", 3), hours_old("older", 29));
        let oldest = hours_old("oldest", 241);
        let sessions = [old, over, young, older, oldest].map(Record::Session);
        store.append(&sessions).await.expect("written");
        let mut settings = Settings::new(dir.path().join("state"));
        settings.retention = Some(retention);
        let metrics = StorageMetrics::new().expect("metrics");
        let writer = Writer::start(Arc::clone(&store), settings, metrics)
            .await
            .expect("a writer");
        soon("the old sessions go", async {
            for slug in ["old", "over", "older", "oldest"] {
                while !kept.contains(&slug) && store.session(slug).await.expect("read").is_some() {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
        for slug in kept {
            let there = store.session(slug).await.expect("read");
            assert!(there.is_some(), "{slug} of {retention:?}");
        }
        assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
    }
}

#[tokio::test]
async fn what_was_refused_or_could_not_be_read_is_kept_no_longer_than_the_rest() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    std::fs::create_dir(&state).expect("made");
    let file = |name: &str, age: Duration| {
        let file = File::create(state.join(name)).expect("made");
        file.set_modified(SystemTime::now() - age).expect("set");
    };
    file("rejected.jsonl", HOUR * 2);
    file("damaged-1.log", HOUR * 2);
    file("damaged-2.log", HOUR / 2);
    file("another.jsonl", HOUR * 2);
    let store = store::connect(&sqlite_url(dir.path()), true)
        .await
        .expect("a database");
    let mut settings = Settings::new(&state);
    settings.retention = Some(HOUR);
    let metrics = StorageMetrics::new().expect("metrics");
    let writer = Writer::start(store, settings, metrics).await;
    let writer = writer.expect("a writer");
    let is_there = |name: &str| state.join(name).exists();
    soon("the old files go", async {
        while is_there("rejected.jsonl") || is_there("damaged-1.log") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(is_there("damaged-2.log") && is_there("another.jsonl"));
    assert_eq!(writer.close(Instant::now() + PATIENCE).await, None);
}

#[tokio::test]
async fn the_figures_are_those_of_the_documents() {
    let rig = Rig::sqlite().await;
    let registry = prometheus::Registry::new();
    rig.metrics.register(&registry).expect("names are free");
    outcomes(rig.write(1..=3)).await;
    let families = registry.gather();
    let value = |name: &str| {
        let family = families.iter().find(|family| family.name() == name);
        let metric = &family.unwrap_or_else(|| panic!("{name}")).get_metric()[0];
        metric.get_counter().get_value()
            + metric.get_gauge().get_value()
            + metric.get_histogram().get_sample_count() as f64
    };
    for (name, expected) in [
        ("transcribe_queue_length", 0.0),
        ("transcribe_queued_total", 4.0),
        ("transcribe_flushed_total", 4.0),
        ("transcribe_flush_errors_total", 0.0),
        ("transcribe_commit_seconds", 2.0),
        ("transcribe_store_delay_seconds", 4.0),
        ("transcribe_batch_rows", 2.0),
        ("transcribe_gathered_batches_total", 1.0),
        ("transcribe_spill_bytes", 0.0),
        ("transcribe_lost_segments_total", 0.0),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[tokio::test]
async fn wrong_urls_are_told_without_their_password() {
    for url in [
        "mysql://user:geheim@host/db",
        "geheim",
        "sqlite:",
        "sqlite::memory:",
        "postgres://user:geheim@127.0.0.1:port/db",
        "postgres://user:geheim@127.0.0.1:1/db",
        "postgres://user:geheim@127.0.0.1/db?sslmode=geheim",
        "sqlite:/nowhere/at/all",
    ] {
        let refused = store::connect(url, true).await.err().expect(url);
        let said = format!("{refused} {refused:?}");
        assert!(!said.contains("geheim"), "{said}");
        let later = matches!(refused, StoreError::Temporary(_));
        assert_eq!(
            later,
            cfg!(feature = "postgres") && url.contains(":1/"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_older_schema_is_brought_up_to_date() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = sqlite_url(dir.path());
    store::connect(&url, true).await.expect("migrated");
    let mut database = connect(dir.path()).await;
    run(&mut database, "DROP INDEX interviews_of_session").await;
    run(&mut database, "DROP TABLE session_owners").await;
    run(&mut database, "DROP TABLE provider_jobs").await;
    run(&mut database, "DROP TABLE spent").await;
    run(&mut database, "DROP TABLE job_pieces").await;
    run(
        &mut database,
        "ALTER TABLE tracks ADD COLUMN provider_job TEXT",
    )
    .await;
    run(
        &mut database,
        "DELETE FROM voicematch_migrations WHERE version > 1",
    )
    .await;
    assert!(store::connect(&url, false).await.is_err());
    store::connect(&url, true).await.expect("migrated");
    // It fails if the table is not there.
    run(&mut database, "DROP TABLE session_owners").await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = sqlite_url(dir.path());
    let refused = |migrate| {
        let url = url.clone();
        async move {
            match store::connect(&url, migrate).await {
                Err(StoreError::Misconfigured(why)) => why,
                other => panic!("{:?}", other.err()),
            }
        }
    };
    assert!(refused(false).await.contains("migrations are off"));
    store::connect(&url, true).await.expect("migrated");
    store::connect(&url, false).await.expect("nothing to do");
    run(
        &mut connect(dir.path()).await,
        "UPDATE voicematch_migrations SET version = 99 WHERE version = 3",
    )
    .await;
    assert!(refused(true).await.contains("version 99"));
    assert!(refused(false).await.contains("version 99"));
}
