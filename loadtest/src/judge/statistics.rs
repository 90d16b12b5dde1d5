//! The mean of a series whose values depend on those before them, and how sure it is.
//!
//! A second of a run resembles the second before it, so that 300 windows tell less than 300 independent
//! measurements would: taken as independent, two runs of one build would differ all the time. The variance of the mean is that
//! of the stationary bootstrap (Politis and Romano 1994), which has a closed form for a mean: nothing is
//! drawn at random, and comparing the same two files always gives the same result. Its blocks are as long as the series asks
//! for (Politis and White 2004, corrected by Patton, Politis and White 2009).

/// A mean, its variance, and how many independent stretches it was made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    pub value: f64,
    pub variance: f64,
    pub blocks: f64,
}

/// Fewer windows than this tell nothing.
const MIN_WINDOWS: usize = 10;
/// Fewer independent stretches than this tell nothing.
const MIN_BLOCKS: f64 = 4.0;

/// The mean of `values`, each of which lies in one of the groups (phases of a plan): that the groups differ
/// is how the plan wants it, and no uncertainty. `None` for too few.
pub fn mean(values: &[f64], groups: &[usize]) -> Option<Mean> {
    let n = values.len();
    if n < MIN_WINDOWS || groups.len() != n {
        return None;
    }
    let residuals = within_groups(values, groups);
    let Dependence {
        block,
        long_run_variance,
    } = dependence(&residuals);
    // A series that wanders as slowly as this shows less than all of its variance: it then counts as one value.
    let blocks = (n as f64 / block).max(MIN_BLOCKS);
    let wanders = n as f64 / block < MIN_BLOCKS;
    let of_one_value = if wanders {
        autocovariance(&residuals, 0)
    } else {
        0.0
    };
    // The two estimates are a little low for short series, because the residuals are from a mean that was fitted to
    // them: the larger of the two is taken, and corrected for the fit.
    let of_mean = variance_of_mean(&residuals, block).max(long_run_variance / n as f64);
    Some(Mean {
        value: values.iter().sum::<f64>() / n as f64,
        variance: of_mean.max(of_one_value) * blocks / (blocks - 1.0),
        blocks,
    })
}

fn within_groups(values: &[f64], groups: &[usize]) -> Vec<f64> {
    let count = groups.iter().max().map_or(0, |largest| largest + 1);
    let mut sums = vec![(0.0, 0.0); count];
    for (value, group) in values.iter().zip(groups) {
        sums[*group].0 += value;
        sums[*group].1 += 1.0;
    }
    let values = values.iter().zip(groups);
    values
        .map(|(value, group)| value - sums[*group].0 / sums[*group].1)
        .collect()
}

/// Of residuals, `lag` apart.
fn autocovariance(residuals: &[f64], lag: usize) -> f64 {
    let products = residuals.iter().zip(residuals.iter().skip(lag));
    products.map(|(one, other)| one * other).sum::<f64>() / residuals.len() as f64
}

/// How residuals depend on each other.
struct Dependence {
    /// The mean length of a block of the stationary bootstrap, in values; at least 1.
    block: f64,
    /// The variance of a value times what its neighbours add to it: what a long sum varies by, a value.
    long_run_variance: f64,
}

fn dependence(residuals: &[f64]) -> Dependence {
    let n = residuals.len() as f64;
    let variance = autocovariance(residuals, 0);
    let (mut spectrum, mut slope) = (variance, 0.0);
    let reach = last_correlated_lag(residuals, variance) * 2;
    for lag in 1..=reach {
        let fraction = lag as f64 / reach as f64;
        let weight = (2.0 * (1.0 - fraction)).min(1.0);
        let covariance = 2.0 * weight * autocovariance(residuals, lag);
        spectrum += covariance;
        slope += covariance * lag as f64;
    }
    // A constant series, and one in which what goes up comes down, need no blocks.
    let best = if spectrum > f64::EPSILON {
        (slope * slope / (spectrum * spectrum)).cbrt() * n.cbrt()
    } else {
        1.0
    };
    Dependence {
        block: best.clamp(1.0, (3.0 * n.sqrt()).min(n / 2.0)),
        long_run_variance: spectrum.max(0.0),
    }
}

/// How many times larger the variance of a mean or a slope is than if the `residuals` were independent of each other.
/// At least 1.
pub fn inflation(residuals: &[f64]) -> f64 {
    let n = residuals.len() as f64;
    let variance = autocovariance(residuals, 0);
    if variance <= f64::EPSILON {
        return 1.0;
    }
    // An estimate from few values is too low (Kendall 1954).
    let correlation = autocovariance(residuals, 1) / variance;
    let correlation = (correlation + (1.0 + 4.0 * correlation) / n).clamp(0.0, 0.98);
    (1.0 + correlation) / (1.0 - correlation)
}

/// The lag after which the next few correlations are all no more than chance.
fn last_correlated_lag(residuals: &[f64], variance: f64) -> usize {
    let n = residuals.len() as f64;
    // Rounding leaves a constant series with a little more than no variance.
    if variance <= f64::EPSILON {
        return 0;
    }
    let chance = 2.0 * (n.log10() / n).sqrt();
    let mut quiet = 0;
    let mut last = 0;
    for lag in 1..residuals.len() / 2 {
        if (autocovariance(residuals, lag) / variance).abs() < chance {
            quiet += 1;
            if quiet == 5 {
                break;
            }
        } else {
            (quiet, last) = (0, lag);
        }
    }
    last
}

/// The variance that the mean of a stationary bootstrap sample has.
fn variance_of_mean(residuals: &[f64], block: f64) -> f64 {
    let n = residuals.len();
    let stay = 1.0 - 1.0 / block;
    let (mut sum, mut power) = (autocovariance(residuals, 0), 1.0);
    for lag in 1..n {
        power *= stay;
        // Hardly a block is as long.
        if power < 1e-3 {
            break;
        }
        let weight = (1.0 - lag as f64 / n as f64) * power;
        sum += 2.0 * weight * autocovariance(residuals, lag);
    }
    sum.max(0.0) / n as f64
}

/// The difference of two means as an interval that holds the true one 95 times of 100.
pub fn difference(current: Mean, baseline: Mean) -> [f64; 2] {
    let variance = current.variance + baseline.variance;
    let middle = current.value - baseline.value;
    if variance <= 0.0 {
        return [middle, middle];
    }
    // Welch and Satterthwaite.
    let fraction = |mean: Mean| mean.variance * mean.variance / (mean.blocks - 1.0);
    let freedom = variance * variance / (fraction(current) + fraction(baseline));
    let half = student_975(freedom) * variance.sqrt();
    [middle - half, middle + half]
}

/// The 97.5th percentile of Student's distribution (the expansion of Cornish and Fisher; within 1 % for
/// three or more degrees of freedom).
pub fn student_975(freedom: f64) -> f64 {
    let z = 1.959_964_f64;
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    let v = freedom.max(3.0);
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v * v * v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::example::Noise;

    #[test]
    fn student_is_that_of_the_tables() {
        for (freedom, table) in [(3.0, 3.182), (5.0, 2.571), (10.0, 2.228), (1e9, 1.960)] {
            let ours = student_975(freedom);
            assert!((ours / table - 1.0).abs() < 0.01, "{freedom}: {ours}");
        }
    }

    #[test]
    fn a_constant_is_certain_and_few_values_are_nothing() {
        let groups = vec![0; 50];
        assert_eq!(mean(&[1.5; 9], &groups[..9]), None);
        let certain = mean(&[1.5; 50], &groups).expect("enough");
        assert_eq!((certain.value, certain.variance), (1.5, 0.0));
    }

    #[test]
    fn what_the_plan_changes_is_no_uncertainty() {
        let values: Vec<f64> = (0..100).map(|i| if i < 50 { 1.0 } else { 9.0 }).collect();
        let groups: Vec<usize> = (0..100).map(|i| usize::from(i >= 50)).collect();
        let mean = mean(&values, &groups).expect("enough");
        assert_eq!((mean.value, mean.variance), (5.0, 0.0));
    }

    /// How often, in percent, the interval of two series with the same mean holds 0.
    fn coverage(phi: f64, n: usize) -> f64 {
        let mut noise = Noise::new(7);
        let groups = vec![0; n];
        let mut held = 0.0;
        let rounds = 400;
        for _ in 0..rounds {
            let mut one = || mean(&noise.series(n, phi), &groups);
            held += match (one(), one()) {
                (Some(current), Some(baseline)) => {
                    let [low, high] = difference(current, baseline);
                    f64::from(low <= 0.0 && 0.0 <= high)
                }
                // Too similar: the comparison must not say anything wrong.
                _ => 1.0,
            };
        }
        held / f64::from(rounds) * 100.0
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        for (phi, n, at_least) in [
            (0.0, 100, 93.0),
            (0.5, 100, 90.0),
            (0.8, 300, 90.0),
            (0.9, 600, 89.0),
        ] {
            let covered = coverage(phi, n);
            assert!(covered >= at_least, "phi {phi}, n {n}: {covered} %");
        }
    }
}
