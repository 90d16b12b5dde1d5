//! The thresholds of a plan that names none: the baseline of a server for 5,000 users.

use super::Threshold;

/// What a plan must have for a threshold to have data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Searches for a partner.
    Matches,
    /// Messages between users.
    Relays,
}

const DEFAULTS: [(Needs, &str); 7] = [
    (Needs::Nothing, "connection_success >= 99.9%"),
    (Needs::Matches, "match_success >= 99.9%"),
    (Needs::Relays, "message_success >= 99.9%"),
    (Needs::Matches, "match_latency p95 < 2s"),
    (Needs::Relays, "message_latency p95 < 100ms"),
    (Needs::Relays, "misdelivered count <= 0"),
    (Needs::Nothing, "server_rss max < 2GB"),
];

/// Where users wait for messages: without it, nothing would judge a message that never comes.
const FLOWS: &str = "flow_success >= 99.9%";

/// The defaults for a plan with or without searches for a partner and messages between users.
pub fn defaults(matches: bool, relays: bool) -> Vec<Threshold> {
    let wanted = DEFAULTS.iter().filter(|(needs, _)| match needs {
        Needs::Nothing => true,
        Needs::Matches => matches,
        Needs::Relays => relays,
    });
    wanted.map(|(_, text)| default(text)).collect()
}

/// The default for a plan in which users wait for messages.
pub fn flows() -> Threshold {
    default(FLOWS)
}

fn default(text: &str) -> Threshold {
    let threshold: Threshold = text.parse().expect("a default is a threshold");
    Threshold {
        asked_for: false,
        ..threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_held_to_what_it_can_show() {
        let names = |matches, relays| {
            let all = defaults(matches, relays).into_iter();
            all.map(|threshold| threshold.name()).collect::<Vec<_>>()
        };
        assert_eq!(defaults(true, true).len(), 7);
        assert!(defaults(true, true).iter().all(|one| !one.asked_for));
        assert_eq!(
            names(false, false),
            ["connection_success", "server_rss_max"]
        );
        assert_eq!(names(true, false).len(), 4);
        assert_eq!(flows().name(), "flow_success");
    }
}
