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
    identity::{Identified, Identify, Identity},
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
            Self::Invalid(why) => format!("your token is not accepted: {why}"),
            Self::Refused => "the app does not let you in; log in there, and get a new token".to_owned(),
            Self::Unavailable => "it cannot be checked now who you are; try again later".to_owned(),
        }
    }
}

/// Decides who may come in.
pub struct Auth(Way);

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
                Way::Tokens(Box::new(Tokens::load(config, rate, metrics.clone())?))
            }
            AuthConfig::Webhook(config) => {
                Way::Webhook(Box::new(Webhook::new(config, rate, metrics.clone())?))
            }
        };
        Ok(Some(Arc::new(Self(way))))
    }

    /// Waits a while for keys that have to be fetched, so that a server which has just started refuses nobody.
    pub async fn prepare(&self) {
        if let Way::Tokens(tokens) = &self.0 {
            tokens.prepare().await;
        }
    }

    /// Keeps the keys up to date, for ever.
    pub async fn keep(&self) {
        match &self.0 {
            Way::Tokens(tokens) => tokens.keep().await,
            Way::Webhook(_) => std::future::pending().await,
        }
    }

    /// Reads keys in files again now, if they have changed.
    pub fn reload(&self) {
        if let Way::Tokens(tokens) = &self.0 {
            tokens.reload();
        }
    }

    /// Who begins a session with what the request shows.
    pub async fn admit(&self, shown: Shown<'_>) -> Result<Identity, NotAdmitted> {
        match &self.0 {
            Way::Tokens(tokens) => tokens.check(shown.token.ok_or(NotAdmitted::Missing)?),
            // Boxed, as who checks tokens here has no use for its size.
            Way::Webhook(webhook) => Box::pin(webhook.ask(shown)).await,
        }
    }
}

/// Who a renewed token is for.
pub struct Renewal(pub Arc<Auth>);

impl Identify for Renewal {
    fn identify(&self, token: &str, then: Identified) {
        let message = |error: NotAdmitted| error.message();
        if let Way::Tokens(tokens) = &self.0.0 {
            return then(tokens.check(token).map_err(message));
        }
        let (auth, token) = (self.0.clone(), token.to_owned());
        tokio::spawn(async move {
            let shown = Shown {
                token: Some(&token),
                cookie: None,
                origin: None,
                address: None,
            };
            then(auth.admit(shown).await.map_err(message));
        });
    }
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
