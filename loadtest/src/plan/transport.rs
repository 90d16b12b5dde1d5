//! How users reach the server: each prefers a transport, and takes the next where the network blocks it. Pure.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::base::random::mixed;

/// A way to carry a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    #[serde(rename = "ws")]
    WebSocket,
    /// Server-sent events; what the user says goes out by requests.
    #[serde(rename = "sse")]
    EventStream,
    /// Requests that wait for messages.
    #[serde(rename = "poll")]
    Polling,
}

impl Transport {
    /// The best first: a user falls back from each to those after it.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::EventStream, Self::Polling];

    /// The name in flags, files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::EventStream => "sse",
            Self::Polling => "poll",
        }
    }

    /// This one, and those that a user tries when it does not work.
    pub fn and_fallbacks(self) -> &'static [Self] {
        &Self::ALL[self as usize..]
    }

    /// How long a user who comes back waits for the first message on it before the next is tried: so that the two
    /// that may hang and the round trip of the third stay below 3 s.
    pub fn patience(self) -> Duration {
        Duration::from_millis(match self {
            Self::WebSocket => 1000,
            Self::EventStream => 1500,
            Self::Polling => 5000,
        })
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|one| one.name() == text);
        known.ok_or_else(|| format!("{text:?} is no transport: give ws, sse or poll"))
    }
}

/// Which transports the users of a plan prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transports {
    All(Transport),
    /// Half of them event streams, two fifths WebSockets, a tenth polling.
    Mixed,
}

impl Transports {
    /// The name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::All(transport) => transport.name(),
            Self::Mixed => "mixed",
        }
    }

    fn of_user(self, user: u32) -> Transport {
        // Not the number that chooses the flow: each flow has users of each transport.
        const CHOICE: u32 = u32::MAX - 1;
        match self {
            Self::All(transport) => transport,
            Self::Mixed => match mixed(user, CHOICE) {
                ..0.5 => Transport::EventStream,
                ..0.9 => Transport::WebSocket,
                _ => Transport::Polling,
            },
        }
    }
}

impl FromStr for Transports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mixed" => Ok(Self::Mixed),
            one => match one.parse() {
                Ok(transport) => Ok(Self::All(transport)),
                Err(_) => Err(format!(
                    "{text:?} is no transport: give ws, sse, poll or mixed"
                )),
            },
        }
    }
}

impl Plan {
    /// The transport that user `user` prefers.
    pub fn transport_of(&self, user: u32) -> Transport {
        self.transports.of_user(user)
    }

    /// Whether the sessions of the users outlive their connections. Those over requests always do.
    pub fn resumes(&self) -> bool {
        self.resume || self.transports != Transports::All(Transport::WebSocket)
    }

    /// Whether the users' network blocks a transport at `t`.
    pub fn blocks(&self, transport: Transport, t: Duration) -> bool {
        self.phase_at(t)
            .is_some_and(|(phase, _)| phase.blocked.contains(&transport))
    }

    /// When the network begins to block a transport, after `t`.
    pub fn blocked_after(&self, transport: Transport, t: Duration) -> Option<Duration> {
        self.phases_with_begin()
            .find(|(begin, phase)| *begin > t && phase.blocked.contains(&transport))
            .map(|(begin, _)| begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Phase;

    #[test]
    fn half_of_a_mixed_load_are_event_streams() {
        let count = |wanted| {
            let users = (0..10_000).map(|user| Transports::Mixed.of_user(user));
            users.filter(|transport| *transport == wanted).count()
        };
        let counts = Transport::ALL.map(count);
        let near = |count: usize, wanted: usize| count.abs_diff(wanted) < 200;
        assert!(
            near(counts[0], 4000) && near(counts[1], 5000) && near(counts[2], 1000),
            "{counts:?}"
        );
    }

    #[test]
    fn a_transport_is_blocked_from_the_begin_of_a_phase_to_its_end() {
        let secs = Duration::from_secs;
        let mut plan = Plan::of_phases(vec![
            Phase::users("a", secs(10), 2, 2),
            Phase {
                blocked: vec![Transport::WebSocket],
                ..Phase::users("b", secs(10), 2, 2)
            },
            Phase::users("c", secs(10), 2, 2),
        ]);
        let at = [5, 10, 19, 20].map(|t| plan.blocks(Transport::WebSocket, secs(t)));
        assert_eq!(at, [false, true, true, false]);
        assert!(!plan.blocks(Transport::Polling, secs(15)));
        let next = [0, 10].map(|t| plan.blocked_after(Transport::WebSocket, secs(t)));
        assert_eq!(next, [Some(secs(10)), None]);
        assert!(!plan.resumes());
        plan.transports = Transports::Mixed;
        assert!(plan.resumes());
    }

    #[test]
    fn two_hanging_transports_and_the_third_take_less_than_three_seconds() {
        let patience = |transport: Transport| transport.patience();
        let hung = patience(Transport::WebSocket) + patience(Transport::EventStream);
        assert!(hung < Duration::from_secs(3));
        assert_eq!(Transport::EventStream.and_fallbacks(), &Transport::ALL[1..]);
    }
}
