//! From raw flags to a checked [`Config`]: what each group of them means, and which do not go together.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

#[cfg(feature = "traces")]
use hyper::Uri;
use voicematch_core::{
    matchmaker::{MatchmakerConfig, Widening},
    outbox::{LogLimits, OutboxLimits},
    session::{IceConfig, RateLimit, ResumeConfig, SessionConfig, Turn},
};

use super::{Config, ConfigError, Flags};
#[cfg(feature = "sentry")]
use crate::report::{Dsn, ReportConfig};
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
    http::HttpConfig,
    listen::{Address, certificate::CertificateFiles},
    machine::memory,
    room_key::{self, KeyConfig, KeyFrom},
    transport::ws::WsConfig,
};
#[cfg(feature = "traces")]
use crate::{fetch, trace::TraceConfig};

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
    pub fn check(mut self) -> Result<Config, ConfigError> {
        self.check_addresses()?;
        let session = self.session()?;
        let (dev_tokens, auth) = (self.dev_tokens()?, self.auth()?);
        let (tls, events) = (self.tls()?, self.events()?);
        #[cfg(feature = "traces")]
        let traces = traces(self.otlp_endpoint, self.trace_sample)?;
        #[cfg(not(feature = "traces"))]
        let traces = None;
        #[cfg(feature = "sentry")]
        let reports = reports(self.sentry_dsn_file.as_deref(), self.sentry_environment)?;
        #[cfg(not(feature = "sentry"))]
        let reports = None;
        #[cfg(feature = "cluster")]
        let cluster = self.clustering.check()?;
        #[cfg(feature = "transcribe")]
        let is_one_of_several = {
            #[cfg(feature = "cluster")]
            let cluster = cluster.is_some();
            #[cfg(not(feature = "cluster"))]
            let cluster = false;
            cluster
        };
        #[cfg(feature = "transcribe")]
        let transcribe = (self.transcription).check(self.state_dir.clone(), is_one_of_several)?;
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
            workers: match self.workers {
                0 => std::thread::available_parallelism().map_or(1, NonZero::get),
                workers => workers,
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
            dev_tokens,
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
            session,
            matchmaker: MatchmakerConfig {
                widening: Widening {
                    language: self.widen_language_after.0,
                    region: self.widen_region_after.0,
                    anyone: self.widen_anyone_after.0,
                },
                avoid_partner_for: self.avoid_partner_for,
                keep_seat_for: self.resume_window,
            },
            traces,
            reports,
            #[cfg(feature = "cluster")]
            cluster,
            #[cfg(feature = "transcribe")]
            transcribe,
        })
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
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
        Ok(())
    }

    fn tls(&mut self) -> Result<Option<CertificateFiles>, ConfigError> {
        match (self.tls_cert.take(), self.tls_key.take()) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => Ok(Some(CertificateFiles { chain, key })),
            (Some(_), None) => Err(ConfigError(
                "--tls-cert needs --tls-key, with its key".into(),
            )),
            (None, Some(_)) => Err(ConfigError(
                "--tls-key needs --tls-cert, the certificate".into(),
            )),
        }
    }

    /// The secret that signs tokens for development.
    fn dev_tokens(&self) -> Result<Option<PathBuf>, ConfigError> {
        match (self.dev_tokens, &self.jwt_secret_file) {
            (false, _) => Ok(None),
            (true, Some(secret)) => Ok(Some(secret.clone())),
            (true, None) => Err(ConfigError(
                "--dev-tokens needs --jwt-secret-file, whose secret signs them".into(),
            )),
        }
    }

    fn auth(&mut self) -> Result<AuthConfig, ConfigError> {
        let keys = KeySources {
            secret: self.jwt_secret_file.take(),
            public_key: self.jwt_public_key_file.take(),
            set: self.jwks.take(),
        };
        match self.auth_webhook.take() {
            Some(_) if !keys.is_empty() => Err(ConfigError(
                "--auth-webhook asks the app about each user, and keys check tokens here; give one or the other".into(),
            )),
            Some(url) => Ok(AuthConfig::Webhook(WebhookConfig {
                url,
                timeout: self.auth_webhook_timeout,
                remember: self.auth_webhook_remember,
            })),
            None if keys.is_empty() => Ok(AuthConfig::Off),
            None => Ok(AuthConfig::Tokens(TokenConfig {
                keys,
                audience: std::mem::take(&mut self.jwt_audience),
                issuer: self.jwt_issuer.take(),
                leeway: self.jwt_leeway,
            })),
        }
    }

    fn events(&mut self) -> Result<Option<EventConfig>, ConfigError> {
        const FLAG: &str = "--event-webhook-secret-file";
        let (url, file) = match (self.event_webhook.take(), &self.event_webhook_secret_file) {
            (None, None) => return Ok(None),
            (Some(url), Some(file)) => (url, file),
            (Some(_), None) => {
                return Err(ConfigError(format!(
                    "--event-webhook needs {FLAG}, with the secret that the app verifies events by"
                )));
            }
            (None, Some(_)) => {
                return Err(ConfigError(format!(
                    "{FLAG} needs --event-webhook, the URL that events are sent to"
                )));
            }
        };
        let secret = files::read_secret_text(FLAG, file).map_err(ConfigError)?;
        let secret = Secret::parse(&secret).ok_or_else(|| {
            ConfigError(format!(
                "{FLAG}: write whsec_ and the base64 of 24 to 64 bytes, as echo whsec_$(openssl rand -base64 32) does"
            ))
        })?;
        Ok(Some(EventConfig {
            url,
            secret,
            kinds: std::mem::take(&mut self.event_webhook_types),
            timeout: self.event_webhook_timeout,
            retry_after: self.event_webhook_retry_after,
        }))
    }

    fn session(&mut self) -> Result<SessionConfig, ConfigError> {
        let least = self.max_message_bytes + ENVELOPE_BYTES;
        if self.outbox_bytes < least {
            return Err(ConfigError(format!(
                "--outbox-bytes is {}, which cannot hold one message of --max-message-bytes {}; give at least {least}",
                self.outbox_bytes, self.max_message_bytes
            )));
        }
        Ok(SessionConfig {
            heartbeat: self.heartbeat,
            max_message_bytes: self.max_message_bytes,
            rate: RateLimit::new(self.max_messages_per_second, self.message_burst),
            idle_timeout: self.idle_timeout,
            outbox: OutboxLimits {
                messages: self.outbox_messages,
                // The flag's bound is less.
                bytes: u32::try_from(self.outbox_bytes).unwrap_or(u32::MAX),
            },
            resume: self.resume()?,
            ice: self.ice()?,
        })
    }

    fn resume(&self) -> Result<ResumeConfig, ConfigError> {
        let least = self.max_message_bytes + RESUME_ENVELOPE_BYTES;
        let log_bytes = self.resume_log_bytes.unwrap_or(LOG_BYTES.max(least));
        if log_bytes < least {
            return Err(ConfigError(format!(
                "--resume-log-bytes is {log_bytes}, which cannot hold one message of --max-message-bytes {}; give at least {least}",
                self.max_message_bytes
            )));
        }
        Ok(ResumeConfig {
            window: self.resume_window,
            heartbeat: self.resume_heartbeat,
            deadline: self.resume_deadline,
            log: LogLimits {
                messages: self.resume_log_messages,
                // The flag's bound is less.
                bytes: u32::try_from(log_bytes).unwrap_or(u32::MAX),
            },
            max_detached: match (self.max_detached, self.max_connections) {
                (Some(max), _) => max,
                (None, 0) => UNLIMITED_DETACHED,
                (None, connections) => (connections / 10).max(1),
            },
        })
    }

    fn ice(&mut self) -> Result<IceConfig, ConfigError> {
        let fixed = std::mem::take(&mut self.ice_servers).into_iter();
        let urls = std::mem::take(&mut self.turn_urls);
        Ok(IceConfig {
            fixed: fixed.flat_map(|servers| servers.0).collect(),
            turn: turn(urls, self.turn_secret_file.as_deref(), self.turn_ttl)?,
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
