//! TLS before a fake server, with a certificate for `localhost` that signs itself.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{RootCertStore, ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

pub(crate) struct TlsFront {
    pub port: u16,
    /// The certificate, for who trusts it.
    pub pem: String,
    _task: JoinSet<()>,
}

impl TlsFront {
    /// Before the server at `to`, as HOST:PORT.
    pub(crate) async fn start(to: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("it can be made");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("it is right");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("it is right");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback is there");
        let port = listener.local_addr().expect("it is bound").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, acceptor, to.to_owned()));
        Self {
            port,
            pem: cert.pem(),
            _task: task,
        }
    }

    /// What a client trusts that knows it.
    pub(crate) fn roots(&self) -> RootCertStore {
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes());
        let mut roots = RootCertStore::empty();
        let added = roots.add(certificate.expect("it is right"));
        added.expect("it is right");
        roots
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, to: String) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, to) = (acceptor.clone(), to.clone());
        connections.spawn(async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else {
                return;
            };
            if let Ok(mut behind) = TcpStream::connect(to).await {
                // It has ended, by one side or the other.
                let _ = copy_bidirectional(&mut tls, &mut behind).await;
            }
        });
    }
}
