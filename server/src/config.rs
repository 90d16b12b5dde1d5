//! Everything the server needs to know: flags, environment and file, checked to a [`Config`].

mod check;
#[cfg(feature = "cluster")]
mod cluster;
pub mod file;
mod flags;
mod needs;
pub mod parse;
#[cfg(feature = "transcribe")]
mod transcription;
#[cfg(feature = "transcribe")]
pub use transcription::database_url;
mod value;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

#[cfg(feature = "cluster")]
use crate::cluster::ClusterConfig;
#[cfg(feature = "transcribe")]
use crate::transcribe::TranscribeConfig;
use crate::{
    admin::SupportConfig,
    admission::{
        auth::AuthConfig, limits::LimitConfig, origin::AllowedOrigins, proxy::TrustedProxies,
    },
    events::EventConfig,
    http::{HttpConfig, Settings},
    listen::{Address, certificate::CertificateFiles},
    machine::descriptors,
    report::ReportConfig,
    room_key::{self, KeyConfig},
    trace::TraceConfig,
    transport::ws::WsConfig,
};

#[cfg(feature = "transcribe")]
pub use flags::SurveyCommand;
pub use flags::{Cli, Command, Flags, LogFormat};
pub use value::{After, IceServers};
use voicematch_core::{matchmaker::MatchmakerConfig, session::SessionConfig};

/// Everything the server needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Vec<Address>,
    pub admin_listen: Address,
    /// The Unix socket at which a new server takes the place of this one.
    pub hand_over: Option<PathBuf>,
    pub support: SupportConfig,
    pub tls: Option<CertificateFiles>,
    pub unix_socket_mode: u32,
    pub workers: usize,
    pub drain_timeout: Duration,
    pub max_accepts_per_second: u32,
    pub max_rooms: usize,
    pub max_blocks: usize,
    /// What the app is told, if anything.
    pub events: Option<EventConfig>,
    pub reconnects_per_minute: u32,
    pub room_key: KeyConfig,
    pub max_buffered_bytes: usize,
    pub limits: LimitConfig,
    pub proxies: TrustedProxies,
    pub proxy_protocol: bool,
    pub origins: AllowedOrigins,
    pub auth: AuthConfig,
    pub sessions_per_user: usize,
    /// Whether the page and the client module are served.
    pub page: bool,
    /// The secret of `/auth/token`, where that answers.
    pub dev_tokens: Option<PathBuf>,
    pub http: HttpConfig,
    pub ws: WsConfig,
    pub session: SessionConfig,
    pub matchmaker: MatchmakerConfig,
    pub traces: Option<TraceConfig>,
    pub reports: Option<ReportConfig>,
    /// How this node is one of several, if it is.
    #[cfg(feature = "cluster")]
    pub cluster: Option<ClusterConfig>,
    /// Transcription and surveys, if they are wanted.
    #[cfg(feature = "transcribe")]
    pub transcribe: Option<TranscribeConfig>,
}

impl Config {
    /// What HTTP connections need to know, and can be changed.
    pub fn settings(&self) -> Settings {
        Settings {
            http: self.http,
            proxies: self.proxies.clone(),
            proxy_protocol: self.proxy_protocol,
            origins: self.origins.clone(),
            ws: Arc::new(self.ws),
            limit_loopback: self.limits.limit_loopback,
        }
    }

    /// Lowers the limit on connections to those for which there are descriptors.
    pub fn fit(&mut self, open_files: usize) {
        let max_connections = &mut self.limits.max_connections;
        let fits = descriptors::connections(open_files);
        if *max_connections > fits {
            tracing::warn!(
                max_connections = *max_connections,
                open_files,
                lowered_to = fits,
                "the limit on open files does not fit --max-connections; raise it (ulimit -Hn, LimitNOFILE=)"
            );
        }
        if *max_connections > fits || *max_connections == 0 {
            *max_connections = fits;
        }
    }

    /// Reads the files that the flags name, as the start will: what is wrong with them.
    pub fn check_files(&self) -> Vec<String> {
        let keys = match &self.auth {
            AuthConfig::Tokens(tokens) => tokens.keys.check().err(),
            AuthConfig::Off | AuthConfig::Webhook(_) => None,
        };
        let room_keys = room_key::check(&self.room_key).err();
        let tls = self.tls.as_ref().and_then(|tls| tls.check().err());
        let support = self.support.check().err();
        #[cfg(feature = "cluster")]
        let cluster = (self.cluster.as_ref()).and_then(|cluster| cluster.check().err());
        #[cfg(not(feature = "cluster"))]
        let cluster = None;
        #[cfg(feature = "transcribe")]
        let transcribe = (self.transcribe.as_ref()).map(TranscribeConfig::check_files);
        #[cfg(not(feature = "transcribe"))]
        let transcribe: Option<Vec<String>> = None;
        let faults = keys.into_iter().chain(room_keys).chain(tls);
        let faults = faults.chain(support).chain(cluster);
        faults.chain(transcribe.into_iter().flatten()).collect()
    }
}

/// Flags that do not go together.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
