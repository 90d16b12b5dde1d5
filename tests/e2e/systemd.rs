//! What a service manager gives the server, and what it is told.

use std::{os::unix::net::UnixDatagram, process::Command, time::Duration};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Process, TestServer, User, binary, eventually, http::get};

/// Opens two sockets as systemd does, and becomes the server: its process id stays.
const ACTIVATE: &str = r#"
import os, socket, sys
keep = []
for n, name in enumerate(("public", "admin")):
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen()
    print(name, opened.getsockname()[1], flush=True)
    keep.append(opened)
high = [os.dup2(opened.fileno(), 50 + n) for n, opened in enumerate(keep)]
for n, fd in enumerate(high):
    os.dup2(fd, 3 + n)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="public:admin")
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn activated(flags: &[&str]) -> Process {
    let server = binary();
    let mut python = Command::new("python3");
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => python.env(name, value),
            None => python.env_remove(name),
        };
    }
    python.args(["-c", ACTIVATE]).arg(server.get_program());
    python.args(flags);
    Process::spawn(python)
}

#[tokio::test]
async fn a_server_listens_at_sockets_that_systemd_has_opened() {
    let flags = [
        "--listen",
        "systemd:public",
        "--admin-listen",
        "systemd:admin",
    ];
    let mut process = activated(&flags);
    let mut ports = Vec::new();
    eventually("the server listens", async || {
        let lines = process.stdout();
        ports = ["public ", "admin "]
            .iter()
            .filter_map(|name| lines.iter().find_map(|line| line.strip_prefix(name)))
            .filter_map(|port| port.parse::<u16>().ok())
            .collect();
        process.has_ended()
            || process
                .stderr()
                .iter()
                .any(|line| line.contains(" listening "))
    })
    .await;
    let [public, admin] = [0, 1].map(|n| ([127, 0, 0, 1], ports[n]).into());
    assert_eq!(get(public, "/health").await.status, 200);
    assert_eq!(get(admin, "/readyz").await.status, 200);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_name_that_systemd_has_not_passed_is_an_error() {
    let mut process = activated(&["--listen", "systemd:web", "--admin-listen", "systemd:admin"]);
    assert_eq!(process.exit_code().await, Some(1));
    let log = process.stderr().join("\n");
    assert!(
        log.contains("systemd:web") && log.contains("FileDescriptorName="),
        "{log}"
    );
}

#[tokio::test]
async fn a_socket_that_nobody_names_is_told_of() {
    let process = activated(&[
        "--listen",
        "systemd:public",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    eventually("a warning", async || {
        let log = process.stderr();
        log.iter()
            .any(|line| line.contains("WARN") && line.contains("--listen systemd:NAME"))
    })
    .await;
}

#[tokio::test]
async fn the_service_manager_hears_that_the_server_is_ready_lives_and_stops() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    let hear = || {
        let mut said = [0; 1024];
        let length = manager.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let mut command = binary();
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "300000");
    let mut server = TestServer::start_command(command, "127.0.0.1:0", &[]).await;
    let mut said = Vec::new();
    while !said.contains(&"READY=1\n".to_owned())
        || said.iter().filter(|it| it.contains("WATCHDOG=1")).count() < 3
    {
        said.push(hear());
    }
    let _user = User::connect(&server).await;
    server.process.signal(Signal::TERM);
    while hear() != "STOPPING=1\n" {}
    assert_eq!(server.process.exit_code().await, Some(0));
}
