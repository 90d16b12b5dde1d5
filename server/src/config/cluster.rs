//! The flags of several nodes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use voicematch_cluster::Settings;

use super::{
    ConfigError,
    value::{time, time_or_zero},
};
use crate::cluster::ClusterConfig;

/// The topic of `--help`.
const CLUSTER: &str = "Several nodes";

/// Raw flags.
#[derive(Debug, Clone, Args)]
pub struct ClusterFlags {
    /// Be one of several nodes, which match and connect each other's users, over Redis >= 7.0 or Valkey >= 7.2:
    /// redis://[USER@]HOST:PORT, rediss:// for TLS, redis+sentinel://HOST,HOST/NAME, redis+cluster://HOST,HOST
    /// [default: none, this node is alone]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER", hide_env_values = true, value_name = "URL")]
    pub cluster: Option<String>,

    /// Nodes with the same prefix are together; several clusters on one engine have one each
    #[arg(long, help_heading = CLUSTER, default_value = "vm", env = "VOICEMATCH_CLUSTER_PREFIX", value_name = "NAME")]
    pub cluster_prefix: String,

    /// The password for --cluster; read again at each connect [default: the one in the URL, or none]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_PASSWORD_FILE", value_name = "FILE")]
    pub cluster_password_file: Option<PathBuf>,

    /// The authorities (PEM) that may have signed its certificate, and those of sentinels [default: the system's]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_CA_FILE", value_name = "FILE")]
    pub cluster_ca_file: Option<PathBuf>,

    /// The user as whom sentinels are asked: they have users of their own [default: their default user]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_SENTINEL_USER", value_name = "NAME")]
    pub cluster_sentinel_user: Option<String>,

    /// The password for sentinels; read again at each connect. They are not told the engine's [default: none]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_SENTINEL_PASSWORD_FILE", value_name = "FILE")]
    pub cluster_sentinel_password_file: Option<PathBuf>,

    /// Whether sentinels are asked with TLS [default: as the engine, by the URL]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_SENTINEL_TLS", value_name = "true|false")]
    pub cluster_sentinel_tls: Option<bool>,

    /// Not ready without the other nodes: /readyz answers 503 while the engine is away, and a node that may not join ends: it
    /// has another key of room tickets, or finds another program or another version of the bus under its prefix.
    /// Else it serves its own users [default: false]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_REQUIRED", value_parser = BoolishValueParser::new())]
    pub cluster_required: bool,

    /// How long a search waits for others, to ask the engine together; 0: not at all
    #[arg(long, help_heading = CLUSTER, default_value = "2ms", value_parser = time_or_zero("100us", "1s"), env = "VOICEMATCH_CLUSTER_GATHER", value_name = "DURATION")]
    pub cluster_gather: Duration,

    /// The least time between two writes to other nodes: longer costs less and takes longer
    #[arg(long, help_heading = CLUSTER, default_value = "500us", value_parser = time_or_zero("10us", "100ms"), env = "VOICEMATCH_CLUSTER_FLUSH", value_name = "DURATION")]
    pub cluster_flush: Duration,

    /// How long rooms with users of other nodes are held while no other node can be reached: longer than a failover of
    /// the engine
    #[arg(long, help_heading = CLUSTER, default_value = "30s", value_parser = time("1s", "1h"), env = "VOICEMATCH_CLUSTER_HOLD", value_name = "DURATION")]
    pub cluster_hold: Duration,
}

impl ClusterFlags {
    /// What is to be joined; `None`: nothing.
    pub(super) fn check(self) -> Result<Option<ClusterConfig>, ConfigError> {
        let Some(url) = &self.cluster else {
            return match self.cluster_required {
                true => Err(ConfigError(
                    "--cluster-required needs --cluster, the engine's address".into(),
                )),
                false => Ok(None),
            };
        };
        let settings = Settings::new(url, &self.cluster_prefix);
        let mut settings = settings.map_err(|error| ConfigError(format!("--cluster: {error}")))?;
        if let Some(file) = &self.cluster_password_file {
            settings = settings.password_file(file);
        }
        settings = self.with_sentinels(settings)?;
        if let Some(file) = &self.cluster_ca_file {
            if !settings.uses_tls() {
                return Err(ConfigError(
                    "--cluster-ca-file does nothing without TLS: give --cluster a rediss:// URL, or leave it out".into(),
                ));
            }
            settings = settings.ca_file(file);
        }
        Ok(Some(ClusterConfig {
            settings,
            password: self.cluster_password_file,
            sentinel_password: self.cluster_sentinel_password_file,
            authorities: self.cluster_ca_file,
            gather: self.cluster_gather,
            flush: self.cluster_flush,
            hold: self.cluster_hold,
            required: self.cluster_required,
        }))
    }

    fn with_sentinels(&self, mut settings: Settings) -> Result<Settings, ConfigError> {
        let given = [
            ("user", self.cluster_sentinel_user.is_some()),
            (
                "password-file",
                self.cluster_sentinel_password_file.is_some(),
            ),
            ("tls", self.cluster_sentinel_tls.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given)
            && !settings.has_sentinels()
        {
            return Err(ConfigError(format!(
                "--cluster-sentinel-{name} does nothing without sentinels: give --cluster a redis+sentinel:// URL, or leave it out"
            )));
        }
        if let Some(user) = &self.cluster_sentinel_user {
            settings = settings.sentinel_user(user);
        }
        if let Some(file) = &self.cluster_sentinel_password_file {
            settings = settings.sentinel_password_file(file);
        }
        if let Some(tls) = self.cluster_sentinel_tls {
            settings = settings.sentinel_tls(tls);
        }
        Ok(settings)
    }
}
