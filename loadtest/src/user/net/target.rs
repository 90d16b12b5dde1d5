//! The server under test: where its users connect, and where its metrics are.

use std::{net::IpAddr, sync::Arc};

use thiserror::Error;

use crate::{
    base::server_url::{BadUrl, ServerUrl},
    measure::reach::NodeId,
    user::net::credentials::{Access, AccessError},
};

/// The server's default port. Another port means another server, whose metrics are elsewhere.
const DEFAULT_PORT: u16 = 8080;
/// The metrics of a server on this machine, by default.
const DEFAULT_ADMIN: &str = "http://127.0.0.1:6060/metrics";

/// The server under test, or several that are one service.
#[derive(Debug, Clone)]
pub struct Target {
    /// At least one.
    nodes: Vec<Node>,
    pub(crate) access: Arc<Access>,
}

/// One server under test.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) url: ServerUrl,
    pub(crate) admin: Option<Admin>,
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
    #[error(
        "{admins} addresses of metrics for {urls} servers: give --admin-url once for each, in the same order, or none"
    )]
    Admins { admins: usize, urls: usize },
    #[error("{0} servers: give 1 to {max}", max = NodeId::MAX)]
    Servers(usize),
    #[error("{0} was given twice")]
    Twice(String),
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
        Self::of_nodes(&[url], admin_url.as_slice())
    }

    /// Several servers that are one service, at these URLs, each with its metrics at the address at the same place of
    /// `admin_urls`, which may be empty, or `none` for all. See [`Self::new`].
    ///
    /// # Errors
    /// The first address that cannot be used, and why.
    pub fn of_nodes(
        urls: &[impl AsRef<str>],
        admin_urls: &[impl AsRef<str>],
    ) -> Result<Self, TargetError> {
        if !(1..=NodeId::MAX).contains(&urls.len()) {
            return Err(TargetError::Servers(urls.len()));
        }
        let mut admins: Vec<Option<&str>> =
            admin_urls.iter().map(|url| Some(url.as_ref())).collect();
        match *admins.as_slice() {
            [] => admins = vec![None; urls.len()],
            [Some("none")] => admins = vec![Some("none"); urls.len()],
            _ if admins.len() == urls.len() => {}
            _ => {
                let (admins, urls) = (admins.len(), urls.len());
                return Err(TargetError::Admins { admins, urls });
            }
        }
        let mut nodes: Vec<Node> = Vec::new();
        for (url, admin) in urls.iter().zip(admins) {
            let node = Node::new(url.as_ref(), admin)?;
            if nodes.iter().any(|known| known.url == node.url) {
                return Err(TargetError::Twice(node.url.to_string()));
            }
            nodes.push(node);
        }
        let target = Self {
            nodes,
            access: Arc::default(),
        };
        target.with_access(Access::default())
    }

    /// The same server, with these headers, tokens, certificate authorities and source addresses.
    ///
    /// # Errors
    /// The first of them that cannot be used with this server.
    pub fn with_access(mut self, access: Access) -> Result<Self, TargetError> {
        let tls = self.nodes.iter().any(|node| node.url.is_tls());
        self.access = Arc::new(access.prepared(tls)?);
        Ok(self)
    }

    /// The URL that users connect to; of several, with `, ` between them.
    pub fn url(&self) -> String {
        self.urls().join(", ")
    }

    /// The URLs that users connect to.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.to_string()).collect()
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn first(&self) -> &Node {
        &self.nodes[0]
    }
}

impl Node {
    fn new(url: &str, admin_url: Option<&str>) -> Result<Self, TargetError> {
        let given = || url.to_owned();
        let url = ServerUrl::parse(url, &["ws", "wss"]).map_err(|bad| match bad {
            BadUrl::Syntax => TargetError::NotAUrl { url: given() },
            BadUrl::Scheme(scheme) => TargetError::Scheme {
                url: given(),
                scheme,
            },
            BadUrl::User => TargetError::Credentials,
        })?;
        let admin = match admin_url {
            Some("none") => None,
            Some(given) => Some(admin(given)?),
            None if is_loopback(&url.host) && url.port == DEFAULT_PORT => Some(Admin {
                given: false,
                ..admin(DEFAULT_ADMIN)?
            }),
            None => None,
        };
        Ok(Self { url, admin })
    }
}

fn admin(url: &str) -> Result<Admin, TargetError> {
    match ServerUrl::parse(url, &["http"]) {
        // The server names its admin address without a path when it starts.
        Ok(bare) if bare.path() == "/" => {
            admin(&format!("{}/metrics", url.trim().trim_end_matches('/')))
        }
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
        let admin = target.first().admin.clone();
        admin.map(|admin| (admin.url.to_string(), admin.given))
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
        for bare in ["http://h:1", "http://h:1/"] {
            let metrics = Some(("http://h:1/metrics".to_owned(), true));
            assert_eq!(admin_of("ws://example.org/ws", Some(bare)), metrics);
        }
    }

    #[test]
    fn several_servers_have_metrics_each_or_none() {
        let urls = ["ws://a/ws", "ws://127.0.0.1:8080/ws"];
        let admins = |given: &[&str]| {
            let target = Target::of_nodes(&urls, given).map_err(|error| error.to_string())?;
            let admins = target.nodes().iter().map(|node| node.admin.as_ref());
            let urls = admins.map(|admin| admin.map(|admin| admin.url.to_string()));
            Ok::<_, String>(urls.collect::<Vec<_>>())
        };
        let url = |url: &str| Some(url.to_owned());
        assert_eq!(admins(&[]), Ok(vec![None, url(DEFAULT_ADMIN)]));
        assert_eq!(admins(&["none"]), Ok(vec![None, None]));
        let both = admins(&["http://a:1/m", "none"]);
        assert_eq!(both, Ok(vec![url("http://a:1/m"), None]));
        let error = admins(&["http://a:1/m"]).expect_err("one is missing");
        assert!(error.contains("once for each"), "{error}");
        let twice = Target::of_nodes(&["ws://a/ws", "ws://a/ws"], &[] as &[&str]);
        assert!(matches!(twice, Err(TargetError::Twice(url)) if url == "ws://a/ws"));
        let many: Vec<_> = (0..37).map(|n| format!("ws://a:{}/", 1000 + n)).collect();
        let many = Target::of_nodes(&many, &[] as &[&str]);
        assert!(matches!(many, Err(TargetError::Servers(37))));
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
