//! What names, URLs, proxies and closing servers may do to a connection.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{Ran, report_file, run};

/// What follows the status line of a plain answer.
const PLAIN: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY";

/// The first byte of a close frame.
const CLOSE: u8 = 0x88;

/// A server that answers each handshake with these lines, in which KEY stands for the right key; then sends `frame`,
/// and reads until the client closes.
#[derive(Clone)]
struct Answers {
    lines: String,
    frame: Vec<u8>,
    /// The answer comes in TCP segments of one byte.
    split: bool,
}

impl Answers {
    fn plain() -> Self {
        Self::switching(PLAIN)
    }

    fn switching(headers: &str) -> Self {
        Self {
            lines: format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n\r\n"),
            frame: Vec::new(),
            split: false,
        }
    }

    async fn listen(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = self.clone();
                // A client that goes away in the middle is no concern of the test.
                tokio::spawn(async move { answers.serve(stream).await.ok() });
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await?);
        }
        let request = String::from_utf8_lossy(&request);
        let mut headers = request.lines().filter_map(|line| line.split_once(": "));
        let key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let accept = derive_accept_key(key.expect("a key").1.as_bytes());
        let mut answer = self.lines.replace("KEY", &accept).into_bytes();
        answer.extend(self.frame);
        let segment = if self.split { 1 } else { answer.len() };
        for bytes in answer.chunks(segment) {
            stream.write_all(bytes).await?;
            // The next segment is sent when the client has had a chance to read this one.
            tokio::task::yield_now().await;
        }
        let mut received = [0; 1024];
        while stream.read(&mut received).await? > 0 && received[0] != CLOSE {}
        stream.write_all(&[CLOSE, 0]).await
    }
}

/// Two users who connect and stay for a second.
async fn stay(url: &str, args: &[&str]) -> Ran {
    let file = report_file().with_extension("toml");
    let scenario = "name = 'stay'\ngreeting = 'none'\nthresholds = ['connection_success >= 99%']\n\
                    [[phase]]\nduration = '1s'\nusers = 2\n[[flow]]\nname = 'f'\nsteps = ['connect']\n";
    std::fs::write(&file, scenario).expect("written");
    let fixed = ["--scenario", file.to_str().expect("UTF-8")];
    let ran = run(url, &[&fixed, args].concat()).await;
    let _ = std::fs::remove_file(file);
    ran
}

async fn stay_with(answers: Answers, args: &[&str]) -> Ran {
    let address = answers.listen().await;
    stay(&format!("ws://{address}/"), args).await
}

#[tokio::test]
async fn answers_that_proxies_make_of_a_handshake_connect() {
    let on_lines = "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY";
    let as_list =
        "upgrade: h2c, WebSocket\r\nconnection: keep-alive, upgrade\r\nsec-websocket-accept: KEY";
    let after = |interim: &str| {
        let mut answers = Answers::plain();
        answers.lines.insert_str(0, interim);
        answers
    };
    let mut split = Answers::plain();
    split.split = true;
    split.lines = split.lines.replace(
        "\r\nConn",
        &format!("\r\nX-Long: {}\r\nConn", "a".repeat(1000)),
    );
    for answers in [
        Answers::plain(),
        Answers::switching(on_lines),
        Answers::switching(as_list),
        after("HTTP/1.1 100 Continue\r\n\r\n"),
        after(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(2)),
        after("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"),
        split,
    ] {
        let what = format!("{:?}", answers.lines);
        stay_with(answers, &[]).await.assert_passed(&what);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_websocket_says_why() {
    let long = format!("{}{PLAIN}", "X-A: b\r\n".repeat(1000));
    let other_key = PLAIN.replace("KEY", "AAAA");
    let no_upgrade = PLAIN.replace("Connection: Upgrade", "Connection: upgraded");
    let extended = format!("{PLAIN}\r\nSec-WebSocket-Extensions: permessage-deflate");
    for (headers, why) in [
        (&long, "more headers than loadtest reads"),
        (&other_key, "handshake_invalid"),
        (&no_upgrade, "handshake_invalid"),
        (&extended, "handshake_invalid"),
    ] {
        let ran = stay_with(Answers::switching(headers), &[]).await;
        assert_eq!(ran.code, Some(3), "{why}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
    }
    let mut answers = Answers::plain();
    answers.lines = answers.lines.replace("101 Switching", "426 Upgrade");
    let ran = stay_with(answers, &[]).await;
    assert!(
        ran.stderr.contains("handshake_rejected:426"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_subprotocol_that_the_server_does_not_choose_is_named() {
    let asked = ["--header", "Sec-WebSocket-Protocol: chat, talk"];
    let chosen = |name| Answers::switching(&format!("{PLAIN}\r\nSec-WebSocket-Protocol: {name}"));
    stay_with(chosen("talk"), &asked)
        .await
        .assert_passed("talk");
    for answers in [Answers::plain(), chosen("other")] {
        let ran = stay_with(answers, &asked).await;
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        assert!(ran.stderr.contains("(chat, talk)"), "{}", ran.stderr);
    }
    let ran = stay_with(chosen("other"), &[]).await;
    assert!(
        ran.stderr.contains("that no user asked for"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_close_code_that_must_not_be_sent_is_reported_as_it_came() {
    for code in [999_u16, 1004, 1005, 1006, 1015, 5000] {
        let mut answers = Answers::plain();
        let reason = b"why";
        answers.frame = [
            &[0x81, 2, b'h', b'i', CLOSE, 5],
            &code.to_be_bytes()[..],
            reason,
        ]
        .concat();
        let ran = stay_with(answers, &[]).await;
        assert!(
            ran.error(&format!("close_code_invalid:{code}")) >= 2,
            "{:#}",
            ran.json["errors"]
        );
        let errors = ran.json["errors"].as_array().expect("a list");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0]["blame"], "protocol");
    }
    let mut answers = Answers::plain();
    answers.frame = vec![CLOSE, 2, 0x03, 0xea];
    let ran = stay_with(answers, &[]).await;
    assert!(
        ran.error("closed_by_server:1002") >= 2,
        "{:#}",
        ran.json["errors"]
    );
}

#[tokio::test]
async fn urls_are_taken_as_browsers_take_them() {
    let address = Answers::plain().listen().await;
    for url in [format!("WS://{address}/"), format!(" ws://{address}\t")] {
        stay(&url, &[]).await.assert_passed(&url);
    }
    // No server has this name: the error shows in which form it was looked up.
    let ran = stay("ws://b\u{fc}cher.invalid/", &[]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("xn--bcher-kva.invalid"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn an_address_may_have_a_zone() {
    // Nobody has this address: the error shows that it was understood.
    let ran = stay("ws://[fe80::1%25lo]:9/", &[]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains(" at [fe80::1%"), "{}", ran.stderr);
}
