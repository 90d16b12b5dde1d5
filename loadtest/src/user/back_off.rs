//! How long users wait before they connect again.

use std::time::Duration;

use crate::base::random::mixed;

const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);

/// The wait after this many failures in a row: 500 ms, doubled each time, up to 30 s; and up to
/// 20 % more or less, so that users who failed together do not come back together. The same in each run.
pub(super) fn back_off(user: u32, failures: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures));
    doubled.min(MOST).mul_f64(0.8 + 0.4 * mixed(user, failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_are_spread_over_a_fifth_more_and_less() {
        let middles = [(0, 0.5), (1, 1.0), (5, 16.0), (6, 30.0), (u32::MAX, 30.0)];
        for (failures, middle) in middles {
            let parts = (0..1000).map(|user| back_off(user, failures).as_secs_f64() / middle);
            let mut parts: Vec<_> = parts.collect();
            parts.sort_by(f64::total_cmp);
            let (least, most) = (parts[0], parts[999]);
            assert!((0.8..0.82).contains(&least), "{failures}: {least}");
            assert!((1.18..=1.2).contains(&most), "{failures}: {most}");
            assert!((0.98..1.02).contains(&parts[500]), "{failures}");
        }
        assert_eq!(back_off(7, 3), back_off(7, 3));
    }
}
