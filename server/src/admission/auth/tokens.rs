//! Checks tokens by the keys of the app, and keeps these keys up to date.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use tokio::time::{MissedTickBehavior, interval};
use voicematch_core::{identity::Identity, metrics::Metrics, session::RateLimit};

use super::{
    NotAdmitted,
    claims::Claims,
    keys::{FetchedKeys, Key, KeySources},
};
use crate::files::{self, Watched};

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// Where the keys are; one at least.
    pub keys: KeySources,
    /// A token that names others (`aud`) is refused.
    pub audience: String,
    /// A token of somebody else (`iss`) is refused, and one that names nobody.
    pub issuer: Option<String>,
    /// How far clocks may differ: a token is good for so long after its end, and before its beginning.
    pub leeway: Duration,
}

/// Checks tokens.
pub(super) struct Tokens {
    config: TokenConfig,
    /// The keys of files.
    keys: RwLock<Arc<Vec<Key>>>,
    watched: Watched,
    fetched: Option<FetchedKeys>,
}

impl Tokens {
    pub(super) fn load(config: TokenConfig, metrics: Arc<Metrics>) -> Result<Self, String> {
        let watched = Watched::new(config.keys.files());
        let keys = RwLock::new(Arc::new(config.keys.load()?));
        let url = config.keys.url();
        let fetched = url.map(|url| FetchedKeys::new(url, metrics)).transpose()?;
        Ok(Self {
            config,
            keys,
            watched,
            fetched,
        })
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.config.issuer.as_deref()
    }

    pub(super) async fn prepare(&self) {
        if let Some(fetched) = &self.fetched {
            fetched.prepare().await;
        }
    }

    pub(super) async fn keep(&self) {
        let from_files = async {
            let mut ticks = interval(files::CHECK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.reload();
            }
        };
        match &self.fetched {
            Some(fetched) => _ = tokio::join!(from_files, fetched.keep()),
            None => from_files.await,
        }
    }

    /// Reads the keys again if their files have changed. Keys that cannot be read are told of, and the old ones stay.
    pub(super) fn reload(&self) {
        match self.watched.read_again(|| self.config.keys.load()) {
            None => {}
            Some(Ok(keys)) => {
                tracing::info!(keys = keys.len(), "the keys of tokens have changed");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the new keys of tokens cannot be read; the old ones stay");
            }
        }
    }

    /// The user of a token; `rate` is their limit, if it names none.
    pub(super) fn check(&self, token: &str, rate: &RateLimit) -> Result<Identity, NotAdmitted> {
        let no_token = |_| NotAdmitted::Invalid("it is no JWT".to_owned());
        let header = decode_header(token).map_err(no_token)?;
        let fits = |key: &&Key| {
            let named = key.id.is_none() || header.kid.is_none() || key.id == header.kid;
            key.algorithm == header.alg && named
        };
        let files = self.keys.read();
        let files = files.unwrap_or_else(PoisonError::into_inner).clone();
        let fetched = self.fetched.as_ref().map(FetchedKeys::keys);
        let all = files.iter().chain(fetched.iter().flat_map(|keys| &**keys));
        let mut forged = false;
        for key in all.filter(fits) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(token) => {
                    let identity = token.claims.identity(rate, self.config.leeway);
                    return identity.map_err(NotAdmitted::Invalid);
                }
                // Another key may be its own.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => forged = true,
                Err(error) => return Err(refusal(error.kind())),
            }
        }
        Err(match &self.fetched {
            Some(fetched) => fetched.unknown_key(),
            None if forged => refusal(&ErrorKind::InvalidSignature),
            None => NotAdmitted::Invalid("no key of this server is for it".to_owned()),
        })
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

fn refusal(kind: &ErrorKind) -> NotAdmitted {
    NotAdmitted::Invalid(match kind {
        ErrorKind::ExpiredSignature => return NotAdmitted::Expired,
        ErrorKind::InvalidSignature => "its signature is not by a key of this server".to_owned(),
        ErrorKind::ImmatureSignature => "it is not good yet (nbf)".to_owned(),
        ErrorKind::InvalidAudience => "it is for others (aud)".to_owned(),
        ErrorKind::InvalidIssuer => "it is by others (iss)".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no {claim}, or a wrong one"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its {claim} is no time"),
        ErrorKind::Json(error) => format!("its claims: {error}"),
        kind => {
            tracing::debug!(?kind, "a token cannot be read");
            "it is damaged; get a new one".to_owned()
        }
    })
}
