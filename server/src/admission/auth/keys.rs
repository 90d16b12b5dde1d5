//! The keys by which tokens are believed: a secret, a public key, or a set of them (RFC 7517), each from a file.

use std::path::{Path, PathBuf};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

use crate::secret;

/// The least bytes of a secret: those of its hash (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Where keys come from.
#[derive(Debug, Clone, Default)]
pub struct KeyFiles {
    /// A secret that is shared with the app, for HS256.
    pub secret: Option<PathBuf>,
    /// A public key in PEM, for RS256, ES256 or EdDSA.
    pub public_key: Option<PathBuf>,
    /// A set of public keys in JSON.
    pub jwks: Option<PathBuf>,
}

/// One key.
pub(super) struct Key {
    /// `kid`; a key without one is tried for each token.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl KeyFiles {
    /// Whether tokens are asked for at all.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// The files.
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.secret, &self.public_key, &self.jwks];
        files.into_iter().filter_map(|file| file.as_deref())
    }

    /// Reads all of them; the error names the flag.
    pub(super) fn load(&self) -> Result<Vec<Key>, String> {
        let mut keys = Vec::new();
        if let Some(file) = &self.secret {
            keys.push(Key {
                id: None,
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(read_secret(file)?.as_bytes()),
            });
        }
        if let Some(file) = &self.public_key {
            let named = |error| format!("--jwt-public-key-file: {error}");
            let pem = std::fs::read(file).map_err(|error| shown(file, &error));
            keys.push(pem.and_then(|pem| public_key(&pem)).map_err(named)?);
        }
        if let Some(file) = &self.jwks {
            let named = |error| format!("--jwks: {error}");
            let json = std::fs::read(file).map_err(|error| shown(file, &error));
            keys.extend(json.and_then(|json| key_set(&json)).map_err(named)?);
        }
        Ok(keys)
    }
}

fn shown(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}

/// The secret that signs and verifies.
pub(super) fn read_secret(file: &Path) -> Result<String, String> {
    let secret = secret::text("--jwt-secret-file", file)?;
    if secret.len() < MIN_SECRET_BYTES {
        return Err(format!(
            "--jwt-secret-file: {} has {} bytes, and a secret has {MIN_SECRET_BYTES} at least; openssl rand -hex 32",
            file.display(),
            secret.len()
        ));
    }
    Ok(secret)
}

type ReadPem = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

fn public_key(pem: &[u8]) -> Result<Key, String> {
    let kinds: [(Algorithm, ReadPem); 3] = [
        (Algorithm::RS256, DecodingKey::from_rsa_pem),
        (Algorithm::ES256, DecodingKey::from_ec_pem),
        (Algorithm::EdDSA, DecodingKey::from_ed_pem),
    ];
    let found = kinds.into_iter().find_map(|(algorithm, read)| {
        let key = read(pem).ok()?;
        Some(Key {
            id: None,
            algorithm,
            key,
        })
    });
    found.ok_or_else(|| "no public key in PEM (RSA, EC P-256 or Ed25519)".to_owned())
}

/// The keys of a set that this server can use; others are left out, as RFC 7517 section 5 asks for.
pub(super) fn key_set(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet =
        serde_json::from_slice(json).map_err(|error| format!("no set of keys: {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(key_of).collect();
    match keys.is_empty() {
        true => Err("no key in the set is for RS256, ES256 or EdDSA signatures".to_owned()),
        false => Ok(keys),
    }
}

fn key_of(jwk: &Jwk) -> Option<Key> {
    if !matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let algorithm = match (key.family(), jwk.common.key_algorithm) {
        (AlgorithmFamily::Rsa, None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
        (AlgorithmFamily::Ec, None | Some(KeyAlgorithm::ES256)) => Algorithm::ES256,
        (AlgorithmFamily::Ed, None | Some(KeyAlgorithm::EdDSA)) => Algorithm::EdDSA,
        // A secret does not belong into a set that others may read.
        _ => return None,
    };
    let id = jwk.common.key_id.clone();
    Some(Key { id, algorithm, key })
}
