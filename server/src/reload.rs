//! SIGHUP: reads the configuration again, and says what only a restart can change.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use crate::{
    config::{
        Config,
        parse::{CannotParse, parse},
    },
    log,
    machine::descriptors,
};

/// The flags, by their names in the file, whose changes take effect while the server runs: at once, or for connections
/// and sessions that begin from then on.
const LIVE: [&str; 33] = [
    "log",
    "trusted_proxy",
    "proxy_protocol",
    "allowed_origin",
    "ice_server",
    "turn_url",
    "turn_secret_file",
    "turn_ttl",
    "widen_language_after",
    "widen_region_after",
    "widen_anyone_after",
    "avoid_partner_for",
    "max_connections",
    "max_connections_per_address",
    "reconnects_per_minute",
    "limit_loopback",
    "max_message_bytes",
    "max_messages_per_second",
    "message_burst",
    "outbox_messages",
    "outbox_bytes",
    "handshake_timeout",
    "max_header_bytes",
    "idle_timeout",
    "heartbeat",
    "heartbeat_deadline",
    "resume_window",
    "resume_heartbeat",
    "resume_deadline",
    "resume_log_messages",
    "resume_log_bytes",
    "event_stream_time",
    "max_detached",
];

/// Reads the configuration again and again.
pub struct Reload {
    /// What is in force, as it was written.
    written: BTreeMap<String, Vec<OsString>>,
}

impl Reload {
    /// `written`: what the server has started with.
    pub fn new(written: BTreeMap<String, Vec<OsString>>) -> Self {
        Self { written }
    }

    /// Reads the configuration. `None`: it cannot be used, and what is in force stays.
    pub fn read(&mut self) -> Option<Config> {
        match self.try_read() {
            Ok(config) => Some(config),
            Err(faults) => {
                for fault in faults {
                    tracing::error!(%fault, "SIGHUP: the configuration cannot be used; the old one stays");
                }
                None
            }
        }
    }

    fn try_read(&mut self) -> Result<Config, Vec<String>> {
        let parsed = parse(std::env::args_os()).map_err(CannotParse::faults)?;
        let filter = parsed.cli.serve.log.clone();
        let written = parsed.written.clone();
        let mut config = parsed.check().map_err(|fault| vec![fault])?;
        config.fit(descriptors::raise_limit());
        log::set_filter(filter);
        let mut names: BTreeSet<_> = self.written.keys().chain(written.keys()).cloned().collect();
        names.retain(|name| self.written.get(name) != written.get(name));
        let is_live = |name: &String| LIVE.contains(&name.as_str());
        let (live, fixed): (Vec<_>, Vec<_>) = names.into_iter().partition(is_live);
        tracing::info!(changed = %list(&live), "SIGHUP: the configuration was read again");
        if !fixed.is_empty() {
            tracing::warn!(settings = %list(&fixed), "SIGHUP: only a restart changes these");
        }
        for name in live {
            match written.get(&name) {
                Some(value) => self.written.insert(name, value.clone()),
                None => self.written.remove(&name),
            };
        }
        Ok(config)
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{
        Cli,
        file::{key_of, settable},
    };

    #[test]
    fn what_can_be_changed_is_a_flag() {
        let command = Cli::command();
        let known: Vec<_> = settable(&command).map(key_of).collect();
        for name in LIVE {
            assert!(known.iter().any(|known| known == name), "{name}");
        }
    }
}
