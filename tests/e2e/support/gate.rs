//! An address before servers that come and go, as that of a load balancer.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::TestServer;

/// Where clients reach a server that listens elsewhere, as behind a load balancer: known before the server is.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, server) = watch::channel(None);
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = server.clone();
                tokio::spawn(async move {
                    let to = server.wait_for(Option::is_some).await.unwrap().unwrap();
                    // A server that is gone ends its clients, too.
                    if let Ok(mut socket) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut client, &mut socket).await;
                    }
                });
            }
        });
        Self { address, to, task }
    }

    /// New connections go to this server from now on.
    pub(crate) fn leads_to(&self, server: &TestServer) {
        self.to.send_replace(Some(server.public));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}
