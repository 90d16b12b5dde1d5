//! Servers of another make: those of `tests/servers`, on the `ws` library of Node.js.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// A running server; ends with the test.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Server {
    /// The server that sends everything back.
    pub(crate) async fn echo(args: &[&str]) -> Self {
        Self::start("echo.js", args).await
    }

    /// The one that has the faults that `args` ask for.
    pub(crate) async fn broken(args: &[&str]) -> Self {
        Self::start("broken.js", args).await
    }

    async fn start(script: &str, args: &[&str]) -> Self {
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/servers");
        assert!(
            servers.join("node_modules/ws").is_dir(),
            "the ws library is not there: run `npm ci` in tests/servers"
        );
        let mut child = Command::new("node")
            .arg(servers.join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("node does not run ({error}): install Node.js 18 or later")
            });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).await.expect("text");
        let port = line.trim().parse();
        let port =
            port.unwrap_or_else(|_| panic!("{script} {args:?} said {line:?} instead of its port"));
        Self {
            child,
            stdout,
            port,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/", self.port)
    }

    /// Ends the server, and gives what it says that it did.
    pub(crate) async fn tally(mut self) -> Tally {
        drop(self.child.stdin.take());
        let mut text = String::new();
        let read = self.stdout.read_to_string(&mut text).await;
        read.expect("text");
        Tally(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
    }
}

/// What a server did.
#[derive(Debug)]
pub(crate) struct Tally(Value);

impl Tally {
    pub(crate) fn get(&self, what: &str) -> usize {
        let count = self.0[what].as_u64();
        let count = count.unwrap_or_else(|| panic!("no {what} in {}", self.0));
        usize::try_from(count).expect("a small number")
    }
}
