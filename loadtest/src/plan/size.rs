//! Sizes of payloads.

use crate::base::{random::mixed, units::whole};

/// The shortest payload that has room for a tag with the longest numbers.
pub const MIN_PAYLOAD_BYTES: usize = 192;

/// The longest payload: a message of 64 KiB, which most servers allow, minus its envelope.
pub const MAX_PAYLOAD_BYTES: usize = 65_000;

/// The sizes of payloads, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// One size.
    Fixed(usize),
    /// Any size between two bounds, with equal probability.
    Between(usize, usize),
    /// Sizes with weights.
    Weighted(Vec<(u32, usize)>),
    /// Many short payloads and a few long ones (log-normal).
    LogNormal {
        /// Half of the payloads are shorter.
        median: usize,
        /// One in a hundred is longer.
        p99: usize,
    },
}

impl Size {
    /// Whether every payload has room for a tag, and is short enough for servers.
    ///
    /// # Errors
    /// What to give instead.
    pub fn check(&self) -> Result<(), &'static str> {
        let fits = |bytes: usize| (MIN_PAYLOAD_BYTES..=MAX_PAYLOAD_BYTES).contains(&bytes);
        let good = match self {
            Self::Fixed(bytes) => fits(*bytes),
            Self::Between(from, to) => fits(*from) && fits(*to) && from <= to,
            Self::Weighted(list) => {
                list.iter().all(|(_, bytes)| fits(*bytes))
                    && list.iter().any(|(weight, _)| *weight > 0)
            }
            Self::LogNormal { median, p99 } => fits(*median) && fits(*p99) && median <= p99,
        };
        let error = "payloads have 192 to 65000 bytes (each carries sender, sequence and send time), and the \
                     shorter size comes first";
        if good { Ok(()) } else { Err(error) }
    }

    /// The largest size.
    pub fn longest(&self) -> usize {
        match self {
            Self::Fixed(bytes) | Self::Between(_, bytes) => *bytes,
            Self::Weighted(list) => list.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0),
            Self::LogNormal { .. } => MAX_PAYLOAD_BYTES,
        }
    }

    /// The size of the n-th message of a user.
    pub fn of(&self, user: u32, n: u32) -> usize {
        let fraction = mixed(user, n);
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Between(from, to) => {
                from + (whole(fraction * (to - from + 1) as f64) as usize).min(to - from)
            }
            Self::Weighted(list) => {
                let all: f64 = list.iter().map(|(weight, _)| f64::from(*weight)).sum();
                let mut at = fraction * all;
                let chosen = list.iter().find(|(weight, _)| {
                    at -= f64::from(*weight);
                    at < 0.0
                });
                chosen.map_or(MIN_PAYLOAD_BYTES, |(_, bytes)| *bytes)
            }
            Self::LogNormal { median, p99 } => {
                // The 99th percentile of the normal distribution is 2.326 standard deviations up.
                let sigma = (*p99 as f64 / *median as f64).ln() / 2.326;
                // The sum of twelve uniform numbers minus six is nearly normal, and needs no table.
                let normal: f64 = (0..12)
                    .map(|k| mixed(user, n ^ (k << 28 | k << 20)))
                    .sum::<f64>()
                    - 6.0;
                (whole(*median as f64 * (sigma * normal).exp()) as usize)
                    .clamp(MIN_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(size: &Size) -> Vec<usize> {
        let mut sizes: Vec<_> = (0..100)
            .flat_map(|user| (0..100).map(move |n| (user, n)))
            .map(|(user, n)| size.of(user, n))
            .collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn sizes_are_spread_as_they_say() {
        assert!(sizes(&Size::Fixed(500)).iter().all(|n| *n == 500));
        let even = sizes(&Size::Between(1000, 2000));
        assert!((1000..1010).contains(&even[0]) && (1990..=2000).contains(&even[9_999]));
        assert!((1450..1550).contains(&even[5_000]), "{}", even[5_000]);
        let weighted = sizes(&Size::Weighted(vec![(9, 200), (1, 5000)]));
        let long = weighted.iter().filter(|n| **n == 5000).count();
        assert!((900..1100).contains(&long), "{long}");
        let log = sizes(&Size::LogNormal {
            median: 800,
            p99: 5000,
        });
        assert!((750..850).contains(&log[5_000]), "{}", log[5_000]);
        assert!((4000..6000).contains(&log[9_900]), "{}", log[9_900]);
    }

    #[test]
    fn sizes_that_cannot_be_sent_are_refused() {
        for bad in [
            Size::Fixed(10),
            Size::Fixed(70_000),
            Size::Between(500, 400),
            Size::Weighted(vec![]),
            Size::Weighted(vec![(0, 500)]),
            Size::LogNormal {
                median: 5000,
                p99: 800,
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert_eq!(Size::Between(192, 65_000).check(), Ok(()));
    }
}
