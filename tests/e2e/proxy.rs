//! Behind a proxy: whose address counts, and whom the server believes.

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpStream, UnixStream},
};

use crate::support::{
    Process, RawSocket, TestServer, binary, eventually,
    http::Response,
    jwt::{Folder, certificate},
    raw::handshake,
    tunnel::connector,
    within,
};

/// A handshake with more header lines, and its answer.
async fn shake(server: &TestServer, lines: &[&str]) -> (Response, RawSocket) {
    let mut socket = RawSocket::connect(server).await;
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let text = handshake(server).replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
    socket.write(text.as_bytes()).await;
    (socket.response().await, socket)
}

async fn status(server: &TestServer, lines: &[&str]) -> u16 {
    shake(server, lines).await.0.status
}

const TWO_EACH: [&str; 4] = [
    "--max-connections-per-address",
    "2",
    "--trusted-proxy",
    "127.0.0.0/8",
];

#[tokio::test]
async fn behind_a_trusted_proxy_each_user_has_a_limit() {
    let server = TestServer::start(&TWO_EACH).await;
    let one = ["X-Forwarded-For: 198.51.100.9, 203.0.113.7"];
    let (_, first) = shake(&server, &one).await;
    let (_, _second) = shake(&server, &one).await;
    let (refused, _) = shake(&server, &one).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.json()["code"], "too_many_connections");
    // What stands before a user's address is only their claim; another proxy of ours may stand behind it.
    let same = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 203.0.113.7, 127.0.0.9",
    ];
    assert_eq!(status(&server, &same).await, 429);
    assert_eq!(
        status(&server, &["X-Forwarded-For: 203.0.113.8"]).await,
        101
    );
    for label in ["connections_refused_total", "limit_hits_total"] {
        let kind = if label.starts_with('l') {
            "limit"
        } else {
            "reason"
        };
        let labels = format!(r#"{kind}="max_connections_per_address""#);
        server.reaches(label, &labels, 2.0).await;
    }
    drop(first);
    eventually("there is room again", async || {
        status(&server, &one).await == 101
    })
    .await;
}

#[tokio::test]
async fn a_proxys_own_connections_are_counted_in_total_only() {
    let flags = [
        &TWO_EACH[..],
        &["--limit-loopback", "--max-connections", "4"],
    ]
    .concat();
    let server = TestServer::start(&flags).await;
    let mut users = Vec::new();
    for user in 1..=4 {
        let line = format!("X-Forwarded-For: 203.0.113.{user}");
        let (response, socket) = shake(&server, &[&line]).await;
        assert_eq!(response.status, 101);
        users.push(socket);
    }
    assert_eq!(
        status(&server, &["X-Forwarded-For: 203.0.113.5"]).await,
        503
    );
}

#[tokio::test]
async fn without_the_header_a_proxys_own_address_counts() {
    let flags = [&TWO_EACH[..], &["--limit-loopback"]].concat();
    let server = TestServer::start(&flags).await;
    let (_, _first) = shake(&server, &[]).await;
    let (_, _second) = shake(&server, &[]).await;
    assert_eq!(status(&server, &[]).await, 429);
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let flags = [
        "--max-connections-per-address",
        "2",
        "--limit-loopback",
        "--trusted-proxy",
        "10.0.0.0/8",
    ];
    let server = TestServer::start(&flags).await;
    let (_, _first) = shake(&server, &["X-Forwarded-For: 203.0.113.1"]).await;
    let (_, _second) = shake(&server, &["X-Forwarded-For: 203.0.113.2"]).await;
    assert_eq!(
        status(&server, &["X-Forwarded-For: 203.0.113.3"]).await,
        429
    );
    let page = [
        "Origin: https://voice.example",
        "X-Forwarded-Host: voice.example",
    ];
    let server = TestServer::start(&[]).await;
    assert_eq!(status(&server, &page).await, 403);
}

#[tokio::test]
async fn the_page_may_be_at_the_host_that_a_trusted_proxy_names() {
    let server = TestServer::start(&["--trusted-proxy", "127.0.0.1"]).await;
    let page = "Origin: https://voice.example";
    let named = status(&server, &[page, "X-Forwarded-Host: voice.example"]).await;
    assert_eq!(named, 101);
    let other = status(&server, &[page, "X-Forwarded-Host: evil.example"]).await;
    assert_eq!(other, 403);
}

/// A PROXY header of version 2: this version and command, this family, and these addresses.
fn proxy_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&length);
    header.extend_from_slice(rest);
    header
}

/// A header for a user at this address, with something behind the addresses as proxies may add.
fn proxied(user: [u8; 4]) -> Vec<u8> {
    let rest = [
        &user[..],
        &[127, 0, 0, 1, 1, 2, 3, 4],
        &[0x04, 0, 3, b'a', b'b', b'c'],
    ];
    proxy_header(0x21, 0x11, &rest.concat())
}

const BY_PROXY_HEADER: [&str; 5] = [
    "--proxy-protocol",
    "--trusted-proxy",
    "127.0.0.1",
    "--max-connections-per-address",
    "1",
];

#[tokio::test]
async fn the_address_in_a_proxy_header_counts() {
    let server = TestServer::start(&BY_PROXY_HEADER).await;
    let begin = async |header: &[u8], more: &str| {
        let mut socket = RawSocket::connect(&server).await;
        let text = handshake(&server).replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
        socket.write(&[header, text.as_bytes()].concat()).await;
        (socket.response().await.status, socket)
    };
    let (status, _first) = begin(&proxied([203, 0, 113, 7]), "").await;
    assert_eq!(status, 101);
    assert_eq!(begin(&proxied([203, 0, 113, 7]), "").await.0, 429);
    // Who is no proxy cannot claim to be another user.
    let claim = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(begin(&proxied([203, 0, 113, 7]), claim).await.0, 429);
    assert_eq!(begin(&proxied([203, 0, 113, 8]), "").await.0, 101);
    // Over IPv6 all of a network are one.
    let mut network = [0; 36];
    network[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    let (status, _sixth) = begin(&proxy_header(0x21, 0x21, &network), "").await;
    assert_eq!(status, 101);
    network[15] = 1;
    assert_eq!(begin(&proxy_header(0x21, 0x21, &network), "").await.0, 429);
    // Without a session too.
    let mut kept = Vec::new();
    for path in ["/nothing", "/health", "/health"] {
        let mut socket = RawSocket::connect(&server).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        socket
            .write(&[&proxied([203, 0, 113, 50])[..], request.as_bytes()].concat())
            .await;
        kept.push((socket.response().await.status, socket));
    }
    let statuses: Vec<_> = kept.iter().map(|(status, _)| *status).collect();
    assert_eq!(
        statuses,
        [404, 200, 200],
        "health answers whatever the limits are"
    );
    let mut socket = RawSocket::connect(&server).await;
    let request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    socket
        .write(&[&proxied([203, 0, 113, 50])[..], request].concat())
        .await;
    assert_eq!(socket.response().await.status, 429);
    // A proxy that asks for itself.
    assert_eq!(begin(&proxy_header(0x20, 0, &[]), "").await.0, 101);
}

#[tokio::test]
async fn what_is_no_proxy_header_costs_its_sender_only() {
    let flags = [&BY_PROXY_HEADER[..], &["--handshake-timeout", "1s"]].concat();
    let server = TestServer::start(&flags).await;
    let mut cut_off = proxied([203, 0, 113, 7]);
    cut_off[15] = 4;
    cut_off.truncate(20);
    let mut wrong = vec![
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        proxy_header(0x11, 0x11, &[0; 12]),
        proxy_header(0x22, 0x11, &[0; 12]),
        proxy_header(0x21, 0x31, &[0; 216]),
        proxy_header(0x21, 0x11, &[0; 11]),
        proxy_header(0x21, 0x21, &[0; 35]),
        proxy_header(0x21, 0x11, &[0; 2000]),
        cut_off,
    ];
    let refused = wrong.len();
    // These are cut off, and the rest does not come.
    wrong.push(proxied([203, 0, 113, 7])[..20].to_vec());
    wrong.push(Vec::new());
    for bytes in wrong {
        let mut socket = RawSocket::connect(&server).await;
        socket.write(&bytes).await;
        let mut said = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut socket.stream, &mut said);
        // Bytes that nobody has read make the end a reset.
        let _ = within("the end", end).await;
        assert!(said.is_empty(), "{bytes:?}");
    }
    let reason = r#"reason="proxy_header""#;
    server
        .reaches("connections_refused_total", reason, refused as f64)
        .await;
    server.reaches("connections_open", "", 0.0).await;
}

#[tokio::test]
async fn who_is_no_trusted_proxy_sends_no_header() {
    let flags = ["--proxy-protocol", "--trusted-proxy", "192.0.2.1"];
    let server = TestServer::start(&flags).await;
    assert_eq!(server.public("/health").await.status, 200);
    let admin = server.admin.to_string();
    let mut command = binary();
    command.args([
        "healthcheck",
        "--listen",
        "127.0.0.1:1",
        "--admin-listen",
        &admin,
    ]);
    command.env("VOICEMATCH_PROXY_PROTOCOL", "true");
    assert_eq!(Process::spawn(command).exit_code().await, Some(0));
    let mut liar = RawSocket::connect(&server).await;
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    liar.write(&[&proxied([203, 0, 113, 7]), &request[..]].concat())
        .await;
    assert_eq!(liar.response().await.status, 400);
}

/// The status of the answer to a handshake.
async fn shaken(mut stream: impl AsyncRead + AsyncWrite + Unpin, server: &TestServer) -> String {
    stream
        .write_all(handshake(server).as_bytes())
        .await
        .unwrap();
    let mut line = String::new();
    let mut answer = BufReader::new(stream);
    within("the answer", answer.read_line(&mut line))
        .await
        .unwrap();
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_proxy_header_stands_before_the_tls_of_its_user() {
    let folder = Folder::new("proxy-tls");
    let (chain, key) = certificate(&folder, "certificate");
    let flags = [
        &BY_PROXY_HEADER[..],
        &["--tls-cert", &chain, "--tls-key", &key],
    ];
    let server = TestServer::start(&flags.concat()).await;
    let connect = async |user: [u8; 4]| {
        let mut socket = TcpStream::connect(server.public).await.unwrap();
        socket.write_all(&proxied(user)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        connector(&chain, &[]).connect(name, socket).await
    };
    let mut first = connect([203, 0, 113, 7]).await.unwrap();
    assert_eq!(shaken(&mut first, &server).await, "101");
    let second = connect([203, 0, 113, 7]).await.unwrap();
    assert_eq!(shaken(second, &server).await, "429");
    let other = connect([203, 0, 113, 8]).await.unwrap();
    assert_eq!(shaken(other, &server).await, "101");
    // Without the header it is no TLS of a user.
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(server.public).await.unwrap();
    assert!(connector(&chain, &[]).connect(name, socket).await.is_err());
    let reason = r#"reason="proxy_header""#;
    server
        .reaches("connections_refused_total", reason, 1.0)
        .await;
}

#[tokio::test]
async fn a_proxy_header_comes_over_a_unix_socket_too() {
    let folder = Folder::new("proxy-unix");
    let path = folder.path("public.sock");
    let unix = format!("unix:{path}");
    let flags = [
        &BY_PROXY_HEADER[..],
        &["--trusted-proxy", "unix", "--listen", &unix],
    ];
    let server = TestServer::start(&flags.concat()).await;
    let connect = async |user: [u8; 4]| {
        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket.write_all(&proxied(user)).await.unwrap();
        socket
    };
    let mut first = connect([203, 0, 113, 7]).await;
    assert_eq!(shaken(&mut first, &server).await, "101");
    let second = connect([203, 0, 113, 7]).await;
    assert_eq!(shaken(second, &server).await, "429");
    let other = connect([203, 0, 113, 8]).await;
    assert_eq!(shaken(other, &server).await, "101");
}
