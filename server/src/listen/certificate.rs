//! The certificate of the public address, and its key: read again when their files change.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::files::{self, Watched};

/// The most bytes of a chain of certificates.
const MAX_CHAIN_BYTES: u64 = 1024 * 1024;

/// The files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain in PEM, the server's own certificate first.
    pub chain: PathBuf,
    /// The key in PEM.
    pub key: PathBuf,
}

/// What TLS connections show.
pub struct Certificate {
    files: CertificateFiles,
    watched: Watched,
    shown: Arc<Shown>,
}

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(key.clone())
    }
}

impl CertificateFiles {
    /// Reads them; the error names the flag.
    fn load(&self) -> Result<CertifiedKey, String> {
        let chain = |error| format!("--tls-cert: {error}");
        let (pem, _) = files::read(&self.chain, MAX_CHAIN_BYTES).map_err(chain)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let shown = self.chain.display();
        let certificates = certificates.map_err(|error| chain(format!("{shown}: {error}")))?;
        if certificates.is_empty() {
            return Err(chain(format!("{shown} has no certificate in PEM")));
        }
        let shown = self.key.display();
        let key = |error: String| format!("--tls-key: {error}");
        let pem = files::read_secret(&self.key).map_err(key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| key(format!("{shown} has no private key in PEM")))?;
        CertifiedKey::from_der(certificates, private, &ring::default_provider()).map_err(|error| {
            key(format!(
                "{shown} is not the key of the certificate: {error}"
            ))
        })
    }

    /// Whether they can be used; the error names the flag.
    pub fn check(&self) -> Result<(), String> {
        self.load().map(|_| ())
    }
}

impl Certificate {
    /// Reads the files; the error names the flag.
    pub fn load(files: CertificateFiles) -> Result<Self, String> {
        let watched = Watched::new([&*files.chain, &files.key]);
        let shown = RwLock::new(Arc::new(files.load()?));
        Ok(Self {
            files,
            watched,
            shown: Arc::new(Shown(shown)),
        })
    }

    /// Reads the files again if they have changed. What cannot be used is told of, and the old certificate stays.
    pub fn reload(&self) {
        match self.watched.read_again(|| self.files.load()) {
            None => {}
            Some(Ok(key)) => {
                tracing::info!("the TLS certificate has changed");
                *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the new TLS certificate cannot be used; the old one stays");
            }
        }
    }

    /// How connections are encrypted: TLS 1.2 and 1.3, for HTTP/1.1. A client that comes back shows a ticket; nothing is
    /// kept for it here.
    pub fn config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        // One for each connection is enough for who keeps the last.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}
