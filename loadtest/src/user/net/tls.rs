//! Certificate authorities, and the TLS configuration of users.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The configuration of all connections. Sessions are not resumed: each handshake is a full one, as for that many
/// different users. The error says why there are no certificate authorities.
pub fn config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, String> {
    let roots = match ca_pem {
        Some(pem) => authorities(pem)?,
        None => system()?,
    };
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The certificate authorities in a PEM file. The error says what is wrong, and what to give.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|good| roots.add(good).map_err(|error| error.to_string()));
        added.map_err(|why| format!("{why}: give certificates in PEM"))?;
    }
    if roots.is_empty() {
        return Err("no certificate in it: give certificates in PEM".to_owned());
    }
    Ok(roots)
}

fn system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_added, _ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(why.join(", "));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_not_trusted() {
        for bad in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = authorities(bad.as_bytes()).expect_err(bad);
            assert!(error.contains("give certificates in PEM"), "{error}");
        }
    }
}
