//! The seconds of a day, which all servers with one database share.

use voicematch_test_postgres::Postgres;

use crate::support::{TestServer, becomes, eventually, hearing::Hearing, jwt::Folder};

const FAKE: &str = "fake:?delay=10ms&partial=200ms&final=1s";

/// The bound, in seconds.
const BOUND: f64 = 5.0;

/// Milliseconds of audio that are noted in the database.
async fn noted(postgres: &Postgres) -> u64 {
    let sum = "SELECT COALESCE(SUM(audio_ms), 0)::bigint FROM spent";
    postgres.ask(sum).await.parse().unwrap()
}

#[tokio::test]
async fn several_servers_spend_the_seconds_of_a_day_once() {
    let (postgres, folder) = (Postgres::start().await, Folder::new("day"));
    let database = postgres.url("postgres");
    let start = async |name: &str| {
        let (state, bound) = (folder.path(name), BOUND.to_string());
        let flags = ["--transcribe", FAKE, "--database", &database];
        let more = [
            "--state-dir",
            &state,
            "--transcribe-max-seconds-per-day",
            &bound,
        ];
        TestServer::start(&[flags, more].concat()).await
    };
    let (a, b) = (start("a").await, start("b").await);
    let mut first = Hearing::begin(&a).await;
    first.say(20).await;
    first.breathe().await;
    becomes(2_700, "what a has spent", async || noted(&postgres).await).await;

    // So slowly that it is noted in between, once a second.
    let mut second = Hearing::begin(&b).await;
    let refused = async || {
        let label = r#"code="budget""#;
        b.metric("transcribe_refused_total", label).await >= 1.0
    };
    let mut spent = 2_700;
    while !refused().await && spent < 5_700 {
        second.say(3).await;
        spent += 300;
        eventually("it is noted, or too much", async || {
            noted(&postgres).await >= spent || refused().await
        })
        .await;
    }
    let mut sent = 0.0;
    for server in [&a, &b] {
        sent += server.metric("transcribe_audio_seconds_total", "").await;
    }
    // What is said within two of the looks of a server at what others have spent.
    assert!(sent <= BOUND + 0.61, "{sent} s");
    assert!(refused().await);
    second.until(|now| now.errors == ["budget"]).await;
}
