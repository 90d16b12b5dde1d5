//! From raw flags and environment to a checked [`Config`].

use std::{fmt, net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use voicematch_protocol::IceServer;

use crate::{
    http::HttpConfig,
    listen::ListenConfig,
    matchmaker::{MatchmakerConfig, Widening},
    outbox::OutboxLimits,
    session::SessionConfig,
    transport::ws::WsConfig,
};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "voicematch-server",
    version,
    about = "Pairs people who ask for a match and relays the set-up of their WebRTC calls.",
    long_about = None,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  voicematch-server                                  serve on 0.0.0.0:8080, admin on 127.0.0.1:6060
  voicematch-server --listen '[::]:8080' --ice-server stun:stun.example.org:3478
  voicematch-server self-test --users 500            play 500 users against a server in this process
  voicematch-server healthcheck                      exit 0 if the server on this machine is well

Durations are written as 250ms, 25s, 10m or 1h30m; sizes in bytes or as 64KiB, 1MiB.
Every flag can be set by the environment variable that stands beside it; the flag wins."
)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Flags,
}

/// What the program can do besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a server inside this process, play users against it, and print what they saw.
    SelfTest {
        /// Users to play.
        #[arg(long, default_value_t = 200, env = "VOICEMATCH_SELF_TEST_USERS")]
        users: u32,
        /// How long they talk once all have come.
        #[arg(long, default_value = "10s", value_parser = duration, env = "VOICEMATCH_SELF_TEST_DURATION")]
        duration: Duration,
    },
    /// Ask a running server whether it is well; for containers, which have no curl.
    Healthcheck {
        /// What to ask.
        #[arg(
            long,
            default_value = "http://127.0.0.1:8080/health",
            env = "VOICEMATCH_HEALTHCHECK_URL"
        )]
        url: String,
    },
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line, for machines.
    Json,
}

/// Raw flags of the server.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Public address: /ws, /health, /stats. Port 0 takes a free one
    #[arg(
        long,
        default_value = "0.0.0.0:8080",
        env = "VOICEMATCH_LISTEN",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,

    /// Admin address: /metrics, /debug/pprof/, /livez, /readyz. Keep it private
    #[arg(
        long,
        default_value = "127.0.0.1:6060",
        env = "VOICEMATCH_ADMIN_LISTEN",
        value_name = "ADDR"
    )]
    pub admin_listen: SocketAddr,

    /// Worker threads; 0: one for each CPU that this process may use
    #[arg(long, default_value_t = 0, env = "VOICEMATCH_WORKERS")]
    pub workers: usize,

    /// STUN or TURN servers to tell clients of: URLs separated by spaces, or JSON as in
    /// {"urls": "turn:...", "username": "...", "credential": "..."} or a list of that. Repeatable
    #[arg(long = "ice-server", env = "VOICEMATCH_ICE_SERVERS", value_parser = ice_servers, value_name = "URL|JSON")]
    pub ice_servers: Vec<IceServers>,

    /// How often each connection is pinged
    #[arg(long, default_value = "25s", value_parser = duration, env = "VOICEMATCH_HEARTBEAT", value_name = "DURATION")]
    pub heartbeat: Duration,

    /// How long after a ping anything at all must have come
    #[arg(long, default_value = "8s", value_parser = duration, env = "VOICEMATCH_HEARTBEAT_DEADLINE", value_name = "DURATION")]
    pub heartbeat_deadline: Duration,

    /// Wait after which a shared language is enough, whatever the interests; never: it is not
    #[arg(long, default_value = "5s", value_parser = after, env = "VOICEMATCH_WIDEN_LANGUAGE_AFTER", value_name = "DURATION")]
    pub widen_language_after: After,

    /// Wait after which a shared region is enough, whatever the language; never: it is not
    #[arg(long, default_value = "10s", value_parser = after, env = "VOICEMATCH_WIDEN_REGION_AFTER", value_name = "DURATION")]
    pub widen_region_after: After,

    /// Wait after which anyone will do; never: criteria are kept for ever
    #[arg(long, default_value = "15s", value_parser = after, env = "VOICEMATCH_WIDEN_ANYONE_AFTER", value_name = "DURATION")]
    pub widen_anyone_after: After,

    /// How long a user who sent next is not matched with the partner they left
    #[arg(long, default_value = "30s", value_parser = duration, env = "VOICEMATCH_AVOID_PARTNER_FOR", value_name = "DURATION")]
    pub avoid_partner_for: Duration,

    /// Longest message of a client, in bytes
    #[arg(long, default_value = "64KiB", value_parser = bytes, env = "VOICEMATCH_MAX_MESSAGE_BYTES", value_name = "BYTES")]
    pub max_message_bytes: usize,

    /// Messages that may wait for a client that does not read, before it is closed
    #[arg(long, default_value_t = 256, env = "VOICEMATCH_OUTBOX_MESSAGES")]
    pub outbox_messages: usize,

    /// Bytes that may wait for a client that does not read, before it is closed
    #[arg(long, default_value = "1MiB", value_parser = bytes, env = "VOICEMATCH_OUTBOX_BYTES", value_name = "BYTES")]
    pub outbox_bytes: usize,

    /// Messages a second that a client may send in the long run; 0: no limit
    #[arg(
        long,
        default_value_t = 100,
        env = "VOICEMATCH_MAX_MESSAGES_PER_SECOND"
    )]
    pub max_messages_per_second: u32,

    /// Messages that a client may send at once
    #[arg(long, default_value_t = 200, env = "VOICEMATCH_MESSAGE_BURST")]
    pub message_burst: u32,

    /// Time a client has to send its request's header, and to be idle between two HTTP requests
    #[arg(long, default_value = "10s", value_parser = duration, env = "VOICEMATCH_HANDSHAKE_TIMEOUT", value_name = "DURATION")]
    pub handshake_timeout: Duration,

    /// Time a client may be silent while neither waiting nor in a room; 0: for ever
    #[arg(long, default_value = "1h", value_parser = duration, env = "VOICEMATCH_IDLE_TIMEOUT", value_name = "DURATION")]
    pub idle_timeout: Duration,

    /// Longest request header, in bytes, from 8KiB
    #[arg(long, default_value = "16KiB", value_parser = bytes, env = "VOICEMATCH_MAX_HEADER_BYTES", value_name = "BYTES")]
    pub max_header_bytes: usize,

    /// Connections in all; 0: as many as there are file descriptors for
    #[arg(long, default_value_t = 50_000, env = "VOICEMATCH_MAX_CONNECTIONS")]
    pub max_connections: usize,

    /// Connections from one IPv4 address or one IPv6 /64 network; loopback is exempt; 0: no limit
    #[arg(
        long,
        default_value_t = 256,
        env = "VOICEMATCH_MAX_CONNECTIONS_PER_ADDRESS"
    )]
    pub max_connections_per_address: usize,

    /// Apply --max-connections-per-address to loopback too
    #[arg(long, env = "VOICEMATCH_LIMIT_LOOPBACK")]
    pub limit_loopback: bool,

    /// Connections accepted a second; more wait in the kernel's queue; 0: no limit
    #[arg(long, default_value_t = 0, env = "VOICEMATCH_MAX_ACCEPTS_PER_SECOND")]
    pub max_accepts_per_second: u32,

    /// How long rooms may go on after SIGTERM or SIGINT
    #[arg(long, default_value = "30s", value_parser = duration, env = "VOICEMATCH_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Duration,

    /// How logs are written
    #[arg(
        long,
        default_value = "human",
        value_enum,
        env = "VOICEMATCH_LOG_FORMAT"
    )]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter
    #[arg(
        long,
        default_value = "info",
        env = "VOICEMATCH_LOG",
        value_name = "LEVEL"
    )]
    pub log: String,
}

/// The STUN and TURN servers that one flag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServers(pub Vec<IceServer>);

/// A time after which something happens, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(pub Option<Duration>);

/// Everything the server needs to know, checked.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each part is documented where it is used")]
pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub workers: usize,
    pub drain_timeout: Duration,
    pub accept: ListenConfig,
    pub http: HttpConfig,
    pub ws: WsConfig,
    pub session: SessionConfig,
    pub matchmaker: MatchmakerConfig,
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

/// The smallest header buffer that hyper accepts.
const MIN_HEADER_BYTES: usize = 8 * 1024;

/// Room in the largest message for what stands around a payload.
const MIN_MESSAGE_BYTES: usize = 256;

impl Flags {
    /// Checks the flags against each other.
    pub fn check(self) -> Result<Config, ConfigError> {
        let positive = [
            ("--heartbeat", self.heartbeat),
            ("--heartbeat-deadline", self.heartbeat_deadline),
            ("--handshake-timeout", self.handshake_timeout),
        ];
        for (flag, value) in positive {
            if value.is_zero() {
                return Err(ConfigError(format!(
                    "{flag} is 0; give a time longer than that, such as 10s"
                )));
            }
        }
        let least = [
            (
                "--max-message-bytes",
                self.max_message_bytes,
                MIN_MESSAGE_BYTES,
            ),
            (
                "--max-header-bytes",
                self.max_header_bytes,
                MIN_HEADER_BYTES,
            ),
            ("--outbox-messages", self.outbox_messages, 1),
            (
                "--outbox-bytes",
                self.outbox_bytes,
                self.max_message_bytes.saturating_add(MIN_MESSAGE_BYTES),
            ),
        ];
        for (flag, value, least) in least {
            if value < least {
                return Err(ConfigError(format!(
                    "{flag} is {value}; give at least {least}"
                )));
            }
        }
        if self.max_messages_per_second > 0 && self.message_burst == 0 {
            return Err(ConfigError(
                "--message-burst is 0, so no message could ever pass; give at least 1".into(),
            ));
        }
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            workers: if self.workers == 0 {
                cpus
            } else {
                self.workers.min(MAX_WORKERS)
            },
            drain_timeout: self.drain_timeout,
            accept: ListenConfig {
                max_connections: self.max_connections,
                max_connections_per_address: self.max_connections_per_address,
                limit_loopback: self.limit_loopback,
                max_accepts_per_second: self.max_accepts_per_second,
            },
            http: HttpConfig {
                handshake_timeout: self.handshake_timeout,
                max_header_bytes: self.max_header_bytes,
            },
            ws: WsConfig {
                heartbeat: self.heartbeat,
                heartbeat_deadline: self.heartbeat_deadline,
                max_message_bytes: self.max_message_bytes,
            },
            session: SessionConfig {
                heartbeat: self.heartbeat,
                max_message_bytes: self.max_message_bytes,
                max_messages_per_second: self.max_messages_per_second,
                message_burst: self.message_burst,
                idle_timeout: self.idle_timeout,
                outbox: OutboxLimits {
                    messages: self.outbox_messages,
                    bytes: self.outbox_bytes,
                },
                ice_servers: self
                    .ice_servers
                    .into_iter()
                    .flat_map(|servers| servers.0)
                    .collect(),
            },
            matchmaker: MatchmakerConfig {
                widening: Widening {
                    language: self.widen_language_after.0,
                    region: self.widen_region_after.0,
                    anyone: self.widen_anyone_after.0,
                },
                avoid_partner_for: self.avoid_partner_for,
            },
        })
    }
}

/// More threads than any machine has CPUs; a typing error should not start millions.
const MAX_WORKERS: usize = 1024;

/// The longest time a flag takes; far sums of instants must not overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = if text == "0" {
        Ok(Duration::ZERO)
    } else {
        humantime::parse_duration(text)
    };
    match parsed {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) => Err("longer than a year".into()),
        Err(error) => Err(format!("{error}; write it as 250ms, 25s or 10m")),
    }
}

fn after(text: &str) -> Result<After, String> {
    if text == "never" {
        Ok(After(None))
    } else {
        duration(text).map(|after| After(Some(after)))
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let unit: usize = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err("write it as 65536, 64KiB or 1MiB".into()),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "write it as 65536, 64KiB or 1MiB")?;
    // Half of the address space of 32 bits: sums of sizes cannot overflow.
    number
        .checked_mul(unit)
        .filter(|&bytes| bytes <= 1 << 30)
        .ok_or_else(|| "more than 1024MiB".into())
}

fn ice_servers(text: &str) -> Result<IceServers, String> {
    let text = text.trim();
    let json = |error: serde_json::Error| error.to_string();
    let servers: Vec<IceServer> = if text.starts_with('{') {
        vec![serde_json::from_str(text).map_err(json)?]
    } else if text.starts_with('[') {
        serde_json::from_str(text).map_err(json)?
    } else {
        let urls = text.split_whitespace().map(|url| vec![url.to_owned()]);
        urls.map(|urls| IceServer {
            urls,
            username: None,
            credential: None,
        })
        .collect()
    };
    for server in &servers {
        if server.urls.is_empty() {
            return Err("urls is empty".into());
        }
        if let Some(url) = server.urls.iter().find(|url| !is_ice_url(url)) {
            return Err(format!(
                "{url:?} is no stun:, stuns:, turn: or turns: address, such as stun:stun.example.org:3478"
            ));
        }
    }
    Ok(IceServers(servers))
}

fn is_ice_url(url: &str) -> bool {
    let mut schemes = ["stun:", "stuns:", "turn:", "turns:"].into_iter();
    schemes.any(|scheme| {
        url.strip_prefix(scheme)
            .is_some_and(|host| !host.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from(std::iter::once(&"voicematch-server").chain(args))
            .map_err(|e| e.to_string())?;
        cli.serve.check().map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_documents() {
        let config = config(&[]).expect("defaults are valid");
        assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:6060");
        assert_eq!(
            config.session.outbox,
            OutboxLimits {
                messages: 256,
                bytes: 1 << 20
            }
        );
        assert_eq!(
            (
                config.ws.max_message_bytes,
                config.session.max_messages_per_second
            ),
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
            (&["--heartbeat", "0"], "longer"),
            (&["--idle-timeout", "9999days"], "year"),
            (&["--max-message-bytes", "lots"], "64KiB"),
            (&["--max-message-bytes", "1"], "at least"),
            (&["--outbox-bytes", "1000"], "at least"),
            (&["--message-burst", "0"], "at least 1"),
            (&["--ice-server", "http://x"], "stun:"),
            (&["--ice-server", "{\"urls\": []}"], "empty"),
            (&["--listen", "8080"], "--listen"),
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
            ice_servers("stun:a turn:b").map(|servers| servers.0.len()),
            Ok(2)
        );
        assert_eq!(config.session.ice_servers.len(), 2);
        assert_eq!(
            config.session.ice_servers[1].credential.as_deref(),
            Some("c")
        );
    }

    #[test]
    fn never_is_a_time_too() {
        let config = config(&["--widen-anyone-after", "never"]).expect("valid");
        assert_eq!(config.matchmaker.widening.anyone, None);
    }
}
