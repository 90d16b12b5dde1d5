//! TLS for clients that do not speak it: what they say to this address goes encrypted to the server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsConnector;

/// Such an address. It is gone when this is dropped.
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// To this server, whose certificate must be the one in this PEM file.
    pub(crate) async fn to(server: SocketAddr, certificate: &str) -> Self {
        Self::from(Ipv4Addr::LOCALHOST.into(), server, certificate).await
    }

    /// The same, for users at `source`.
    pub(crate) async fn from(source: IpAddr, server: SocketAddr, certificate: &str) -> Self {
        let connector = connector(certificate, &["http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut plain, _) = listener.accept().await.unwrap();
                let connector = connector.clone();
                open.spawn(async move {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind((source, 0).into()).unwrap();
                    let socket = socket.connect(server).await.unwrap();
                    let name = ServerName::try_from("localhost").unwrap();
                    if let Ok(mut encrypted) = connector.connect(name, socket).await {
                        // Ends with either side.
                        let _ = copy_bidirectional(&mut plain, &mut encrypted).await;
                    }
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Trusts the certificate in this PEM file, and no other; offers these protocols.
pub(crate) fn connector(certificate: &str, protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificate).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    TlsConnector::from(Arc::new(config))
}
