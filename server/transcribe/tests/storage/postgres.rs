//! PostgreSQL itself.

use voicematch_test_postgres::Postgres;
use voicematch_transcribe::store::{self, StoreError};

use crate::conformance::CHECKS;

#[tokio::test]
async fn postgresql_conforms() {
    let server = Postgres::start().await;
    for (name, check) in CHECKS {
        server.ask(&format!("CREATE DATABASE {name}")).await;
        let store = store::connect(&server.url(name), true).await;
        check(store.expect("a database")).await;
    }
}

#[tokio::test]
async fn what_postgresql_is_not_set_up_for() {
    let server = Postgres::start().await;
    let refused = |database: &'static str, migrate| {
        let url = server.url(database);
        async move {
            match store::connect(&url, migrate).await {
                Err(StoreError::Misconfigured(why)) => why,
                other => panic!("{:?}", other.err()),
            }
        }
    };
    assert!(refused("nowhere", true).await.contains("3D000"));
    assert!(
        refused("postgres", false)
            .await
            .contains("migrations are off")
    );
    // Three at once: one migrates, the others find nothing to do.
    let url = server.url("postgres");
    let all = tokio::join!(
        store::connect(&url, true),
        store::connect(&url, true),
        store::connect(&url, true)
    );
    for one in [all.0, all.1, all.2] {
        one.map(drop).expect("migrated");
    }
    store::connect(&url, false)
        .await
        .map(drop)
        .expect("nothing to do");
    server
        .ask("UPDATE voicematch_migrations SET version = 99 WHERE version = 3")
        .await;
    assert!(refused("postgres", true).await.contains("version 99"));
    assert!(refused("postgres", false).await.contains("version 99"));
}
