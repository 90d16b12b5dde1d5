//! When the engine counts as up: rules without I/O.

use std::time::{Duration, Instant};

/// An answer within this time counts for coming up again.
const QUICK: Duration = Duration::from_millis(250);

/// So many of them, one after the other.
const QUICK_ANSWERS: u8 = 3;

/// The bus is down when nothing that was published has come back for this long.
const BUS_SILENT: Duration = Duration::from_secs(2);

/// Without a good beat for this long the node is not registered. One beat longer than the lease of 2.5 s: the beats of a slow engine
/// come late, and it does no harm to say so a little later.
const UNREGISTERED: Duration = Duration::from_secs(3);

/// What calls and probes say of the engine.
#[derive(Debug, Default)]
pub(super) struct Health {
    index: bool,
    quick: u8,
    heard: Option<Instant>,
    registered: Registered,
}

/// Whether the others can know that this node lives. Without that nothing of what they say is handled, however quick the
/// engine's answers are.
#[derive(Debug, Default)]
enum Registered {
    /// It has not tried, since there is a connection.
    #[default]
    NotYet,
    /// The last good beat was sent then.
    At(Instant),
    /// The engine refuses, for this reason.
    Refused(String),
}

impl Health {
    /// An answer that took longer than `most` came too late, though it came.
    pub(super) fn answered(&mut self, took: Duration, most: Duration) {
        if took >= most {
            return self.failed();
        }
        self.quick = if took < QUICK {
            self.quick.saturating_add(1)
        } else {
            0
        };
        self.index |= self.quick >= QUICK_ANSWERS;
    }

    pub(super) fn failed(&mut self) {
        (self.index, self.quick) = (false, 0);
    }

    /// A probe came back.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// A beat that was sent then was good.
    pub(super) fn registered(&mut self, sent: Instant) {
        self.registered = Registered::At(sent);
    }

    /// The engine answers, and does not let this node register.
    pub(super) fn refused(&mut self, why: String) {
        self.registered = Registered::Refused(why);
    }

    pub(super) fn why_refused(&self) -> Option<&str> {
        match &self.registered {
            Registered::Refused(why) => Some(why),
            Registered::NotYet | Registered::At(_) => None,
        }
    }

    pub(super) fn is_registered(&self, now: Instant) -> bool {
        match self.registered {
            Registered::NotYet => true,
            Registered::At(sent) => now.saturating_duration_since(sent) < UNREGISTERED,
            Registered::Refused(_) => false,
        }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        *self = Self::default();
    }

    pub(super) fn index(&self) -> bool {
        self.index
    }

    pub(super) fn bus(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_duration_since(heard) < BUS_SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_comes_up_after_three_quick_answers() {
        let mut health = Health::default();
        let most = Duration::from_millis(500);
        let (quick, slow) = (Duration::from_millis(249), Duration::from_millis(250));
        for took in [quick, quick, slow, quick, quick] {
            health.answered(took, most);
            assert!(!health.index());
        }
        health.answered(quick, most);
        assert!(health.index());
        health.answered(slow, most);
        assert!(health.index(), "a slow answer is an answer");
        health.answered(most, most);
        assert!(!health.index(), "one that came too late is none");
        (0..3).for_each(|_| health.answered(quick, most));
        health.failed();
        assert!(!health.index());
    }

    #[test]
    fn a_node_that_cannot_register_can_use_nothing() {
        let mut health = Health::default();
        let now = Instant::now();
        assert!(health.is_registered(now), "it has not tried");
        health.registered(now);
        let last = now + UNREGISTERED - Duration::from_millis(1);
        assert!(health.is_registered(last));
        assert!(
            !health.is_registered(now + UNREGISTERED),
            "beats are missing"
        );
        health.refused("full".to_owned());
        assert!(!health.is_registered(now));
        assert_eq!(health.why_refused(), Some("full"));
        health.registered(now);
        assert!(health.is_registered(now) && health.why_refused().is_none());
        health.refused("full".to_owned());
        health.lost();
        assert!(health.is_registered(now), "another connection");
    }

    #[test]
    fn the_bus_is_down_after_two_silent_seconds() {
        let mut health = Health::default();
        let now = Instant::now();
        assert!(!health.bus(now));
        health.heard(now);
        assert!(health.bus(now + BUS_SILENT - Duration::from_millis(1)));
        assert!(!health.bus(now + BUS_SILENT));
    }
}
