//! The figures that are compared, and what counts as a change of each.

use crate::{
    judge::statistics::{Mean, difference, mean},
    record::{ComparedFigure, Delivery, Record, Window, steady},
};

/// What counts as a change of a figure.
struct Margin {
    /// The least fraction by which it has to change.
    fraction: f64,
    /// The least amount, in its unit.
    amount: f64,
    higher_is_better: bool,
}

/// Two runs of one build, one after the other on a quiet machine, differ by less.
const LATENCY: Margin = Margin {
    fraction: 0.15,
    amount: 0.25,
    higher_is_better: false,
};
const CPU: Margin = Margin {
    fraction: 0.15,
    amount: 2.0,
    higher_is_better: false,
};
const RATE: Margin = Margin {
    fraction: 0.05,
    amount: 1.0,
    higher_is_better: true,
};
/// In percent of what could succeed: a tenth of a percent point.
const SUCCESS: Margin = Margin {
    fraction: 0.001,
    amount: 0.1,
    higher_is_better: true,
};
/// One number for a run has no interval: the margin is all that keeps chance out.
const MEMORY: Margin = Margin {
    fraction: 0.25,
    amount: 8e6,
    higher_is_better: false,
};
/// A typical window does not show a stall, which this does: a twentieth of all messages wait for the end of it.
const STALL: Margin = Margin {
    fraction: 2.0,
    amount: 50.0,
    higher_is_better: false,
};
/// A percent point.
const IN_TIME: Margin = Margin {
    fraction: 0.01,
    amount: 1.0,
    higher_is_better: true,
};
const CALL: Margin = Margin {
    fraction: 0.25,
    amount: 1.0,
    higher_is_better: false,
};

/// Calls that were answered less often than this are not compared.
const MIN_CALLS: u64 = 1_000;

/// Every figure that at least one of the two runs has.
pub(super) fn all(baseline: &Record, run: &Record) -> Vec<ComparedFigure> {
    let two = Two { baseline, run };
    let mut figures = vec![
        two.success("connection_success_percent", |record| {
            let c = &record.connections;
            (c.succeeded.saturating_sub(c.dropped), c.attempted)
        }),
        two.success("match_success_percent", |record| {
            let m = &record.matches;
            (m.matched, m.matched + m.failed)
        }),
        two.success("message_success_percent", |record| {
            let sum = |of: fn(&Delivery) -> u64| record.delivery.iter().map(of).sum::<u64>();
            let delivered = sum(|row| row.delivered);
            (delivered, delivered + sum(|row| row.lost))
        }),
        two.latency("connect_p95_ms", false, |window| window.connect.p95_ms),
        two.latency("match_p50_ms", false, |window| window.matching.p50_ms),
        two.latency("match_p95_ms", false, |window| window.matching.p95_ms),
        two.latency("message_p50_ms", true, |window| window.message.p50_ms),
        two.latency("message_p95_ms", true, |window| window.message.p95_ms),
        two.latency("message_p99_ms", true, |window| window.message.p99_ms),
        two.single("whole_run_message_p95_ms", "ms", &STALL, |record| {
            let latency = record.latency.get("message")?;
            latency.quantiles_ms.get("p95").copied()
        }),
        two.single("messages_in_time_percent", "percent", &IN_TIME, |record| {
            let sum = |of: fn(&Delivery) -> u64| record.delivery.iter().map(of).sum::<u64>();
            let [delivered, late] = [sum(|row| row.delivered), sum(|row| row.late)];
            (delivered > 0)
                .then(|| delivered.saturating_sub(late) as f64 / delivered as f64 * 100.0)
        }),
        two.average("messages_per_second", "per_second", &RATE, |window| {
            (window.length_ms > 0.0).then(|| window.delivered as f64 / window.length_ms * 1e3)
        }),
        two.typical("server_cpu_percent", "percent", &CPU, true, |window| {
            window.server_cpu_percent
        }),
        two.single("server_rss_peak_bytes", "bytes", &MEMORY, |record| {
            record
                .server
                .as_ref()
                .map(|server| server.rss_peak_bytes as f64)
        }),
    ];
    let calls = run.latency.keys().filter(|name| name.starts_with("call "));
    figures.extend(calls.map(|name| {
        two.single(&format!("{name} p95_ms"), "ms", &CALL, |record| {
            let latency = record.latency.get(name)?;
            let enough = latency.count >= MIN_CALLS;
            enough.then(|| latency.quantiles_ms.get("p95").copied())?
        })
    }));
    figures.retain(|figure| figure.baseline.is_some() || figure.current.is_some());
    figures
}

struct Two<'a> {
    baseline: &'a Record,
    run: &'a Record,
}

impl Two<'_> {
    /// A latency of a typical window, compared if both runs have it.
    fn latency(&self, name: &str, steady: bool, of: fn(&Window) -> Option<f64>) -> ComparedFigure {
        self.typical(name, "ms", &LATENCY, steady, of)
    }

    /// A figure of a typical window: the geometric mean of all, so that one stall does not stand for a run.
    fn typical(
        &self,
        name: &str,
        unit: &str,
        margin: &Margin,
        steady: bool,
        of: fn(&Window) -> Option<f64>,
    ) -> ComparedFigure {
        let (baseline, current) = (
            Logs::of(self.baseline, steady, of),
            Logs::of(self.run, steady, of),
        );
        let ratio = match (baseline.mean(), current.mean()) {
            (Some(baseline), Some(current)) => Some(difference(current, baseline).map(f64::exp)),
            _ => None,
        };
        figure(
            name,
            unit,
            [baseline.typical(), current.typical()],
            ratio,
            margin,
        )
    }

    /// The mean of a figure over the windows of a steady load; nothing is a value, too.
    fn average(
        &self,
        name: &str,
        unit: &str,
        margin: &Margin,
        of: fn(&Window) -> Option<f64>,
    ) -> ComparedFigure {
        let means = [self.baseline, self.run].map(|record| {
            let (values, phases): (Vec<_>, Vec<_>) = measured(record, true, of).unzip();
            mean(&values, &phases)
        });
        let ratio = match means {
            [Some(baseline), Some(current)] if baseline.value > 0.0 => {
                Some(difference(current, baseline).map(|d| (1.0 + d / baseline.value).max(0.0)))
            }
            _ => None,
        };
        let values = means.map(|mean| mean.map(|mean| mean.value));
        figure(name, unit, values, ratio, margin)
    }

    /// A fraction of successes. Failures come in bursts, so their number is less sure than if each came by itself.
    fn success(&self, name: &str, of: fn(&Record) -> (u64, u64)) -> ComparedFigure {
        let (baseline, current) = (
            success_mean(self.baseline, of(self.baseline)),
            success_mean(self.run, of(self.run)),
        );
        let ratio = match (baseline, current) {
            (Some(baseline), Some(current)) if baseline.value > 0.0 => {
                Some(difference(current, baseline).map(|d| (1.0 + d / baseline.value).max(0.0)))
            }
            _ => None,
        };
        let percent = |mean: Option<Mean>| mean.map(|mean| mean.value * 100.0);
        figure(
            name,
            "percent",
            [percent(baseline), percent(current)],
            ratio,
            &SUCCESS,
        )
    }

    /// A figure that a run has one of: there is no interval.
    fn single(
        &self,
        name: &str,
        unit: &str,
        margin: &Margin,
        of: impl Fn(&Record) -> Option<f64>,
    ) -> ComparedFigure {
        let values = [of(self.baseline), of(self.run)];
        let mut figure = figure(name, unit, values, None, margin);
        if let [Some(baseline), Some(current)] = values
            && baseline > 0.0
        {
            let ratio = current / baseline;
            figure.judgement = judged(values, [ratio, ratio], margin).to_owned();
        }
        figure
    }
}

fn figure(
    name: &str,
    unit: &str,
    values: [Option<f64>; 2],
    ratio: Option<[f64; 2]>,
    margin: &Margin,
) -> ComparedFigure {
    let judgement = ratio.map_or("unknown", |ratio| judged(values, ratio, margin));
    ComparedFigure {
        name: name.to_owned(),
        unit: unit.to_owned(),
        baseline: values[0],
        current: values[1],
        ratio_interval: ratio,
        judgement: judgement.to_owned(),
    }
}

/// Better or worse when the whole interval lies beyond the margin, the same when none of it does, and
/// unknown otherwise.
fn judged(values: [Option<f64>; 2], [low, high]: [f64; 2], margin: &Margin) -> &'static str {
    let [Some(baseline), Some(current)] = values else {
        return "unknown";
    };
    let (less, more) = (1.0 / (1.0 + margin.fraction), 1.0 + margin.fraction);
    let (down, up) = if margin.higher_is_better {
        ("worse", "better")
    } else {
        ("better", "worse")
    };
    if (current - baseline).abs() < margin.amount {
        return "same";
    }
    match () {
        () if low > more => up,
        () if high < less => down,
        () if low >= less && high <= more => "same",
        () => "unknown",
    }
}

/// The logarithms of a figure's windows, and the phase that each lies in.
struct Logs {
    values: Vec<f64>,
    phases: Vec<usize>,
}

impl Logs {
    fn of(record: &Record, steady: bool, of: fn(&Window) -> Option<f64>) -> Self {
        // A latency below a microsecond is one of no time, whose logarithm there is none of.
        let logs = measured(record, steady, of).map(|(value, phase)| (value.max(1e-3).ln(), phase));
        let (values, phases) = logs.unzip();
        Self { values, phases }
    }

    fn mean(&self) -> Option<Mean> {
        mean(&self.values, &self.phases)
    }

    fn typical(&self) -> Option<f64> {
        let n = self.values.len();
        (n > 0).then(|| (self.values.iter().sum::<f64>() / n as f64).exp())
    }
}

/// What the windows of a run, or of its steady part, have of a figure, and the phase that each lies in.
fn measured(
    record: &Record,
    steady: bool,
    of: fn(&Window) -> Option<f64>,
) -> impl Iterator<Item = (f64, usize)> {
    let windows: Vec<&Window> = if steady {
        steady::windows(record).collect()
    } else {
        record.series.windows.iter().collect()
    };
    windows.into_iter().filter_map(move |window| {
        let value = of(window).filter(|value| value.is_finite())?;
        Some((value, phase(record, window)))
    })
}

fn phase(record: &Record, window: &Window) -> usize {
    let phases = record.phases.iter();
    let begun = phases.filter(|phase| phase.start_ms <= window.start_ms);
    begun.count()
}

/// A fraction of successes with a variance that allows for bursts of failures.
fn success_mean(record: &Record, (succeeded, tried): (u64, u64)) -> Option<Mean> {
    if tried == 0 {
        return None;
    }
    let n = tried as f64;
    // Half a failure more than was seen: none in a hundred is not as good as none in a million.
    let failed = (tried.saturating_sub(succeeded) as f64 + 0.5) / (n + 1.0);
    Some(Mean {
        value: succeeded as f64 / n,
        variance: failed * (1.0 - failed) / n * burstiness(record),
        blocks: f64::INFINITY,
    })
}

/// How many times as uncertain the number of failures is as if each came by itself: the variance of the
/// errors per window, with what they have to do with each other, against their mean. At least 1.
fn burstiness(record: &Record) -> f64 {
    let errors: Vec<f64> = record
        .series
        .windows
        .iter()
        .map(|window| window.errors as f64)
        .collect();
    let one_phase = vec![0; errors.len()];
    match mean(&errors, &one_phase) {
        Some(mean) if mean.value > 0.0 => {
            (mean.variance * errors.len() as f64 / mean.value).max(1.0)
        }
        _ => 1.0,
    }
}
