//! Who may ask for what is below `/support` and `/debug`: an operator who has the token, or, where there is none, one who sits at this
//! machine. A page of another site in that operator's browser may not.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HOST, HeaderName},
    http::uri::Authority,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::sleep;

use crate::{
    admission::origin::AllowedOrigins,
    files::{self, Watched},
    http::error::HttpError,
    listen::BoundAddress,
};

const FLAG: &str = "--admin-token-file";

/// The fewest bytes of a token: it is not to be guessed.
const MIN_TOKEN_BYTES: usize = 32;

/// Sent by browsers with each request (<https://www.w3.org/TR/fetch-metadata/>).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who may use `/support`, as the flags say it.
#[derive(Debug, Clone, Default)]
pub struct SupportConfig {
    pub token_file: Option<PathBuf>,
    /// Names by which it may be asked.
    pub hosts: Vec<String>,
}

impl SupportConfig {
    /// Reads the file as the start will: what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        self.digest().map(|_| ())
    }

    fn digest(&self) -> Result<Option<TokenDigest>, String> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let token = files::read_secret_text(FLAG, path)?;
        if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{FLAG}: a token has {MIN_TOKEN_BYTES} bytes at least, and no spaces; make one with openssl rand -hex 32"
            ));
        }
        Ok(Some(digest(&token)))
    }
}

type TokenDigest = [u8; 32];

fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token).into()
}

/// Who may use `/support`.
pub struct Access {
    config: SupportConfig,
    watched: Watched,
    /// `None`: there is no token.
    token: Mutex<Option<TokenDigest>>,
    /// Nobody but users of this machine can connect.
    is_private: bool,
}

/// Why a request is refused, and what to do.
pub(super) type NotAllowed = (HttpError, String);

impl Access {
    /// Reads the token. `admin`: where operators connect.
    pub fn new(config: SupportConfig, admin: &BoundAddress) -> Result<Self, String> {
        let is_private = match admin {
            BoundAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            BoundAddress::Unix(_) => true,
        };
        if !is_private && config.token_file.is_none() {
            tracing::warn!(
                "/support and /debug answer nobody: others can connect to the admin address, and {FLAG} names no token"
            );
        }
        Ok(Self {
            watched: Watched::new(config.token_file.as_deref()),
            token: Mutex::new(config.digest()?),
            config,
            is_private,
        })
    }

    /// Reads the token again when its file has changed, for ever.
    pub(super) async fn keep(&self) {
        loop {
            sleep(files::CHECK).await;
            match self.watched.read_again(|| self.config.digest()) {
                None => {}
                Some(Ok(token)) => {
                    *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
                    tracing::info!("the token of operators was read again");
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the token of operators cannot be used; the old one stays");
                }
            }
        }
    }

    /// Whether a request for a profile may go on: at an address of this machine alone it may, as profilers send no token,
    /// unless a page of another site asks.
    pub(super) fn check_profiles(&self, headers: &HeaderMap) -> Result<(), NotAllowed> {
        match self.is_private {
            true => self.check_page(headers),
            false => self.check(headers),
        }
    }

    /// Whether a request with these headers may go on.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), NotAllowed> {
        self.check_page(headers)?;
        let token = *self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = token else {
            return match self.is_private {
                true => Ok(()),
                false => Err((
                    HttpError::SupportOff,
                    format!(
                        "others than users of this machine can connect here: start the server with {FLAG}"
                    ),
                )),
            };
        };
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, shown)) = shown else {
            let message = format!("send Authorization: Bearer and the token of {FLAG}");
            return Err((HttpError::TokenMissing, message));
        };
        // Digests, so that the time tells nothing of the length either.
        match bool::from(digest(shown.trim_start()).ct_eq(&token)) {
            true => Ok(()),
            false => Err((
                HttpError::TokenInvalid,
                format!("this is not the token of {FLAG}"),
            )),
        }
    }

    /// Keeps out pages of other sites: those that name us, and those whose own name leads here (DNS rebinding).
    fn check_page(&self, headers: &HeaderMap) -> Result<(), NotAllowed> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts
            .next()
            .and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let host = host.filter(|_| hosts.next().is_none());
        if !host.is_some_and(|host| self.is_ours(host.host())) {
            let message = "ask by an address or as localhost; --admin-host allows other names";
            return Err((HttpError::HostNotAllowed, message.to_owned()));
        }
        let site = headers.get(SEC_FETCH_SITE);
        let is_own = site.is_none_or(|site| site == "same-origin" || site == "none");
        if !is_own || !AllowedOrigins::default().allow(headers, false) {
            let message = "pages of other sites may not ask for this";
            return Err((HttpError::OriginNotAllowed, message.to_owned()));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let is_address = host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok();
        let mut names = self.config.hosts.iter();
        is_address
            || host == "localhost"
            || host.ends_with(".localhost")
            || names.any(|name| name.eq_ignore_ascii_case(&host))
    }
}
