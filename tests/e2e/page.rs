//! The page and the client module: where they are, in which form they come, and who may have them.

use std::{collections::BTreeSet, fs, io::Read, path::PathBuf};

use flate2::read::GzDecoder;

use crate::support::{
    RawSocket, TestServer, User,
    http::{Response, request},
    jwt::Folder,
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A path, the file below `server/client` that is there, and its type.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "page/index.html", HTML),
    ("/r/Tea_room-1", "page/index.html", HTML),
    ("/page/page.js", "page/page.js", SCRIPT),
    ("/page/page.css", "page/page.css", STYLE),
    ("/client.js", "client.js", SCRIPT),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("client")
}

async fn get(server: &TestServer, path: &str, headers: &str) -> Response {
    request(server.public, "GET", path, headers).await
}

fn unpack(response: &Response) -> Vec<u8> {
    let mut plain = Vec::new();
    match response.header("content-encoding") {
        None => return response.body.clone(),
        Some("gzip") => {
            let mut packed = GzDecoder::new(&response.body[..]);
            packed.read_to_end(&mut plain).unwrap();
        }
        Some("br") => brotli::BrotliDecompress(&mut &response.body[..], &mut plain).unwrap(),
        Some(other) => panic!("{other}"),
    }
    plain
}

#[tokio::test]
async fn each_file_is_served_in_the_form_that_the_client_takes() {
    let server = TestServer::start(&[]).await;
    for (path, file, content_type) in FILES {
        let wanted = fs::read(folder().join(file)).unwrap();
        let mut tags = Vec::new();
        for (accepted, coding) in [
            ("", None),
            ("Accept-Encoding: gzip, deflate\r\n", Some("gzip")),
            ("Accept-Encoding: gzip, deflate, br\r\n", Some("br")),
            (
                "Accept-Encoding: br;q=0\r\nAccept-Encoding: gzip;q=0.5\r\n",
                Some("gzip"),
            ),
        ] {
            let response = get(&server, path, accepted).await;
            assert_eq!(response.status, 200, "{path} {accepted:?}");
            assert_eq!(
                response.header("content-encoding"),
                coding,
                "{path} {accepted:?}"
            );
            assert!(unpack(&response) == wanted, "{path} {accepted:?}");
            for (name, value) in [
                ("content-type", content_type),
                ("vary", "accept-encoding"),
                ("cache-control", "no-cache"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(response.header(name), Some(value), "{path} {name}");
            }
            // The page's own is that of all that it asks for.
            let policy = content_type.starts_with("text/html");
            assert_eq!(
                response.header("referrer-policy"),
                policy.then_some("no-referrer"),
                "{path}"
            );
            let tag = response.header("etag").unwrap().to_owned();
            assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");

            let head = request(server.public, "HEAD", path, accepted).await;
            let length = response.body.len().to_string();
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), Some(&length[..]), "{path}");
            assert_eq!(head.header("etag"), Some(&tag[..]), "{path}");
            tags.push(tag);
        }
        assert_eq!(tags[1], tags[3], "the same bytes have the same tag");
        let different: BTreeSet<_> = tags.iter().collect();
        assert_eq!(different.len(), 3, "each form has a tag of its own");
    }
}

#[tokio::test]
async fn every_file_of_the_page_and_of_the_client_is_there() {
    let server = TestServer::start(&[]).await;
    for part in ["page", "client"] {
        for entry in fs::read_dir(folder().join(part)).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            if name == "index.html" || name.starts_with('.') || name.ends_with(".d.ts") {
                continue;
            }
            let found = get(&server, &format!("/{part}/{name}"), "").await;
            assert_eq!(found.status, 200, "{part}/{name}");
            assert!(found.body == fs::read(&file).unwrap(), "{part}/{name}");
        }
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let server = TestServer::start(&[]).await;
    for path in ["/", "/client.js"] {
        let packed = "Accept-Encoding: br\r\n";
        let tag = get(&server, path, packed).await;
        let tag = tag.header("etag").unwrap();
        for known in [
            tag.to_owned(),
            // As a proxy writes it that packs answers itself.
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
            "*".to_owned(),
        ] {
            let lines = format!("{packed}If-None-Match: {known}\r\n");
            let answer = get(&server, path, &lines).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
            assert_eq!(answer.header("etag"), Some(tag));
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            assert_eq!(answer.header("cache-control"), Some("no-cache"));
        }
        for other in ["\"other\"", "", &tag[..tag.len() - 1]] {
            let lines = format!("{packed}If-None-Match: {other}\r\n");
            assert_eq!(get(&server, path, &lines).await.status, 200, "{other}");
        }
        // What is known is another form.
        let lines = format!("If-None-Match: {tag}\r\n");
        assert_eq!(get(&server, path, &lines).await.status, 200);
    }
}

#[tokio::test]
async fn the_page_may_load_nothing_of_others() {
    let server = TestServer::start(&[]).await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                  media-src blob: mediastream:; img-src data:; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    for path in ["/", "/r/tea"] {
        let page = get(&server, path, "").await;
        assert_eq!(page.header("content-security-policy"), Some(policy));
        assert_eq!(page.header("permissions-policy"), Some("microphone=(self)"));
        // The policy would forbid it.
        assert!(
            !page.text().contains("<script>") && !page.text().contains("<style"),
            "{path}"
        );
    }
    for path in ["/page/page.js", "/client.js"] {
        let file = get(&server, path, "").await;
        assert_eq!(file.header("content-security-policy"), None, "{path}");
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let server = TestServer::start(&[]).await;
    let long = format!("/r/{}", "a".repeat(65));
    for path in [
        "/r/",
        "/r",
        "/r/a%20b",
        "/r/a.b",
        "/r/a/b",
        &long,
        "/page",
        "/page/",
        "/page/index.html",
        "/page/../client.js",
        "/index.html",
        "/client",
        "/client/",
        "/build.rs",
        "//",
    ] {
        let response = get(&server, path, "").await;
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.json()["code"], "not_found", "{path}");
    }
    for (method, path) in [
        ("POST", "/"),
        ("PUT", "/r/tea"),
        ("DELETE", "/client.js"),
        ("OPTIONS", "/"),
    ] {
        let response = request(server.public, method, path, "").await;
        assert_eq!(response.status, 405, "{method} {path}");
        assert_eq!(response.header("allow"), Some("GET"));
    }
    // A query is the page's own matter.
    assert_eq!(get(&server, "/?debug", "").await.status, 200);
}

#[tokio::test]
async fn pages_of_others_may_use_the_client_and_nothing_else() {
    let server = TestServer::start(&["--allowed-origin", "https://app.example"]).await;
    for origin in ["https://app.example", "https://other.example"] {
        let lines = format!("Origin: {origin}\r\n");
        let client = get(&server, "/client.js", &lines).await;
        assert_eq!(client.status, 200);
        assert_eq!(client.header("access-control-allow-origin"), Some("*"));
        assert_eq!(client.header("vary"), Some("accept-encoding"));
        let page = get(&server, "/", &lines).await;
        assert_eq!(page.header("access-control-allow-origin"), None);
        assert_eq!(page.header("vary"), Some("accept-encoding"));
    }
}

#[tokio::test]
async fn a_server_that_is_full_has_still_a_page_to_say_so() {
    let server = TestServer::start(&["--max-connections", "1"]).await;
    let _user = User::connect(&server).await;
    assert_eq!(get(&server, "/poll?wait=0", "").await.status, 503);
    for (path, _, _) in FILES {
        let mut socket = RawSocket::connect(&server).await;
        let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        socket.write(text.as_bytes()).await;
        let response = socket.response().await;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.header("connection"), Some("close"), "{path}");
    }
}

#[tokio::test]
async fn an_app_that_brings_its_own_page_turns_this_one_off() {
    let folder = Folder::new("page");
    let file = folder.write("voicematch.toml", "no_page = true\n");
    for flags in [&["--no-page"][..], &["--config", &file]] {
        let server = TestServer::start(flags).await;
        for (path, _, _) in FILES {
            assert_eq!(get(&server, path, "").await.status, 404, "{path}");
        }
        assert_eq!(get(&server, "/health", "").await.status, 200);
    }
}
