//! A server by its scheme, host and port.

use std::{io, net::SocketAddr};

use tokio_tungstenite::tungstenite::http::Uri;

/// A server that is asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Asked over TLS.
    pub tls: bool,
    /// Its name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Host and port as a request says them.
    pub authority: String,
}

impl Origin {
    /// Reads `https://host:port` and what begins with it. `None`: it is not an address of that kind, or has the name
    /// of a user in it.
    pub fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        (!authority.contains('@')).then_some(())?;
        Some(Self {
            tls,
            host: bare_host(&uri)?,
            port: port(&uri)?,
            authority: authority.to_owned(),
        })
    }
}

/// The host without the brackets of an IPv6 address.
pub fn bare_host(uri: &Uri) -> Option<String> {
    let host = uri.host()?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// The port, that of the scheme where none is given. `None`: it is not a port.
pub fn port(uri: &Uri) -> Option<u16> {
    match (
        uri.port_u16(),
        uri.authority()?.as_str().ends_with(uri.host()?),
    ) {
        (None, true) => Some(match uri.scheme_str() {
            Some("wss" | "https") => 443,
            _ => 80,
        }),
        // `http` keeps a port that does not fit as a part of the authority.
        (None, false) | (Some(0), _) => None,
        (Some(port), _) => Some(port),
    }
}

/// An address of a host. 127.0.0.1 is preferred to ::1.
pub async fn resolve(host: &str, port: u16) -> io::Result<Option<SocketAddr>> {
    let mut found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_by_scheme_host_and_port() {
        let read = |url| Origin::of(url).map(|it| (it.tls, it.host, it.port, it.authority));
        let good = |tls, host: &str, port, authority: &str| {
            Some((tls, host.to_owned(), port, authority.to_owned()))
        };
        assert_eq!(read("http://h"), good(false, "h", 80, "h"));
        assert_eq!(read("https://h/a?b"), good(true, "h", 443, "h"));
        assert_eq!(read("http://[::1]:5"), good(false, "::1", 5, "[::1]:5"));
        for bad in [
            "",
            "h",
            "/a",
            "ws://h",
            "http://",
            "http://h:99999",
            "https://me:secret@h",
        ] {
            assert_eq!(Origin::of(bad), None, "{bad}");
        }
    }
}
