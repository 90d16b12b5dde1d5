//! The offsets between the clocks of several hosts, from the messages between them. Pure.

/// What is known of the clocks of hosts, numbered from 0.
///
/// Host b received a message `m` after host a had sent it, by their own clocks. It took some time, so b's
/// clock is at most `m` ahead of a's. The smallest `m` in each direction gives the best direct bound for two
/// hosts; a chain of hosts adds up. The shortest chains (Floyd and Warshall) give the narrowest bounds.
#[derive(Debug)]
pub(super) struct Clocks {
    /// By rows: an upper bound for how far the second's clock is ahead of the first's, in microseconds.
    most: Vec<Option<i64>>,
    hosts: usize,
    /// How much the bounds had to be widened until they no longer contradicted each other: some clock moved
    /// against the others.
    pub moved_micros: i64,
}

/// How far one clock is ahead of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    pub micros: i64,
    /// Plus or minus this.
    pub uncertainty_micros: i64,
}

impl Clocks {
    /// `least`: sender, receiver, and the shortest time of a message. A pair may be given more than once.
    pub(super) fn new(hosts: usize, least: &[(usize, usize, i64)]) -> Self {
        let mut moved_micros = 0;
        loop {
            let mut clocks = Self {
                most: vec![None; hosts * hosts],
                hosts,
                moved_micros,
            };
            (0..hosts).for_each(|host| clocks.bound(host, host, 0));
            for &(from, to, micros) in least {
                clocks.bound(from, to, micros.saturating_add(moved_micros));
            }
            if clocks.close() || moved_micros > i64::MAX / 8 {
                return clocks;
            }
            moved_micros = (moved_micros * 2).max(1);
        }
    }

    fn most(&self, from: usize, to: usize) -> Option<i64> {
        *self.most.get(from * self.hosts + to)?
    }

    fn bound(&mut self, from: usize, to: usize, micros: i64) {
        if let Some(most) = self.most.get_mut(from * self.hosts + to) {
            *most = Some(most.map_or(micros, |before| before.min(micros)));
        }
    }

    /// Adds the bounds from chains. False: the bounds contradict each other.
    fn close(&mut self) -> bool {
        for through in 0..self.hosts {
            for from in 0..self.hosts {
                let Some(first) = self.most(from, through) else {
                    continue;
                };
                for to in 0..self.hosts {
                    if let Some(second) = self.most(through, to) {
                        self.bound(from, to, first.saturating_add(second));
                    }
                }
                if self.most(from, from) < Some(0) {
                    return false;
                }
            }
        }
        true
    }

    /// How far the clock of `to` is ahead of that of `from`. `None`: no messages went in both directions, not even
    /// through other hosts.
    pub(super) fn ahead(&self, from: usize, to: usize) -> Option<Ahead> {
        let (most, back) = (self.most(from, to)?, self.most(to, from)?);
        // At the most `most`, and at least `-back`.
        Some(Ahead {
            micros: most.saturating_sub(back) / 2,
            uncertainty_micros: most.saturating_add(back).saturating_add(1) / 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_offset_is_half_of_the_difference() {
        let clocks = Clocks::new(2, &[(0, 1, 5_300), (1, 0, -4_500)]);
        let ahead = Ahead {
            micros: 4_900,
            uncertainty_micros: 400,
        };
        assert_eq!(clocks.ahead(0, 1), Some(ahead));
        assert_eq!(clocks.ahead(1, 0).map(|ahead| ahead.micros), Some(-4_900));
        assert_eq!(clocks.ahead(0, 0).map(|ahead| ahead.micros), Some(0));
        assert_eq!(clocks.moved_micros, 0);
    }

    #[test]
    fn one_way_tells_nothing_and_a_third_host_helps() {
        let one_way = [(0, 1, 100), (1, 2, 150), (2, 1, 250)];
        let clocks = Clocks::new(3, &one_way);
        assert_eq!((clocks.ahead(0, 1), clocks.ahead(0, 2)), (None, None));
        let clocks = Clocks::new(3, &[&one_way[..], &[(2, 0, 300)]].concat());
        let ahead = clocks.ahead(0, 1).expect("through the third");
        assert_eq!((ahead.micros, ahead.uncertainty_micros), (-175, 275));
    }

    #[test]
    fn clocks_that_moved_are_told() {
        // Each is ahead of the other: a contradiction.
        let clocks = Clocks::new(2, &[(0, 1, -1_000), (1, 0, -200)]);
        assert!(
            (600..=1200).contains(&clocks.moved_micros),
            "{}",
            clocks.moved_micros
        );
        assert!(
            clocks
                .ahead(0, 1)
                .is_some_and(|ahead| (-1_000..=200).contains(&ahead.micros))
        );
    }

    proptest! {
        #[test]
        fn the_error_is_within_the_uncertainty(
            skews in prop::collection::vec(-50_000_000..50_000_000_i64, 2..6),
            talks in prop::collection::vec((0..6_usize, 0..6_usize, 30..20_000_i64), 1..60),
        ) {
            let hosts = skews.len();
            let least: Vec<_> = talks
                .iter()
                .filter(|(a, b, _)| *a < hosts && *b < hosts && a != b)
                .map(|&(a, b, took)| (a, b, took + skews[b] - skews[a]))
                .collect();
            let clocks = Clocks::new(hosts, &least);
            prop_assert_eq!(clocks.moved_micros, 0);
            for a in 0..hosts {
                for b in 0..hosts {
                    if let Some(ahead) = clocks.ahead(a, b) {
                        let error = ahead.micros.abs_diff(skews[b] - skews[a]);
                        prop_assert!(error <= ahead.uncertainty_micros.unsigned_abs(), "{error} {ahead:?}");
                    }
                }
            }
            // Messages in both directions answer everything.
            for &(a, b, took) in &least {
                if let Some((.., back)) = least.iter().filter(|(x, y, _)| (*x, *y) == (b, a)).min_by_key(|m| m.2) {
                    let ahead = clocks.ahead(a, b).expect("both ways");
                    prop_assert!(ahead.uncertainty_micros <= (took + back + 1) / 2);
                }
            }
        }
    }
}
