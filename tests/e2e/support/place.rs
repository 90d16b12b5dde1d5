//! Servers that succeed each other.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{TestServer, eventually};

/// The flags of servers that succeed each other, and the folder of their Unix socket.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    drain_timeout: &'static str,
}

impl Place {
    pub(crate) fn new(drain_timeout: &'static str) -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            drain_timeout,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("hand-over.sock")
    }

    pub(crate) async fn start(&self) -> TestServer {
        self.start_with(&[]).await
    }

    pub(crate) async fn start_with(&self, flags: &[&str]) -> TestServer {
        let path = self.path();
        let path = path.to_str().unwrap();
        let own = ["--hand-over", path, "--drain-timeout", self.drain_timeout];
        TestServer::start(&[&own, flags].concat()).await
    }
}

/// Waits until the server says that another one has taken its place.
pub(crate) async fn has_handed_over(server: &TestServer) {
    eventually("the server hands over", async || {
        let log = server.process.stderr();
        log.iter().any(|line| line.contains("taken the place"))
    })
    .await;
}
