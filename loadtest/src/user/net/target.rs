//! The server under test: where its users connect, and where its metrics are.

use std::{net::IpAddr, sync::Arc};

use thiserror::Error;

use crate::{
    base::server_url::{BadUrl, ServerUrl},
    user::net::credentials::{Access, AccessError},
};

/// The server's default port. Another port means another server, whose metrics are elsewhere.
const DEFAULT_PORT: u16 = 8080;
/// The metrics of a server on this machine, by default.
const DEFAULT_ADMIN: &str = "http://127.0.0.1:6060/metrics";

/// A server under test.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) url: ServerUrl,
    pub(crate) admin: Option<Admin>,
    pub(crate) access: Arc<Access>,
}

/// The address of the server's metrics.
#[derive(Debug, Clone)]
pub struct Admin {
    pub url: ServerUrl,
    /// Given by the user: an error if it cannot be read.
    pub given: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("{url:?} is not a WebSocket URL: give one such as ws://127.0.0.1:8080/ws")]
    NotAUrl { url: String },
    #[error("{url:?}: {scheme:?} is not supported: give a ws:// or wss:// URL")]
    Scheme { url: String, scheme: String },
    /// The URL contains a user name, which every report would show.
    #[error(
        "the URL names a user: take that out, and give --token, or --header 'Authorization: Basic ...'"
    )]
    Credentials,
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{url:?} is not the address of metrics: give one such as {DEFAULT_ADMIN}, or none")]
    Admin { url: String },
}

impl Target {
    /// The server at `url`, with its metrics at `admin_url`.
    ///
    /// `admin_url`: `None` tries `http://127.0.0.1:6060/metrics` when the server is on this machine
    /// and its port is 8080, the defaults of the server; `Some("none")` uses no metrics.
    ///
    /// # Errors
    /// The first address that cannot be used, and why.
    pub fn new(url: &str, admin_url: Option<&str>) -> Result<Self, TargetError> {
        let given = || url.to_owned();
        let url = ServerUrl::parse(url, &["ws", "wss"]).map_err(|bad| match bad {
            BadUrl::Syntax => TargetError::NotAUrl { url: given() },
            BadUrl::Scheme(scheme) => TargetError::Scheme {
                url: given(),
                scheme,
            },
            BadUrl::User => TargetError::Credentials,
        })?;
        let access = Access::default().prepared(url.is_tls())?;
        let admin = match admin_url {
            Some("none") => None,
            Some(given) => Some(admin(given)?),
            None if is_loopback(&url.host) && url.port == DEFAULT_PORT => Some(Admin {
                given: false,
                ..admin(DEFAULT_ADMIN)?
            }),
            None => None,
        };
        Ok(Self {
            url,
            admin,
            access: Arc::new(access),
        })
    }

    /// The same server, with these headers, tokens, certificate authorities and source addresses.
    ///
    /// # Errors
    /// The first of them that cannot be used with this server.
    pub fn with_access(mut self, access: Access) -> Result<Self, TargetError> {
        self.access = Arc::new(access.prepared(self.url.is_tls())?);
        Ok(self)
    }

    /// The URL that users connect to.
    pub fn url(&self) -> String {
        self.url.to_string()
    }
}

fn admin(url: &str) -> Result<Admin, TargetError> {
    match ServerUrl::parse(url, &["http"]) {
        Ok(url) => Ok(Admin { url, given: true }),
        Err(_bad) => Err(TargetError::Admin {
            url: url.to_owned(),
        }),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin_of(url: &str, admin_url: Option<&str>) -> Option<(String, bool)> {
        let target = Target::new(url, admin_url).expect("a good target");
        target
            .admin
            .map(|admin| (admin.url.to_string(), admin.given))
    }

    #[test]
    fn metrics_are_looked_for_beside_a_local_server_only() {
        let guessed = Some((DEFAULT_ADMIN.to_owned(), false));
        assert_eq!(admin_of("ws://127.0.0.1:8080/ws", None), guessed);
        assert_eq!(admin_of("ws://[::1]:8080/ws", None), guessed);
        assert_eq!(admin_of("ws://localhost:8080/ws", None), guessed);
        assert_eq!(admin_of("ws://example.org/ws", None), None);
        assert_eq!(admin_of("ws://127.0.0.1:8080/ws", Some("none")), None);
        let given = Some(("http://h:1/m".to_owned(), true));
        assert_eq!(admin_of("ws://example.org/ws", Some("http://h:1/m")), given);
    }

    #[test]
    fn bad_addresses_say_what_to_give_instead() {
        for bad in [
            "",
            "127.0.0.1:8080",
            "/ws",
            "ws://",
            "http://h/ws",
            "ws://h:99999/",
        ] {
            let error = Target::new(bad, None).expect_err(bad).to_string();
            assert!(error.contains("give") && error.contains(bad), "{error}");
        }
        for bad in ["", "https://h/metrics", "h:6060"] {
            assert!(
                matches!(
                    Target::new("ws://h/", Some(bad)),
                    Err(TargetError::Admin { .. })
                ),
                "{bad}"
            );
        }
    }
}
