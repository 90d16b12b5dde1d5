//! Which proxies are trusted, and the address of a user behind one.

use std::{net::IpAddr, str::FromStr};

use hyper::{HeaderMap, header::HeaderName};
use ipnet::IpNet;

use crate::io::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A proxy whose `X-Forwarded-...` headers are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Any in this network.
    Network(IpNet),
    /// Any that connects to a Unix socket.
    Unix,
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse().map_err(|_| {
                "write it as 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix".to_owned()
            })?,
        };
        Ok(Self::Network(network))
    }
}

/// The proxies whose `X-Forwarded-...` headers are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<TrustedProxy>);

impl TrustedProxies {
    /// Whether the headers of this peer are believed.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.0.iter().any(|proxy| match (proxy, peer) {
            (TrustedProxy::Unix, Peer::Unix) => true,
            (TrustedProxy::Network(network), Peer::Ip(address)) => {
                network.contains(&address.to_canonical())
            }
            _ => false,
        })
    }

    /// The address of the user who sent a request: the last one in `X-Forwarded-For` that is not itself a
    /// trusted proxy. Each proxy appends the address that it sees, so what stands before that is only a
    /// claim of the user.
    pub fn user(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let mut user = peer;
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        for hop in hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
            if !self.trusts(user) {
                break;
            }
            match read_hop(hop) {
                Some(hop) => user = hop,
                None => break,
            }
        }
        user.address()
    }
}

/// Reads `203.0.113.7`, `203.0.113.7:5678`, `2001:db8::7`, `[2001:db8::7]:5678` or `unix:`, which nginx
/// writes for a peer on a Unix socket.
fn read_hop(hop: &[u8]) -> Option<Peer> {
    let hop = std::str::from_utf8(hop).ok()?;
    if hop == "unix:" {
        return Some(Peer::Unix);
    }
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare.unwrap_or(hop).parse::<IpAddr>();
    let with_port = || hop.parse::<std::net::SocketAddr>().map(|hop| hop.ip());
    address.or_else(|_| with_port()).ok().map(Peer::Ip)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn user(trusted: &[&str], peer: Peer, lines: &[&str]) -> String {
        let proxies = trusted.iter().map(|text| text.parse().expect("valid"));
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_str(line).expect("valid");
            headers.append(X_FORWARDED_FOR, value);
        }
        let proxies = TrustedProxies(proxies.collect());
        proxies.user(peer, &headers).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_is_the_users() {
        let proxy = Peer::Ip([10, 0, 0, 1].into());
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (lines, expected) in [
            (&["198.51.100.9, 203.0.113.7"][..], "203.0.113.7"),
            (&["198.51.100.9, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
            (&["203.0.113.7", "10.9.9.9,10.8.8.8"], "203.0.113.7"),
            (&["203.0.113.7:5678"], "203.0.113.7"),
            (&["2001:db8::7, 2001:db8:1::1"], "2001:db8::7"),
            (&["[2001:db8::7]:5678"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["203.0.113.7,, ,"], "203.0.113.7"),
            // All are trusted: the one that is farthest away.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What cannot be read ends the walk at the proxy that wrote it.
            (&["203.0.113.7, unknown"], "10.0.0.1"),
            (&["203.0.113.7, nonsense, 10.9.9.9"], "10.9.9.9"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(user(&trusted, proxy, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn headers_of_others_are_ignored() {
        let stranger = Peer::Ip([192, 0, 2, 1].into());
        let lines = ["203.0.113.7"];
        assert_eq!(user(&["10.0.0.0/8"], stranger, &lines), "192.0.2.1");
        assert_eq!(user(&[], stranger, &lines), "192.0.2.1");
        assert_eq!(user(&["10.0.0.0/8"], Peer::Unix, &lines), "127.0.0.1");
    }

    #[test]
    fn unix_sockets_are_trusted_by_name() {
        let lines = ["203.0.113.7"];
        assert_eq!(user(&["unix"], Peer::Unix, &lines), "203.0.113.7");
        assert_eq!(user(&["unix"], Peer::Unix, &[]), "127.0.0.1");
        let chain = ["203.0.113.7, unix:"];
        assert_eq!(user(&["unix"], Peer::Unix, &chain), "203.0.113.7");
    }

    #[test]
    fn an_ipv4_address_in_ipv6_is_the_same_proxy() {
        let mapped = Peer::Ip("::ffff:10.0.0.1".parse().expect("valid"));
        assert_eq!(user(&["10.0.0.1"], mapped, &["203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn a_proxy_is_a_network_an_address_or_unix() {
        for text in ["10.0.0.0/8", "10.0.0.1", "::1", "2001:db8::/32", "unix"] {
            assert!(text.parse::<TrustedProxy>().is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1:80", "all"] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
    }
}
