//! Who may ask for answers for support, and that a question changes nothing.

use serde_json::json;

use super::support_api::{TOKEN, ask, ask_with, get, session};
use crate::support::{TestServer, User, eventually, http, jwt::Folder, run};

#[tokio::test]
async fn an_operator_shows_the_token_and_nobody_else_is_answered() {
    let folder = Folder::new("support-token");
    let file = folder.write("token", &format!("{TOKEN}\n"));
    let flags = ["--admin-token-file", &file];
    for admin in ["127.0.0.1:0", "0.0.0.0:0"] {
        let server = TestServer::start_with_admin(admin, &flags).await;
        let bearer = format!("Authorization: bearer {TOKEN}\r\n");
        for (shown, status, code) in [
            ("", 401, "token_missing"),
            ("Authorization: Basic YTpi\r\n", 401, "token_missing"),
            ("Authorization: Bearer\r\n", 401, "token_missing"),
            ("Authorization: Bearer x\r\n", 401, "token_invalid"),
            (&bearer.replace("more", "most"), 401, "token_invalid"),
            (&bearer, 200, ""),
        ] {
            let answer = ask_with(&server, "GET", "/support/sessions", shown, "").await;
            assert_eq!(answer.status, status, "{shown}");
            if status != 200 {
                assert_eq!(answer.json()["code"], code, "{shown}");
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(challenge.starts_with("Bearer"), "{challenge}");
            }
        }
        let new = r#"{"user":"ann","seconds":60}"#;
        let answer = ask(&server, "POST", "/support/bans", new).await;
        assert_eq!(answer.status, 401);
        for free in ["/", "/livez", "/readyz", "/metrics"] {
            assert_eq!(server.admin(free).await.status, 200, "{free}");
        }
        // Profilers send no token, so that an address of this machine alone asks for none.
        let status = if admin.starts_with("127.") { 200 } else { 401 };
        assert_eq!(server.admin("/debug/pprof/").await.status, status);
        assert_eq!(server.admin("/debug/pprof/heap").await.status, status);
        let other = TOKEN.replace("more", "else");
        folder.write("token", &other);
        eventually("the new token is known", async || {
            let shown = format!("Authorization: Bearer {other}\r\n");
            ask_with(&server, "GET", "/support/bans", &shown, "")
                .await
                .status
                == 200
        })
        .await;
        let answer = ask_with(&server, "GET", "/support/bans", &bearer, "").await;
        assert_eq!(answer.status, 401);
        let said = server.process.stderr().join("\n");
        assert!(!said.contains(&other), "{said}");
        // One that cannot be used changes nothing.
        folder.write("token", "too-short");
        eventually("it is said", async || {
            let log = server.process.stderr().join("\n");
            log.contains("token of operators cannot be used")
        })
        .await;
        let shown = format!("Authorization: Bearer {other}\r\n");
        let answer = ask_with(&server, "GET", "/support/bans", &shown, "").await;
        assert_eq!(answer.status, 200);
        let said = server.process.stderr().join("\n");
        assert!(!said.contains("too-short"), "{said}");
        folder.write("token", TOKEN);
    }
    let weak = folder.write("weak", "secret");
    let (code, said) = run(&["--admin-token-file", &weak]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("openssl rand -hex 32"), "{said}");
    let (code, said) = run(&["--admin-token-file", "/nowhere"]).await;
    assert!(code == Some(2) && said.contains("/nowhere"), "{said}");
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_answered() {
    let server = TestServer::start_with_admin("0.0.0.0:0", &[]).await;
    for (method, path) in [
        ("GET", "/support/sessions"),
        ("POST", "/support/bans"),
        ("GET", "/support/openapi.json"),
        ("GET", "/debug/pprof/"),
        ("GET", "/debug/pprof/heap"),
    ] {
        let answer = ask(&server, method, path, "").await;
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(answer.json()["code"], "support_off");
        assert!(answer.text().contains("--admin-token-file"));
    }
    for free in ["/", "/livez", "/readyz", "/metrics"] {
        assert_eq!(server.admin(free).await.status, 200, "{free}");
    }
    let said = server.process.stderr().join("\n");
    assert!(said.contains("/support and /debug answer nobody"), "{said}");
}

#[tokio::test]
async fn a_page_of_another_site_can_do_nothing() {
    let server = TestServer::start(&["--admin-host", "Voice.internal"]).await;
    let user = User::connect(&server).await;
    let path = format!("/support/sessions/{}/disconnect", user.id);
    let asked = |host: &str, more: &str| {
        let text = format!(
            "POST {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: 0\r\n{more}\r\n"
        );
        let admin = server.admin;
        async move { http::exchange(admin, &text).await }
    };
    let own = format!("Host: {}\r\n", server.admin);
    let port = server.admin.port();
    for (host, more) in [
        (own.as_str(), "Origin: https://evil.example\r\n".to_owned()),
        (&own, "Origin: null\r\n".to_owned()),
        (&own, format!("Origin: http://127.0.0.1:{}\r\n", port ^ 1)),
        (&own, "Sec-Fetch-Site: cross-site\r\n".to_owned()),
        (&own, "Sec-Fetch-Site: same-site\r\n".to_owned()),
        // The name of the page leads here.
        ("Host: evil.example\r\n", String::new()),
        (
            "Host: evil.example\r\n",
            "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n".to_owned(),
        ),
        ("Host: 127.0.0.1.evil.example\r\n", String::new()),
        ("Host: localhost.evil.example\r\n", String::new()),
        ("Host: voice.internal.evil.example\r\n", String::new()),
        ("Host: localhost\r\nHost: evil.example\r\n", String::new()),
        ("Host:\r\n", String::new()),
        ("", String::new()),
    ] {
        let answer = asked(host, &more).await;
        assert_eq!(answer.status, 403, "{host}{more}");
        let code = answer.json()["code"].clone();
        assert!(
            code == "origin_not_allowed" || code == "host_not_allowed",
            "{code}"
        );
    }
    assert_eq!(session(&server, &user.id).await["state"], "idle");
    for host in [
        own.as_str(),
        "Host: localhost\r\n",
        "Host: [::1]:6060\r\n",
        "Host: voice.internal:6060\r\n",
    ] {
        let text = format!("GET /support/bans HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let answer = http::exchange(server.admin, &text).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    // A profile costs time, and the first one memory for good.
    for (header, status) in [
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Origin: https://evil.example\r\n", 403),
        ("", 200),
    ] {
        let text =
            format!("GET /debug/pprof/heap HTTP/1.1\r\n{own}Connection: close\r\n{header}\r\n");
        let answer = http::exchange(server.admin, &text).await;
        assert_eq!(answer.status, status, "{header}");
    }
    let page = format!("Origin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(asked(&own, &page).await.status, 200);
    // Probes and Prometheus ask by whatever name they like.
    let probe = "GET /readyz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(http::exchange(server.admin, probe).await.status, 200);
}

#[tokio::test]
async fn whatever_is_sent_is_answered_with_a_refusal() {
    let server = TestServer::start(&[]).await;
    let long = "a".repeat(7000);
    let unknown = "0123456789abcdef";
    for (method, path, status) in [
        ("GET", "/support/sessions/x".to_owned(), 400),
        ("GET", format!("/support/sessions/{long}"), 400),
        ("GET", format!("/support/sessions/{unknown}"), 404),
        ("GET", format!("/support/sessions/{unknown}0"), 400),
        ("GET", "/support/sessions/%ff%fe".to_owned(), 400),
        ("GET", "/support/sessions/%2e%2e%2fmetrics".to_owned(), 400),
        ("GET", "/support/sessions/".to_owned(), 404),
        (
            "POST",
            format!("/support/sessions/{unknown}/disconnect"),
            404,
        ),
        ("POST", "/support/sessions/x/disconnect".to_owned(), 400),
        ("GET", format!("/support/rooms/{long}"), 400),
        ("GET", format!("/support/named-rooms/{long}"), 404),
        ("GET", "/support/named-rooms/a%20b".to_owned(), 404),
        ("DELETE", "/support/bans/0".to_owned(), 404),
        ("DELETE", "/support/bans/-1".to_owned(), 400),
        (
            "DELETE",
            "/support/bans/99999999999999999999999".to_owned(),
            400,
        ),
        ("GET", "/support/bans?address=x".to_owned(), 400),
        ("DELETE", "/support/bans".to_owned(), 405),
        ("PUT", "/support/sessions".to_owned(), 405),
        (
            "GET",
            format!("/support/sessions/{unknown}/disconnect"),
            405,
        ),
        ("POST", "/livez".to_owned(), 405),
    ] {
        let answer = ask(&server, method, &path, "").await;
        assert_eq!(answer.status, status, "{method} {path:.60}");
        assert!(answer.json()["error"].as_str().unwrap().len() < 300);
        assert_eq!(
            answer.header("allow").is_some(),
            status == 405,
            "{path:.60}"
        );
    }
    let fits = r#"{"user":"ann","seconds":60}"#;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let user = |length: usize| json!({"user": "a".repeat(length), "seconds": 60}).to_string();
    for (body, status) in [
        ("", 415),
        ("x", 400),
        ("{}", 400),
        (deep.as_str(), 400),
        (r#"{"user":"ann"}"#, 400),
        (r#"{"seconds":60}"#, 400),
        (r#"{"user":"ann","address":"10.0.0.1","seconds":60}"#, 400),
        (r#"{"user":"","seconds":60}"#, 400),
        (r#"{"user":"ann","seconds":0}"#, 400),
        (r#"{"user":"ann","seconds":-1}"#, 400),
        (r#"{"user":"ann","seconds":1e9}"#, 400),
        (r#"{"user":"ann","seconds":31536001}"#, 400),
        (r#"{"user":"ann","seconds":60,"more":1}"#, 400),
        (r#"{"address":"0.0.0.0/0","seconds":60}"#, 400),
        (r#"{"address":"::/0","seconds":60}"#, 400),
        (r#"{"address":"evil.example","seconds":60}"#, 400),
        (&user(129), 400),
        (&user(20_000), 413),
    ] {
        let answer = ask(&server, "POST", "/support/bans", body).await;
        assert_eq!(answer.status, status, "{body:.60}");
        assert!(answer.json()["error"].as_str().unwrap().len() < 400);
    }
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n";
    let answer = http::request_with_body(server.admin, "POST", "/support/bans", form, "user=an");
    assert_eq!(answer.await.status, 415);
    // A body that does not say how long it is may not be longer either.
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 20_000, "a".repeat(20_000));
    let head = "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n";
    let answer = http::request_with_body(server.admin, "POST", "/support/bans", head, &chunk);
    assert_eq!(answer.await.status, 413);
    let answer = ask(&server, "POST", "/support/bans", fits).await;
    assert_eq!(
        (
            answer.status,
            get(&server, "/support/bans").await["total"].clone()
        ),
        (201, json!(1))
    );
}
