//! From raw flags and environment to a checked [`Config`].

pub mod file;
mod flags;
pub mod parse;
#[cfg(feature = "transcribe")]
mod transcription;
mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "traces")]
use crate::fetch;
#[cfg(feature = "sentry")]
use crate::report::Dsn;
#[cfg(feature = "transcribe")]
use crate::transcribe::TranscribeConfig;
use crate::{
    admin::SupportConfig,
    admission::{
        auth::{AuthConfig, KeySources, TokenConfig, WebhookConfig},
        limits::LimitConfig,
        origin::AllowedOrigins,
        proxy::TrustedProxies,
    },
    events::{EventConfig, Secret},
    files,
    http::{HttpConfig, Settings},
    listen::{Address, certificate::CertificateFiles},
    machine::{descriptors, memory},
    report::ReportConfig,
    room_key::{self, KeyConfig, KeyFrom},
    trace::TraceConfig,
    transport::ws::WsConfig,
};
#[cfg(feature = "traces")]
use hyper::Uri;

#[cfg(feature = "transcribe")]
pub use flags::SurveyCommand;
pub use flags::{Cli, Command, Flags, LogFormat};
pub use value::{After, IceServers};
use voicematch_core::{
    matchmaker::{MatchmakerConfig, Widening},
    outbox::{LogLimits, OutboxLimits},
    session::{IceConfig, RateLimit, ResumeConfig, SessionConfig, Turn},
};

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
}

impl Config {
    /// Reads the files that the flags name, as the start will: what is wrong with them.
    pub fn check_files(&self) -> Vec<String> {
        let keys = match &self.auth {
            AuthConfig::Tokens(tokens) => tokens.keys.check().err(),
            AuthConfig::Off | AuthConfig::Webhook(_) => None,
        };
        let room_keys = room_key::check(&self.room_key).err();
        let tls = self.tls.as_ref().and_then(|tls| tls.check().err());
        let support = self.support.check().err();
        let faults = keys.into_iter().chain(room_keys).chain(tls);
        faults.chain(support).collect()
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

/// Room in the log of a resumable session for what stands around the payload of the largest message.
const RESUME_ENVELOPE_BYTES: usize = 1024;

/// The default of `--resume-log-bytes`, where a message may not be longer.
const LOG_BYTES: usize = 64 * 1024;

/// The default of `--max-detached` where connections have no limit.
const UNLIMITED_DETACHED: usize = 5_000;

/// Room in an outbox for what stands around the payload of the largest message.
const ENVELOPE_BYTES: usize = 256;

impl Flags {
    /// Checks the flags against each other.
    pub fn check(self) -> Result<Config, ConfigError> {
        let least = self.max_message_bytes + ENVELOPE_BYTES;
        if self.outbox_bytes < least {
            return Err(ConfigError(format!(
                "--outbox-bytes is {}, which cannot hold one message of --max-message-bytes {}; give at least {least}",
                self.outbox_bytes, self.max_message_bytes
            )));
        }
        let least = self.max_message_bytes + RESUME_ENVELOPE_BYTES;
        let log_bytes = self.resume_log_bytes.unwrap_or(LOG_BYTES.max(least));
        if log_bytes < least {
            return Err(ConfigError(format!(
                "--resume-log-bytes is {log_bytes}, which cannot hold one message of --max-message-bytes {}; give at least {least}",
                self.max_message_bytes
            )));
        }
        let max_detached = match (self.max_detached, self.max_connections) {
            (Some(max), _) => max,
            (None, 0) => UNLIMITED_DETACHED,
            (None, connections) => (connections / 10).max(1),
        };
        if self.dev_tokens && self.jwt_secret_file.is_none() {
            return Err(ConfigError(
                "--dev-tokens needs --jwt-secret-file, whose secret signs them".into(),
            ));
        }
        if let Some(address) = named_twice(&self.listen, &self.admin_listen) {
            return Err(ConfigError(format!(
                "--listen and --admin-listen name {address} twice"
            )));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(ConfigError(
                "--proxy-protocol needs --trusted-proxy, which names the proxies that send it"
                    .into(),
            ));
        }
        let tls = match (self.tls_cert, self.tls_key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some(CertificateFiles { chain, key }),
            (Some(_), None) => {
                return Err(ConfigError(
                    "--tls-cert needs --tls-key, with its key".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError(
                    "--tls-key needs --tls-cert, the certificate".into(),
                ));
            }
        };
        let secret = self.jwt_secret_file.clone();
        let keys = KeySources {
            secret: self.jwt_secret_file,
            public_key: self.jwt_public_key_file,
            set: self.jwks,
        };
        let auth = match self.auth_webhook {
            Some(_) if !keys.is_empty() => {
                return Err(ConfigError(
                    "--auth-webhook asks the app about each user, and keys check tokens here; give one or the other".into(),
                ));
            }
            Some(url) => AuthConfig::Webhook(WebhookConfig {
                url,
                timeout: self.auth_webhook_timeout,
                remember: self.auth_webhook_remember,
            }),
            None if keys.is_empty() => AuthConfig::Off,
            None => AuthConfig::Tokens(TokenConfig {
                keys,
                audience: self.jwt_audience,
                issuer: self.jwt_issuer,
                leeway: self.jwt_leeway,
            }),
        };
        let turn = turn(
            self.turn_urls,
            self.turn_secret_file.as_deref(),
            self.turn_ttl,
        )?;
        #[cfg(feature = "traces")]
        let traces = traces(self.otlp_endpoint, self.trace_sample)?;
        #[cfg(not(feature = "traces"))]
        let traces = None;
        #[cfg(feature = "sentry")]
        let reports = reports(self.sentry_dsn_file.as_deref(), self.sentry_environment)?;
        #[cfg(not(feature = "sentry"))]
        let reports = None;
        let events = match (self.event_webhook, self.event_webhook_secret_file) {
            (None, None) => None,
            (Some(url), Some(file)) => {
                let flag = "--event-webhook-secret-file";
                let secret = files::read_secret_text(flag, &file).map_err(ConfigError)?;
                let secret = Secret::parse(&secret).ok_or_else(|| {
                    ConfigError(format!(
                        "{flag}: write whsec_ and the base64 of 24 to 64 bytes, as echo whsec_$(openssl rand -base64 32) does"
                    ))
                })?;
                Some(EventConfig {
                    url,
                    secret,
                    kinds: self.event_webhook_types,
                    timeout: self.event_webhook_timeout,
                    retry_after: self.event_webhook_retry_after,
                })
            }
            (Some(_), None) => {
                return Err(ConfigError(
                    "--event-webhook needs --event-webhook-secret-file, with the secret that the app verifies events by".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError(
                    "--event-webhook-secret-file needs --event-webhook, the URL that events are sent to".into(),
                ));
            }
        };
        #[cfg(feature = "transcribe")]
        let transcribe = self.transcription.check(self.state_dir.clone())?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            hand_over: self.hand_over,
            support: SupportConfig {
                token_file: self.admin_token_file,
                hosts: self.admin_hosts,
            },
            tls,
            unix_socket_mode: self.unix_socket_mode,
            workers: if self.workers == 0 {
                cpus
            } else {
                self.workers
            },
            drain_timeout: self.drain_timeout,
            max_accepts_per_second: self.max_accepts_per_second,
            max_rooms: self.max_rooms,
            max_blocks: self.max_blocks,
            events,
            reconnects_per_minute: self.reconnects_per_minute,
            room_key: KeyConfig {
                key: match self.room_key_file {
                    Some(file) => KeyFrom::File(file),
                    None => KeyFrom::StateDir(self.state_dir.or_else(room_key::default_state_dir)),
                },
                old: self.room_old_key_file,
                valid_for: self.room_ticket_ttl,
            },
            max_buffered_bytes: self
                .max_buffered_bytes
                .unwrap_or_else(memory::default_limit),
            limits: LimitConfig {
                max_connections: self.max_connections,
                max_connections_per_address: self.max_connections_per_address,
                limit_loopback: self.limit_loopback,
            },
            proxies: TrustedProxies(self.trusted_proxies),
            proxy_protocol: self.proxy_protocol,
            origins: AllowedOrigins(self.allowed_origins),
            auth,
            sessions_per_user: self.sessions_per_user,
            page: !self.no_page,
            dev_tokens: secret.filter(|_| self.dev_tokens),
            http: HttpConfig {
                handshake_timeout: self.handshake_timeout,
                max_header_bytes: self.max_header_bytes,
                event_stream_time: self.event_stream_time,
            },
            ws: WsConfig {
                heartbeat: self.heartbeat,
                heartbeat_deadline: self.heartbeat_deadline,
                max_message_bytes: self.max_message_bytes,
            },
            session: SessionConfig {
                heartbeat: self.heartbeat,
                max_message_bytes: self.max_message_bytes,
                rate: RateLimit::new(self.max_messages_per_second, self.message_burst),
                idle_timeout: self.idle_timeout,
                outbox: OutboxLimits {
                    messages: self.outbox_messages,
                    // The flag's bound is less.
                    bytes: u32::try_from(self.outbox_bytes).unwrap_or(u32::MAX),
                },
                resume: ResumeConfig {
                    window: self.resume_window,
                    heartbeat: self.resume_heartbeat,
                    deadline: self.resume_deadline,
                    log: LogLimits {
                        messages: self.resume_log_messages,
                        // The flag's bound is less.
                        bytes: u32::try_from(log_bytes).unwrap_or(u32::MAX),
                    },
                    max_detached,
                },
                ice: IceConfig {
                    fixed: self
                        .ice_servers
                        .into_iter()
                        .flat_map(|servers| servers.0)
                        .collect(),
                    turn,
                },
            },
            matchmaker: MatchmakerConfig {
                widening: Widening {
                    language: self.widen_language_after.0,
                    region: self.widen_region_after.0,
                    anyone: self.widen_anyone_after.0,
                },
                avoid_partner_for: self.avoid_partner_for,
            },
            traces,
            reports,
            #[cfg(feature = "transcribe")]
            transcribe,
        })
    }
}

/// Where traces go; the standard variable is for all programs of a machine, so the flag wins.
#[cfg(feature = "traces")]
fn traces(endpoint: Option<Uri>, sample: f64) -> Result<Option<TraceConfig>, ConfigError> {
    const VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let standard = std::env::var(VARIABLE)
        .ok()
        .filter(|url| !url.is_empty() && endpoint.is_none());
    let standard = standard.as_deref().map(fetch::url).transpose();
    let standard = standard.map_err(|error| ConfigError(format!("{VARIABLE}: {error}")))?;
    Ok(endpoint
        .or(standard)
        .map(|endpoint| TraceConfig { endpoint, sample }))
}

#[cfg(feature = "sentry")]
fn reports(file: Option<&Path>, environment: String) -> Result<Option<ReportConfig>, ConfigError> {
    const FLAG: &str = "--sentry-dsn-file";
    let Some(file) = file else {
        return Ok(None);
    };
    let dsn = files::read_secret_text(FLAG, file).map_err(ConfigError)?;
    let dsn = Dsn::parse(&dsn).map_err(|error| ConfigError(format!("{FLAG}: {error}")))?;
    Ok(Some(ReportConfig { dsn, environment }))
}

/// An address at which the server would have to listen twice.
fn named_twice<'a>(listen: &'a [Address], admin: &'a Address) -> Option<&'a Address> {
    let mut addresses = listen.iter().chain([admin]);
    std::iter::from_fn(|| Some((addresses.next()?, addresses.clone()))).find_map(
        |(address, mut others)| {
            let is_fixed = !address.is_any_port();
            (is_fixed && others.any(|other| other == address)).then_some(address)
        },
    )
}

fn turn(
    urls: Vec<String>,
    secret_file: Option<&Path>,
    ttl: Duration,
) -> Result<Option<Turn>, ConfigError> {
    match (urls.is_empty(), secret_file) {
        (true, None) => Ok(None),
        (false, Some(file)) => {
            let secret =
                files::read_secret_text("--turn-secret-file", file).map_err(ConfigError)?;
            let secret = secret.into_bytes();
            Ok(Some(Turn { urls, secret, ttl }))
        }
        (false, None) => Err(ConfigError(
            "--turn-url needs --turn-secret-file, with the secret that the TURN server has".into(),
        )),
        (true, Some(_)) => Err(ConfigError(
            "--turn-secret-file needs --turn-url, as in turn:turn.example.org:3478".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from(std::iter::once(&"voicematch-server").chain(args))
            .map_err(|e| e.to_string())?;
        cli.serve.check().map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_documents() {
        let config = config(&[]).expect("defaults are valid");
        assert_eq!(config.listen[0].to_string(), "0.0.0.0:8080");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:6060");
        assert_eq!(
            config.session.outbox,
            OutboxLimits {
                messages: 256,
                bytes: 1 << 20
            }
        );
        assert_eq!(
            (config.ws.max_message_bytes, config.session.rate.per_second),
            (65_536, 100)
        );
        assert_eq!(
            config.matchmaker.widening.anyone,
            Some(Duration::from_secs(15))
        );
    }

    #[test]
    fn every_flag_has_an_environment_twin() {
        use clap::CommandFactory;
        for arg in Cli::command()
            .get_arguments()
            .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        {
            let env = arg
                .get_env()
                .unwrap_or_else(|| panic!("{} has none", arg.get_id()));
            assert!(env.to_string_lossy().starts_with("VOICEMATCH_"), "{env:?}");
        }
    }

    #[test]
    fn bad_values_say_what_to_do() {
        for (args, hint) in [
            (&["--heartbeat", "soon"][..], "25s"),
            (&["--heartbeat", "0"], "100ms to 1h"),
            (&["--idle-timeout", "9999days"], "100ms to 1year, or 0"),
            (&["--widen-region-after", "2days"], "0s to 1day"),
            (&["--max-message-bytes", "lots"], "64KiB"),
            (&["--max-message-bytes", "1"], "256 to 64MiB"),
            (&["--outbox-bytes", "1000"], "at least"),
            (&["--message-burst", "0"], "1..=1000000"),
            (&["--workers", "1000000"], "0..=1024"),
            (&["--log", "inof"], "info"),
            (&["--ice-server", "http://x"], "stun:"),
            (&["--ice-server", "{\"urls\": []}"], "empty"),
            (&["--dev-tokens"], "--jwt-secret-file"),
            (&["--proxy-protocol"], "--trusted-proxy"),
            (&["--listen", ":7,unix:x,:7"], ":7 twice"),
            (&["--listen", "127.0.0.1:6060"], "--admin-listen"),
            (&["--tls-cert", "x"], "--tls-key"),
            (&["--tls-key", "x"], "--tls-cert"),
            (&["--jwks", "ftp://x"], "https://"),
            (&["--auth-webhook", "app.example"], "https://"),
            (
                &["--auth-webhook", "http://x", "--jwks", "keys.json"],
                "one or the other",
            ),
            (&["--event-webhook", "app.example"], "https://"),
            (
                &["--event-webhook", "http://x"],
                "--event-webhook-secret-file",
            ),
            (
                &["--event-webhook-secret-file", "/nowhere"],
                "--event-webhook,",
            ),
            (&["--event-webhook-type", "match"], "match.made"),
            (&["--turn-url", "stun:x"], "turn:turn"),
            (&["--turn-url", "turn: "], "turn:turn"),
            (&["--turn-url", "turn:x y"], "turn:turn"),
            (
                &["--ice-server", "[{\"urls\": \"stun:x\\u0000\"}]"],
                "stun:",
            ),
            (&["--turn-url", "turn:x"], "--turn-secret-file"),
            (&["--turn-secret-file", "/dev/null"], "--turn-url"),
            (
                &["--turn-url", "turn:x", "--turn-secret-file", "/nowhere"],
                "/nowhere",
            ),
            (&["--listen", "8080"], ":8080"),
            (&["--listen", "unix:"], "path"),
            (&["--listen", "a b:80"], "localhost:8080"),
            (&["--listen", ":80800"], "localhost:8080"),
            (&["--unix-socket-mode", "999"], "660"),
            (&["--trusted-proxy", "10.0.0.0/40"], "10.0.0.0/8"),
            (&["--allowed-origin", "app.example"], "https://"),
            #[cfg(feature = "traces")]
            (&["--otlp-endpoint", "collector:4318"], "https://"),
            #[cfg(feature = "traces")]
            (&["--trace-sample", "2"], "0 to 1"),
            #[cfg(feature = "traces")]
            (&["--trace-sample", "NaN"], "0 to 1"),
            #[cfg(feature = "sentry")]
            (&["--sentry-dsn-file", "/nowhere"], "/nowhere"),
            #[cfg(feature = "sentry")]
            (&["--sentry-environment", "a b"], "spaces"),
        ] {
            let error = config(args).expect_err("bad");
            assert!(error.contains(hint), "{args:?}: {error}");
        }
    }

    #[test]
    fn an_ice_server_is_a_url_or_json() {
        let config = config(&[
            "--ice-server",
            "stun:stun.example.org:3478",
            "--ice-server",
            r#"{"urls":"turn:turn.example.org","username":"u","credential":"c"}"#,
        ])
        .expect("valid");
        assert_eq!(
            value::ice_servers("stun:a turn:b").map(|servers| servers.0.len()),
            Ok(2)
        );
        assert_eq!(config.session.ice.fixed.len(), 2);
        assert_eq!(config.session.ice.fixed[1].credential.as_deref(), Some("c"));
    }

    #[test]
    fn never_is_a_time_too() {
        let config = config(&["--widen-anyone-after", "never"]).expect("valid");
        assert_eq!(config.matchmaker.widening.anyone, None);
    }
}
