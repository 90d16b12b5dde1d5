//! Percentiles, medians, ranges.

/// The smallest value that at least `percent` of the sample do not exceed; 0 for an empty sample.
pub(crate) fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil();
    // Saturates; an index over the end becomes the last.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is between 0 and the length"
    )]
    let index = (rank as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(0)
}

/// The middle of some repetitions, and how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// `None`: there are no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let hundred: Vec<u64> = (1..=100).collect();
        for (percent, expected) in [
            (0.0, 1),
            (1.0, 1),
            (50.0, 50),
            (99.0, 99),
            (99.9, 100),
            (100.0, 100),
        ] {
            assert_eq!(percentile(&hundred, percent), expected, "{percent}");
        }
        assert_eq!(percentile(&[7], 50.0), 7);
        assert_eq!(percentile(&[7, 9], 50.0), 7);
        assert_eq!(percentile(&[], 50.0), 0);
    }

    #[test]
    fn a_spread_has_middle_and_ends() {
        let odd = Spread {
            median: 2.0,
            min: 1.0,
            max: 9.0,
        };
        assert_eq!(Spread::of(&[9.0, 1.0, 2.0]), Some(odd));
        let even = Spread {
            median: 2.5,
            min: 1.0,
            max: 9.0,
        };
        assert_eq!(Spread::of(&[9.0, 1.0, 2.0, 3.0]), Some(even));
        assert_eq!(Spread::of(&[]), None);
    }
}
