//! The command line and its environment twins, raw.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use hyper::Uri;
use tracing_subscriber::filter::Targets;
use voicematch_core::events::EventKind;

#[cfg(feature = "sentry")]
use super::value::environment;
#[cfg(feature = "traces")]
use super::value::share;
use super::value::{
    After, IceServers, KIB, MIB, after, count, event_kind, hand_over_path, ice_servers, mode, size,
    time, time_or_zero, turn_url,
};
use crate::{
    admission::{auth::KeySet, origin::AllowedOrigin, proxy::TrustedProxy},
    fetch,
    listen::Address,
    log,
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
  voicematch-server --listen :8080 --ice-server stun:stun.example.org:3478
  voicematch-server --listen unix:/run/voicematch.sock --trusted-proxy unix
  voicematch-server self-test --users 500            play 500 users against a server in this process
  voicematch-server gentoken --help                  make a token, to try a server that asks for one
  voicematch-server defaultconfig > voicematch.toml  then: voicematch-server --config voicematch.toml
  voicematch-server healthcheck                      exit 0 if the server on this machine is well

Durations are written as 250ms, 25s, 10m or 1h30m; sizes in bytes or as 64KiB, 1MiB.
Every flag can be set in the file that --config names, as in max_rooms = 100, and by the environment variable that
stands beside it. The variable wins over the file, and the flag over both."
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
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Start a server inside this process, play users against it, and print what they saw.
    #[cfg(feature = "self-test")]
    SelfTest {
        /// Users to play.
        #[arg(long, default_value_t = 200, value_parser = count::<u32>(1, 100_000), env = "VOICEMATCH_SELF_TEST_USERS", value_name = "N")]
        users: u32,
        /// How long they talk once all have come.
        #[arg(long, default_value = "10s", value_parser = time("1s", "1day"), env = "VOICEMATCH_SELF_TEST_DURATION")]
        duration: Duration,
    },
    /// Print a token for --jwt-secret-file, to try a server that asks for one.
    Gentoken {
        /// The server's secret
        #[arg(long, env = "VOICEMATCH_JWT_SECRET_FILE", value_name = "FILE")]
        jwt_secret_file: PathBuf,
        /// The server's --jwt-issuer [default: none]
        #[arg(long, env = "VOICEMATCH_JWT_ISSUER", value_name = "NAME")]
        jwt_issuer: Option<String>,
        /// The app's id of the user
        #[arg(long, env = "VOICEMATCH_GENTOKEN_USER", value_name = "ID")]
        user: String,
        /// What other users see [default: nothing]
        #[arg(long, env = "VOICEMATCH_GENTOKEN_NAME", value_name = "NAME")]
        name: Option<String>,
        /// A named room that the user may join, or the beginning of some as in team-*. Repeatable
        /// [default: all]
        #[arg(
            long = "room",
            env = "VOICEMATCH_GENTOKEN_ROOM",
            value_delimiter = ',',
            value_name = "ROOM"
        )]
        rooms: Vec<String>,
        /// Print so many tokens, a line each, for USER1, USER2 and so on: for loadtest --token-file [default: one, for USER]
        #[arg(long, value_parser = count::<u32>(1, 1_000_000), env = "VOICEMATCH_GENTOKEN_COUNT", value_name = "N")]
        count: Option<u32>,
        /// How long it is good; the server's --jwt-leeway is added to that
        #[arg(long, default_value = "1h", value_parser = time("1s", "1year"), env = "VOICEMATCH_GENTOKEN_TTL", value_name = "DURATION")]
        ttl: Duration,
    },
    /// Check a configuration file, and the files that it names.
    Checkconfig {
        /// The file
        #[arg(long, env = "VOICEMATCH_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Print a configuration file with every key, its meaning and its default.
    Defaultconfig,
    /// Print what a shell needs to complete the flags.
    Completions {
        /// Which shell
        #[arg(env = "VOICEMATCH_COMPLETIONS_SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page; `voicematch-server man | man -l -`.
    Man,
    /// Work with the questionnaires of surveys.
    #[cfg(feature = "transcribe")]
    Survey {
        /// What to do
        #[command(subcommand)]
        what: SurveyCommand,
    },
    /// Ask a running server whether it is well; for containers, which have no curl.
    Healthcheck {
        /// The server's --config; else what the environment says
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The server's --listen, the first of several. 0.0.0.0, `[::]` and :PORT mean loopback
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
        /// The server's --admin-listen, which is asked if users are to speak TLS or PROXY at the other
        #[arg(long, value_name = "ADDR")]
        admin_listen: Option<String>,
        /// Ask this URL instead
        #[arg(long, env = "VOICEMATCH_HEALTHCHECK_URL")]
        url: Option<String>,
    },
}

/// What can be done with a questionnaire.
#[cfg(feature = "transcribe")]
#[derive(Debug, Clone, Subcommand)]
pub enum SurveyCommand {
    /// Check a questionnaire; each fault is named with its line.
    Check {
        /// The questionnaire, in TOML or JSON
        #[arg(env = "VOICEMATCH_SURVEY_CHECK_FILE", value_name = "FILE")]
        file: PathBuf,
    },
    /// Lead one interview for an MCP client on this machine: the tools on standard input and output. Its answers are
    /// stored as the server stores them.
    #[cfg(feature = "mcp")]
    Mcp {
        /// The questionnaire, in TOML or JSON
        #[arg(env = "VOICEMATCH_SURVEY_MCP_FILE", value_name = "FILE")]
        file: PathBuf,
        /// Who is asked; the same one goes on with the same interview [default: nobody in particular]
        #[arg(long, env = "VOICEMATCH_SURVEY_RESPONDENT", value_name = "NAME")]
        respondent: Option<String>,
        /// Language of the texts, as in de [default: the first of the survey]
        #[arg(long, env = "VOICEMATCH_SURVEY_LANGUAGE", value_name = "LANGUAGE")]
        language: Option<String>,
        /// The server's --database [default: $DATABASE_URL, or SQLite in --state-dir]
        #[arg(
            long,
            env = "VOICEMATCH_DATABASE",
            hide_env_values = true,
            value_name = "URL"
        )]
        database: Option<String>,
        /// The server's --state-dir [default: $STATE_DIRECTORY, or ~/.local/state/voicematch]
        #[arg(long, env = "VOICEMATCH_STATE_DIR", value_name = "DIR")]
        state_dir: Option<PathBuf>,
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

/// Where a server listens unless a flag says otherwise.
const DEFAULT_LISTEN: &str = "0.0.0.0:8080";
const DEFAULT_ADMIN_LISTEN: &str = "127.0.0.1:6060";

/// The topics of `--help`.
const LISTENING: &str = "Listening";
const ACCESS: &str = "Who may come in";
const CALLS: &str = "Calls";
const MATCHING: &str = "Matching";
const EVENTS: &str = "What the app is told";
const LIMITS: &str = "Limits";
const RESUMING: &str = "Sessions and rooms that outlive their connections";
const RUNNING: &str = "Running";
#[cfg(any(feature = "traces", feature = "sentry"))]
const TELLING: &str = "Traces and error reports";

/// Raw flags of the server.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// What users reach: the page, /ws, /events, /poll, /health and more, see the README. IP:PORT, NAME:PORT, :PORT for all addresses, unix:PATH, or systemd:NAME
    /// for a socket that systemd has opened. Port 0 takes a free one. Repeatable, or separated by commas
    #[arg(
        long, help_heading = LISTENING,
        default_value = DEFAULT_LISTEN,
        env = "VOICEMATCH_LISTEN",
        value_delimiter = ',',
        value_name = "ADDR"
    )]
    pub listen: Vec<Address>,

    /// Admin address: /, /metrics, /support, /api, /debug/pprof/, /livez, /readyz. Keep it private
    #[arg(
        long, help_heading = LISTENING,
        default_value = DEFAULT_ADMIN_LISTEN,
        env = "VOICEMATCH_ADMIN_LISTEN",
        value_name = "ADDR"
    )]
    pub admin_listen: Address,

    /// The token that /support and /api ask for, of 32 bytes at least, and /debug where others than this machine can
    /// connect. Without it they answer only where the admin address is loopback or a Unix socket. Read again when it changes [default: none]
    #[arg(long, help_heading = LISTENING, env = "VOICEMATCH_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Name by which /support, /api and /debug may be asked besides localhost and addresses. Repeatable, or separated by
    /// commas [default: none]
    #[arg(
        long = "admin-host", help_heading = LISTENING,
        env = "VOICEMATCH_ADMIN_HOST",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub admin_hosts: Vec<String>,

    /// Certificate of the public address in PEM, with those between it and the authority: TLS for TCP
    /// connections, without a proxy. Read again when it changes [default: none]
    #[arg(long, help_heading = LISTENING, env = "VOICEMATCH_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The key of --tls-cert in PEM [default: none]
    #[arg(long, help_heading = LISTENING, env = "VOICEMATCH_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Permissions of Unix sockets, in octal
    #[arg(long, help_heading = LISTENING, default_value = "660", value_parser = mode, env = "VOICEMATCH_UNIX_SOCKET_MODE", value_name = "MODE")]
    pub unix_socket_mode: u32,

    /// Proxy whose X-Forwarded-For and X-Forwarded-Host are believed: an address, a network as in
    /// 10.0.0.0/8, or unix for all that connect to a Unix socket. Repeatable, or separated by commas
    /// [default: none]
    #[arg(
        long = "trusted-proxy", help_heading = LISTENING,
        env = "VOICEMATCH_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub trusted_proxies: Vec<TrustedProxy>,

    /// TCP and Unix connections of a --trusted-proxy begin with a PROXY header, version 2, that names the
    /// user [default: false]
    #[arg(long, help_heading = LISTENING, env = "VOICEMATCH_PROXY_PROTOCOL", value_parser = BoolishValueParser::new())]
    pub proxy_protocol: bool,

    /// Web pages that may connect besides those of the server's own host, as in `https://app.example`; * for
    /// all. Repeatable, or separated by commas [default: none]
    #[arg(
        long = "allowed-origin", help_heading = LISTENING,
        env = "VOICEMATCH_ALLOWED_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub allowed_origins: Vec<AllowedOrigin>,

    /// Do not serve the page at / and /r/NAME, nor /client.js, where the app brings its own [default: false]
    #[arg(long, help_heading = LISTENING, env = "VOICEMATCH_NO_PAGE", value_parser = BoolishValueParser::new())]
    pub no_page: bool,

    /// Worker threads; 0: one for each CPU that this process may use
    #[arg(long, help_heading = LISTENING, default_value_t = 0, value_parser = count::<usize>(0, 1024), env = "VOICEMATCH_WORKERS", value_name = "N")]
    pub workers: usize,

    /// The secret with which your app signs tokens (JWT, HS256). With this flag or one of the next two a
    /// session begins only with a token [default: none]
    #[arg(long, help_heading = ACCESS, env = "VOICEMATCH_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// The public key (PEM) that verifies tokens by RS256, ES256 or EdDSA [default: none]
    #[arg(long, help_heading = ACCESS, env = "VOICEMATCH_JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    pub jwt_public_key_file: Option<PathBuf>,

    /// A set of public keys (JWKS): a file, or the URL where the app publishes it, which is fetched again when
    /// its answer is too old, or a token is by a new key. Key files are read again when they change
    /// [default: none]
    #[arg(long, help_heading = ACCESS, env = "VOICEMATCH_JWKS", value_name = "FILE|URL")]
    pub jwks: Option<KeySet>,

    /// Ask the app about each user who begins a session, in place of keys: POST to this URL
    /// [default: none]
    #[arg(long, help_heading = ACCESS, value_parser = fetch::url, env = "VOICEMATCH_AUTH_WEBHOOK", value_name = "URL")]
    pub auth_webhook: Option<Uri>,

    /// How long the app may take to answer; then the user does not come in
    #[arg(long, help_heading = ACCESS, default_value = "3s", value_parser = time("50ms", "1m"), env = "VOICEMATCH_AUTH_WEBHOOK_TIMEOUT", value_name = "DURATION")]
    pub auth_webhook_timeout: Duration,

    /// How long its answer is remembered; 0: not at all
    #[arg(long, help_heading = ACCESS, default_value = "10s", value_parser = time_or_zero("1s", "1day"), env = "VOICEMATCH_AUTH_WEBHOOK_REMEMBER", value_name = "DURATION")]
    pub auth_webhook_remember: Duration,

    /// What the `aud` of a token must contain, if it has one
    #[arg(
        long, help_heading = ACCESS,
        default_value = "voicematch",
        env = "VOICEMATCH_JWT_AUDIENCE",
        value_name = "NAME"
    )]
    pub jwt_audience: String,

    /// What the `iss` of a token must be [default: anything]
    #[arg(long, help_heading = ACCESS, env = "VOICEMATCH_JWT_ISSUER", value_name = "NAME")]
    pub jwt_issuer: Option<String>,

    /// How far clocks may differ: a token is good for so long after its end
    #[arg(long, help_heading = ACCESS, default_value = "30s", value_parser = time("0s", "1h"), env = "VOICEMATCH_JWT_LEEWAY", value_name = "DURATION")]
    pub jwt_leeway: Duration,

    /// Sessions that one user of the app may have; one more closes the oldest; 0: no limit
    #[arg(long, help_heading = ACCESS, default_value_t = 0, value_parser = count::<usize>(0, 1_000_000), env = "VOICEMATCH_SESSIONS_PER_USER", value_name = "N")]
    pub sessions_per_user: usize,

    /// Answer POST /auth/token with a token for any user name; for development only [default: false]
    #[arg(long, help_heading = ACCESS, env = "VOICEMATCH_DEV_TOKENS", value_parser = BoolishValueParser::new())]
    pub dev_tokens: bool,

    /// STUN or TURN servers to tell clients of: URLs separated by spaces, or JSON as in
    /// {"urls": "turn:...", "username": "...", "credential": "..."} or a list of that. Repeatable
    /// [default: none]
    #[arg(long = "ice-server", help_heading = CALLS, env = "VOICEMATCH_ICE_SERVERS", value_parser = ice_servers, value_name = "URL|JSON")]
    pub ice_servers: Vec<IceServers>,

    /// TURN server that shares a secret with this one, as in turn:turn.example.org:3478 (coturn:
    /// use-auth-secret): each session gets credentials of its own. Repeatable, or separated by commas
    /// [default: none]
    #[arg(long = "turn-url", help_heading = CALLS, env = "VOICEMATCH_TURN_URL", value_parser = turn_url, value_delimiter = ',', value_name = "URL")]
    pub turn_urls: Vec<String>,

    /// The secret of --turn-url (coturn: static-auth-secret) [default: none]
    #[arg(long, help_heading = CALLS, env = "VOICEMATCH_TURN_SECRET_FILE", value_name = "FILE")]
    pub turn_secret_file: Option<PathBuf>,

    /// How long these credentials are good; a resumable session gets new ones after three quarters of it
    #[arg(long, help_heading = CALLS, default_value = "12h", value_parser = time("1s", "30days"), env = "VOICEMATCH_TURN_TTL", value_name = "DURATION")]
    pub turn_ttl: Duration,

    /// Wait after which a shared language is enough, whatever the interests; never: it is not
    #[arg(long, help_heading = MATCHING, default_value = "5s", value_parser = after, env = "VOICEMATCH_WIDEN_LANGUAGE_AFTER", value_name = "DURATION")]
    pub widen_language_after: After,

    /// Wait after which a shared region is enough, whatever the language; never: it is not
    #[arg(long, help_heading = MATCHING, default_value = "10s", value_parser = after, env = "VOICEMATCH_WIDEN_REGION_AFTER", value_name = "DURATION")]
    pub widen_region_after: After,

    /// Wait after which anyone will do; never: criteria are kept for ever
    #[arg(long, help_heading = MATCHING, default_value = "15s", value_parser = after, env = "VOICEMATCH_WIDEN_ANYONE_AFTER", value_name = "DURATION")]
    pub widen_anyone_after: After,

    /// How long a user who sent next is not matched with the partner they left
    #[arg(long, help_heading = MATCHING, default_value = "30s", value_parser = time("0s", "1day"), env = "VOICEMATCH_AVOID_PARTNER_FOR", value_name = "DURATION")]
    pub avoid_partner_for: Duration,

    /// Tell the app what happens: POST to this URL, with signed lists of events (Standard Webhooks)
    /// [default: none]
    #[arg(long, help_heading = EVENTS, value_parser = fetch::url, env = "VOICEMATCH_EVENT_WEBHOOK", value_name = "URL")]
    pub event_webhook: Option<Uri>,

    /// The secret that signs them, which the app has too: whsec_ and the base64 of 24 to 64 bytes
    /// [default: none]
    #[arg(long, help_heading = EVENTS, env = "VOICEMATCH_EVENT_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub event_webhook_secret_file: Option<PathBuf>,

    /// The events that are told, as match.made,report.made. Repeatable, or separated by commas
    /// [default: all]
    #[arg(long = "event-webhook-type", help_heading = EVENTS, value_parser = event_kind, env = "VOICEMATCH_EVENT_WEBHOOK_TYPE", value_delimiter = ',', value_name = "TYPE")]
    pub event_webhook_types: Vec<EventKind>,

    /// How long the app may take to answer; then the same events are sent again
    #[arg(long, help_heading = EVENTS, default_value = "5s", value_parser = time("50ms", "1m"), env = "VOICEMATCH_EVENT_WEBHOOK_TIMEOUT", value_name = "DURATION")]
    pub event_webhook_timeout: Duration,

    /// How long after a first failure events are sent again; each further time it is five times as long, and
    /// after the fifth the events are dropped
    #[arg(long, help_heading = EVENTS, default_value = "1s", value_parser = time("10ms", "1m"), env = "VOICEMATCH_EVENT_WEBHOOK_RETRY_AFTER", value_name = "DURATION")]
    pub event_webhook_retry_after: Duration,

    /// Connections in all; 0: as many as there are file descriptors for
    #[arg(long, help_heading = LIMITS, default_value_t = 50_000, value_parser = count::<usize>(0, 10_000_000), env = "VOICEMATCH_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: usize,

    /// Connections from one IPv4 address or one IPv6 /64 network; loopback is exempt; behind a trusted
    /// proxy the user's address counts; 0: no limit
    #[arg(long, help_heading = LIMITS, default_value_t = 256, value_parser = count::<usize>(0, 10_000_000), env = "VOICEMATCH_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: usize,

    /// Forged resume tokens and room tickets a minute from one address, before it has to wait; loopback is exempt; 0: no limit
    #[arg(long, help_heading = LIMITS, default_value_t = 10, value_parser = count::<u32>(0, 1_000_000), env = "VOICEMATCH_RECONNECTS_PER_MINUTE", value_name = "N")]
    pub reconnects_per_minute: u32,

    /// Apply --max-connections-per-address, --reconnects-per-minute and the limit of interviews and participants without a token
    /// of the app to loopback too [default: false]
    #[arg(long, help_heading = LIMITS, env = "VOICEMATCH_LIMIT_LOOPBACK", value_parser = BoolishValueParser::new())]
    pub limit_loopback: bool,

    /// Connections accepted a second; more wait in the kernel's queue; 0: no limit
    #[arg(long, help_heading = LIMITS, default_value_t = 0, value_parser = count::<u32>(0, 1_000_000), env = "VOICEMATCH_MAX_ACCEPTS_PER_SECOND", value_name = "N")]
    pub max_accepts_per_second: u32,

    /// Memory that unfinished messages, outboxes and handshakes of all connections may use together
    /// [default: a quarter of the memory of the machine or container]
    #[arg(long, help_heading = LIMITS, value_parser = size(MIB, MIB * MIB), env = "VOICEMATCH_MAX_BUFFERED_BYTES", value_name = "BYTES")]
    pub max_buffered_bytes: Option<usize>,

    /// Longest message of a client, in bytes
    #[arg(long, help_heading = LIMITS, default_value = "64KiB", value_parser = size(256, 64 * MIB), env = "VOICEMATCH_MAX_MESSAGE_BYTES", value_name = "BYTES")]
    pub max_message_bytes: usize,

    /// Messages a second that a client may send in the long run; 0: no limit
    #[arg(long, help_heading = LIMITS, default_value_t = 100, value_parser = count::<u32>(0, 1_000_000), env = "VOICEMATCH_MAX_MESSAGES_PER_SECOND", value_name = "N")]
    pub max_messages_per_second: u32,

    /// Messages that a client may send at once
    #[arg(long, help_heading = LIMITS, default_value_t = 200, value_parser = count::<u32>(1, 1_000_000), env = "VOICEMATCH_MESSAGE_BURST", value_name = "N")]
    pub message_burst: u32,

    /// Messages that may wait for a client that does not read, before it is closed
    #[arg(long, help_heading = LIMITS, default_value_t = 256, value_parser = count::<u32>(1, 1_000_000), env = "VOICEMATCH_OUTBOX_MESSAGES", value_name = "N")]
    pub outbox_messages: u32,

    /// Bytes that may wait for a client that does not read, before it is closed
    #[arg(long, help_heading = LIMITS, default_value = "1MiB", value_parser = size(512, 1024 * MIB), env = "VOICEMATCH_OUTBOX_BYTES", value_name = "BYTES")]
    pub outbox_bytes: usize,

    /// Named rooms at the same time, each with up to 20 members
    #[arg(long, help_heading = LIMITS, default_value_t = 10_000, value_parser = count::<usize>(1, 10_000_000), env = "VOICEMATCH_MAX_ROOMS", value_name = "N")]
    pub max_rooms: usize,

    /// Blocks of users that are remembered at the same time; one more makes the oldest forgotten
    #[arg(long, help_heading = LIMITS, default_value_t = 100_000, value_parser = count::<usize>(1, 10_000_000), env = "VOICEMATCH_MAX_BLOCKS", value_name = "N")]
    pub max_blocks: usize,

    /// Time a client has to send its request's header
    #[arg(long, help_heading = LIMITS, default_value = "10s", value_parser = time("100ms", "1h"), env = "VOICEMATCH_HANDSHAKE_TIMEOUT", value_name = "DURATION")]
    pub handshake_timeout: Duration,

    /// Longest request header, in bytes; at least 8KiB
    #[arg(long, help_heading = LIMITS, default_value = "16KiB", value_parser = size(8 * KIB, MIB), env = "VOICEMATCH_MAX_HEADER_BYTES", value_name = "BYTES")]
    pub max_header_bytes: usize,

    /// Time a client may be silent while neither waiting nor in a room; 0: for ever
    #[arg(long, help_heading = LIMITS, default_value = "1h", value_parser = time_or_zero("100ms", "1year"), env = "VOICEMATCH_IDLE_TIMEOUT", value_name = "DURATION")]
    pub idle_timeout: Duration,

    /// How often each connection is pinged
    #[arg(long, help_heading = LIMITS, default_value = "25s", value_parser = time("100ms", "1h"), env = "VOICEMATCH_HEARTBEAT", value_name = "DURATION")]
    pub heartbeat: Duration,

    /// How long after a ping anything at all must have come
    #[arg(long, help_heading = LIMITS, default_value = "8s", value_parser = time("100ms", "1h"), env = "VOICEMATCH_HEARTBEAT_DEADLINE", value_name = "DURATION")]
    pub heartbeat_deadline: Duration,

    /// How long a session that outlives its connections waits for the next one
    #[arg(long, help_heading = RESUMING, default_value = "15s", value_parser = time("100ms", "1h"), env = "VOICEMATCH_RESUME_WINDOW", value_name = "DURATION")]
    pub resume_window: Duration,

    /// How often the program of a resumable client is asked whether it is there, while it waits or is in a
    /// room; else as often as --heartbeat
    #[arg(long, help_heading = RESUMING, default_value = "7s", value_parser = time("100ms", "1h"), env = "VOICEMATCH_RESUME_HEARTBEAT", value_name = "DURATION")]
    pub resume_heartbeat: Duration,

    /// How long after that it must have answered, or its connection is taken for lost
    #[arg(long, help_heading = RESUMING, default_value = "12s", value_parser = time("100ms", "1h"), env = "VOICEMATCH_RESUME_DEADLINE", value_name = "DURATION")]
    pub resume_deadline: Duration,

    /// Messages that are kept for a resumable client until it has confirmed them
    #[arg(long, help_heading = RESUMING, default_value_t = 256, value_parser = count::<u32>(1, 1_000_000), env = "VOICEMATCH_RESUME_LOG_MESSAGES", value_name = "N")]
    pub resume_log_messages: u32,

    /// Bytes that are kept for a resumable client until it has confirmed them
    /// [default: 64KiB, or one message of --max-message-bytes and 1KiB if that is more]
    #[arg(long, help_heading = RESUMING, value_parser = size(512, 1024 * MIB), env = "VOICEMATCH_RESUME_LOG_BYTES", value_name = "BYTES")]
    pub resume_log_bytes: Option<usize>,

    /// How long an event stream goes on before its client is told to come again at once: less than a proxy
    /// in front lets a response take
    #[arg(long, help_heading = RESUMING, default_value = "10m", value_parser = time("100ms", "24h"), env = "VOICEMATCH_EVENT_STREAM_TIME", value_name = "DURATION")]
    pub event_stream_time: Duration,

    /// Sessions that may wait for a connection at the same time [default: a tenth of the connections]
    #[arg(long, help_heading = RESUMING, value_parser = count::<usize>(0, 10_000_000), env = "VOICEMATCH_MAX_DETACHED", value_name = "N")]
    pub max_detached: Option<usize>,

    /// Where the server keeps what must outlive it [default: $STATE_DIRECTORY, or ~/.local/state/voicematch]
    #[arg(long, help_heading = RESUMING, env = "VOICEMATCH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// The key that signs room tickets, of 32 bytes at least [default: one in --state-dir]
    #[arg(long, help_heading = RESUMING, env = "VOICEMATCH_ROOM_KEY_FILE", value_name = "FILE")]
    pub room_key_file: Option<PathBuf>,

    /// The key before, whose tickets are still believed [default: none]
    #[arg(long, help_heading = RESUMING, env = "VOICEMATCH_ROOM_OLD_KEY_FILE", value_name = "FILE")]
    pub room_old_key_file: Option<PathBuf>,

    /// How long a room ticket is valid: the longest call that can be saved
    #[arg(long, help_heading = RESUMING, default_value = "12h", value_parser = time("1s", "1year"), env = "VOICEMATCH_ROOM_TICKET_TTL", value_name = "DURATION")]
    pub room_ticket_ttl: Duration,

    /// Several nodes
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub clustering: super::cluster::ClusterFlags,

    /// Transcription and surveys
    #[cfg(feature = "transcribe")]
    #[command(flatten)]
    pub transcription: super::transcription::TranscribeFlags,

    /// Read settings from this file (TOML); defaultconfig prints one, checkconfig checks one [default: none]
    #[arg(long, help_heading = RUNNING, env = "VOICEMATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take the place of the server that listens at this Unix socket, and leave it to the next one that does: a new version
    /// is started with the same flags, and gets the connections; the old one drains and ends [default: none]
    #[arg(long, help_heading = RUNNING, value_parser = hand_over_path, env = "VOICEMATCH_HAND_OVER", value_name = "PATH")]
    pub hand_over: Option<PathBuf>,

    /// How long rooms may go on after SIGTERM or SIGINT, or after another server has taken the place of this one
    #[arg(long, help_heading = RUNNING, default_value = "30s", value_parser = time("0s", "1day"), env = "VOICEMATCH_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Duration,

    /// How logs are written
    #[arg(
        long, help_heading = RUNNING,
        default_value = "human",
        value_enum,
        env = "VOICEMATCH_LOG_FORMAT"
    )]
    pub log_format: LogFormat,

    /// What is logged: off, error, warn, info, debug or trace; for a part of the program as in
    /// warn,voicematch_server::session=debug
    #[arg(long, help_heading = RUNNING, default_value = "info", value_parser = log::filter, env = "VOICEMATCH_LOG", value_name = "LEVEL")]
    pub log: Targets,

    /// Send traces of sessions to this collector of OpenTelemetry (OTLP over HTTP), as in http://127.0.0.1:4318
    /// [default: $OTEL_EXPORTER_OTLP_ENDPOINT, or none]
    #[cfg(feature = "traces")]
    #[arg(long, help_heading = TELLING, value_parser = fetch::url, env = "VOICEMATCH_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Uri>,

    /// The share of the sessions that is traced, 0 to 1
    #[cfg(feature = "traces")]
    #[arg(long, help_heading = TELLING, default_value = "1", value_parser = share, env = "VOICEMATCH_TRACE_SAMPLE", value_name = "SHARE")]
    pub trace_sample: f64,

    /// Report panics and logged errors to the service that this address names (a DSN of Sentry, or of what speaks its
    /// protocol); the file is a secret [default: none]
    #[cfg(feature = "sentry")]
    #[arg(long, help_heading = TELLING, env = "VOICEMATCH_SENTRY_DSN_FILE", value_name = "FILE")]
    pub sentry_dsn_file: Option<PathBuf>,

    /// Where this server runs, in these reports
    #[cfg(feature = "sentry")]
    #[arg(long, help_heading = TELLING, default_value = "production", value_parser = environment, env = "VOICEMATCH_SENTRY_ENVIRONMENT", value_name = "NAME")]
    pub sentry_environment: String,
}
