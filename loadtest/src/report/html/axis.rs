//! Where a value lies on an axis, and where the axis is labelled.

/// The vertical axis of a chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    /// From 0 to this.
    Linear(f64),
    /// Between two values, as many times as much being as far everywhere.
    Log(f64, f64),
}

impl Axis {
    /// A linear axis on which all of `values` find room.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let largest = values.fold(0.0, f64::max);
        let step = nice(largest.max(1e-9) * 1.12 / 4.0);
        Self::Linear(step * (largest * 1.08 / step).ceil().max(1.0))
    }

    /// A logarithmic axis on which all of the positive `values` find room.
    pub(super) fn log(values: impl Iterator<Item = f64> + Clone) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let largest = positive.clone().fold(0.0, f64::max);
        if largest <= 0.0 {
            return Self::Log(0.1, 10.0);
        }
        let smallest = positive.fold(largest, f64::min);
        let (mut low, high) = (floor_125(smallest * 0.9), nice(largest * 1.05));
        if high / low < 8.0 {
            low = floor_125(high / 10.0);
        }
        Self::Log(low, high)
    }

    /// From 0 at the bottom to 1 at the top.
    pub(super) fn place(self, value: f64) -> f64 {
        let fraction = match self {
            Self::Linear(top) => value / top,
            Self::Log(low, high) => (value.max(low) / low).ln() / (high / low).ln(),
        };
        fraction.clamp(0.0, 1.0)
    }

    /// The values to label, from the bottom.
    pub(super) fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear(top) => {
                let step = nice(top / 4.5);
                (0..=5)
                    .map(|i| f64::from(i) * step)
                    .filter(|v| *v <= top * 1.001)
                    .collect()
            }
            Self::Log(low, high) => {
                let decades = (high / low).log10();
                // The labels keep their distance: powers of ten, or all of 1, 2 and 5 for a short axis.
                let in_each: &[f64] = if decades <= 1.8 {
                    &[1.0, 2.0, 5.0]
                } else {
                    &[1.0]
                };
                let first = 10_f64.powf(low.log10().floor());
                let stride = (decades / 5.0).ceil().max(1.0);
                let powers = (0..24).map(|i| first * 10_f64.powf(f64::from(i) * stride));
                powers
                    .flat_map(|power| in_each.iter().map(move |digit| power * digit))
                    .filter(|value| *value >= low * 0.999 && *value <= high * 1.001)
                    .collect()
            }
        }
    }
}

/// Moments to label on a time axis that ends at `end`, all in milliseconds.
pub(super) fn times(end: f64) -> Vec<f64> {
    const STEPS: [f64; 18] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
        10_800.0, 21_600.0, 43_200.0, 86_400.0,
    ];
    let fits = |step: &&f64| end / (**step * 1e3) <= 6.0;
    let step = STEPS
        .iter()
        .find(fits)
        .map_or(end / 5.0, |step| step * 1e3)
        .max(1.0);
    (0..=6)
        .map(|i| f64::from(i) * step)
        .filter(|at| *at <= end * 0.97)
        .collect()
}

/// The next of 1, 2, 2.5 and 5 times a power of ten that is not less.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-12).log10().floor());
    let digits = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fits = digits
        .iter()
        .find(|digit| *digit * power >= value * 0.999_999);
    fits.unwrap_or(&10.0) * power
}

/// The next of 1, 2 and 5 times a power of ten that is not more.
fn floor_125(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digits = [5.0, 2.0, 1.0];
    let fits = digits
        .iter()
        .find(|digit| *digit * power <= value * 1.000_001);
    fits.unwrap_or(&1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_they_show() {
        assert_eq!(
            Axis::linear([4999.0, 5000.0].into_iter()),
            Axis::Linear(6000.0)
        );
        assert_eq!(Axis::Linear(6000.0).ticks(), [0.0, 2000.0, 4000.0, 6000.0]);
        assert_eq!(Axis::log([0.4, 58.0].into_iter()), Axis::Log(0.2, 100.0));
        assert_eq!(Axis::Log(0.2, 100.0).ticks(), [1.0, 10.0, 100.0]);
        assert_eq!(
            Axis::log([3.0, 4.0].into_iter()).ticks(),
            [0.5, 1.0, 2.0, 5.0]
        );
        for axis in [Axis::linear([].into_iter()), Axis::log([0.0].into_iter())] {
            assert!(!axis.ticks().is_empty());
            assert!((0.0..=1.0).contains(&axis.place(0.0)));
        }
    }

    #[test]
    fn times_are_few_and_round() {
        assert_eq!(times(540e3), [0.0, 120e3, 240e3, 360e3, 480e3]);
        for end in [500.0, 3e3, 61e3, 3.6e6, 86.4e6, 1e9] {
            let times = times(end);
            assert!((1..=7).contains(&times.len()), "{end}: {times:?}");
        }
    }
}
