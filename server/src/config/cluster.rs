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

    /// The authorities (PEM) that may have signed its certificate [default: the system's]
    #[arg(long, help_heading = CLUSTER, env = "VOICEMATCH_CLUSTER_CA_FILE", value_name = "FILE")]
    pub cluster_ca_file: Option<PathBuf>,

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
        let Some(url) = self.cluster else {
            return match self.cluster_required {
                true => Err(ConfigError(
                    "--cluster-required needs --cluster, the engine's address".into(),
                )),
                false => Ok(None),
            };
        };
        let settings = Settings::new(&url, &self.cluster_prefix);
        let mut settings = settings.map_err(|error| ConfigError(format!("--cluster: {error}")))?;
        if let Some(file) = &self.cluster_password_file {
            settings = settings.password_file(file);
        }
        if let Some(file) = &self.cluster_ca_file {
            settings = settings.ca_file(file);
        }
        Ok(Some(ClusterConfig {
            settings,
            password: self.cluster_password_file,
            authorities: self.cluster_ca_file,
            gather: self.cluster_gather,
            flush: self.cluster_flush,
            hold: self.cluster_hold,
            required: self.cluster_required,
        }))
    }
}
