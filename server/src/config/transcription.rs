//! The flags of transcription and surveys.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, builder::BoolishValueParser};
use hyper::Uri;
use voicematch_transcribe::{
    bridge::BridgeConfig, sessions::Config as SessionConfig,
    store::writer::Settings as StoreSettings,
};

use super::{
    ConfigError,
    value::{KIB, MIB, count, size, time, time_or_zero},
};
use crate::{room_key, transcribe::TranscribeConfig};

/// The topic of `--help`.
const TRANSCRIBING: &str = "Transcription and surveys";

/// What other programs, too, take their database from.
const DATABASE_VARIABLE: &str = "DATABASE_URL";

/// The name of the database in the state directory.
const DATABASE: &str = "transcripts.db";

/// Raw flags.
#[derive(Debug, Clone, Args)]
pub struct TranscribeFlags {
    /// Transcribe what is sent to /transcribe, by fake, command:PROGRAM, vosk:ws://HOST:PORT, or gladia
    /// [default: nothing is transcribed]
    #[arg(long, help_heading = TRANSCRIBING, env = "VOICEMATCH_TRANSCRIBE", value_name = "PROVIDER")]
    pub transcribe: Option<String>,

    /// The key of Gladia; read again on SIGHUP [default: $GLADIA_API_KEY]
    #[arg(long, help_heading = TRANSCRIBING, env = "VOICEMATCH_GLADIA_KEY_FILE", value_name = "FILE")]
    pub gladia_key_file: Option<PathBuf>,

    /// Hold this survey: a questionnaire in TOML or JSON, which `survey check` checks. Repeatable, or separated by
    /// commas [default: none]
    #[arg(
        long = "survey", help_heading = TRANSCRIBING,
        env = "VOICEMATCH_SURVEY",
        value_delimiter = ',',
        value_name = "FILE"
    )]
    pub surveys: Vec<PathBuf>,

    /// The database of transcripts and answers, as sqlite:PATH or postgres://USER@HOST/NAME; a password is better in
    /// the environment [default: $DATABASE_URL, or SQLite in --state-dir]
    #[arg(long, help_heading = TRANSCRIBING, env = "VOICEMATCH_DATABASE", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,

    /// Only check the tables of --database, and do not make or change them [default: false]
    #[arg(long, help_heading = TRANSCRIBING, env = "VOICEMATCH_NO_DATABASE_MIGRATE", value_parser = BoolishValueParser::new())]
    pub no_database_migrate: bool,

    /// How long finals wait for others before they are written to the database together
    #[arg(long, help_heading = TRANSCRIBING, default_value = "300ms", value_parser = time("10ms", "10s"), env = "VOICEMATCH_TRANSCRIBE_FLUSH_INTERVAL", value_name = "DURATION")]
    pub transcribe_flush_interval: Duration,

    /// Rows that are written together at the most, unless an answer of a survey waits
    #[arg(long, help_heading = TRANSCRIBING, default_value_t = 100, value_parser = count::<usize>(1, 1_000), env = "VOICEMATCH_TRANSCRIBE_BATCH_SIZE", value_name = "N")]
    pub transcribe_batch_size: usize,

    /// Rows that may wait for the database; more go to a file in --state-dir until it is back
    #[arg(long, help_heading = TRANSCRIBING, default_value_t = 1_000, value_parser = count::<usize>(1, 100_000), env = "VOICEMATCH_TRANSCRIBE_QUEUE_SIZE", value_name = "N")]
    pub transcribe_queue_size: usize,

    /// The longest that file may be
    #[arg(long, help_heading = TRANSCRIBING, default_value = "1GiB", value_parser = size(64 * KIB, 1024 * 1024 * MIB), env = "VOICEMATCH_TRANSCRIBE_SPILL", value_name = "BYTES")]
    pub transcribe_spill: usize,

    /// Sessions and interviews are deleted so long after their end, with all that was said and answered; 0: none is
    #[arg(long, help_heading = TRANSCRIBING, default_value = "0", value_parser = time_or_zero("1h", "10years"), env = "VOICEMATCH_TRANSCRIBE_RETENTION", value_name = "DURATION")]
    pub transcribe_retention: Duration,

    /// Audio of each speaker that is kept while the provider is away
    #[arg(long, help_heading = TRANSCRIBING, default_value = "10s", value_parser = time("1s", "1m"), env = "VOICEMATCH_TRANSCRIBE_BUFFER", value_name = "DURATION")]
    pub transcribe_buffer: Duration,

    /// Audio of all speakers that is kept together
    #[arg(long, help_heading = TRANSCRIBING, default_value = "256MiB", value_parser = size(MIB, 1024 * MIB), env = "VOICEMATCH_TRANSCRIBE_BUFFERS", value_name = "BYTES")]
    pub transcribe_buffers: usize,

    /// Speakers that the provider hears at the same time; more wait, and are told provider_busy after 10 s [default:
    /// twice the CPUs for command:, else no limit]
    #[arg(long, help_heading = TRANSCRIBING, value_parser = count::<usize>(1, 100_000), env = "VOICEMATCH_TRANSCRIBE_MAX_STREAMS", value_name = "N")]
    pub transcribe_max_streams: Option<usize>,

    /// How long a session may go on
    #[arg(long, help_heading = TRANSCRIBING, default_value = "4h", value_parser = time("1s", "7days"), env = "VOICEMATCH_TRANSCRIBE_MAX_DURATION", value_name = "DURATION")]
    pub transcribe_max_duration: Duration,

    /// Seconds of audio a day that the provider is sent, for all speakers; 0: no limit
    #[arg(long, help_heading = TRANSCRIBING, default_value_t = 0, value_parser = count::<u64>(0, 1_000_000_000), env = "VOICEMATCH_TRANSCRIBE_MAX_SECONDS_PER_DAY", value_name = "N")]
    pub transcribe_max_seconds_per_day: u64,

    /// Sessions at the same time
    #[arg(long, help_heading = TRANSCRIBING, default_value_t = 1_000, value_parser = count::<usize>(1, 100_000), env = "VOICEMATCH_TRANSCRIBE_MAX_SESSIONS", value_name = "N")]
    pub transcribe_max_sessions: usize,

    /// Speakers of one session at the same time
    #[arg(long, help_heading = TRANSCRIBING, default_value_t = 20, value_parser = count::<usize>(1, 1_000), env = "VOICEMATCH_TRANSCRIBE_MAX_TRACKS", value_name = "N")]
    pub transcribe_max_tracks: usize,

    /// Where clients reach this server, and no other one, as in https://node-1.example.org: who comes to another server with
    /// the same database is sent here for a session that is here. No path; in Kubernetes the name of the pod, or left out
    /// [default: none, who comes elsewhere tries again]
    #[arg(long, help_heading = TRANSCRIBING, value_parser = public_url, env = "VOICEMATCH_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// The key that signs the tokens of sessions and surveys, of 32 bytes at least [default:
    /// $TRANSCRIPTION_JWT_SECRET, or one that is made of the key of room tickets]
    #[arg(long, help_heading = TRANSCRIBING, env = "VOICEMATCH_TRANSCRIBE_TOKEN_KEY_FILE", value_name = "FILE")]
    pub transcribe_token_key_file: Option<PathBuf>,

    /// Write what is said to the log, for development: else no text of a transcript is in it [default: false]
    #[arg(long, help_heading = TRANSCRIBING, env = "VOICEMATCH_TRANSCRIBE_LOG_TEXT", value_parser = BoolishValueParser::new())]
    pub transcribe_log_text: bool,

    /// Threads for audio, transcripts and surveys
    #[arg(long, help_heading = TRANSCRIBING, default_value_t = 1, value_parser = count::<usize>(1, 256), env = "VOICEMATCH_TRANSCRIBE_WORKERS", value_name = "N")]
    pub transcribe_workers: usize,
}

/// The address of a server, as `http://HOST:PORT` or `https://HOST:PORT`.
fn public_url(text: &str) -> Result<String, String> {
    const FORM: &str =
        "give a URL such as https://node-1.example.org: http, https, ws or wss, and a host";
    let url: Uri = text.parse().map_err(|_| FORM.to_owned())?;
    let scheme = match url.scheme_str() {
        Some("http" | "ws") => "http",
        Some("https" | "wss") => "https",
        _ => return Err(FORM.into()),
    };
    let authority = url.authority().ok_or(FORM)?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(FORM.into());
    }
    if url
        .path_and_query()
        .is_some_and(|rest| rest.as_str() != "/")
        || text.contains('#')
    {
        return Err(
            "no path, query or fragment: clients ask for /transcribe and /api there".into(),
        );
    }
    Ok(format!("{scheme}://{authority}"))
}

/// The database that is meant, where `--database` may not have been given.
pub fn database_url(given: Option<String>, state_dir: &Path) -> String {
    let standard = || {
        std::env::var(DATABASE_VARIABLE)
            .ok()
            .filter(|url| !url.is_empty())
    };
    let own = || format!("sqlite:{}", state_dir.join(DATABASE).display());
    given.or_else(standard).unwrap_or_else(own)
}

impl TranscribeFlags {
    /// What is to be set up; `None`: nothing. `is_one_of_several`: other nodes' users may come to the same sessions.
    pub(super) fn check(
        self,
        state_dir: Option<PathBuf>,
        is_one_of_several: bool,
    ) -> Result<Option<TranscribeConfig>, ConfigError> {
        if self.transcribe.is_none() && self.surveys.is_empty() {
            return match self.public_url {
                Some(_) => Err(ConfigError(
                    "--public-url is for sessions: it needs --transcribe or --survey".into(),
                )),
                None => Ok(None),
            };
        }
        let directory = state_dir.or_else(room_key::default_state_dir).ok_or_else(|| {
            ConfigError("--transcribe and --survey need a directory for what they store: give --state-dir".into())
        })?;
        let database = database_url(self.database, &directory);
        if is_one_of_several && database.starts_with("sqlite:") {
            return Err(ConfigError(
                "with --cluster, --transcribe and --survey need one database for all nodes: give DATABASE_URL (or --database) as \
                 postgres://USER@HOST/NAME; SQLite is for one node, and a session would be unknown at all others"
                    .into(),
            ));
        }
        let mut storage = StoreSettings::new(directory);
        storage.flush_interval = self.transcribe_flush_interval;
        storage.batch = self.transcribe_batch_size;
        storage.queue = self.transcribe_queue_size;
        storage.spill_bytes = self.transcribe_spill as u64;
        storage.retention =
            (!self.transcribe_retention.is_zero()).then_some(self.transcribe_retention);
        storage.longest = self.transcribe_max_duration;
        let per_day = self.transcribe_max_seconds_per_day;
        let bridge = BridgeConfig {
            buffer: self.transcribe_buffer,
            memory_bytes: self.transcribe_buffers as u64,
            max_streams: self.transcribe_max_streams,
            max_duration: self.transcribe_max_duration,
            max_seconds_per_day: (per_day > 0).then_some(per_day),
        };
        Ok(Some(TranscribeConfig {
            provider: self.transcribe,
            provider_key: self.gladia_key_file,
            surveys: self.surveys,
            database,
            migrate: !self.no_database_migrate,
            storage,
            bridge,
            sessions: SessionConfig {
                max_sessions: self.transcribe_max_sessions,
                max_tracks: self.transcribe_max_tracks,
                max_duration: self.transcribe_max_duration,
                log_text: self.transcribe_log_text,
                url: self.public_url.unwrap_or_default(),
            },
            token_key: self.transcribe_token_key_file,
            workers: self.transcribe_workers,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        flags: TranscribeFlags,
    }

    #[test]
    fn the_flags_have_the_defaults_of_what_they_set() {
        let flags = Flags::parse_from(["server", "--transcribe", "fake:"]).flags;
        let config = flags.check(Some("/state".into()), false);
        let config = config.expect("they are good").expect("it transcribes");
        let [given, own] =
            [config.storage, StoreSettings::new("/state")].map(|settings| format!("{settings:?}"));
        assert_eq!(given, own);
        let [given, own] = [config.bridge, BridgeConfig::default()].map(|it| format!("{it:?}"));
        assert_eq!(given, own);
        let [given, own] = [config.sessions, SessionConfig::default()].map(|it| format!("{it:?}"));
        assert_eq!(given, own);
    }
}
