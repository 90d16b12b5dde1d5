//! Credentials for TURN servers, which a real coturn believes.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::UdpSocket,
    os::unix::fs::OpenOptionsExt,
    process::Command,
    time::SystemTime,
};

use serde_json::Value;

use crate::support::{
    Client, Process, TestServer, User, Via, eventually,
    ports::{TRIES, free_port},
    within,
};

const SECRET: &str = "north of the wall";

/// A file with the secret in it, as an editor leaves it.
fn secret_file(name: &str) -> String {
    let path = format!("{}/turn-{name}.secret", env!("CARGO_TARGET_TMPDIR"));
    let _ = fs::remove_file(&path);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    writeln!(file.unwrap(), "{SECRET}").unwrap();
    path
}

/// A coturn on loopback, and its port.
async fn coturn() -> (Process, u16) {
    for _ in 0..TRIES {
        let port = free_port();
        if UdpSocket::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        let mut command = Command::new("/usr/bin/turnserver");
        command
            .args(
                "-n --no-tls --no-dtls --no-cli --allow-loopback-peers --log-file=stdout"
                    .split(' '),
            )
            .args("--listening-ip=127.0.0.1 --relay-ip=127.0.0.1 --realm=example.org".split(' '))
            .arg(format!("--listening-port={port}"))
            .arg(format!(
                "--pidfile={}/turn-{port}.pid",
                env!("CARGO_TARGET_TMPDIR")
            ))
            .arg(format!(
                "--userdb={}/turn-{port}.db",
                env!("CARGO_TARGET_TMPDIR")
            ))
            .arg("--use-auth-secret")
            .arg(format!("--static-auth-secret={SECRET}"));
        let mut process = Process::spawn(command);
        let mut ended = false;
        eventually("coturn listens", async || {
            ended = process.has_ended();
            ended
                || tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
        })
        .await;
        if !ended {
            return (process, port);
        }
    }
    panic!("coturn gets no port");
}

/// Whether the server lets this user send something through it and get it back.
async fn relays(port: u16, username: &str, credential: &str) -> bool {
    let mut client = tokio::process::Command::new("/usr/bin/turnutils_uclient");
    client
        .args(["-y", "-c", "-n", "1", "-m", "1", "-p", &port.to_string()])
        .args(["-u", username, "-w", credential, "127.0.0.1"])
        .kill_on_drop(true);
    let output = within("the client of coturn", client.output())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && said.contains("Total lost packets 0 ")
}

/// User name and credential of the last of these servers.
fn credential(ice_servers: &Value) -> [String; 2] {
    let server = ice_servers.as_array().unwrap().last().unwrap();
    ["username", "credential"].map(|field| server[field].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn coturn_believes_the_credentials_of_a_session() {
    let (_coturn, port) = coturn().await;
    let (url, file) = (format!("turn:127.0.0.1:{port}"), secret_file("coturn"));
    let flags = [
        "--turn-url",
        &url,
        "--turn-secret-file",
        &file,
        "--turn-ttl",
        "1h",
    ];
    let server = TestServer::start(&[&flags[..], &["--ice-server", "stun:a"]].concat()).await;
    let plain = User::connect(&server).await;
    let ice_servers = &plain.session["ice_servers"];
    assert_eq!(ice_servers[0]["urls"][0], "stun:a");
    assert_eq!(ice_servers[1]["urls"][0], url);
    let [username, password] = credential(ice_servers);
    assert!(username.ends_with(&format!(":{}", plain.id)), "{username}");
    let resumable = Client::begin(&server, Via::WebSocket).await;
    let [other, others] = credential(&resumable.first["ice_servers"]);
    let (one, two, wrong) = tokio::join!(
        relays(port, &username, &password),
        relays(port, &other, &others),
        relays(port, &other, &password),
    );
    assert!(one && two);
    assert!(!wrong, "one user's credential is nobody else's");
}

#[tokio::test]
async fn credentials_are_renewed_before_they_end() {
    let file = secret_file("renewed");
    let flags = ["--turn-url", "turn:x", "--turn-secret-file", &file];
    let server = TestServer::start(&[&flags[..], &["--turn-ttl", "12s"]].concat()).await;
    let mut clients = Vec::new();
    for via in Via::ALL {
        clients.push(Client::begin(&server, via).await);
    }
    let until = |ice_servers: &Value| -> u64 {
        let [username, _] = credential(ice_servers);
        username.split_once(':').unwrap().0.parse().unwrap()
    };
    for client in &mut clients {
        let first = until(&client.first["ice_servers"]);
        let renewed = client.expect("ice_servers").await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        assert!(now.unwrap().as_secs() < first, "the first ones still count");
        assert!(until(&renewed["ice_servers"]) > first);
    }
    // A client that comes back gets new ones at once.
    let mut back = clients.remove(0);
    let before = until(&back.first["ice_servers"]);
    back.cut();
    back.resume(Via::WebSocket).await.unwrap();
    assert!(until(&back.first["ice_servers"]) > before);
}
