//! Who may come in: users whom the app has given a token (JWT, RFC 7519), where the operator has named its keys.

mod claims;
mod keys;
mod ring;

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode, errors::ErrorKind,
};
use voicematch_core::{
    identity::{Identify, Identity},
    session::RateLimit,
};

pub use claims::{Claims, Grant};
use keys::Key;
pub use keys::KeyFiles;

/// How often the files of the keys are looked at.
pub const KEY_CHECK: Duration = Duration::from_secs(5);

/// How tokens are checked.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Without any, everybody may come in.
    pub keys: KeyFiles,
    /// A token that names others (`aud`) is refused.
    pub audience: String,
    /// A token of somebody else (`iss`) is refused, and one that names nobody.
    pub issuer: Option<String>,
    /// How far clocks may differ: a token is good for so long after its end, and before its beginning.
    pub leeway: Duration,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// It was good before.
    Expired,
    /// It is none of ours; for people.
    Invalid(String),
}

impl TokenError {
    /// For people: what is wrong and what to do.
    pub fn message(&self) -> String {
        match self {
            Self::Expired => "your token has expired; get a new one".to_owned(),
            Self::Invalid(why) => format!("your token is not accepted: {why}"),
        }
    }
}

/// Checks tokens.
pub struct Auth {
    config: AuthConfig,
    keys: RwLock<Arc<Vec<Key>>>,
    /// What the files of the keys were when they were read.
    seen: Mutex<Vec<Seen>>,
    rate: RateLimit,
}

/// What changes when a file does.
type Seen = Option<(SystemTime, u64, u64)>;

impl Auth {
    /// Reads the keys; `None`: nobody is asked for a token. `rate`: the limit of users whose token names none.
    pub fn load(config: AuthConfig, rate: RateLimit) -> Result<Option<Arc<Self>>, String> {
        if config.keys.is_empty() {
            return Ok(None);
        }
        ring::install();
        // Before they are read: a change in between is seen the next time.
        let seen = Mutex::new(seen(&config.keys));
        let keys = RwLock::new(Arc::new(config.keys.load()?));
        Ok(Some(Arc::new(Self {
            config,
            keys,
            seen,
            rate,
        })))
    }

    /// Reads the keys again if their files have changed. Keys that cannot be read are told of, and the old ones stay.
    pub fn reload(&self) {
        let now = seen(&self.config.keys);
        {
            let mut before = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *before == now {
                return;
            }
            *before = now;
        }
        match self.config.keys.load() {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the keys of tokens have changed");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(error) => {
                tracing::error!(%error, "the new keys of tokens cannot be read; the old ones stay");
            }
        }
    }

    fn keys(&self) -> Arc<Vec<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// The user of a token.
    pub fn check(&self, token: &str) -> Result<Identity, TokenError> {
        let no_token = |_| TokenError::Invalid("it is no JWT".to_owned());
        let header = decode_header(token).map_err(no_token)?;
        let keys = self.keys();
        let fitting = keys.iter().filter(|key| {
            let named = key.id.is_none() || header.kid.is_none() || key.id == header.kid;
            key.algorithm == header.alg && named
        });
        let mut why = TokenError::Invalid("no key of this server is for it".to_owned());
        for key in fitting {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(token) => {
                    let identity = token.claims.identity(&self.rate, self.config.leeway);
                    return identity.map_err(TokenError::Invalid);
                }
                Err(error) => why = token_error(error.kind()),
            }
        }
        Err(why)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.config.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_audience(&[&self.config.audience]);
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation
    }
}

impl Identify for Auth {
    fn identify(&self, token: &str) -> Result<Identity, String> {
        self.check(token).map_err(|error| error.message())
    }
}

fn token_error(kind: &ErrorKind) -> TokenError {
    TokenError::Invalid(match kind {
        ErrorKind::ExpiredSignature => return TokenError::Expired,
        ErrorKind::InvalidSignature => "its signature is not by a key of this server".to_owned(),
        ErrorKind::ImmatureSignature => "it is not good yet (nbf)".to_owned(),
        ErrorKind::InvalidAudience => "it is for others (aud)".to_owned(),
        ErrorKind::InvalidIssuer => "it is by others (iss)".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no {claim}, or a wrong one"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its {claim} is no time"),
        ErrorKind::Json(error) => format!("its claims: {error}"),
        kind => format!("{kind:?}"),
    })
}

fn seen(files: &KeyFiles) -> Vec<Seen> {
    let changes =
        |metadata: Metadata| Some((metadata.modified().ok()?, metadata.len(), metadata.ino()));
    let files = files.all().map(std::fs::metadata);
    files
        .map(|metadata| metadata.ok().and_then(changes))
        .collect()
}

/// Signs a token with the secret in this file; it is good for `ttl`.
pub fn sign(secret_file: &Path, mut claims: Claims, ttl: Duration) -> Result<String, String> {
    ring::install();
    let secret = keys::read_secret(secret_file)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    claims.exp = (now.unwrap_or_default() + ttl).as_secs_f64().floor();
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signed = encode(&Header::new(Algorithm::HS256), &claims, &key);
    signed.map_err(|error| format!("the token could not be signed: {error}"))
}
