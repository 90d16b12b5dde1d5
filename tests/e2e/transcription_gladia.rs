//! A server that has Gladia transcribe: where its key comes from, and what is deleted there.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    TestServer, becomes, binary,
    hearing::Hearing,
    jwt::Folder,
    providers::{
        gladia::{GladiaServer, KEY},
        server::Plan,
    },
    talk::ask,
};

/// A server that has its key from the environment.
async fn server(folder: &Folder, gladia: &GladiaServer) -> TestServer {
    let (provider, state) = (format!("gladia:{}", gladia.url), folder.path("state"));
    let mut command = binary();
    command.env("GLADIA_API_KEY", KEY);
    let flags = ["--transcribe", &provider, "--state-dir", &state];
    TestServer::start_command(command, "127.0.0.1:0", &flags).await
}

/// Deletes a session in which something was said.
async fn delete(hearing: &Hearing, server: &TestServer) {
    let path = format!("/api/sessions/{}", hearing.talk.slug);
    let host = Some(&*hearing.talk.host);
    let deleted = ask(server, "DELETE", &path, host, &Value::Null).await;
    assert_eq!(deleted.0, 200, "{}", deleted.1);
    let gone = ask(server, "GET", &path, None, &Value::Null).await;
    assert_eq!(gone.0, 404, "{}", gone.1);
}

#[tokio::test]
async fn a_session_that_is_deleted_is_deleted_at_gladia_too() {
    let folder = Folder::new("gladia-delete");
    let gladia = GladiaServer::start(Plan::default()).await;
    let mut first = server(&folder, &gladia).await;
    let log = first.process.stderr().join("\n");
    assert!(log.contains("GLADIA_API_KEY holds a secret"), "{log}");
    let (mut one, mut other) = (Hearing::begin(&first).await, Hearing::begin(&first).await);
    for hearing in [&mut one, &mut other] {
        hearing.goes_on().await;
        hearing.assert_all_heard();
        hearing.assert_stored(&first).await;
    }
    let deleted = async || gladia.state.deleted.lock().unwrap().clone();
    assert_eq!(deleted().await, [""; 0]);
    delete(&one, &first).await;
    assert_eq!(one.host.expect("ended").await["reason"], "deleted");
    assert_eq!(one.host.closed().await, Some(1000));
    becomes(vec!["job-1".to_owned()], "what is deleted", deleted).await;

    // Another server knows from the database what Gladia has.
    first.process.signal(Signal::TERM);
    assert_eq!(first.process.exit_code().await, Some(0));
    let second = server(&folder, &gladia).await;
    delete(&other, &second).await;
    let both = vec!["job-1".to_owned(), "job-2".to_owned()];
    becomes(both, "what is deleted", deleted).await;
    assert_eq!(*gladia.state.mistakes.lock().unwrap(), [""; 0]);
}
