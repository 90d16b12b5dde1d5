//! What a service manager gives the server, and what it is told.

use std::{fs, net::SocketAddr, os::unix::net::UnixDatagram, process::Command, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{
    Process, TestServer, User, binary, eventually, http::get, pair, place::has_handed_over,
    processes,
};

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
    activated_as(&binary(), flags)
}

/// The server that `server` names, in its environment.
fn activated_as(server: &Command, flags: &[&str]) -> Process {
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

/// Where it listens for users and operators, once it does.
async fn listening(process: &mut Process) -> [SocketAddr; 2] {
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
    [0, 1].map(|n| ([127, 0, 0, 1], ports[n]).into())
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
    let [public, admin] = listening(&mut process).await;
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

/// A service manager that waits for what a server says.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify.sock")).unwrap();
        let patience = Some(Duration::from_secs(60));
        socket.set_read_timeout(patience).unwrap();
        Self { folder, socket }
    }

    /// A server that tells this manager, and is to live.
    fn server(&self) -> Command {
        let mut command = binary();
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify.sock"));
        command.env("WATCHDOG_USEC", "300000");
        command
    }

    async fn start(&self, flags: &[&str]) -> TestServer {
        TestServer::start_command(self.server(), "127.0.0.1:0", flags).await
    }

    fn hear(&self) -> String {
        self.hear_if_said().expect("it says something")
    }

    fn hear_if_said(&self) -> Option<String> {
        let mut said = [0; 1024];
        let length = self.socket.recv(&mut said).ok()?;
        Some(String::from_utf8_lossy(&said[..length]).into_owned())
    }

    /// The process that says next that it serves.
    fn hear_ready(&self) -> u32 {
        loop {
            let said = self.hear();
            let pid = said.strip_prefix("MAINPID=");
            if let Some(pid) = pid.and_then(|rest| rest.strip_suffix("\nREADY=1\n")) {
                return pid.parse().unwrap();
            }
            assert_eq!(said, "WATCHDOG=1\n");
        }
    }
}

/// A process that the server has started. Dropping it ends the process.
struct Successor(u32);

impl Drop for Successor {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::TERM);
    }
}

#[tokio::test]
async fn the_service_manager_hears_that_the_server_is_ready_lives_and_stops() {
    let manager = Manager::new();
    let mut server = manager.start(&[]).await;
    assert_eq!(manager.hear_ready(), server.process.id());
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    let _user = User::connect(&server).await;
    server.process.signal(Signal::TERM);
    while manager.hear() != "STOPPING=1\n" {}
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn at_sigusr2_a_new_process_takes_over_and_is_the_one_to_be_minded() {
    let manager = Manager::new();
    let path = manager.folder.path().join("hand-over.sock");
    let flags = [
        "--hand-over",
        path.to_str().unwrap(),
        "--drain-timeout",
        "1s",
    ];
    let mut server = manager.start(&flags).await;
    assert_eq!(manager.hear_ready(), server.process.id());
    server.process.signal(Signal::USR2);
    let successor = Successor(manager.hear_ready());
    assert_ne!(successor.0, server.process.id());
    assert_eq!(server.public("/health").await.status, 200);
    eventually("the old process ends", async || server.process.has_ended()).await;
    // The old one says nothing of its end: the service goes on.
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    assert_eq!(server.public("/health").await.status, 200);
    drop(successor);
    while manager.hear() != "STOPPING=1\n" {}
}

/// A new process that hangs must be seen to hang, also while the one before it drains.
#[tokio::test]
async fn a_process_that_drains_does_not_say_that_the_next_one_lives() {
    let manager = Manager::new();
    let path = manager.folder.path().join("hand-over.sock");
    let path = path.to_str().unwrap();
    let flags = ["--hand-over", path, "--drain-timeout", "1h"];
    let server = manager.start(&flags).await;
    let _call = pair(&server).await;
    manager.hear_ready();
    server.process.signal(Signal::USR2);
    let successor = Successor(manager.hear_ready());
    has_handed_over(&server).await;
    processes::signal(successor.0, Signal::STOP);
    // Three beats of the one before.
    let patience = Some(Duration::from_millis(500));
    manager.socket.set_read_timeout(patience).unwrap();
    let last = (0..20).find(|_| manager.hear_if_said().is_none());
    processes::signal(successor.0, Signal::CONT);
    assert!(last.is_some(), "somebody says that it lives");
}

/// The flags of the unit that is shipped, but for the folders of its files.
fn flags_of_the_unit(folder: &str) -> Vec<String> {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/voicematch.service");
    let unit = fs::read_to_string(unit).unwrap();
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let flags = start.unwrap().split(' ').skip(1);
    flags
        .map(|word| word.replace("/etc/voicematch", folder))
        .map(|word| word.replace("/run/voicematch", folder))
        .collect()
}

#[tokio::test]
async fn at_sigusr2_the_unit_s_own_server_keeps_systemd_s_sockets() {
    let manager = Manager::new();
    let configuration = manager.folder.path().join("voicematch.toml");
    fs::write(&configuration, "drain_timeout = \"1s\"\n").unwrap();
    let flags = flags_of_the_unit(manager.folder.path().to_str().unwrap());
    for wanted in ["systemd:public", "systemd:admin", "--hand-over"] {
        assert!(flags.iter().any(|flag| flag == wanted), "{flags:?}");
    }
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut first = activated_as(&manager.server(), &flags);
    let [public, admin] = listening(&mut first).await;
    assert_eq!(manager.hear_ready(), first.id());

    // One that cannot start changes nothing.
    fs::write(&configuration, "max_rooms = -1\n").unwrap();
    first.signal(Signal::USR2);
    eventually("the new one ends", async || {
        first.stderr().join("\n").contains("max_rooms")
    })
    .await;
    assert_eq!(get(public, "/health").await.status, 200);
    assert!(!first.has_ended());

    fs::write(&configuration, "drain_timeout = \"1s\"\n").unwrap();
    first.signal(Signal::USR2);
    let second = Successor(manager.hear_ready());
    assert_ne!(second.0, first.id());
    eventually("the first has ended", async || first.has_ended()).await;
    assert_eq!(get(public, "/poll?wait=0").await.status, 200);
    assert_eq!(get(admin, "/readyz").await.status, 200);
    // And the next one has them from that one.
    processes::signal(second.0, Signal::USR2);
    let third = Successor(manager.hear_ready());
    assert_ne!(third.0, second.0);
    // One of whose end nobody has taken note has no command line any more.
    eventually("the second has ended", async || {
        let line = fs::read(format!("/proc/{}/cmdline", second.0)).ok();
        line.is_none_or(|line| line.is_empty())
    })
    .await;
    assert_eq!(get(public, "/poll?wait=0").await.status, 200);
    assert_eq!(get(admin, "/readyz").await.status, 200);
}

#[tokio::test]
async fn at_sigusr2_a_server_that_cannot_be_replaced_says_so_and_goes_on() {
    let server = TestServer::start(&[]).await;
    server.process.signal(Signal::USR2);
    eventually("an error", async || {
        let log = server.process.stderr();
        log.iter()
            .any(|line| line.contains("ERROR") && line.contains("--hand-over"))
    })
    .await;
    assert_eq!(server.public("/health").await.status, 200);
}
