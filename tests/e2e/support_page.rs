//! What is at the admin address for people and programs: the status page, and the description of the answers for support.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::support_api::{TOKEN, ask, ask_with};
use crate::support::{
    TestServer, Via, http,
    jwt::{Folder, SECRET, Signer, begin, claims_with, openssl},
};

#[tokio::test]
async fn the_status_page_is_whole_in_itself_and_shows_no_user() {
    let folder = Folder::new("support-page");
    let (file, _) = folder.secret();
    let server = TestServer::start(&["--jwt-secret-file", &file]).await;
    let token = Signer::Secret(SECRET).token(&claims_with("ann-7", json!({"name": "Dear Ann"})));
    let mut ann = begin(&server, Via::WebSocket, &token).await;
    ann.send(json!({"type": "find_match", "criteria": {"language": "tlh"}}))
        .await;
    ann.expect("waiting").await;
    server.public("/poll?wait=0").await;
    let page = server.admin("/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let text = page.text();
    for shown in [
        env!("CARGO_PKG_VERSION"),
        "ready",
        "matches a second",
        "p99",
        "descriptors",
        "token_missing",
        r#"href="/metrics""#,
        r#"href="/support/openapi.json""#,
        r#"http-equiv="refresh""#,
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    for hidden in [
        "ann-7",
        "Dear Ann",
        "tlh",
        &ann.id,
        "127.0.0.1",
        SECRET,
        "<script",
        "src=",
    ] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    let style = text.split("<style>").nth(1).unwrap();
    let style = style.split("</style>").next().unwrap();
    let hash = BASE64.encode(openssl(&["dgst", "-sha256", "-binary"], style.as_bytes()));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}'")),
        "{policy}"
    );
    let head = http::request(server.admin, "HEAD", "/", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn the_description_names_every_path_and_each_asks_for_the_token() {
    let folder = Folder::new("support-openapi");
    let file = folder.write("token", TOKEN);
    let server = TestServer::start(&["--admin-token-file", &file]).await;
    let shown = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = ask_with(&server, "GET", "/support/openapi.json", &shown, "").await;
    let api = answer.json();
    assert!(
        api["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        api["openapi"]
    );
    let mut operations = String::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let _ = writeln!(operations, "{method} {path}");
            let is_guarded = path.starts_with("/support");
            let security = match path.starts_with("/debug") {
                // At an address of this machine alone, without the token too.
                true => json!([{}, { "token": [] }]),
                false if is_guarded => json!([{ "token": [] }]),
                false => Value::Null,
            };
            assert_eq!(operation["security"], security, "{method} {path}");
            let is_refused = operation["responses"].get("401").is_some();
            assert_eq!(is_refused, !security.is_null(), "{method} {path}");
            if is_guarded {
                let asked = path
                    .replace("{id}", "0123456789abcdef")
                    .replace("{name}", "tea");
                let method = method.to_uppercase();
                let answer = ask(&server, &method, &asked, "").await;
                assert_eq!(answer.status, 401, "{method} {path}");
            }
        }
    }
    for operation in [
        "get /\n",
        "get /livez\n",
        "get /metrics\n",
        "get /support/sessions\n",
        "get /support/sessions/{id}\n",
        "post /support/sessions/{id}/disconnect\n",
        "get /support/rooms/{id}\n",
        "get /support/named-rooms/{name}\n",
        "get /support/bans\n",
        "post /support/bans\n",
        "delete /support/bans/{id}\n",
        "get /support/closes\n",
        "get /support/nodes\n",
    ] {
        assert!(operations.contains(operation), "{operation}: {operations}");
    }
}
