//! The server under test: where its users connect, and where its metrics are.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use thiserror::Error;
use tokio_tungstenite::tungstenite::http::Uri;

use crate::{
    plan::origin::{bare_host, port, resolve},
    user::net::credentials::{Access, AccessError},
};

/// Where a server on the same machine has its metrics, unless told otherwise.
/// The server's own default; on another port runs another server, whose metrics are elsewhere.
const DEFAULT_PORT: u16 = 8080;
const DEFAULT_ADMIN: &str = "http://127.0.0.1:6060/metrics";

/// A server under test.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) uri: Uri,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) admin: Option<Admin>,
    pub(crate) access: Arc<Access>,
}

/// Where the server's metrics are.
#[derive(Debug, Clone)]
pub struct Admin {
    pub uri: Uri,
    /// Given by the user, who then expects it to be read.
    pub given: bool,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not a URL, or without a host.
    #[error("{url:?} is not a WebSocket URL: give one such as ws://127.0.0.1:8080/ws")]
    NotAUrl {
        /// What was given.
        url: String,
    },
    /// A scheme other than ws and wss.
    #[error("{url:?}: {scheme:?} is not supported: give a ws:// or wss:// URL")]
    Scheme {
        /// What was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// It has the name of a user in it, which would stand in each report.
    #[error(
        "the URL names a user: take that out, and give --token, or --header 'Authorization: Basic ...'"
    )]
    Credentials,
    /// What is needed to get in.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The metrics' address is not usable.
    #[error("{url:?} is not the address of metrics: give one such as {DEFAULT_ADMIN}, or none")]
    Admin {
        /// What was given.
        url: String,
    },
}

impl Target {
    /// The server at `url`, with its metrics at `admin_url`.
    ///
    /// `admin_url`: `None` tries `http://127.0.0.1:6060/metrics` when the server is on this machine
    /// and its port is 8080, the default of both;
    /// `Some("none")` does without.
    ///
    /// # Errors
    /// Which address cannot be used, and why.
    pub fn new(url: &str, admin_url: Option<&str>) -> Result<Self, TargetError> {
        let not_a_url = || TargetError::NotAUrl {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_bad| not_a_url())?;
        match uri.scheme_str() {
            Some("ws" | "wss") => {}
            Some(scheme) => {
                return Err(TargetError::Scheme {
                    url: url.to_owned(),
                    scheme: scheme.to_owned(),
                });
            }
            None => return Err(not_a_url()),
        }
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(TargetError::Credentials);
        }
        let host = bare_host(&uri).ok_or_else(not_a_url)?;
        let port = port(&uri).ok_or_else(not_a_url)?;
        let access = Access::default().prepared(uri.scheme_str() == Some("wss"))?;
        let admin = match admin_url {
            Some("none") => None,
            Some(given) => Some(admin(given)?),
            None if is_loopback(&host) && port == DEFAULT_PORT => Some(Admin {
                uri: Uri::from_static(DEFAULT_ADMIN),
                given: false,
            }),
            None => None,
        };
        Ok(Self {
            uri,
            host,
            port,
            admin,
            access: Arc::new(access),
        })
    }

    /// The same server, entered with these headers, tokens, authorities and source addresses.
    ///
    /// # Errors
    /// Which of them cannot be used with this server.
    pub fn with_access(mut self, access: Access) -> Result<Self, TargetError> {
        self.access = Arc::new(access.prepared(self.uses_tls())?);
        Ok(self)
    }

    fn uses_tls(&self) -> bool {
        self.uri.scheme_str() == Some("wss")
    }

    /// The URL that users connect to.
    pub fn url(&self) -> String {
        self.uri.to_string()
    }

    /// Looks the host up, once for all users.
    pub async fn resolve(&self) -> std::io::Result<Option<SocketAddr>> {
        resolve(&self.host, self.port).await
    }
}

fn admin(url: &str) -> Result<Admin, TargetError> {
    let bad = || TargetError::Admin {
        url: url.to_owned(),
    };
    let uri: Uri = url.parse().map_err(|_bad| bad())?;
    if uri.scheme_str() != Some("http") || bare_host(&uri).is_none() || port(&uri).is_none() {
        return Err(bad());
    }
    Ok(Admin { uri, given: true })
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
            .map(|admin| (admin.uri.to_string(), admin.given))
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
    fn hosts_and_ports_are_read() {
        let target = Target::new("ws://[::1]/ws", None).expect("a good target");
        assert_eq!((target.host.as_str(), target.port), ("::1", 80));
        let target = Target::new("wss://h/ws", None).expect("a good target");
        assert_eq!((target.host.as_str(), target.port), ("h", 443));
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
