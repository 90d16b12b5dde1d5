//! The URL of a server, read as browsers read it: the scheme in any case, blanks around it, names beyond ASCII.

use hyper::{Uri, http::uri::PathAndQuery};
use thiserror::Error;
use url::Url;

/// The URL of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    uri: Uri,
    /// What is looked up: a name in ASCII, or an address without brackets, with the zone of a link-local one.
    pub host: String,
    pub port: u16,
}

/// Why a text is not the URL of a server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadUrl {
    #[error("it is not a URL")]
    Syntax,
    #[error("its scheme is {0:?}")]
    Scheme(String),
    #[error("it names a user")]
    User,
}

impl ServerUrl {
    /// Reads a URL with one of these schemes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Self, BadUrl> {
        let (text, zone) = without_zone(text);
        let url = Url::parse(&text).map_err(|_bad| BadUrl::Syntax)?;
        if !schemes.contains(&url.scheme()) {
            return match url.has_host() {
                true => Err(BadUrl::Scheme(url.scheme().to_owned())),
                false => Err(BadUrl::Syntax),
            };
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::User);
        }
        let host = url.host_str().ok_or(BadUrl::Syntax)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().filter(|port| *port != 0);
        Ok(Self {
            host: format!("{host}{zone}"),
            port: port.ok_or(BadUrl::Syntax)?,
            uri: url.as_str().parse().map_err(|_bad| BadUrl::Syntax)?,
        })
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.uri.scheme_str(), Some("wss" | "https"))
    }

    /// Host and port as a request names them: without the default port, and without a zone, which means something on
    /// this machine only.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |it| it.as_str())
    }

    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }

    /// The name of the server in its certificate.
    pub fn certificate_name(&self) -> &str {
        self.host
            .split_once('%')
            .map_or(&self.host, |(host, _zone)| host)
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.uri.fmt(f)
    }
}

/// Takes the zone out of an address such as `[fe80::1%25eth0]` (RFC 6874), which a URL of the web cannot have. The
/// second is the zone as the system reads it, `%eth0`, or nothing.
fn without_zone(text: &str) -> (String, String) {
    let zone = || {
        let start = text.find("://[")? + 4;
        let end = start + text[start..].find(']')?;
        let (address, zone) = text[start..end].split_once('%')?;
        let zone = zone.strip_prefix("25").unwrap_or(zone);
        let plain = [&text[..start], address, &text[end..]].concat();
        (!zone.is_empty()).then(|| (plain, format!("%{zone}")))
    };
    zone().unwrap_or_else(|| (text.to_owned(), String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB_SOCKET: [&str; 2] = ["ws", "wss"];

    fn read(text: &str) -> (String, u16, String) {
        let url = ServerUrl::parse(text, &WEB_SOCKET).expect(text);
        (url.host.clone(), url.port, url.authority().to_owned())
    }

    #[test]
    fn urls_are_read_as_browsers_read_them() {
        let is = |host: &str, port, authority: &str| (host.to_owned(), port, authority.to_owned());
        assert_eq!(read("ws://[::1]/ws"), is("::1", 80, "[::1]"));
        assert_eq!(read("wss://h/ws"), is("h", 443, "h"));
        assert_eq!(read("WS://H:81"), is("h", 81, "h:81"));
        assert_eq!(read(" ws://h/ws\n"), is("h", 80, "h"));
        let name = "xn--bcher-kva";
        assert_eq!(read("ws://b\u{fc}cher:5/"), is(name, 5, "xn--bcher-kva:5"));
    }

    #[test]
    fn a_zone_is_looked_up_and_told_to_nobody() {
        let zone = ("fe80::1%lo".to_owned(), 5, "[fe80::1]:5".to_owned());
        assert_eq!(read("ws://[fe80::1%25lo]:5/ws"), zone);
        assert_eq!(read("ws://[fe80::1%lo]:5/ws"), zone);
        let url = ServerUrl::parse("wss://[fe80::1%25lo]/", &WEB_SOCKET).expect("good");
        assert_eq!(url.certificate_name(), "fe80::1");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_known() {
        let bad = |text| ServerUrl::parse(text, &WEB_SOCKET).expect_err(text);
        for text in [
            "",
            "h",
            "/ws",
            "ws://",
            "127.0.0.1:8080",
            "localhost:8080",
            "ws://h:99999/",
            "ws://h:0/",
        ] {
            assert_eq!(bad(text), BadUrl::Syntax, "{text}");
        }
        assert_eq!(bad("http://h/"), BadUrl::Scheme("http".to_owned()));
        assert_eq!(bad("ws://me:secret@h/"), BadUrl::User);
    }
}
