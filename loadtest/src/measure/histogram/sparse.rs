//! A distribution to three percent, in a few hundred bytes: each figure of each window has one.

use serde::{Deserialize, Serialize};

use crate::{measure::histogram::dense::Latencies, record::Quantiles};

/// Buckets of each power of two.
const PARTS: u64 = 32;
const PART_BITS: u32 = PARTS.trailing_zeros();

/// How often values fell into each bucket; buckets are 3 % wide.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "(Vec<(u16, u32)>, u32)", from = "(Vec<(u16, u32)>, u32)")]
pub struct Spread {
    /// Rising, without empty ones.
    bins: Vec<Bin>,
    max_micros: u32,
}

/// A bucket and its count, in six bytes: a long run has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bin([u16; 3]);

impl Bin {
    fn new(bucket: u16, count: u32) -> Self {
        let [a, b, c, d] = count.to_ne_bytes();
        Self([
            bucket,
            u16::from_ne_bytes([a, b]),
            u16::from_ne_bytes([c, d]),
        ])
    }

    fn bucket(self) -> u16 {
        self.0[0]
    }

    fn count(self) -> u32 {
        let ([a, b], [c, d]) = (self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }
}

impl From<Spread> for (Vec<(u16, u32)>, u32) {
    fn from(spread: Spread) -> Self {
        let bins = spread.bins.iter().map(|bin| (bin.bucket(), bin.count()));
        (bins.collect(), spread.max_micros)
    }
}

impl From<(Vec<(u16, u32)>, u32)> for Spread {
    fn from((bins, max_micros): (Vec<(u16, u32)>, u32)) -> Self {
        let last = bucket(u64::MAX);
        let bins = bins.into_iter();
        Self {
            bins: bins
                .map(|(bucket, count)| Bin::new(bucket.min(last), count))
                .collect(),
            max_micros,
        }
    }
}

impl Spread {
    /// The same latencies, coarser.
    pub fn of(latencies: &Latencies) -> Self {
        let mut spread = Self::default();
        for (micros, count) in latencies.recorded() {
            let (bucket, count) = (bucket(micros), u32::try_from(count).unwrap_or(u32::MAX));
            match spread.bins.last_mut() {
                Some(last) if last.bucket() == bucket => {
                    *last = Bin::new(bucket, last.count().saturating_add(count));
                }
                _ => spread.bins.push(Bin::new(bucket, count)),
            }
            spread.max_micros = u32::try_from(micros).unwrap_or(u32::MAX);
        }
        spread.bins.shrink_to_fit();
        spread
    }

    pub fn join(&mut self, other: &Self) {
        self.max_micros = self.max_micros.max(other.max_micros);
        if other.bins.is_empty() {
            return;
        }
        let mine = std::mem::take(&mut self.bins);
        let (mut mine, mut theirs) = (mine.into_iter().peekable(), other.bins.iter().peekable());
        loop {
            let next = match (mine.peek().copied(), theirs.peek().map(|bin| **bin)) {
                (Some(a), Some(b)) if a.bucket() == b.bucket() => {
                    Bin::new(a.bucket(), a.count().saturating_add(b.count()))
                }
                (Some(a), Some(b)) if b.bucket() < a.bucket() => b,
                (Some(a), _) => a,
                (None, Some(b)) => b,
                (None, None) => break,
            };
            mine.next_if(|bin| bin.bucket() == next.bucket());
            theirs.next_if(|bin| bin.bucket() == next.bucket());
            self.bins.push(next);
        }
        self.bins.shrink_to_fit();
    }

    /// Memory on the heap.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
    }

    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| u64::from(bin.count())).sum()
    }

    /// The value that the fraction `q` did not exceed: the middle of its bucket.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let mut below = 0;
        for (bucket, n) in self.bins.iter().map(|bin| (bin.bucket(), bin.count())) {
            below += u64::from(n);
            if below as f64 >= q * count as f64 {
                let middle = f64::midpoint(lower(bucket) as f64, lower(bucket + 1) as f64);
                return Some(middle.min(f64::from(self.max_micros)) / 1e3);
            }
        }
        None
    }

    pub fn max_ms(&self) -> Option<f64> {
        (!self.bins.is_empty()).then(|| f64::from(self.max_micros) / 1e3)
    }

    pub fn mean_ms(&self) -> Option<f64> {
        let middle = |bucket| f64::midpoint(lower(bucket) as f64, lower(bucket + 1) as f64);
        let weighed = |bin: &Bin| middle(bin.bucket()) * f64::from(bin.count());
        let sum: f64 = self.bins.iter().map(weighed).sum();
        (!self.bins.is_empty()).then(|| sum / 1e3 / self.count() as f64)
    }

    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            p50_ms: self.quantile_ms(0.5),
            p95_ms: self.quantile_ms(0.95),
            p99_ms: self.quantile_ms(0.99),
            max_ms: self.max_ms(),
        }
    }

    /// Counts in the buckets of [`heat_bounds_ms`], and one beyond; an empty spread gives an empty list.
    pub fn heat(&self) -> Vec<u64> {
        if self.bins.is_empty() {
            return Vec::new();
        }
        let bounds = heat_bounds_micros();
        let mut heat = vec![0; bounds.len() + 1];
        for (bucket, n) in self.bins.iter().map(|bin| (bin.bucket(), bin.count())) {
            let place = bounds.partition_point(|bound| *bound <= lower(bucket));
            heat[place] += u64::from(n);
        }
        heat
    }
}

/// The bounds of a heat map: two for each power of two, from 64 us to 50 s.
pub fn heat_bounds_ms() -> Vec<f64> {
    let bounds = heat_bounds_micros();
    bounds.iter().map(|micros| *micros as f64 / 1e3).collect()
}

fn heat_bounds_micros() -> Vec<u64> {
    (6..26)
        .flat_map(|power| [1 << power, 3 << (power - 1)])
        .collect()
}

fn bucket(micros: u64) -> u16 {
    let micros = micros.min(u64::from(u32::MAX));
    if micros < PARTS {
        return u16::try_from(micros).unwrap_or(u16::MAX);
    }
    let power = micros.ilog2();
    let part = (micros >> (power - PART_BITS)) & (PARTS - 1);
    let octave = u64::from(power - PART_BITS + 1);
    u16::try_from(octave * PARTS + part).unwrap_or(u16::MAX)
}

/// The smallest value of a bucket, in microseconds.
fn lower(bucket: u16) -> u64 {
    let (octave, part) = (u64::from(bucket) / PARTS, u64::from(bucket) % PARTS);
    if octave == 0 {
        return part;
    }
    (PARTS + part) << (octave - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Spread {
        let mut latencies = Latencies::default();
        for &micros in micros {
            latencies.record(Duration::from_micros(micros));
        }
        Spread::of(&latencies)
    }

    proptest! {
        #[test]
        fn each_value_lies_in_its_bucket(micros in 0..u64::from(u32::MAX)) {
            let bucket = bucket(micros);
            prop_assert!(lower(bucket) <= micros && micros < lower(bucket + 1));
            let width = lower(bucket + 1) - lower(bucket);
            prop_assert!(width == 1 || width as f64 <= micros as f64 / 32.0);
        }

        #[test]
        fn joining_is_measuring_together(
            a in prop::collection::vec(1..10_000_000_u64, 0..50),
            b in prop::collection::vec(1..10_000_000_u64, 0..50),
        ) {
            let mut joined = of(&a);
            joined.join(&of(&b));
            prop_assert_eq!(joined, of(&[a, b].concat()));
        }
    }

    #[test]
    fn quantiles_are_near() {
        let spread = of(&(1..=1000).map(|ms| ms * 1000).collect::<Vec<_>>());
        for (q, ms) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let got = spread.quantile_ms(q).expect("not empty");
            assert!((got - ms).abs() < ms * 0.03, "{q}: {got} is not {ms}");
        }
        assert_eq!(Spread::default().quantile_ms(0.5), None);
        assert_eq!(spread.count(), 1000);
    }

    #[test]
    fn heat_falls_between_its_bounds() {
        let (spread, bounds) = (of(&[10, 1000, 1000, 100_000_000]), heat_bounds_ms());
        let heat = spread.heat();
        assert_eq!(
            (heat.len(), heat.iter().sum::<u64>()),
            (bounds.len() + 1, 4)
        );
        assert_eq!((heat[0], heat[bounds.len()]), (1, 1));
        let place = heat.iter().position(|n| *n == 2).expect("both at 1 ms");
        assert!(bounds[place - 1] <= 1.0 && 1.0 < bounds[place]);
        assert_eq!(Spread::default().heat(), Vec::<u64>::new());
    }
}
