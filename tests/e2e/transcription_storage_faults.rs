//! What goes wrong with the database while people speak and answer: what was told is stored once, the pairs do not notice.

use rustix::process::Signal;
use serde_json::json;
use voicematch_test_postgres::Postgres;

use crate::support::{
    TestServer, becomes,
    hearing::Hearing,
    http,
    jwt::Folder,
    pair,
    sqlite::{self, Lock},
    talk::ask,
};

/// Many finals, so that there is much to write.
const FAKE: &str = "fake:?final=500ms&delay=10ms";

const SURVEY: &str = r#"
id = "mood"
languages = ["en"]
[[question]]
id = "now"
type = "text"
text = { en = "How are you?" }
[[question]]
id = "then"
type = "text"
text = { en = "And yesterday?" }
[[question]]
id = "soon"
type = "text"
text = { en = "And tomorrow?" }
"#;

fn flags(folder: &Folder, database: &str) -> Vec<String> {
    let (state, survey) = (folder.path("state"), folder.write("mood.toml", SURVEY));
    let flags = ["--transcribe", FAKE, "--survey", &survey];
    let more = ["--database", database, "--state-dir", &state];
    [flags, more]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// A server with a survey, and an interview that has begun.
struct Asked {
    server: TestServer,
    interview: String,
    token: String,
}

impl Asked {
    async fn begin(folder: &Folder, database: &str) -> Self {
        let flags = flags(folder, database);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Self::of(TestServer::start(&flags).await).await
    }

    /// Of a server with mounts of its own.
    async fn begin_with_mounts(folder: &Folder, script: &str, database: &str) -> Self {
        let flags = flags(folder, database);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Self::of(TestServer::start_with_mounts(script, &flags).await).await
    }

    async fn of(server: TestServer) -> Self {
        let path = "/api/surveys/mood/sessions";
        let (status, begun) = ask(&server, "POST", path, None, &json!({})).await;
        assert_eq!(status, 201, "{begun}");
        let text = |name: &str| begun[name].as_str().unwrap().to_owned();
        Self {
            server,
            interview: text("session"),
            token: text("token"),
        }
    }

    /// Answers the next question; again, as a caller does that has lost the first reply.
    async fn answer(&self, text: &str) {
        let path = format!("/api/surveys/sessions/{}/record_response", self.interview);
        let given = json!({"value": text, "request_id": text});
        for _ in 0..2 {
            let token = Some(&*self.token);
            let (status, reply) = ask(&self.server, "POST", &path, token, &given).await;
            assert_eq!((status, &reply["stored"]), (200, &json!(true)), "{reply}");
        }
    }

    /// The stored answers.
    async fn answers(&self) -> Vec<String> {
        let answer = http::get(self.server.admin, "/api/surveys/mood/answers.jsonl").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let lines = answer.text().lines();
        let values = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        values
            .map(|line| line["value"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn ready(&self) -> String {
        let answer = self.server.admin("/readyz").await;
        assert_eq!(answer.status, 200, "matching needs no database");
        answer.text().to_owned()
    }
}

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
    let begun = std::time::Instant::now();
    asked.answer("meanwhile").await;
    // In the file, since the database does not answer.
    hearing.until(|now| now.stored_through >= now.last()).await;
    let took = begun.elapsed();
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
    eprintln!("the answer and the finals were stored after {took:?}");
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

#[tokio::test]
async fn sqlite_that_is_full_and_the_spill_too() {
    let folder = Folder::new("sqlite-full");
    let (file, state) = (folder.path("transcripts.db"), folder.path("state"));
    let url = format!("sqlite:{file}");
    let fake = "fake:?final=100ms&partial=1m&delay=10ms";
    let base = ["--transcribe", fake, "--state-dir", &state];
    drop(TestServer::start(&[&base[..], &["--database", &url]].concat()).await);
    sqlite::ask(&file, "CREATE TABLE ballast (bytes BLOB)");
    sqlite::ask(
        &file,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO ballast SELECT zeroblob(4000) FROM n",
    );
    let pages: u64 = sqlite::ask(&file, "PRAGMA page_count").parse().unwrap();
    let url = format!("{url}?max_page_count={}", pages + 4);
    let little = ["--database", &url, "--transcribe-spill", "64KiB"];
    let flags = [&base[..], &little, &["--transcribe-queue-size", "50"]].concat();
    let server = TestServer::start(&flags).await;
    let mut hearing = Hearing::begin(&server).await;
    for _ in 0..100 {
        if hearing.lost.is_empty() {
            hearing.goes_on().await;
        }
    }
    assert!(!hearing.lost.is_empty());
    let answer = server.admin("/readyz").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("degraded"), "{}", answer.text());
    let (status, refused) = ask(&server, "POST", "/api/sessions", None, &json!({})).await;
    assert_eq!((status, &refused["code"]), (507, &json!("storage_full")));
    pair(&server).await;
    sqlite::ask(&file, "DELETE FROM ballast");
    becomes(200, "/readyz without a word of it", async || {
        let answer = server.admin("/readyz").await;
        if answer.text() == "ok\n" {
            answer.status
        } else {
            0
        }
    })
    .await;
    hearing.goes_on().await;
    hearing.assert_all_heard();
    let (told, stored) = hearing.assert_stored(&server).await;
    let lost = server.metric("transcribe_lost_segments_total", "").await;
    assert!(lost >= 1.0);
    assert_eq!((told - stored) as f64, lost);
    let dropped = server
        .metric("transcribe_records_dropped_total", r#"reason="full""#)
        .await;
    assert!(dropped >= lost, "{dropped}");
    let (status, _) = ask(&server, "POST", "/api/sessions", None, &json!({})).await;
    assert_eq!(status, 201);
}
