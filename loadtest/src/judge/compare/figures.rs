//! The figures that are compared, and the least change of each that counts.

use super::lateness::{MIN_MS, Percentile, explained, unless_explained};
use crate::{
    judge::statistics::{Mean, difference, mean},
    record::{ComparedFigure, Delivery, Quantiles, Record, Window},
};

/// The least change of a figure that counts: both limits must be exceeded.
struct Margin {
    fraction: f64,
    /// In the figure's unit.
    amount: f64,
    higher_is_better: bool,
}

/// Two runs of one build, one after the other on a quiet machine, differ by less.
const LATENCY: Margin = Margin {
    fraction: 0.15,
    amount: 0.25,
    higher_is_better: false,
};
/// Below 5 % of one core, what else the machine does changes the cost of each message more than the server does.
const CPU: Margin = Margin {
    fraction: 0.15,
    amount: 5.0,
    higher_is_better: false,
};
const RATE: Margin = Margin {
    fraction: 0.05,
    amount: 1.0,
    higher_is_better: true,
};
/// A tenth of a percent point.
const SUCCESS: Margin = Margin {
    fraction: 0.001,
    amount: 0.1,
    higher_is_better: true,
};
/// One number for a run has no interval, so only this margin protects against chance.
const MEMORY: Margin = Margin {
    fraction: 0.25,
    amount: 8e6,
    higher_is_better: false,
};
/// A typical window does not show a stall. This does once a twentieth of all messages wait for the end of it.
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

/// Calls with fewer answers than this are not compared.
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
        two.latency(
            "connect_p95_ms",
            false,
            |window| window.connect,
            Percentile::P95,
        ),
        two.latency(
            "match_p50_ms",
            false,
            |window| window.matching,
            Percentile::P50,
        ),
        two.latency(
            "match_p95_ms",
            false,
            |window| window.matching,
            Percentile::P95,
        ),
        two.latency(
            "message_p50_ms",
            true,
            |window| window.message,
            Percentile::P50,
        ),
        two.latency(
            "message_p95_ms",
            true,
            |window| window.message,
            Percentile::P95,
        ),
        two.latency(
            "message_p99_ms",
            true,
            |window| window.message,
            Percentile::P99,
        ),
        two.p95_of_run("whole_run_message_p95_ms", "message", 1, &STALL),
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
    figures.extend(
        calls.map(|name| two.p95_of_run(&format!("{name} p95_ms"), name, MIN_CALLS, &CALL)),
    );
    figures.retain(|figure| figure.baseline.is_some() || figure.current.is_some());
    figures
}

struct Two<'a> {
    baseline: &'a Record,
    run: &'a Record,
}

impl Two<'_> {
    /// A percentile of a latency in a typical window.
    fn latency(
        &self,
        name: &str,
        steady: bool,
        of: fn(&Window) -> Quantiles,
        percentile: Percentile,
    ) -> ComparedFigure {
        let figure = self.typical(name, "ms", &LATENCY, steady, |window| {
            percentile.of(&of(window))
        });
        let late = [self.baseline, self.run].map(|record| {
            let windows = measured(record, steady, |window| explained(window, percentile));
            average(windows.map(|(late, _)| late))
        });
        unless_explained(figure, late)
    }

    /// The 95th percentile of a latency of the whole run, if there were `enough` of them.
    fn p95_of_run(
        &self,
        name: &str,
        latency: &str,
        enough: u64,
        margin: &Margin,
    ) -> ComparedFigure {
        let of = |record: &Record, latency: &str, quantile: &str| {
            let found = record.latency.get(latency);
            found.and_then(|found| found.quantiles_ms.get(quantile).copied())
        };
        let figure = self.single(name, "ms", margin, |record| {
            let enough = record.latency.get(latency)?.count >= enough;
            enough.then(|| of(record, latency, "p95"))?
        });
        // As in `explained`, but with the next percentile that a record has.
        let late = [self.baseline, self.run]
            .map(|record| of(record, "own_lateness", "p99").map(|late| 2.0 * late));
        unless_explained(figure, late)
    }

    /// A figure of a typical window: the geometric mean of all windows, so that one stall does not dominate it.
    fn typical(
        &self,
        name: &str,
        unit: &str,
        margin: &Margin,
        steady: bool,
        of: impl Fn(&Window) -> Option<f64>,
    ) -> ComparedFigure {
        let (baseline, current) = (
            Logs::of(self.baseline, steady, &of),
            Logs::of(self.run, steady, &of),
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

    /// The mean of a figure over the windows of a steady load. Windows with 0 count.
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

    /// A fraction of successes. Failures come in bursts, so their number varies more than independent failures would.
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

    /// A figure with one value per run, so without an interval.
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

/// Better or worse when the whole interval lies beyond the margin, the same when all of it lies within, otherwise
/// unknown.
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

/// Whether a change was clear, but the generator may have caused it.
pub(super) fn is_hidden(figure: &ComparedFigure) -> bool {
    let values = [figure.baseline, figure.current];
    let clear = figure
        .ratio_interval
        .is_some_and(|interval| matches!(judged(values, interval, &LATENCY), "better" | "worse"));
    figure.unit == "ms" && figure.judgement == "unknown" && clear
}

fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

/// The logarithms of a figure's windows, and the phase that each lies in.
struct Logs {
    values: Vec<f64>,
    phases: Vec<usize>,
}

impl Logs {
    fn of(record: &Record, steady: bool, of: impl Fn(&Window) -> Option<f64>) -> Self {
        let logs =
            measured(record, steady, of).map(|(value, phase)| (value.max(MIN_MS).ln(), phase));
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
    of: impl Fn(&Window) -> Option<f64>,
) -> impl Iterator<Item = (f64, usize)> {
    let windows: Vec<&Window> = if steady {
        record.steady_windows().collect()
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

/// A fraction of successes; its variance allows for bursts of failures.
fn success_mean(record: &Record, (succeeded, tried): (u64, u64)) -> Option<Mean> {
    if tried == 0 {
        return None;
    }
    let n = tried as f64;
    // Half a failure is added: no failure in a hundred is weaker evidence than none in a million.
    let failed = (tried.saturating_sub(succeeded) as f64 + 0.5) / (n + 1.0);
    Some(Mean {
        value: succeeded as f64 / n,
        variance: failed * (1.0 - failed) / n * burstiness(record),
        blocks: f64::INFINITY,
    })
}

/// How many times larger the variance of the number of errors is than if each error came independently. At least 1.
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
