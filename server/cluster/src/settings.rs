//! Where the engine is, and as whom to speak to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, TlsCertificates,
};
use rustls::crypto::CryptoProvider;

/// See `Settings::call_timeout`.
const CALL: Duration = Duration::from_millis(500);

/// Longest prefix, in bytes: it stands in every key.
const PREFIX_BYTES: usize = 32;

/// Where the engine is. `Debug` and `Display` leave the password out.
#[derive(Clone)]
pub struct Settings {
    pub(crate) engine: Topology,
    /// One URL, without user and password, for each address.
    pub(crate) hosts: Vec<ConnectionInfo>,
    /// As in the URL, to be shown.
    shown: String,
    pub(crate) prefix: String,
    pub(crate) call: Duration,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    sentinels: Sentinels,
}

/// How sentinels are spoken to. They have users of their own, and are told nothing that is for the engine.
#[derive(Clone, Debug, Default)]
struct Sentinels {
    user: Option<String>,
    password_file: Option<PathBuf>,
    /// `None`: as the engine.
    tls: Option<bool>,
}

/// What is at the addresses of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// The engine.
    Single,
    /// Sentinels that know the primary by this name.
    Sentinel(String),
    /// Some nodes of a Redis Cluster.
    Cluster,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL is none of an engine. It does not say which part, because that may be the password.
    #[error(
        "the cluster's URL must look like redis[s]://[user@]host[:port], redis[s]+sentinel://[user@]host[:port][,...]/name or redis[s]+cluster://[user@]host[:port][,...]"
    )]
    Url,
    /// The prefix has other characters than letters, digits, `-` and `_`, or none, or more than 32.
    #[error("the cluster's prefix must be 1 to 32 letters, digits, - or _")]
    Prefix,
    /// A file that the settings name cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A certificate cannot be used.
    #[error("{0}: {1}")]
    Certificate(PathBuf, redis::RedisError),
}

impl Settings {
    /// `redis://[user[:password]@]host[:port]`, or `rediss:` for TLS; `redis+sentinel://host,host/name` asks sentinels
    /// for the primary, `redis+cluster://host,host` begins a Redis Cluster.
    /// Clusters of this program on one engine differ by `prefix`: pub/sub does not know database numbers.
    ///
    /// # Errors
    /// If the URL or the prefix is no such thing.
    pub fn new(url: &str, prefix: &str) -> Result<Self, SettingsError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES || !prefix.bytes().all(fits) {
            return Err(SettingsError::Prefix);
        }
        let (scheme, rest) = url.split_once("://").ok_or(SettingsError::Url)?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["redis", "rediss", "valkey", "valkeys"].contains(&base) {
            return Err(SettingsError::Url);
        }
        let (user, rest) = rest
            .rsplit_once('@')
            .map_or(("", rest), |(user, rest)| (user, rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let engine = match (kind, path) {
            ("", "") => Topology::Single,
            ("cluster", "") => Topology::Cluster,
            ("sentinel", name) if !name.is_empty() && !name.contains(['/', '?', '#']) => {
                Topology::Sentinel(name.to_owned())
            }
            _ => return Err(SettingsError::Url),
        };
        let at = if user.is_empty() { "" } else { "@" };
        let hosts: Vec<_> = hosts
            .split(',')
            .map(|host| format!("{base}://{user}{at}{host}").into_connection_info())
            .collect::<Result<_, _>>()
            .map_err(|_| SettingsError::Url)?;
        if hosts.len() > 1 && engine == Topology::Single {
            return Err(SettingsError::Url);
        }
        let name = user.split(':').next().unwrap_or_default();
        Ok(Self {
            engine,
            hosts,
            shown: format!("{scheme}://{name}{at}{rest}"),
            prefix: prefix.to_owned(),
            call: CALL,
            password_file: None,
            ca_file: None,
            sentinels: Sentinels::default(),
        })
    }

    /// The prefix of all keys and channels.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A call that is not answered by then is given up, and users are matched locally: 500 ms unless there is a reason.
    #[must_use]
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.call = time;
        self
    }

    /// The password is in this file, which is read at each connect, so that it can be exchanged. A line feed at its
    /// end does not count.
    #[must_use]
    pub fn password_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.password_file = Some(file.into());
        self
    }

    /// The authorities whose certificates are trusted, in PEM, instead of the system's. Read at each connect.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// The user as whom sentinels are spoken to. Without one it is their default user.
    #[must_use]
    pub fn sentinel_user(mut self, user: impl Into<String>) -> Self {
        self.sentinels.user = Some(user.into());
        self
    }

    /// The password for sentinels is in this file, as with [`Self::password_file`]. Without one none is given.
    #[must_use]
    pub fn sentinel_password_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.sentinels.password_file = Some(file.into());
        self
    }

    /// Whether sentinels are spoken to with TLS, if not as the engine.
    #[must_use]
    pub fn sentinel_tls(mut self, tls: bool) -> Self {
        self.sentinels.tls = Some(tls);
        self
    }

    /// Whether the URL names sentinels.
    #[must_use]
    pub fn has_sentinels(&self) -> bool {
        matches!(self.engine, Topology::Sentinel(_))
    }

    /// Whether anything is spoken to with TLS.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        self.tls() || self.has_sentinels() && self.sentinels.tls == Some(true)
    }

    /// The same user, password and certificates for an address that is `host:port`, or one of the URL's.
    pub(crate) fn client(&self, address: &ConnectionAddr) -> Result<Client, SettingsError> {
        let info = self.hosts.first().ok_or(SettingsError::Url)?;
        let redis = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        let redis = match &self.password_file {
            Some(file) => redis.set_password(read_password(file)?),
            None => redis,
        };
        self.open(
            info.clone()
                .set_addr(address.clone())
                .set_redis_settings(redis),
        )
    }

    /// A sentinel at one of the URL's addresses.
    pub(crate) fn sentinel(&self, address: &ConnectionAddr) -> Result<Client, SettingsError> {
        let Sentinels {
            user,
            password_file,
            tls,
        } = &self.sentinels;
        let address = match (tls, address) {
            (Some(false), ConnectionAddr::TcpTls { host, port, .. }) => {
                ConnectionAddr::Tcp(host.clone(), *port)
            }
            (Some(true), ConnectionAddr::Tcp(host, port)) => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
            _ => address.clone(),
        };
        let info = self.hosts.first().ok_or(SettingsError::Url)?.clone();
        let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = user {
            redis = redis.set_username(user);
        }
        if let Some(file) = password_file {
            redis = redis.set_password(read_password(file)?);
        }
        self.open(info.set_addr(address).set_redis_settings(redis))
    }

    fn open(&self, info: ConnectionInfo) -> Result<Client, SettingsError> {
        if !is_tls(info.addr()) {
            return Client::open(info).map_err(|_| SettingsError::Url);
        }
        if CryptoProvider::get_default().is_none() {
            // Somebody else was quicker: the same.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        match (self.certificates()?, &self.ca_file) {
            (Some(certificates), Some(file)) => Client::build_with_tls(info, certificates)
                .map_err(|error| SettingsError::Certificate(file.clone(), error)),
            _ => Client::open(info).map_err(|_| SettingsError::Url),
        }
    }

    /// The authorities, where there is TLS.
    pub(crate) fn certificates(&self) -> Result<Option<TlsCertificates>, SettingsError> {
        let Some(file) = self.ca_file.as_ref().filter(|_| self.uses_tls()) else {
            return Ok(None);
        };
        let root_cert = fs::read(file).map_err(|error| SettingsError::File(file.clone(), error))?;
        Ok(Some(TlsCertificates {
            client_tls: None,
            root_cert: Some(root_cert),
        }))
    }

    fn tls(&self) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.any(|host| is_tls(host.addr()))
    }
}

fn is_tls(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}

fn read_password(file: &Path) -> Result<String, SettingsError> {
    let password =
        fs::read_to_string(file).map_err(|error| SettingsError::File(file.to_owned(), error))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

impl fmt::Display for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (prefix {})", self.shown, self.prefix)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Settings({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let settings = Settings::new("rediss://ann:s3cr3t@h:7000", "vm").expect("settings");
        assert_eq!(settings.to_string(), "rediss://ann@h:7000 (prefix vm)");
        assert!(!format!("{settings:?}").contains("s3cr3t"));
        let strange = Settings::new("redis://ann:s3@cr3t@h", "vm");
        assert!(!format!("{strange:?}").contains("s3"), "{strange:?}");
        let wrong = Settings::new("redis://ann:s3cr3t@h:port", "vm").expect_err("no port");
        assert!(!format!("{wrong}{wrong:?}").contains("s3cr3t"));
    }

    #[test]
    fn sentinels_are_told_nothing_that_is_for_the_engine() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str| {
            let file = folder.path().join(name);
            fs::write(&file, format!("{name}\n")).expect("written");
            file
        };
        let settings = Settings::new("rediss+sentinel://vm:s3cr3t@a:1,b:2/main", "vm");
        let settings = settings.expect("settings").password_file(write("engine"));
        let told = |settings: &Settings| {
            let sentinel = settings.hosts[1].addr();
            let client = settings.sentinel(sentinel).expect("a client");
            let info = client.get_connection_info();
            let redis = info.redis_settings();
            let words = [redis.username(), redis.password()];
            let words = words.map(|word| word.map(str::to_owned));
            (words, is_tls(info.addr()))
        };
        assert_eq!(told(&settings), ([None, None], true));
        let own = settings
            .sentinel_user("watcher")
            .sentinel_password_file(write("sentinel"));
        let words = ["watcher", "sentinel"].map(|word| Some(word.to_owned()));
        assert_eq!(told(&own), (words.clone(), true));
        let plain = own.clone().sentinel_tls(false);
        assert_eq!(told(&plain), (words, false));
        assert!(plain.uses_tls(), "the engine");
        let other = Settings::new("redis+sentinel://a/main", "vm").expect("settings");
        assert!(!other.uses_tls());
        let other = other.sentinel_tls(true);
        assert!(other.uses_tls() && !other.tls());
        let engine = own.client(own.hosts[0].addr()).expect("a client");
        let redis = engine.get_connection_info().redis_settings();
        assert_eq!(
            (redis.username(), redis.password()),
            (Some("vm"), Some("engine"))
        );
    }

    #[test]
    fn urls() {
        let engine = |url: &str| {
            Settings::new(url, "vm").map(|settings| (settings.engine, settings.hosts.len()))
        };
        assert_eq!(engine("redis://h").ok(), Some((Topology::Single, 1)));
        assert_eq!(engine("valkey://h:1/").ok(), Some((Topology::Single, 1)));
        assert_eq!(
            engine("redis+cluster://a:1,b:2").ok(),
            Some((Topology::Cluster, 2))
        );
        let sentinel = Topology::Sentinel("main".to_owned());
        assert_eq!(
            engine("rediss+sentinel://u@a,b,c/main").ok(),
            Some((sentinel, 3))
        );
        for wrong in [
            "",
            "h",
            "http://h",
            "redis://",
            "redis://a,b",
            "redis://h/1",
            "redis+sentinel://h",
            "redis+x://h",
        ] {
            assert!(engine(wrong).is_err(), "{wrong}");
        }
        for prefix in ["", "a:b", "{a}", "a b", &"a".repeat(33)] {
            assert!(Settings::new("redis://h", prefix).is_err(), "{prefix}");
        }
    }
}
