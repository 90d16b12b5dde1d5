//! Bounds how often an address may do something: show tokens that are forged, of which only what went wrong counts, as behind one
//! address there may be an office full of users, who all come back after a deploy; or begin what is stored, without a right to it.

use std::{
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;

/// The time in which a full budget comes back.
const MINUTE: Duration = Duration::from_secs(60);

/// Addresses that are remembered before those with a full budget are forgotten.
const MANY: usize = 10_000;

/// The most addresses that are remembered, about 5 MB: a user with more of them does what they like.
const MOST: usize = 100_000;

/// How often those with a full budget are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The budgets of addresses (the generic cell rate algorithm, ITU-T I.371).
pub struct Guard {
    /// How often a minute; 0: no limit.
    per_minute: AtomicU32,
    /// When the budget of an address would be full again.
    full_at: DashMap<IpAddr, Instant>,
    swept: Mutex<Option<Instant>>,
}

impl Guard {
    /// Every budget is full.
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute: AtomicU32::new(per_minute),
            full_at: DashMap::new(),
            swept: Mutex::default(),
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

    /// How long an address must wait before it may; `None`: it may. `address`: as it is counted; `None`: it is exempt.
    pub fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let cost = self.cost()?;
        let full_at = *self.full_at.get(&address?)?;
        let wait = (full_at + cost).saturating_duration_since(now);
        wait.checked_sub(MINUTE).filter(|wait| !wait.is_zero())
    }

    /// An address has done it.
    pub fn charge(&self, address: Option<IpAddr>, now: Instant) {
        let (Some(address), Some(cost)) = (address, self.cost()) else {
            return;
        };
        if self.full_at.len() >= MANY {
            self.sweep(now);
            if self.full_at.len() >= MOST && !self.full_at.contains_key(&address) {
                return;
            }
        }
        let mut full_at = self.full_at.entry(address).or_insert(now);
        // An empty budget stays empty: who goes on does not lock the address out for hours.
        *full_at = ((*full_at).max(now) + cost).min(now + MINUTE);
    }

    fn sweep(&self, now: Instant) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY) {
            *swept = Some(now);
            self.full_at.retain(|_, full_at| *full_at > now);
        }
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
            guard.charge(address, now);
        }
        assert_eq!(guard.wait(address, now), Some(Duration::from_secs(6)));
        for _ in 0..1000 {
            guard.charge(address, now);
        }
        assert_eq!(guard.wait(address, now), Some(Duration::from_secs(6)));
        assert_eq!(guard.wait(None, now), None, "an address that is exempt");
        let other = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(guard.wait(other, now), None);
        assert_eq!(guard.wait(address, now + Duration::from_secs(6)), None);
        assert_eq!(Guard::new(0).wait(address, now), None);
    }

    #[test]
    fn the_addresses_are_bounded_and_forgotten_when_their_budget_is_full() {
        let (guard, now) = (Guard::new(1), Instant::now());
        let address = |n: usize| {
            u32::try_from(n)
                .ok()
                .map(|n| IpAddr::from(Ipv4Addr::from(n)))
        };
        for n in 0..MOST + 10 {
            guard.charge(address(n), now);
        }
        assert_eq!(guard.full_at.len(), MOST);
        assert_eq!(guard.wait(address(7), now), Some(MINUTE));
        assert_eq!(guard.wait(address(MOST + 7), now), None);
        let later = now + 2 * MINUTE;
        guard.charge(address(1), later);
        assert_eq!(guard.full_at.len(), 1);
    }
}
