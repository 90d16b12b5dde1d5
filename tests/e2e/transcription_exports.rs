//! Transcripts as files: however long they are, they need little memory, and what is not whole is not taken for it.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    TestServer, http,
    jwt::Folder,
    sqlite,
    talk::{Talk, ask},
    within,
};

/// Files that are on their way at the same time.
const AT_ONCE: usize = 16;

async fn server(folder: &Folder) -> TestServer {
    let state = folder.path("state");
    TestServer::start(&["--transcribe", "fake:", "--state-dir", &state]).await
}

/// Stores segments from 1 to `last` in all sessions; `text` and `words` are SQL.
fn store(folder: &Folder, last: u32, text: &str, words: &str) {
    let sql = format!(
        "INSERT INTO segments WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
         SELECT sessions.id, i, 1, 'final', 'live', i, i, NULL, NULL, {text}, {words}, 0 FROM n, sessions"
    );
    sqlite::ask(&folder.path("state/transcripts.db"), &sql);
}

/// The most memory that the server had so far, in MiB.
fn peak(server: &TestServer) -> u64 {
    let path = format!("/proc/{}/status", server.process.id());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

/// Asks for a file, and reads nothing of it.
async fn begin_to_read(server: &TestServer, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn a_transcript_that_is_too_long_for_one_file_says_where_the_rest_is() {
    let folder = Folder::new("long");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    store(&folder, 200_150, "'word'", "NULL");
    let path = format!("/api/sessions/{}/transcript.json", talk.slug);
    let mut first = begin_to_read(&server, &path).await;
    let mut head = Vec::new();
    let is_read = async {
        while !String::from_utf8_lossy(&head).contains("\"segments\":[") {
            assert!(first.read_buf(&mut head).await.unwrap() > 0);
        }
    };
    within("the head", is_read).await;
    let head = String::from_utf8_lossy(&head);
    let rest = format!("{path}?after=200000");
    assert!(
        head.contains(&format!("link: <{rest}>; rel=\"next\"\r\n")),
        "{head:.600}"
    );
    assert!(head.contains("\"next_after\":200000,"), "{head:.600}");

    let rest = http::get(server.admin, &rest).await;
    assert_eq!(rest.header("link"), None);
    let rest = rest.json();
    assert_eq!(rest["segments"].as_array().unwrap().len(), 150);
    assert_eq!(rest.get("next_after"), None);
}

#[tokio::test]
async fn a_transcript_with_many_words_needs_little_memory() {
    let folder = Folder::new("many-words");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    let word = r#"{"word":"word","start_ms":1,"end_ms":2,"confidence":0.5}"#;
    let words = [word; 10].join(",");
    store(&folder, 40_000, "'word word word'", &format!("'[{words}]'"));
    let before = peak(&server);
    let file = talk.transcript(&server, "transcript.json").await;
    let grown = peak(&server) - before;
    assert!(grown < 32, "{grown} MiB more for {} bytes", file.len());
    assert_eq!(file.matches("\"seq\":").count(), 40_000);
    assert_eq!(file.matches(word).count(), 400_000);
    assert!(file.ends_with("}\n]}\n"));
}

/// Asks for a transcript of 10 MB, more than the buffers of a connection hold.
async fn unread(server: &TestServer, talk: &Talk) -> TcpStream {
    let path = format!("/api/sessions/{}/transcript.txt", talk.slug);
    begin_to_read(server, &path).await
}

const TEXT_OF_5_KB: &str = "hex(zeroblob(2500))";

/// The last chunk of a body (RFC 9112 section 7.1).
const END: &[u8] = b"\r\n0\r\n\r\n";

async fn read_head(socket: &mut TcpStream) {
    let mut head = [0; 12];
    within("a head", socket.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[tokio::test]
async fn files_that_nobody_reads_are_only_a_few_at_a_time() {
    let folder = Folder::new("unread");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    store(&folder, 2_000, TEXT_OF_5_KB, "NULL");
    let mut all = Vec::new();
    for _ in 0..AT_ONCE {
        let mut socket = unread(&server, &talk).await;
        read_head(&mut socket).await;
        all.push(socket);
    }
    let mut next = unread(&server, &talk).await;
    let early = timeout(Duration::from_millis(500), next.read(&mut [0; 12])).await;
    assert!(early.is_err(), "one file more is there: {early:?}");
    all.pop();
    read_head(&mut next).await;
}

#[tokio::test]
async fn a_transcript_that_cannot_be_read_to_its_end_has_none() {
    let folder = Folder::new("cut");
    let server = server(&folder).await;
    let talk = Talk::create(&server, json!({})).await;
    store(&folder, 2_000, TEXT_OF_5_KB, "NULL");
    let mut whole = unread(&server, &talk).await;
    let mut cut = unread(&server, &talk).await;
    read_head(&mut cut).await;
    let mut read = Vec::new();
    let is_whole = async {
        while !read.ends_with(END) {
            let count = whole.read_buf(&mut read).await.unwrap();
            assert!(count > 0, "without an end after {} bytes", read.len());
        }
    };
    within("the whole file", is_whole).await;
    let path = format!("/api/sessions/{}", talk.slug);
    let (status, _) = ask(&server, "DELETE", &path, None, &Value::Null).await;
    assert_eq!(status, 200);
    let mut rest = Vec::new();
    within("the rest", cut.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(!rest.ends_with(END), "{} bytes", rest.len());
    assert!(rest.len() < read.len());
}
