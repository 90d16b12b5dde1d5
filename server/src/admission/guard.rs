//! Bounds how often an address may show tokens that are forged. Only what went wrong counts: behind one address there may
//! be an office full of users, who all come back after a deploy.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use dashmap::DashMap;

/// The time in which a full budget comes back.
const MINUTE: Duration = Duration::from_secs(60);

/// Addresses that are remembered before those with a full budget are forgotten.
const MANY: usize = 10_000;

/// The budgets of addresses (the generic cell rate algorithm, ITU-T I.371).
pub struct Guard {
    /// Forged tokens a minute; 0: no limit.
    per_minute: AtomicU32,
    /// When the budget of an address would be full again.
    full_at: DashMap<IpAddr, Instant>,
}

impl Guard {
    /// Every budget is full.
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute: AtomicU32::new(per_minute),
            full_at: DashMap::new(),
        }
    }

    /// Changes how many.
    pub fn set_per_minute(&self, per_minute: u32) {
        self.per_minute.store(per_minute, Ordering::Relaxed);
    }

    /// What one costs; `None`: nothing, there is no limit.
    fn cost(&self) -> Option<Duration> {
        MINUTE.checked_div(self.per_minute.load(Ordering::Relaxed))
    }

    /// How long an address must wait before it may show a token; `None`: it may. `address`: as it is counted.
    pub fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let cost = self.cost()?;
        let full_at = *self.full_at.get(&address?)?;
        let wait = (full_at + cost).saturating_duration_since(now);
        wait.checked_sub(MINUTE).filter(|wait| !wait.is_zero())
    }

    /// An address has shown a forged token.
    pub fn forged(&self, address: Option<IpAddr>, now: Instant) {
        let (Some(address), Some(cost)) = (address, self.cost()) else {
            return;
        };
        if self.full_at.len() >= MANY {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let mut full_at = self.full_at.entry(address).or_insert(now);
        // An empty budget stays empty: who goes on does not lock the address out for hours.
        *full_at = ((*full_at).max(now) + cost).min(now + MINUTE);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn so_many_forged_tokens_a_minute_and_then_a_wait() {
        let (guard, now) = (Guard::new(10), Instant::now());
        let address = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
        for _ in 0..10 {
            assert_eq!(guard.wait(address, now), None);
            guard.forged(address, now);
        }
        assert_eq!(guard.wait(address, now), Some(Duration::from_secs(6)));
        for _ in 0..1000 {
            guard.forged(address, now);
        }
        assert_eq!(guard.wait(address, now), Some(Duration::from_secs(6)));
        assert_eq!(guard.wait(None, now), None, "an address that is exempt");
        let other = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(guard.wait(other, now), None);
        assert_eq!(guard.wait(address, now + Duration::from_secs(6)), None);
        assert_eq!(Guard::new(0).wait(address, now), None);
    }
}
