//! Which web pages may connect. Browsers send the page's `Origin`; other clients send none.

use std::{net::IpAddr, str::FromStr};

use hyper::{
    HeaderMap, Uri,
    header::{HOST, HeaderName, ORIGIN},
    http::uri::Authority,
};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Pages that may connect besides those of the server's own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// All pages: `*`.
    Any,
    /// Pages without an origin of their own, such as files: `null`.
    Null,
    /// Pages of one origin.
    Origin(Origin),
}

/// The origin of a page (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None`: the scheme's own.
    port: Option<u16>,
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self::Any),
            "null" => Ok(Self::Null),
            text => Origin::read(text).map(Self::Origin).ok_or_else(|| {
                "write it as https://app.example, without a path; as null, for files; or as *, for all"
                    .into()
            }),
        }
    }
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // A URI with a host always has a path; an origin has none.
        if rest.contains(['/', '?', '#', '@']) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let own = default_port(scheme);
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: uri
                .host()
                .filter(|host| !host.is_empty())?
                .to_ascii_lowercase(),
            port: uri.port_u16().filter(|port| Some(*port) != own),
        })
    }

    /// Whether a server that was reached as `host` is the page's own. The scheme does not matter: behind a
    /// proxy with TLS the page has https, and this server http.
    fn is_at(&self, host: &str) -> bool {
        let Ok(host) = host.trim().parse::<Authority>() else {
            return false;
        };
        let own = default_port(&self.scheme);
        let same_port = match (self.port, host.port_u16()) {
            (Some(here), there) => Some(here) == there,
            (None, None) => true,
            (None, there) => there == own,
        };
        let name = host.host().to_ascii_lowercase();
        same_port && (self.host == name || is_loopback(&self.host) && is_loopback(&name))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Which pages may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(pub Vec<AllowedOrigin>);

impl AllowedOrigins {
    /// Whether a request may go on: it comes from no page, from one of this server's own host, or from one
    /// on the list. `behind_proxy`: `X-Forwarded-Host` is believed too.
    pub fn allow(&self, headers: &HeaderMap, behind_proxy: bool) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        if self.0.contains(&AllowedOrigin::Any) {
            return true;
        }
        if origins.next().is_some() {
            return false;
        }
        if origin.as_bytes() == b"null" {
            return self.0.contains(&AllowedOrigin::Null);
        }
        let Some(origin) = origin.to_str().ok().and_then(Origin::read) else {
            return false;
        };
        let forwarded = headers
            .get_all(X_FORWARDED_HOST)
            .iter()
            .filter(|_| behind_proxy);
        let hosts = headers.get_all(HOST).iter().chain(forwarded);
        let mut hosts = hosts
            .filter_map(|hosts| hosts.to_str().ok())
            .flat_map(|hosts| hosts.split(','));
        hosts.any(|host| origin.is_at(host)) || self.0.contains(&AllowedOrigin::Origin(origin))
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn allowed(list: &[&str], origin: &str, host: &str, forwarded: Option<&str>) -> bool {
        let list = list
            .iter()
            .map(|text| text.parse().expect("valid"))
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_str(origin).expect("valid"));
        headers.insert(HOST, HeaderValue::from_str(host).expect("valid"));
        if let Some(forwarded) = forwarded {
            let value = HeaderValue::from_str(forwarded).expect("valid");
            headers.insert(X_FORWARDED_HOST, value);
        }
        AllowedOrigins(list).allow(&headers, forwarded.is_some())
    }

    #[test]
    fn a_page_of_the_servers_own_host_and_port_may_connect() {
        for (origin, host, right) in [
            ("http://voice.example:8080", "voice.example:8080", true),
            ("https://voice.example", "voice.example", true),
            ("https://voice.example", "VOICE.example:443", true),
            ("http://voice.example", "voice.example:80", true),
            ("https://voice.example", "voice.example:8080", false),
            ("https://voice.example:8443", "voice.example", false),
            ("https://voice.example", "voice.example.evil.example", false),
            ("https://evil.example", "voice.example", false),
            ("http://localhost:8080", "127.0.0.1:8080", true),
            ("http://[::1]:8080", "localhost:8080", true),
            ("http://app.localhost:8080", "127.9.9.9:8080", true),
            ("http://localhost:5173", "localhost:8080", false),
            ("http://evil.example:8080", "127.0.0.1:8080", false),
            ("null", "voice.example", false),
            ("nonsense", "voice.example", false),
            ("https://voice.example/", "voice.example", false),
            ("", "", false),
        ] {
            assert_eq!(allowed(&[], origin, host, None), right, "{origin} {host}");
        }
    }

    #[test]
    fn behind_a_trusted_proxy_its_host_counts_too() {
        let page = "https://voice.example";
        assert!(allowed(&[], page, "10.0.0.5:8080", Some("voice.example")));
        assert!(allowed(
            &[],
            page,
            "10.0.0.5:8080",
            Some("voice.example, inner.example")
        ));
        assert!(!allowed(&[], page, "10.0.0.5:8080", Some("evil.example")));
        assert!(!allowed(&[], page, "10.0.0.5:8080", None));
    }

    #[test]
    fn a_page_on_the_list_may_connect() {
        let list = [
            "https://App.example",
            "http://localhost:5173",
            "capacitor://localhost",
        ];
        let host = "voice.example";
        for origin in [
            "https://app.example",
            "https://app.example:443",
            "http://localhost:5173",
            "capacitor://localhost",
            "https://voice.example",
        ] {
            assert!(allowed(&list, origin, host, None), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "https://x.app.example",
            "null",
        ] {
            assert!(!allowed(&list, origin, host, None), "{origin}");
        }
        assert!(allowed(&["null"], "null", host, None));
        assert!(allowed(&["*"], "https://evil.example", host, None));
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        for text in [
            "app.example",
            "https://",
            "https://app.example/",
            "https://a b",
            "https://u@a",
        ] {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text}");
        }
    }
}
