//! Where a listener stands: a TCP address, a name, a Unix socket, or a socket that systemd has opened.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
};

/// The longest path of a Unix socket: `sun_path` less its final zero (unix(7)).
const MAX_UNIX_PATH: usize = 107;

/// Where to listen, as a flag says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `:8080`: every address of this machine.
    Any(u16),
    /// `127.0.0.1:8080` or `[::1]:8080`.
    Ip(SocketAddr),
    /// `localhost:8080`: the IPv4 address of the name, or else its first.
    Name(String, u16),
    /// `unix:/run/voicematch/public.sock`.
    Unix(PathBuf),
    /// `systemd:public`: the socket of this name that systemd has opened.
    Systemd(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err("the path is missing; write it as unix:/run/voicematch.sock".into()),
                1..=MAX_UNIX_PATH => Ok(Self::Unix(path.into())),
                length => Err(format!(
                    "the path has {length} bytes; a Unix socket may have {MAX_UNIX_PATH}"
                )),
            };
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            // systemd.socket(5), FileDescriptorName=
            let is_name = !name.is_empty() && name.len() <= 255 && !name.contains(':');
            return match is_name && name.chars().all(|c| c.is_ascii_graphic()) {
                true => Ok(Self::Systemd(name.to_owned())),
                false => Err(
                    "write it as systemd:NAME, with the FileDescriptorName= of the .socket unit"
                        .into(),
                ),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let forms = || "write it as :8080, 127.0.0.1:8080, [::1]:8080, localhost:8080, unix:/run/voicematch.sock or systemd:NAME";
        let (host, port) = text.rsplit_once(':').ok_or_else(forms)?;
        let port = port.parse().map_err(|_| forms())?;
        let is_name = |host: &str| {
            host.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        match host {
            "" => Ok(Self::Any(port)),
            name if is_name(name) => Ok(Self::Name(name.to_owned(), port)),
            _ => Err(forms().into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, ":{port}"),
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// The IPv4 address of a name, or else its first.
pub(super) fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    let found: Vec<_> = (name, port).to_socket_addrs()?.collect();
    let preferred = found.iter().find(|address| address.is_ipv4());
    preferred
        .or(found.first())
        .copied()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

impl Address {
    /// Whether it leaves the port to the system.
    pub fn is_any_port(&self) -> bool {
        match self {
            Self::Any(port) | Self::Name(_, port) => *port == 0,
            Self::Ip(address) => address.port() == 0,
            Self::Unix(_) | Self::Systemd(_) => false,
        }
    }

    /// Where a client on this machine reaches a server that listens here, best first. Empty: at no address that is known.
    pub fn reachable_at(&self) -> io::Result<Vec<SocketAddr>> {
        let loopback = |port| {
            [
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ]
        };
        Ok(match self {
            Self::Any(port) => loopback(*port).to_vec(),
            Self::Ip(address) if !address.ip().is_unspecified() => vec![*address],
            Self::Ip(address) => {
                let family = loopback(address.port()).into_iter();
                family
                    .filter(|found| address.is_ipv6() || found.is_ipv4())
                    .collect()
            }
            Self::Name(name, port) => vec![resolve(name, *port)?],
            Self::Unix(_) | Self::Systemd(_) => Vec::new(),
        })
    }
}
