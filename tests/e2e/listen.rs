//! Where the server listens: every form of an address, Unix sockets, and `healthcheck`, which follows.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::support::{
    Client, Process, TestServer, Via, binary, eventually, http::get, pair, run, within,
};

#[tokio::test]
async fn every_form_of_an_address_is_taken() {
    for form in [":0", "0.0.0.0:0", "localhost:0", "127.0.0.1:0"] {
        let server = TestServer::start_command(binary(), form, &[]).await;
        let address = ([127, 0, 0, 1], server.public.port()).into();
        assert_eq!(get(address, "/health").await.status, 200, "{form}");
    }
}

#[tokio::test]
async fn one_server_listens_at_several_addresses() {
    let folder = Folder::new("several");
    let path = folder.socket();
    let unix = format!("unix:{}", path.display());
    let flags = ["--listen", "127.0.0.2:0", "--listen", &unix];
    let server = TestServer::start(&flags).await;
    let mut second = None;
    eventually("all addresses are said", async || {
        let said = server.process.stdout();
        let mut said = said.iter().filter(|line| line.starts_with("public"));
        second = said.nth(1).cloned();
        said.next().is_some()
    })
    .await;
    let second = second.unwrap();
    let second = second.split("http://").nth(1).unwrap();
    let second = second.strip_suffix("/health").unwrap().parse().unwrap();
    let mut one = Client::begin_at(server.public, Via::WebSocket).await;
    one.send(json!({"type": "find_match"})).await;
    one.expect("waiting").await;
    let mut other = Client::begin_at(second, Via::EventStream).await;
    other.send(json!({"type": "find_match"})).await;
    other.expect("match_found").await;
    one.expect("match_found").await;
    user(&path, "203.0.113.1").await.unwrap();
}

#[tokio::test]
async fn a_name_without_an_address_is_named_in_the_error() {
    let (code, said) = run(&["--listen", "no-such-host.invalid:0"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no-such-host.invalid:0"), "{said}");
}

#[tokio::test]
async fn the_server_listens_on_ipv6_too() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let server = TestServer::start_command(binary(), "[::1]:0", &[]).await;
    assert!(server.public.is_ipv6());
    pair(&server).await;
    let url = format!("http://{}/health", server.public);
    assert_eq!(run(&["healthcheck", "--url", &url]).await.0, Some(0));
    // One socket for both.
    for listen in ["[::]:0", ":0"] {
        let server = TestServer::start_command(binary(), listen, &[]).await;
        let port = server.public.port();
        for host in [
            Ipv4Addr::LOCALHOST.into(),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ] {
            let answer = get((host, port).into(), "/health").await;
            assert_eq!(answer.status, 200, "{listen} {host}");
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_clearly() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [
        ("--listen", "--admin-listen"),
        ("--admin-listen", "--listen"),
    ] {
        let (code, said) = run(&[flag, &address, other, "127.0.0.1:0"]).await;
        assert_eq!(code, Some(1));
        assert!(said.contains(&address) && said.contains(flag), "{said}");
    }
}

/// A folder of its own for each test, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voicematch-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("public.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server on a Unix socket, which takes connections.
async fn serve(path: &Path, flags: &[&str]) -> Process {
    let mut command = binary();
    let listen = format!("unix:{}", path.display());
    command.args(["--listen", &listen, "--admin-listen", "127.0.0.1:0"]);
    command.args(flags);
    let mut process = Process::spawn(command);
    eventually("the server listens", async || {
        UnixStream::connect(path).await.is_ok() || process.has_ended()
    })
    .await;
    process
}

type UnixUser = WebSocketStream<UnixStream>;

/// A user whose proxy says that they come from this address; else the status of the refusal.
async fn user(path: &Path, address: &str) -> Result<UnixUser, u16> {
    use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};
    let stream = UnixStream::connect(path).await.unwrap();
    let mut request = "ws://voice.example/ws".into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", address.parse().unwrap());
    match within("the handshake", client_async(request, stream)).await {
        Ok((mut user, _)) => {
            assert_eq!(next(&mut user).await["type"], "session");
            Ok(user)
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn next(user: &mut UnixUser) -> Value {
    let message = within("a message", user.next()).await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn send(user: &mut UnixUser, message: Value) {
    user.send(Message::text(message.to_string())).await.unwrap();
}

#[tokio::test]
async fn users_meet_and_talk_over_a_unix_socket() {
    let folder = Folder::new("talk");
    let path = folder.socket();
    let _server = serve(&path, &["--workers", "2"]).await;
    let mut first = user(&path, "203.0.113.1").await.unwrap();
    let mut second = user(&path, "203.0.113.2").await.unwrap();
    send(&mut first, json!({"type": "find_match"})).await;
    assert_eq!(next(&mut first).await["type"], "waiting");
    send(&mut second, json!({"type": "find_match"})).await;
    assert_eq!(next(&mut first).await["type"], "match_found");
    assert_eq!(next(&mut second).await["type"], "match_found");
    let long = "x".repeat(60_000);
    for _ in 0..20 {
        send(&mut first, json!({"type": "message", "payload": long})).await;
    }
    for _ in 0..20 {
        assert_eq!(next(&mut second).await["payload"], long);
    }
    first.close(None).await.unwrap();
    assert_eq!(next(&mut second).await["reason"], "closed");
}

#[tokio::test]
async fn behind_a_trusted_proxy_on_a_unix_socket_each_user_has_a_limit() {
    let folder = Folder::new("limit");
    let path = folder.socket();
    let flags = [
        "--trusted-proxy",
        "unix",
        "--max-connections-per-address",
        "1",
    ];
    let _server = serve(&path, &flags).await;
    let _first = user(&path, "203.0.113.1").await.unwrap();
    assert_eq!(user(&path, "203.0.113.1").await.err(), Some(429));
    assert!(user(&path, "203.0.113.2").await.is_ok());
}

#[tokio::test]
async fn a_unix_socket_has_the_permissions_asked_for_and_goes_with_the_server() {
    let folder = Folder::new("mode");
    let path = folder.socket();
    for (flags, mode) in [(&[][..], 0o660), (&["--unix-socket-mode", "606"], 0o606)] {
        let mut server = serve(&path, flags).await;
        let file = fs::metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, mode);
        server.signal(Signal::TERM);
        assert_eq!(server.exit_code().await, Some(0));
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn the_socket_of_a_killed_server_is_taken_over() {
    let folder = Folder::new("stale");
    let path = folder.socket();
    let mut killed = serve(&path, &[]).await;
    killed.signal(Signal::KILL);
    killed.exit_code().await;
    assert!(path.exists(), "a killed server leaves its socket");
    let _server = serve(&path, &[]).await;
    assert!(user(&path, "203.0.113.1").await.is_ok());
}

#[tokio::test]
async fn a_path_in_use_is_left_alone() {
    let folder = Folder::new("taken");
    let path = folder.socket();
    let listen = format!("unix:{}", path.display());
    let args = ["--listen", &listen, "--admin-listen", "127.0.0.1:0"];
    let server = serve(&path, &[]).await;
    let (code, said) = run(&args).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&listen) && said.contains("in use"), "{said}");
    assert!(user(&path, "203.0.113.1").await.is_ok());
    drop(server);

    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody's work").unwrap();
    let (code, said) = run(&args).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("not a socket"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's work");
}

#[tokio::test]
async fn the_admin_address_may_be_a_unix_socket() {
    let folder = Folder::new("admin");
    let path = folder.0.join("admin.sock");
    let mut command = binary();
    let admin = format!("unix:{}", path.display());
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", &admin]);
    let _server = Process::spawn(command);
    let mut answer = String::new();
    eventually("the admin address answers", async || {
        let Ok(mut stream) = UnixStream::connect(&path).await else {
            return false;
        };
        let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        answer.clear();
        stream.read_to_string(&mut answer).await.is_ok()
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The exit code of a healthcheck that finds the server's address in its environment.
async fn healthcheck(listen: &str) -> (Option<i32>, String) {
    let mut command = binary();
    command.arg("healthcheck").env("VOICEMATCH_LISTEN", listen);
    let mut process = Process::spawn(command);
    (process.exit_code().await, process.stderr().join("\n"))
}

#[tokio::test]
async fn a_healthcheck_asks_where_the_server_listens() {
    for form in [
        "127.0.0.1:{}",
        "0.0.0.0:{}",
        "[::]:{}",
        ":{}",
        "localhost:{}",
    ] {
        let server = TestServer::start_command(binary(), &form.replace("{}", "0"), &[]).await;
        let listen = form.replace("{}", &server.public.port().to_string());
        let (code, said) = healthcheck(&listen).await;
        assert_eq!(code, Some(0), "{listen}: {said}");
    }
    let folder = Folder::new("health");
    let path = folder.socket();
    let listen = format!("unix:{}", path.display());
    let server = serve(&path, &[]).await;
    assert_eq!(healthcheck(&listen).await, (Some(0), String::new()));
    drop(server);
    let (code, said) = healthcheck(&listen).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&listen) && said.contains("is the server running?"),
        "{said}"
    );
}

#[tokio::test]
async fn healthcheck_tells_by_its_exit_code() {
    let mut server = TestServer::start(&[]).await;
    let url = format!("http://{}/health", server.public);
    assert_eq!(run(&["healthcheck", "--url", &url]).await.0, Some(0));
    let lost = format!("http://{}/nowhere", server.public);
    let (code, said) = run(&["healthcheck", "--url", &lost]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("404"), "{said}");
    server.process.signal(Signal::TERM);
    server.process.exit_code().await;
    let (code, said) = run(&["healthcheck", "--url", &url]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("is the server running?"), "{said}");
    assert_eq!(run(&["healthcheck", "--url", "nonsense"]).await.0, Some(1));
}
