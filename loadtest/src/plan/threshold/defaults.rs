//! The thresholds of a plan without any: the baseline of a server for 5,000 users.

use super::Threshold;

/// What the users of a plan do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    pub matches: bool,
    pub relays: bool,
    /// They send each other offers or answers, which every call needs.
    pub setups: bool,
    pub calls: bool,
    /// Speakers send audio of which words are expected.
    pub words: bool,
}

/// A part of a plan without which a threshold has no data.
type Needs = fn(Parts) -> bool;

const DEFAULTS: [(Needs, &str); 12] = [
    (|_| true, "connection_success >= 99.9%"),
    (|parts| parts.matches, "match_success >= 99.9%"),
    (|parts| parts.relays, "message_success >= 99.9%"),
    (|parts| parts.setups, "setup_success >= 99.9%"),
    (|parts| parts.calls, "call_success >= 99.9%"),
    (|parts| parts.matches, "match_latency p95 < 2s"),
    (|parts| parts.relays, "message_latency p95 < 100ms"),
    (|parts| parts.relays, "misdelivered count <= 0"),
    (|parts| parts.words, "word_success > 99%"),
    (|parts| parts.words, "words_twice count < 1"),
    (|parts| parts.words, "words_not_stored count < 1"),
    (|_| true, "server_rss max < 2GB"),
];

/// For flows that wait for messages: no other threshold judges a message that never comes.
const FLOWS: &str = "flow_success >= 99.9%";

/// For every plan with transcription sessions: whatever else is asked, nobody reads what is not for them.
const MISDELIVERED_WORDS: &str = "words_misdelivered count < 1";

/// For several servers: what is lost with one of them counts apart, so the loss itself has to count.
const NODES_LOST: &str = "nodes_lost count < 1";

/// The defaults for a plan with these parts.
pub fn defaults(parts: Parts) -> Vec<Threshold> {
    let wanted = DEFAULTS.iter().filter(|(needs, _)| needs(parts));
    wanted.map(|(_, text)| default(text)).collect()
}

/// The default for a plan in which users wait for messages.
pub fn flows() -> Threshold {
    default(FLOWS)
}

/// The default for a plan in which speakers send audio of which words are expected.
pub fn misdelivered_words() -> Threshold {
    default(MISDELIVERED_WORDS)
}

/// The default for several servers: none of them is lost.
pub fn nodes_lost() -> Threshold {
    default(NODES_LOST)
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
        let names = |parts| {
            let all = defaults(parts).into_iter();
            all.map(|threshold| threshold.name()).collect::<Vec<_>>()
        };
        let all = Parts {
            matches: true,
            relays: true,
            setups: true,
            calls: true,
            words: true,
        };
        assert_eq!(defaults(all).len(), 12);
        assert!(defaults(all).iter().all(|one| !one.asked_for));
        assert_eq!(
            names(Parts::default()),
            ["connection_success", "server_rss_max"]
        );
        let matches = Parts {
            matches: true,
            ..Parts::default()
        };
        assert_eq!(names(matches).len(), 4);
        assert_eq!(flows().name(), "flow_success");
    }
}
