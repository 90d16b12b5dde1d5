//! What goes wrong with the database while people speak and answer: what was told is stored once, the pairs do not notice.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use voicematch_test_postgres::Postgres;

use crate::support::{
    TestServer,
    asked::{Asked, FAKE},
    becomes,
    hearing::Hearing,
    http,
    jwt::Folder,
    pair,
    sqlite::{self, Lock},
    talk::{Talk, ask},
};

/// What was said and answered before, in and after an outage is stored once.
async fn an_outage(
    asked: &Asked,
    begin: impl AsyncFnOnce(),
    end: impl AsyncFnOnce(),
) -> (usize, usize) {
    let server = &asked.server;
    let mut hearing = Hearing::begin(server).await;
    hearing.goes_on().await;
    asked.answer("before").await;
    hearing.until(|now| now.stored_through >= now.last()).await;
    begin().await;
    hearing.goes_on().await;
    let begun = Instant::now();
    asked.answer("meanwhile").await;
    // In the file, since the database does not answer.
    hearing.until(|now| now.stored_through >= now.last()).await;
    // 2 s, and what a busy machine takes.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let metrics = server.metrics().await;
    assert!(metrics.get("transcribe_spill_bytes", "") > 0.0);
    assert!(metrics.get("transcribe_spilled_total", "") > 0.0);
    let degraded = json!({"status": "ok", "transcribe": "degraded"});
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&asked.ready().await).unwrap(),
        degraded
    );
    let (first, second) = pair(server).await;
    hearing.goes_on().await;
    end().await;
    becomes("ok\n".to_owned(), "/readyz", async || asked.ready().await).await;
    drop((first, second));
    asked.answer("after").await;
    hearing.goes_on().await;
    hearing.assert_all_heard();
    let rows = hearing.assert_stored(server).await;
    assert_eq!(asked.answers().await, ["before", "meanwhile", "after"]);
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("transcribe_spill_bytes", ""), 0.0);
    assert_eq!(metrics.get("transcribe_lost_segments_total", ""), 0.0);
    rows
}

/// The rows of PostgreSQL, looked at without the server.
async fn assert_rows(postgres: &Postgres, segments: usize) {
    let found = postgres
        .ask("SELECT count(*), count(DISTINCT seq) FROM segments")
        .await;
    assert_eq!(found, format!("{segments}|{segments}"));
    assert_eq!(postgres.ask("SELECT count(*) FROM answers").await, "3");
}

#[tokio::test]
async fn postgresql_that_is_killed_and_run_again() {
    let folder = Folder::new("pg-killed");
    let postgres = Postgres::start().await;
    let asked = Asked::begin(&folder, &postgres.url("postgres")).await;
    let postgres = tokio::sync::Mutex::new(postgres);
    let (begin, end) = (
        async || postgres.lock().await.kill(),
        async || {
            let mut postgres = postgres.lock().await;
            postgres.run();
            postgres.is_ready().await;
        },
    );
    let (told, stored) = an_outage(&asked, begin, end).await;
    assert_eq!(told, stored);
    assert_rows(&postgres.into_inner(), told).await;
    assert!(
        asked
            .server
            .metric("transcribe_flush_errors_total", "")
            .await
            > 0.0
    );
}

#[tokio::test]
async fn what_needs_the_database_is_to_be_tried_again_when_it_is_back() {
    let folder = Folder::new("pg-stopped");
    let mut postgres = Postgres::start().await;
    let asked = Asked::begin(&folder, &postgres.url("postgres")).await;
    let talk = Talk::create(&asked.server, json!({})).await;
    postgres.kill();
    let transcript = format!("/api/sessions/{}/transcript.json", talk.slug);
    for (method, path) in [
        ("POST", "/api/sessions"),
        ("GET", &*transcript),
        ("GET", "/api/surveys/mood/answers.csv"),
    ] {
        let answer = http::request(asked.server.admin, method, path, "").await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert_eq!(answer.json()["code"], "storage_unavailable", "{path}");
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
    let refused = "transcribe_refused_total";
    let label = r#"code="storage_unavailable""#;
    assert_eq!(asked.server.metric(refused, label).await, 2.0);
    postgres.run();
    postgres.is_ready().await;
    becomes(201, "a session can be created", async || {
        let (status, _) = ask(&asked.server, "POST", "/api/sessions", None, &json!({})).await;
        status
    })
    .await;
}

#[tokio::test]
async fn postgresql_that_hangs() {
    let folder = Folder::new("pg-hangs");
    let postgres = Postgres::start().await;
    let asked = Asked::begin(&folder, &postgres.url("postgres")).await;
    let (stop, go_on) = (
        async || postgres.signal(Signal::STOP),
        async || postgres.signal(Signal::CONT),
    );
    let (told, stored) = an_outage(&asked, stop, go_on).await;
    assert_eq!(told, stored);
    assert_rows(&postgres, told).await;
}

#[tokio::test]
async fn postgresql_that_takes_no_writes() {
    let folder = Folder::new("pg-read-only");
    let postgres = Postgres::start().await;
    let asked = Asked::begin(&folder, &postgres.url("postgres")).await;
    let (begin, end) = (
        async || postgres.set_read_only(true).await,
        async || postgres.set_read_only(false).await,
    );
    let (told, stored) = an_outage(&asked, begin, end).await;
    assert_eq!(told, stored);
    assert_rows(&postgres, told).await;
    assert!(
        asked
            .server
            .metric("transcribe_flush_errors_total", "")
            .await
            > 0.0
    );
}

#[tokio::test]
async fn sqlite_that_another_program_has_locked() {
    let folder = Folder::new("sqlite-locked");
    let file = folder.path("transcripts.db");
    let asked = Asked::begin(&folder, &format!("sqlite:{file}")).await;
    let lock = std::cell::RefCell::new(None);
    let begin = async || {
        let taken = Lock::take(&file).await;
        *lock.borrow_mut() = Some(taken);
    };
    let (told, stored) = an_outage(&asked, begin, async || drop(lock.take())).await;
    assert_eq!(told, stored);
    assert_eq!(
        sqlite::ask(&file, "SELECT count(DISTINCT seq) FROM segments"),
        told.to_string()
    );
    assert_eq!(sqlite::ask(&file, "SELECT count(*) FROM answers"), "3");
}

#[tokio::test]
async fn sqlite_whose_disk_is_full() {
    let folder = Folder::new("sqlite-disk-full");
    let disk = folder.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = format!("mount -t tmpfs -o size=4m tmpfs '{disk}'");
    let url = format!("sqlite:{disk}/transcripts.db");
    let asked = Asked::begin_with_mounts(&folder, &mount, &url).await;
    let ballast = format!("/proc/{}/root{disk}/ballast", asked.server.process.id());
    let fill = async || {
        let mut file = std::fs::File::create(&ballast).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    };
    let empty = async || std::fs::remove_file(&ballast).unwrap();
    let (told, stored) = an_outage(&asked, fill, empty).await;
    assert_eq!(told, stored);
    let failed = asked.server.metric("transcribe_flush_errors_total", "");
    assert!(failed.await > 0.0);
}

#[tokio::test]
async fn sqlite_that_may_only_be_read_at_first() {
    let folder = Folder::new("sqlite-read-only");
    let (file, state) = (folder.path("transcripts.db"), folder.path("state"));
    let url = format!("sqlite:{file}");
    let flags = ["--transcribe", FAKE, "--database", &url];
    let flags = [&flags[..], &["--state-dir", &state]].concat();
    let mut before = TestServer::start(&flags).await;
    before.process.signal(Signal::TERM);
    assert_eq!(before.process.exit_code().await, Some(0));
    let mount = format!("mount --bind '{file}' '{file}' && mount -o remount,bind,ro '{file}'");
    let server = TestServer::start_with_mounts(&mount, &flags).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.goes_on().await;
    hearing.until(|now| now.stored_through >= now.last()).await;
    assert!(server.metric("transcribe_spill_bytes", "").await > 0.0);
    let ready = server.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("degraded"), "{}", ready.text());
    pair(&server).await;
    let pid = server.process.id().to_string();
    let mut remount = std::process::Command::new("nsenter");
    remount.args([
        "--target",
        &pid,
        "--user",
        "--preserve-credentials",
        "--mount",
    ]);
    remount.args(["mount", "-o", "remount,bind,rw", &file]);
    assert!(remount.status().unwrap().success());
    becomes("ok\n".to_owned(), "/readyz", async || {
        server.admin("/readyz").await.text().to_owned()
    })
    .await;
    hearing.goes_on().await;
    hearing.assert_all_heard();
    let (told, stored) = hearing.assert_stored(&server).await;
    assert_eq!(told, stored);
}
