//! Numbers that look random and are the same in each run, and grids of time.

use std::time::Duration;

/// A number from 0 to 1 for each user, which spreads any range of users evenly (golden ratio).
pub fn fraction_of(user: u32) -> f64 {
    // 2^64 / golden ratio: multiplying by it and wrapping around is the fractional part in fixed point.
    let fraction = u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    fraction as f64 / 2.0_f64.powi(64)
}

/// A number from 0 to 1 that looks random and is the same in each run (SplitMix64).
pub fn mixed(user: u32, n: u32) -> f64 {
    let mut z = (u64::from(user) << 32 | u64::from(n)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / 2.0_f64.powi(64)
}

/// The first moment at or after `t` at which user `user` is due, who is due once in every `interval`.
///
/// Every user has a grid of their own. The grids are shifted against each other by the golden ratio, which
/// spreads any number of users evenly, so that the server sees a steady stream and not one burst per
/// interval.
pub fn due_at_or_after(user: u32, interval: Duration, t: Duration) -> Duration {
    let interval = interval.as_nanos().max(1);
    let fraction = u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let shift = (u128::from(fraction) * interval) >> 64;
    let periods = t.as_nanos().saturating_sub(shift).div_ceil(interval);
    let due = shift + periods * interval;
    Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_sends_once_in_each_interval() {
        let interval = Duration::from_secs(5);
        for user in [0, 1, 7, 99] {
            let first = due_at_or_after(user, interval, Duration::ZERO);
            assert!(first < interval, "user {user} first sends at {first:?}");
            assert_eq!(due_at_or_after(user, interval, first), first);
            let next = due_at_or_after(user, interval, first + Duration::from_nanos(1));
            assert_eq!(next, first + interval);
        }
    }

    #[test]
    fn users_do_not_tick_together() {
        let mut per_tenth = [0; 10];
        for user in 0..1000 {
            let at = due_at_or_after(user, Duration::from_secs(5), Duration::ZERO);
            per_tenth[usize::try_from(at.as_millis() / 500).expect("below 10")] += 1;
        }
        assert!(
            per_tenth.iter().all(|n| (98..=102).contains(n)),
            "{per_tenth:?}"
        );
    }
}
