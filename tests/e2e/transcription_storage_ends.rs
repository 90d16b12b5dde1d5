//! What becomes of rows that the database does not take when nothing else has room for them, or when the server ends.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};
use voicematch_test_postgres::Postgres;

use crate::support::{
    TestServer,
    asked::{Asked, start_by_environment},
    becomes, eventually,
    hearing::Hearing,
    jwt::Folder,
    pair,
    sqlite::{self, Lock},
    talk::{Part, Talk, ask},
};

/// A server without room for what is said: neither its database nor its spill file takes more.
struct Full {
    server: TestServer,
    hearing: Hearing,
    /// The database's file.
    file: String,
    /// Of the server, but for the bounds.
    flags: [String; 4],
}

impl Full {
    async fn begin(folder: &Folder) -> Self {
        let (file, state) = (folder.path("transcripts.db"), folder.path("state"));
        let fake = "fake:?final=100ms&partial=1m&delay=10ms";
        let flags = ["--transcribe", fake, "--state-dir", &state];
        let url = format!("sqlite:{file}");
        drop(TestServer::start(&[&flags[..], &["--database", &url]].concat()).await);
        sqlite::ask(&file, "CREATE TABLE ballast (bytes BLOB)");
        sqlite::ask(
            &file,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO ballast SELECT zeroblob(4000) FROM n",
        );
        let pages: u64 = sqlite::ask(&file, "PRAGMA page_count").parse().unwrap();
        let url = format!("{url}?max_page_count={}", pages + 4);
        let little = ["--database", &url, "--transcribe-spill", "64KiB"];
        let bounds = [&little[..], &["--transcribe-queue-size", "50"]].concat();
        let server = TestServer::start(&[&flags[..], &bounds].concat()).await;
        let mut hearing = Hearing::begin(&server).await;
        for _ in 0..100 {
            if hearing.lost.is_empty() {
                hearing.goes_on().await;
            }
        }
        assert!(!hearing.lost.is_empty());
        Self {
            server,
            hearing,
            file,
            flags: flags.map(str::to_owned),
        }
    }

    /// The database has room again.
    fn make_room(&self) {
        sqlite::ask(&self.file, "DELETE FROM ballast");
    }

    /// Finals and gaps that were told to be stored nowhere.
    async fn lost(&self) -> f64 {
        self.server
            .metric("transcribe_lost_segments_total", "")
            .await
    }
}

#[tokio::test]
async fn sqlite_that_is_full_and_the_spill_too() {
    let folder = Folder::new("sqlite-full");
    let mut full = Full::begin(&folder).await;
    let server = &full.server;
    let answer = server.admin("/readyz").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("degraded"), "{}", answer.text());
    let (status, refused) = ask(server, "POST", "/api/sessions", None, &json!({})).await;
    assert_eq!((status, &refused["code"]), (507, &json!("storage_full")));
    let count = server.metric("transcribe_refused_total", r#"code="storage_full""#);
    assert_eq!(count.await, 1.0);
    pair(server).await;
    full.make_room();
    becomes(200, "/readyz without a word of it", async || {
        let answer = server.admin("/readyz").await;
        if answer.text() == "ok\n" {
            answer.status
        } else {
            0
        }
    })
    .await;
    full.hearing.goes_on().await;
    full.hearing.assert_all_heard();
    let (told, stored) = full.hearing.assert_stored(&full.server).await;
    let lost = full.lost().await;
    assert!(lost >= 1.0);
    assert_eq!((told - stored) as f64, lost);
    let dropped = full
        .server
        .metric("transcribe_records_dropped_total", r#"reason="full""#)
        .await;
    assert!(dropped >= lost, "{dropped}");
    let (status, _) = ask(&full.server, "POST", "/api/sessions", None, &json!({})).await;
    assert_eq!(status, 201);
}

#[tokio::test]
async fn a_host_who_was_away_is_told_what_was_lost_meanwhile() {
    let folder = Folder::new("sqlite-full-away");
    let mut full = Full::begin(&folder).await;
    let numbers = |ranges: &[(u64, u64)]| -> BTreeSet<u64> {
        ranges.iter().flat_map(|(from, to)| *from..=*to).collect()
    };
    let count = full.lost().await;
    full.hearing
        .until(|now| numbers(&now.lost).len() as f64 >= count)
        .await;
    let (lost, last) = (numbers(&full.hearing.lost), full.hearing.last());
    for after in [0, lost.first().unwrap() + 1, last] {
        let query = format!("?after={after}");
        let host = Part::connect(&full.server, &full.hearing.talk.host, &query).await;
        let mut host = host.unwrap();
        let (mut told, mut heard) = (Vec::new(), after);
        loop {
            let message = host.next().await.unwrap();
            let number = |name: &str| message[name].as_u64().unwrap();
            match message["type"].as_str().unwrap() {
                "final" | "gap" => heard = number("seq"),
                "lost" => told.push((number("from_seq"), number("to_seq"))),
                // It comes behind all else.
                "stored" => break,
                _ => {}
            }
        }
        assert_eq!(heard, last);
        assert_eq!(numbers(&told), lost, "after {after}");
    }
}

#[tokio::test]
async fn rows_that_are_nowhere_at_the_end_are_counted_and_the_exit_code_is_1() {
    let folder = Folder::new("sqlite-full-end");
    let mut full = Full::begin(&folder).await;
    let lost = full.lost().await;
    full.server.process.signal(Signal::TERM);
    assert_eq!(full.server.process.exit_code().await, Some(1));
    let log = full.server.process.stderr().join("\n");
    let (before, _) = log
        .split_once(" rows of transcripts and answers could not be stored")
        .expect("the log says so");
    let number = before
        .rsplit(|it: char| !it.is_ascii_digit())
        .next()
        .unwrap();
    let nowhere: u32 = number.parse().unwrap();

    full.make_room();
    let url = format!("sqlite:{}", full.file);
    let flags = full.flags.each_ref().map(String::as_str);
    let server = TestServer::start(&[&flags[..], &["--database", &url]].concat()).await;
    let file = full
        .hearing
        .talk
        .transcript(&server, "transcript.json")
        .await;
    let file: Value = serde_json::from_str(&file).unwrap();
    let stored = u32::try_from(file["segments"].as_array().unwrap().len()).unwrap();
    let told = u32::try_from(full.hearing.last()).unwrap();
    eprintln!("told {told}, stored {stored}, lost before {lost}, nowhere at the end {nowhere}");
    assert_eq!(f64::from(told), f64::from(stored + nowhere) + lost);
}

/// What a host who connects with `after=0` is told: the numbers of finals, until the last one or the close.
async fn replayed(server: &TestServer, talk: &Talk) -> (BTreeSet<u64>, Option<u64>) {
    let mut host = Part::connect(server, &talk.host, "?after=0").await.unwrap();
    let mut heard = BTreeSet::new();
    let Some(next) = host.ready["next_seq"].as_u64() else {
        return (heard, host.ready["closed"].as_u64());
    };
    while heard.last().is_none_or(|last| last + 1 < next) {
        match host.next().await {
            Ok(message) if message["type"] == "final" => {
                heard.insert(message["seq"].as_u64().unwrap());
            }
            Ok(message) => assert_ne!(message["type"], "lost"),
            Err(code) => return (heard, code.map(u64::from)),
        }
    }
    (heard, None)
}

#[tokio::test]
async fn a_host_is_not_told_less_while_rows_are_in_the_spill_file_alone() {
    const SPEAKERS: u64 = 8;
    const WORDS: u64 = 140;
    let folder = Folder::new("spill-alone");
    let (file, state) = (folder.path("transcripts.db"), folder.path("state"));
    let url = format!("sqlite:{file}");
    let fake = "fake:?final=100ms&partial=1m&delay=10ms";
    let flags = ["--transcribe", fake, "--database", &url];
    let server = TestServer::start(&[&flags[..], &["--state-dir", &state]].concat()).await;
    let talk = Talk::create(&server, json!({})).await;
    let lock = Lock::take(&file).await;
    // More than the server keeps in memory.
    let speakers = (0..SPEAKERS).map(async |number| {
        let (_, token) = talk.let_in(&server, &format!("s{number}"), "speaker").await;
        let mut speaker = Part::connect(&server, &token, "").await.unwrap();
        speaker.send(json!({"type": "start", "live": false})).await;
        speaker.say(1, u32::try_from(WORDS).unwrap()).await;
        speaker
    });
    let _speakers = futures_util::future::join_all(speakers).await;
    let path = format!("/api/sessions/{}", talk.slug);
    eventually("all is said and stored", async || {
        let (_, session) = ask(&server, "GET", &path, None, &Value::Null).await;
        let number = |name: &str| session[name].as_u64().unwrap();
        number("segments") == SPEAKERS * WORDS && number("stored_through") == SPEAKERS * WORDS
    })
    .await;
    assert!(server.metric("transcribe_spill_bytes", "").await > 0.0);
    let (heard, code) = replayed(&server, &talk).await;
    assert_eq!((heard.len(), code), (0, Some(4000)));
    drop(lock);
    becomes("ok\n".to_owned(), "/readyz", async || {
        server.admin("/readyz").await.text().to_owned()
    })
    .await;
    let (heard, code) = replayed(&server, &talk).await;
    assert_eq!(heard, (1..=SPEAKERS * WORDS).collect());
    assert_eq!(code, None);
}

#[tokio::test]
async fn rows_that_only_the_spill_file_has_survive_a_server_that_is_killed() {
    let folder = Folder::new("pg-away-killed");
    let mut postgres = Postgres::start().await;
    let database = postgres.url("postgres");
    let mut asked = Asked::of(start_by_environment(&folder, &database).await).await;
    let mut hearing = Hearing::begin(&asked.server).await;
    hearing.goes_on().await;
    asked.answer("before").await;
    hearing.until(|now| now.stored_through >= now.last()).await;
    let before = hearing.last();
    postgres.kill();
    hearing.goes_on().await;
    asked.answer("meanwhile").await;
    hearing.until(|now| now.stored_through >= now.last()).await;
    asked.server.process.signal(Signal::KILL);
    assert_eq!(asked.server.process.exit_code().await, None);

    postgres.run();
    postgres.is_ready().await;
    let rows = "SELECT count(*), count(DISTINCT seq), max(seq) FROM segments";
    assert_eq!(
        postgres.ask(rows).await,
        format!("{before}|{before}|{before}")
    );
    asked.server = start_by_environment(&folder, &database).await;
    let (told, stored) = hearing.assert_stored(&asked.server).await;
    assert_eq!(told, stored);
    assert!(told as u64 > before);
    asked.answer("after").await;
    assert_eq!(asked.answers().await, ["before", "meanwhile", "after"]);
    assert_eq!(postgres.ask(rows).await, format!("{told}|{told}|{told}"));
    assert_eq!(postgres.ask("SELECT count(*) FROM answers").await, "3");
}

#[tokio::test]
async fn what_is_heard_after_another_server_has_taken_the_session_is_counted_as_lost() {
    let folder = Folder::new("taken");
    let (file, state) = (folder.path("transcripts.db"), folder.path("state"));
    let url = format!("sqlite:{file}");
    // The final comes with the end.
    let flags = ["--transcribe", "fake:?delay=10ms&final=5s", "--database"];
    let flags = [&flags[..], &[&url, "--state-dir", &state]].concat();
    let server = TestServer::start(&flags).await;
    let talk = Talk::create(&server, json!({})).await;
    let mut host = Part::connect(&server, &talk.host, "").await.unwrap();
    host.send(json!({"type": "start", "live": false, "ack": "each"}))
        .await;
    host.say(1, 1).await;
    host.expect("audio_ack").await;
    sqlite::ask(
        &file,
        "UPDATE session_owners SET owner = 1, until_ms = 9000000000000",
    );
    // It looks at its leases.
    assert_eq!(host.closed().await, Some(4000));
    server
        .reaches("transcribe_lost_segments_total", "", 1.0)
        .await;
    let elsewhere = r#"reason="elsewhere""#;
    let dropped = "transcribe_records_dropped_total";
    assert_eq!(server.metric(dropped, elsewhere).await, 1.0);
}
