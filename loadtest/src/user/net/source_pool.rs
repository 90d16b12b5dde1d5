//! The source addresses of users: each has its own local ports.

use std::net::{IpAddr, Ipv4Addr};

/// How many addresses of 127.0.0.0/8 are used for a server on this machine.
const LOOPBACK_SOURCES: u32 = 64;

/// Most connections that a user holds open: over SSE and polling, one to hear and one to speak.
const CONNECTIONS_EACH: u32 = 2;

/// The source addresses of users.
#[derive(Debug)]
pub enum Sources {
    /// The kernel chooses.
    Kernel,
    /// Users take turns.
    Given(Vec<IpAddr>),
    /// To a server on this machine: all of 127.0.0.0/8 is free to use.
    Loopback { users_each: u32 },
}

impl Sources {
    /// The sources for connections to `target`; `given` may be empty.
    pub fn new(target: IpAddr, given: &[IpAddr]) -> Self {
        let fitting: Vec<_> = given
            .iter()
            .copied()
            .filter(|source| source.is_ipv4() == target.is_ipv4())
            .collect();
        if !fitting.is_empty() {
            Self::Given(fitting)
        } else if target.is_ipv4() && target.is_loopback() {
            Self::Loopback {
                users_each: users_per_source(),
            }
        } else {
            Self::Kernel
        }
    }

    /// How many addresses a user may try when one has no free port.
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Kernel => 1,
            Self::Given(sources) => u32::try_from(sources.len()).unwrap_or(u32::MAX),
            Self::Loopback { .. } => LOOPBACK_SOURCES,
        }
    }

    /// The address of a user at the n-th attempt, from 0. `None`: the kernel chooses.
    pub fn of(&self, user: u32, attempt: u32) -> Option<IpAddr> {
        match self {
            Self::Kernel => None,
            Self::Given(sources) => {
                let count = u32::try_from(sources.len()).unwrap_or(u32::MAX).max(1);
                let nth = (user % count + attempt % count) % count;
                sources.get(usize::try_from(nth).ok()?).copied()
            }
            Self::Loopback { users_each } => {
                let nth = user / (*users_each).max(1) + attempt;
                if nth == 0 {
                    return None;
                }
                let [.., last] = (nth % LOOPBACK_SOURCES + 1).to_be_bytes();
                Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
            }
        }
    }
}

/// The users that share a source address.
fn users_per_source() -> u32 {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    match (ends.next(), ends.next()) {
        (Some(Ok(low)), Some(Ok(high))) if high > low => users_of_ports(high - low),
        _ => 6_250,
    }
}

/// Users whose connections take less than half of these ports. Linux gives out every second port first; when these are
/// used up, it searches through all of them for every further connection.
fn users_of_ports(ports: u32) -> u32 {
    ports.max(40) / 20 * 9 / CONNECTIONS_EACH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn users_spread_over_loopback_sources_when_ports_run_out() {
        let loopback = Sources::Loopback { users_each: 100 };
        assert_eq!(loopback.of(99, 0), None, "the kernel chooses");
        assert_eq!(loopback.of(100, 0), Some(ip("127.0.0.2")));
        assert_eq!(loopback.of(199, 1), Some(ip("127.0.0.3")));
        let last = loopback.of(u32::MAX - 200, 64);
        assert_eq!(
            last.map(|a| a.to_string().starts_with("127.0.0.")),
            Some(true)
        );
    }

    #[test]
    fn the_users_of_a_source_leave_half_of_its_ports() {
        for ports in [0, 1, 100, 28_231, 64_511] {
            let users = users_of_ports(ports);
            assert!(users > 0);
            assert!(ports < 100 || users * 2 < ports / 2, "{users} of {ports}");
        }
    }

    #[test]
    fn elsewhere_the_kernel_chooses_unless_told_otherwise() {
        for target in ["192.0.2.1", "::1"] {
            assert_eq!(Sources::new(ip(target), &[]).of(100_000, 3), None);
        }
        let given = [ip("192.0.2.7"), ip("2001:db8::7"), ip("192.0.2.8")];
        let sources = Sources::new(ip("192.0.2.1"), &given);
        let turns: Vec<_> = (0..3).filter_map(|user| sources.of(user, 0)).collect();
        assert_eq!(turns, [given[0], given[2], given[0]]);
        assert_eq!(
            sources.of(0, 1),
            Some(given[2]),
            "the next at the next attempt"
        );
        assert_eq!(sources.attempts(), 2, "the IPv6 address cannot reach IPv4");
        assert!(sources.of(u32::MAX, u32::MAX).is_some());
    }
}
