//! The keys by which tokens are believed: a secret and a public key, each from a file, and a set of public keys (RFC 7517)
//! from a file or a URL.

mod fetched;

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use hyper::Uri;

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use rustls_pki_types::{AlgorithmIdentifier, SubjectPublicKeyInfoDer, alg_id, pem::PemObject};

use crate::{fetch, files};
pub(super) use fetched::FetchedKeys;

/// The most bytes of a file with public keys.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The least bytes of a secret: those of its hash (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Where keys come from.
#[derive(Debug, Clone, Default)]
pub struct KeySources {
    /// A secret that is shared with the app, for HS256.
    pub secret: Option<PathBuf>,
    /// A public key in PEM, for RS256, ES256 or EdDSA.
    pub public_key: Option<PathBuf>,
    /// A set of public keys in JSON.
    pub set: Option<KeySet>,
}

/// Where a set of keys is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySet {
    /// On this machine.
    File(PathBuf),
    /// Where the app publishes it.
    Url(Uri),
}

impl FromStr for KeySet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains("://") {
            true => fetch::url(text).map(Self::Url),
            false => Ok(Self::File(text.into())),
        }
    }
}

/// One key.
pub(super) struct Key {
    /// `kid`; a key without one is tried for each token.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl KeySources {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files().next().is_none() && self.url().is_none()
    }

    /// Those on this machine.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let set = match &self.set {
            Some(KeySet::File(file)) => Some(file),
            _ => None,
        };
        let files = [self.secret.as_ref(), self.public_key.as_ref(), set];
        files.into_iter().flatten().map(PathBuf::as_path)
    }

    /// The one elsewhere.
    pub(super) fn url(&self) -> Option<&Uri> {
        match &self.set {
            Some(KeySet::Url(url)) => Some(url),
            _ => None,
        }
    }

    /// Whether those on this machine can be used; the error names the flag.
    pub fn check(&self) -> Result<(), String> {
        self.load().map(|_| ())
    }

    /// Reads those on this machine; the error names the flag.
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
            let pem = files::read(file, MAX_FILE_BYTES);
            keys.push(pem.and_then(|(pem, _)| public_key(&pem)).map_err(named)?);
        }
        if let Some(KeySet::File(file)) = &self.set {
            let named = |error| format!("--jwks: {error}");
            let json = files::read(file, MAX_FILE_BYTES);
            keys.extend(json.and_then(|(json, _)| key_set(&json)).map_err(named)?);
        }
        Ok(keys)
    }
}

/// The secret that signs and verifies.
pub(super) fn read_secret(file: &Path) -> Result<String, String> {
    let secret = files::read_secret_text("--jwt-secret-file", file)?;
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

/// The kinds of public keys: how their algorithm is written, the lengths of such a key with it (RFC 5280 section 4.1), and
/// what they verify. The shortest RSA keys have 2048 bits (RFC 7518 section 3.3).
const KINDS: [(
    AlgorithmIdentifier,
    RangeInclusive<usize>,
    Algorithm,
    ReadPem,
); 3] = [
    (
        alg_id::RSA_ENCRYPTION,
        290..=2048,
        Algorithm::RS256,
        DecodingKey::from_rsa_pem,
    ),
    (
        alg_id::ECDSA_P256,
        91..=91,
        Algorithm::ES256,
        DecodingKey::from_ec_pem,
    ),
    (
        alg_id::ED25519,
        44..=44,
        Algorithm::EdDSA,
        DecodingKey::from_ed_pem,
    ),
];

fn public_key(pem: &[u8]) -> Result<Key, String> {
    let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem);
    let der = match (keys.next(), keys.next()) {
        (Some(Ok(der)), None) => der,
        (Some(_), Some(_)) => return Err("more than one key; put them into --jwks".into()),
        _ => return Err("no public key in PEM; openssl pkey -pubout makes one".into()),
    };
    let der = der.as_ref();
    // Before it are the lengths of what follows.
    let is_for = |id: &AlgorithmIdentifier| (4..=8).any(|at| der[at..].starts_with(id.as_ref()));
    let found = KINDS
        .into_iter()
        .find(|(id, ..)| der.len() > 40 && is_for(id));
    let key = found.filter(|(_, lengths, ..)| lengths.contains(&der.len()));
    let key = key.and_then(|(_, _, algorithm, read)| {
        let key = read(pem).ok()?;
        let id = None;
        Some(Key { id, algorithm, key })
    });
    key.ok_or_else(|| {
        "the key is for none of RSA of 2048 to 8192 bits, EC P-256 and Ed25519".to_owned()
    })
}

/// The keys of a set that this server can use; others are left out, as RFC 7517 section 5 asks for.
fn key_set(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet =
        serde_json::from_slice(json).map_err(|error| format!("no set of keys: {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(key_of).collect();
    match keys.is_empty() {
        true => Err("no key in the set is for RS256, ES256 or EdDSA signatures".to_owned()),
        false => Ok(keys),
    }
}

fn key_of(jwk: &Jwk) -> Option<Key> {
    let is_for_signatures = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        // A secret does not belong into a set that others may read.
        _ => return None,
    };
    let other = jwk.common.key_algorithm.is_some_and(|other| other != named);
    if !is_for_signatures || other {
        return None;
    }
    let id = jwk.common.key_id.clone();
    let key = DecodingKey::from_jwk(jwk).ok();
    let key = key.filter(|key| has_right_length(key, algorithm));
    if key.is_none() {
        let id = id.as_deref().unwrap_or("without kid");
        tracing::warn!(key = %id, "a key of the set is cut off, or too short, and was left out");
    }
    Some(Key {
        id,
        algorithm,
        key: key?,
    })
}

/// Whether a key of a set can verify anything.
fn has_right_length(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => (256..=1024).contains(&n.len()),
        // A byte before the two coordinates says that they are both there.
        DecodingKeyKind::SecretOrDer(point) if algorithm == Algorithm::ES256 => point.len() == 65,
        DecodingKeyKind::SecretOrDer(key) => key.len() == 32,
    }
}
