//! Who may come in, where the operator has said so: users whom the app has given a token (JWT, RFC 7519), or those whom
//! the app lets in when it is asked.

mod claims;
mod keys;
mod ring;
mod tokens;
mod webhook;

use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use voicematch_core::{
    identity::{Identified, Identify, Identity, Unidentified},
    live::Live,
    metrics::Metrics,
    session::RateLimit,
};

pub use claims::{Claims, Grant};
pub use keys::{KeySet, KeySources};
pub use ring::install as install_cryptography;
pub use tokens::TokenConfig;
use tokens::Tokens;
use webhook::Webhook;
pub use webhook::WebhookConfig;

/// Who says who may come in.
#[derive(Debug, Clone)]
pub enum AuthConfig {
    /// Nobody: everybody may.
    Off,
    /// Keys of the app.
    Tokens(TokenConfig),
    /// The app itself.
    Webhook(WebhookConfig),
}

/// What a request shows of its user.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The app's token.
    pub token: Option<&'a str>,
    /// The cookies of the page's own site.
    pub cookie: Option<&'a str>,
    /// The page.
    pub origin: Option<&'a str>,
    /// Where the user is.
    pub address: Option<IpAddr>,
}

/// Why a user may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdmitted {
    /// There is no token.
    Missing,
    /// The token was good before.
    Expired,
    /// It is not accepted; why, for people.
    Invalid(String),
    /// It is by a key that is not known, or not yet: the keys are fetched.
    NewKey,
    /// The app has said no.
    Refused,
    /// Nobody can say now: the keys are not there yet, or the app does not answer.
    Unavailable,
}

impl NotAdmitted {
    /// For people: what is wrong and what to do.
    pub fn message(&self) -> String {
        match self {
            Self::Missing => "a token of the app is needed: as Authorization: Bearer, as subprotocol token.TOKEN, or as token= or access_token= in the query".to_owned(),
            Self::Expired => "your token has expired; get a new one".to_owned(),
            Self::NewKey => "your token is not accepted: no key of this server is for it; if it is by a new key, try again in some seconds".to_owned(),
            Self::Invalid(why) => format!("your token is not accepted: {why}"),
            Self::Refused => "the app does not let you in; log in there, and get a new token".to_owned(),
            Self::Unavailable => "it cannot be checked now who you are; try again later".to_owned(),
        }
    }
}

/// Decides who may come in.
pub struct Auth {
    way: Way,
    /// The limit of users for whom the app names none.
    rate: Live<RateLimit>,
}

enum Way {
    Tokens(Box<Tokens>),
    Webhook(Box<Webhook>),
}

impl Auth {
    /// Reads the keys; `None`: everybody may come in. `rate`: the limit of users for whom the app names none. To be
    /// called inside the runtime that outlives all requests.
    pub fn load(
        config: AuthConfig,
        rate: RateLimit,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Arc<Self>>, String> {
        let way = match config {
            AuthConfig::Off => return Ok(None),
            AuthConfig::Tokens(config) => {
                ring::install();
                Way::Tokens(Box::new(Tokens::load(config, metrics.clone())?))
            }
            AuthConfig::Webhook(config) => {
                Way::Webhook(Box::new(Webhook::new(config, metrics.clone())?))
            }
        };
        let rate = Live::new(rate);
        Ok(Some(Arc::new(Self { way, rate })))
    }

    /// Whom tokens must be by.
    pub fn issuer(&self) -> Option<&str> {
        match &self.way {
            Way::Tokens(tokens) => tokens.issuer(),
            Way::Webhook(_) => None,
        }
    }

    /// Waits a while for keys that have to be fetched, so that a server which has just started refuses nobody.
    pub async fn prepare(&self) {
        if let Way::Tokens(tokens) = &self.way {
            tokens.prepare().await;
        }
    }

    /// Keeps the keys up to date, for ever.
    pub async fn keep(&self) {
        match &self.way {
            Way::Tokens(tokens) => tokens.keep().await,
            Way::Webhook(_) => std::future::pending().await,
        }
    }

    /// Reads keys in files again now, if they have changed; `rate` is the limit from now on. False: it was changed too often.
    pub fn reload(&self, rate: RateLimit) -> bool {
        if let Way::Tokens(tokens) = &self.way {
            tokens.reload();
        }
        self.rate.replace(rate)
    }

    /// Who begins a session with what the request shows.
    pub async fn admit(&self, shown: Shown<'_>) -> Result<Identity, NotAdmitted> {
        let rate = self.rate.get();
        match &self.way {
            Way::Tokens(tokens) => tokens.check(shown.token.ok_or(NotAdmitted::Missing)?, rate),
            // Boxed, as who checks tokens here has no use for its size.
            Way::Webhook(webhook) => Box::pin(webhook.ask(shown, rate)).await,
        }
    }
}

/// Who a renewed token is for.
pub struct Renewal(pub Arc<Auth>);

impl Identify for Renewal {
    fn identify(&self, token: &str, address: Option<IpAddr>, then: Identified) {
        let why = |error: NotAdmitted| Unidentified {
            message: error.message(),
            temporary: matches!(error, NotAdmitted::NewKey | NotAdmitted::Unavailable),
        };
        if let Way::Tokens(tokens) = &self.0.way {
            return then(tokens.check(token, self.0.rate.get()).map_err(why));
        }
        let (auth, token) = (self.0.clone(), token.to_owned());
        tokio::spawn(async move {
            let shown = Shown {
                token: Some(&token),
                cookie: None,
                origin: None,
                address,
            };
            then(auth.admit(shown).await.map_err(why));
        });
    }
}

/// Makes tokens, to try a server.
pub struct Signer {
    key: EncodingKey,
    issuer: Option<String>,
}

impl Signer {
    /// Signs with the secret in this file; `issuer` is what `--jwt-issuer` of the server says.
    pub fn load(secret_file: &Path, issuer: Option<String>) -> Result<Self, String> {
        ring::install();
        let secret = keys::read_secret(secret_file)?;
        let key = EncodingKey::from_secret(secret.as_bytes());
        Ok(Self { key, issuer })
    }

    /// A token that is good for `ttl`.
    pub fn sign(&self, mut claims: Claims, ttl: Duration) -> Result<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        claims.exp = (now.unwrap_or_default() + ttl).as_secs_f64().floor();
        claims.iss.clone_from(&self.issuer);
        let signed = encode(&Header::new(Algorithm::HS256), &claims, &self.key);
        signed.map_err(|error| format!("the token could not be signed: {error}"))
    }
}
