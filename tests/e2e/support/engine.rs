//! A Redis of the test's own, in its own folder, on its own port, and nodes over it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{TestServer, clock::Clock, eventually, network::Proxy, ports::free_port, processes};

/// Partners of a node's users are told of its death within this time.
pub(crate) const DEATH: Duration = Duration::from_secs(5);

/// While the engine is away a node matches its own users within this time.
pub(crate) const LOCAL: Duration = Duration::from_secs(1);

/// When the engine is back all nodes have joined each other within this time.
pub(crate) const REJOINED: Duration = Duration::from_secs(3);

/// Ended when it is dropped.
pub(crate) struct Engine {
    folder: TempDir,
    pub(crate) port: u16,
    flags: Vec<String>,
    preload: Option<PathBuf>,
    process: Option<Child>,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        let mut engine = Self::stopped();
        engine.run().await;
        engine
    }

    /// One that does not run yet.
    pub(crate) fn stopped() -> Self {
        Self::stopped_with("")
    }

    /// The same with further flags, split at spaces.
    pub(crate) fn stopped_with(flags: &str) -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            port: free_port(),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            preload: None,
            process: None,
        }
    }

    /// One with a clock of its own.
    pub(crate) async fn start_with_clock(clock: &Clock) -> Self {
        let mut engine = Self::stopped();
        engine.preload = Some(clock.library());
        engine.run().await;
        engine
    }

    pub(crate) async fn run(&mut self) {
        let port = self.port.to_string();
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.flags)
            .envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("Debian's package redis-server"));
        eventually("the engine answers", async || self.ask("ping") == "PONG").await;
    }

    /// Ends it at once, with all that it knew.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        processes::signal(process.id(), signal);
    }

    /// Waits until so many who search are in the index of all nodes.
    pub(crate) async fn holds_tickets(&self, count: usize) {
        eventually("the tickets are there", async || {
            self.ask("hlen {vm:m}:1:t") == count.to_string()
        })
        .await;
    }

    /// What it answers to a command, whose words are split at spaces.
    pub(crate) fn ask(&self, command: &str) -> String {
        self.ask_words(&command.split(' ').collect::<Vec<_>>())
    }

    /// The same for a command of these words.
    pub(crate) fn ask_words(&self, words: &[&str]) -> String {
        self.ask_with(words, Stdio::null())
    }

    /// The same; with `-x` the last word is what stands in `file`.
    fn ask_with(&self, words: &[&str], file: Stdio) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .stdin(file)
            .output()
            .expect("Debian's package redis-tools");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Publishes on a node's channel, as another node would; how many have heard it.
    pub(crate) fn publish(&self, node: &str, bytes: &[u8]) -> String {
        let file = self.folder.path().join("packet");
        fs::write(&file, bytes).unwrap();
        let channel = format!("vm:1:n:{{{node}}}");
        self.ask_with(
            &["-x", "spublish", &channel],
            fs::File::open(file).unwrap().into(),
        )
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A server that is one of several over this engine, if it runs.
    pub(crate) async fn node(&self, flags: &[&str]) -> TestServer {
        let url = self.url();
        TestServer::start(&[&["--cluster", &url], flags].concat()).await
    }

    /// Two that have joined each other.
    pub(crate) async fn two(&self) -> (TestServer, TestServer) {
        self.two_with(&[]).await
    }

    pub(crate) async fn two_with(&self, flags: &[&str]) -> (TestServer, TestServer) {
        joined(self.node(flags).await, self.node(flags).await).await
    }

    /// Two that have joined each other, the first over a network of its own.
    pub(crate) async fn two_and_a_network(&self) -> (TestServer, TestServer, Proxy) {
        let network = Proxy::start(self.port).await;
        let (a, b) = joined(node_at(network.port).await, self.node(&[]).await).await;
        (a, b, network)
    }

    /// Two that have joined each other over one network.
    pub(crate) async fn two_behind_a_network(&self) -> (TestServer, TestServer, Proxy) {
        let network = Proxy::start(self.port).await;
        let (a, b) = joined(node_at(network.port).await, node_at(network.port).await).await;
        (a, b, network)
    }
}

async fn node_at(port: u16) -> TestServer {
    TestServer::start(&["--cluster", &format!("redis://127.0.0.1:{port}")]).await
}

pub(crate) async fn joined(a: TestServer, b: TestServer) -> (TestServer, TestServer) {
    for node in [&a, &b] {
        knows(node, "alive", 1.0).await;
    }
    (a, b)
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // A stopped process is killed, too.
            let _ = (process.kill(), process.wait());
        }
    }
}

/// Waits until a node is up or down, as `/readyz` says.
#[track_caller]
pub(crate) fn stands<'a>(node: &'a TestServer, state: &'a str) -> impl Future<Output = ()> + 'a {
    eventually(state, async move || {
        let ready = node.admin("/readyz").await;
        let body: serde_json::Value = serde_json::from_str(ready.text()).unwrap();
        body["cluster"] == state
    })
}

/// Waits until a node knows so many others in this state.
#[track_caller]
pub(crate) fn knows<'a>(
    node: &'a TestServer,
    state: &'a str,
    count: f64,
) -> impl Future<Output = ()> + 'a {
    let labels = format!(r#"state="{state}""#);
    eventually("it knows the others", async move || {
        let metrics = node.metrics().await;
        let mut nodes = metrics.all("cluster_nodes");
        nodes.any(|found| found == (&*labels, count))
    })
}
