//! Classifies searches without a match: failed, or nobody was there to find.

use std::time::Duration;

use crate::measure::sample::Unmatched;

/// Searches that are kept until they are classified together; with more they are classified at once.
const MAX_KEPT: usize = 50_000;
/// Searches that ended without a match.
#[derive(Debug)]
pub struct Searches {
    fair: Duration,
    kept: Vec<Unmatched>,
    classified: Classified,
}

/// Searches by class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classified {
    /// Searches that could have been paired.
    pub failed: Vec<Unmatched>,
    pub odd_one_out: u64,
    pub pending: u64,
}

impl Searches {
    /// `fair`: two users who both wait this long could have been paired.
    pub fn new(fair: Duration) -> Self {
        Self {
            fair,
            kept: Vec::new(),
            classified: Classified::default(),
        }
    }

    /// Adds searches. Classifies all of them if there are too many to keep.
    pub fn add(&mut self, searches: impl IntoIterator<Item = Unmatched>) -> Option<Classified> {
        self.kept.extend(searches);
        (self.kept.len() > MAX_KEPT).then(|| self.classify())
    }

    /// Searches that are not classified yet.
    pub fn kept(&self) -> &[Unmatched] {
        &self.kept
    }

    /// Estimates how many of these failed: all that waited long enough, except for one user who may have been alone.
    pub fn presumed_failed(&self, searches: &[Unmatched]) -> u64 {
        let waited = searches.iter().filter(|search| search.waited >= self.fair);
        (waited.count() as u64).saturating_sub(1)
    }

    /// Pairs unmatched users who waited at the same time, in order of arrival: these failed. The others had nobody to find.
    pub fn classify(&mut self) -> Classified {
        let mut alone: Option<Unmatched> = None;
        self.kept.sort_by_key(|search| search.from);
        for search in std::mem::take(&mut self.kept) {
            match alone.take() {
                Some(other) if other.to.min(search.to).saturating_sub(search.from) >= self.fair => {
                    self.classified.failed.extend([other, search]);
                }
                Some(other) => {
                    // A later user may still find the one that stays longer.
                    let (gone, stays) = if other.to > search.to {
                        (search, other)
                    } else {
                        (other, search)
                    };
                    self.excuse(&gone);
                    alone = Some(stays);
                }
                None => alone = Some(search),
            }
        }
        if let Some(last) = alone {
            self.excuse(&last);
        }
        std::mem::take(&mut self.classified)
    }

    fn excuse(&mut self, search: &Unmatched) {
        if search.waited >= self.fair {
            self.classified.odd_one_out += 1;
        } else {
            self.classified.pending += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failed, odd ones out and pending of searches from one second to another.
    fn classified(searches: &[(u64, u64)]) -> (usize, u64, u64) {
        let mut all = Searches::new(Duration::from_secs(2));
        let unmatched = searches.iter().map(|&(from, to)| Unmatched {
            from: Duration::from_secs(from),
            to: Duration::from_secs(to),
            waited: Duration::from_secs((to - from).min(30)),
        });
        assert_eq!(all.add(unmatched), None);
        let got = all.classify();
        (got.failed.len(), got.odd_one_out, got.pending)
    }

    #[test]
    fn only_who_waits_together_has_failed() {
        for (searches, expected) in [
            (&[(1, 60)][..], (0, 1, 0)),
            (&[(1, 60), (20, 60)], (2, 0, 0)),
            (&[(1, 60), (2, 60), (3, 60)], (2, 1, 0)),
            (&[(0, 10), (10, 30), (29, 60)], (0, 3, 0)),
            // A short visit in between does not hide a user who stays from a later one.
            (&[(0, 60), (10, 11), (20, 60)], (2, 0, 1)),
            (&[(59, 60), (59, 60)], (0, 0, 2)),
        ] {
            assert_eq!(classified(searches), expected, "{searches:?}");
        }
    }

    #[test]
    fn no_more_are_kept_than_fit() {
        let mut all = Searches::new(Duration::from_secs(2));
        let one = Unmatched {
            from: Duration::ZERO,
            to: Duration::from_secs(30),
            waited: Duration::from_secs(30),
        };
        let got = all
            .add(std::iter::repeat_n(one, MAX_KEPT + 2))
            .expect("too many");
        assert_eq!((got.failed.len(), got.odd_one_out), (MAX_KEPT + 2, 0));
        assert!(all.kept.is_empty());
    }
}
