//! Settings that have no effect without another one: who gives them alone means something else than they get.

use std::collections::BTreeSet;

use super::ConfigError;

const KEYS: [&str; 3] = ["--jwt-secret-file", "--jwt-public-key-file", "--jwks"];
const USERS: [&str; 4] = [KEYS[0], KEYS[1], KEYS[2], "--auth-webhook"];

/// Each setting, and those of which it needs one.
const NEEDS: &[(&str, &[&str])] = &[
    ("--jwt-issuer", &KEYS),
    ("--jwt-audience", &KEYS),
    ("--jwt-leeway", &KEYS),
    ("--sessions-per-user", &USERS),
    ("--auth-webhook-timeout", &["--auth-webhook"]),
    ("--auth-webhook-remember", &["--auth-webhook"]),
    ("--event-webhook-type", &["--event-webhook"]),
    ("--event-webhook-timeout", &["--event-webhook"]),
    ("--event-webhook-retry-after", &["--event-webhook"]),
    ("--turn-ttl", &["--turn-url"]),
    #[cfg(feature = "cluster")]
    (
        "--cluster-sentinel-user",
        &["--cluster-sentinel-password-file"],
    ),
    #[cfg(feature = "sentry")]
    ("--sentry-environment", &["--sentry-dsn-file"]),
    #[cfg(feature = "transcribe")]
    ("--gladia-key-file", &["--transcribe"]),
];

/// The same for all settings that begin so.
const FAMILIES: &[(&str, &[&str])] = &[
    #[cfg(feature = "cluster")]
    ("--cluster-", &["--cluster"]),
    #[cfg(feature = "transcribe")]
    ("--transcribe-", &["--transcribe", "--survey"]),
];

/// Whether each of these settings has what it needs among them.
pub(super) fn check(set: &BTreeSet<String>) -> Result<(), ConfigError> {
    for setting in set {
        let own = NEEDS.iter().find(|(name, _)| setting == name);
        let family = || {
            FAMILIES
                .iter()
                .find(|(start, _)| setting.starts_with(start))
        };
        if let Some((_, needs)) = own.or_else(family)
            && !needs.iter().any(|need| set.contains(*need))
        {
            let needs = needs.join(" or ");
            return Err(ConfigError(format!(
                "{setting} does nothing without {needs}: give that too, or leave it out"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::Cli;

    #[test]
    fn each_name_is_a_flag() {
        let command = Cli::command();
        let flags: BTreeSet<_> = command
            .get_arguments()
            .filter_map(|flag| Some(format!("--{}", flag.get_long()?)))
            .collect();
        for (setting, needs) in NEEDS {
            for name in needs.iter().chain([setting]) {
                assert!(flags.contains(*name), "{name}");
            }
        }
        for (start, needs) in FAMILIES {
            assert!(flags.iter().any(|flag| flag.starts_with(start)), "{start}");
            for name in *needs {
                assert!(flags.contains(*name), "{name}");
            }
        }
    }
}
