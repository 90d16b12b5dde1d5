//! A chart over the time of a run. The lines are SVG that stretches to its place; all text is HTML beside it, so that it stays as
//! large as it is on any screen. It is complete without scripts; with them it shows the values under the pointer.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::axis::{self, Axis};
use crate::{
    base::units,
    record::{Phase, Record, Series, Window},
};

/// More columns than this cannot be distinguished.
const MAX_COLUMNS: usize = 480;

/// What all charts of a run share: its time, in columns, and its phases.
pub(super) struct Frame<'a> {
    pub(super) end_ms: f64,
    pub(super) phases: &'a [Phase],
    columns: Vec<&'a [Window]>,
}

impl<'a> Frame<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        let windows = &record.series.windows;
        let together = windows.len().div_ceil(MAX_COLUMNS).max(1);
        let last = windows
            .last()
            .map_or(0.0, |window| window.start_ms + window.length_ms);
        Self {
            end_ms: last.max(record.run.active_ms).max(1.0),
            phases: &record.phases,
            columns: windows.chunks(together).collect(),
        }
    }

    pub(super) fn columns(&self) -> &[&'a [Window]] {
        &self.columns
    }

    /// The largest of each column.
    pub(super) fn largest(&self, of: impl Fn(&Window) -> Option<f64>) -> Vec<Option<f64>> {
        let largest = |column: &&[Window]| column.iter().filter_map(&of).reduce(f64::max);
        self.columns.iter().map(largest).collect()
    }

    /// The count of each column, per second.
    pub(super) fn per_second(&self, of: impl Fn(&Window) -> u64) -> Vec<Option<f64>> {
        let rate = |column: &&[Window]| {
            let seconds = column.iter().map(|window| window.length_ms).sum::<f64>() / 1e3;
            let counted = column.iter().map(&of).sum::<u64>() as f64;
            (seconds > 0.0).then_some(counted / seconds)
        };
        self.columns.iter().map(rate).collect()
    }

    /// The largest of another run's windows in the time of each column.
    pub(super) fn of_other(
        &self,
        series: &Series,
        of: impl Fn(&Window) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let within = |column: &&[Window]| {
            let (start, end) = (start(column), end(column));
            let others = series
                .windows
                .iter()
                .filter(|w| w.start_ms >= start && w.start_ms < end);
            others.filter_map(&of).reduce(f64::max)
        };
        self.columns.iter().map(within).collect()
    }

    /// The place of a moment, in percent of the width.
    pub(super) fn x(&self, ms: f64) -> f64 {
        (ms / self.end_ms * 100.0).clamp(0.0, 100.0)
    }
}

pub(super) fn start(column: &[Window]) -> f64 {
    column.first().map_or(0.0, |window| window.start_ms)
}

pub(super) fn end(column: &[Window]) -> f64 {
    column
        .last()
        .map_or(0.0, |window| window.start_ms + window.length_ms)
}

/// One line of a chart: a value for each column.
pub(super) struct Line {
    pub(super) name: String,
    /// A class of the style sheet.
    pub(super) class: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

/// The limit of a threshold: a line across the chart.
pub(super) struct Limit {
    pub(super) label: String,
    pub(super) at: f64,
}

pub(super) struct Chart {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) unit: &'static str,
    pub(super) log: bool,
    pub(super) lines: Vec<Line>,
    pub(super) limits: Vec<Limit>,
}

impl Chart {
    /// Empty if there is nothing to draw.
    pub(super) fn draw(&self, frame: &Frame<'_>) -> Markup {
        let lines = self.lines.iter();
        let values = lines.flat_map(|line| line.values.iter().flatten().copied());
        let Some(largest) = values.clone().reduce(f64::max) else {
            return Markup::default();
        };
        // A limit far above all values would press them to the ground.
        let near = |limit: &&Limit| limit.at <= largest * if self.log { 300.0 } else { 2.5 };
        let (limits, far): (Vec<_>, Vec<_>) = self.limits.iter().partition(near);
        let shown = values.chain(limits.iter().map(|limit| limit.at));
        let axis = if self.log {
            Axis::log(shown)
        } else {
            Axis::linear(shown)
        };
        let far = far.iter();
        let far = far.map(|limit| format!("limit {} is far above", limit.label));
        let note = Some(self.note.clone()).filter(|note| !note.is_empty());
        let notes: Vec<String> = note.into_iter().chain(far).collect();
        html! {
            figure.chart.card data-unit=(self.unit) {
                figcaption {
                    h3 { (self.title) }
                    @if !notes.is_empty() { p.note { (notes.join("; ")) } }
                    (self.legend())
                }
                div.plot {
                    div.ys {
                        @for tick in axis.ticks() {
                            span style=(bottom(axis.place(tick))) { (short_value(tick, self.unit)) }
                        }
                    }
                    div.area {
                        (bands(frame))
                        (self.svg(frame, axis))
                        @for limit in limits {
                            @let place = axis.place(limit.at);
                            div.limit.high[place > 0.85] style=(bottom(place)) { span { (limit.label) } }
                        }
                        i.cursor {}
                    }
                    (time_labels(frame))
                }
                script type="application/json" { (PreEscaped(self.data(frame))) }
            }
        }
    }

    fn legend(&self) -> Markup {
        let largest = |line: &Line| line.values.iter().flatten().copied().reduce(f64::max);
        html! {
            ul.legend {
                @for line in &self.lines {
                    li class=(line.class) {
                        i {}
                        (line.name) " "
                        b { (units::value_or_dash(largest(line), self.unit)) }
                    }
                }
                li.when { "highest" }
            }
        }
    }

    fn svg(&self, frame: &Frame<'_>, axis: Axis) -> Markup {
        let y = |tick| (1.0 - axis.place(tick)) * 1000.0;
        html! {
            svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label=(self.title) {
                @for tick in axis.ticks() { path.grid d=(format!("M0 {:.1}H1000", y(tick))) {} }
                @for line in &self.lines {
                    path class={ "line " (line.class) } d=(path(frame, axis, &line.values)) {}
                }
            }
        }
    }

    /// The values that the script shows under the pointer: numbers only, which need no escaping.
    fn data(&self, frame: &Frame<'_>) -> String {
        let times = frame.columns().iter();
        let times: Vec<String> = times
            .map(|column| format!("{:.0}", start(column)))
            .collect();
        let lines = self.lines.iter().map(|line| {
            let values = line.values.iter().map(|value| match value {
                Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
                Some(value) => format!("{value:.2}"),
                None => "null".to_owned(),
            });
            format!("[{}]", values.collect::<Vec<_>>().join(","))
        });
        format!(
            "{{\"t\":[{}],\"end\":{:.0},\"v\":[{}]}}",
            times.join(","),
            frame.end_ms,
            lines.collect::<Vec<_>>().join(",")
        )
    }
}

/// A height from 0 to 1 as a style.
pub(super) fn bottom(height: f64) -> String {
    format!("bottom:{:.1}%", height * 100.0)
}

/// A line that breaks where nothing was measured.
fn path(frame: &Frame<'_>, axis: Axis, values: &[Option<f64>]) -> String {
    let mut out = String::new();
    let mut drawing = false;
    for (column, value) in frame.columns().iter().zip(values) {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        let x = frame.x(f64::midpoint(start(column), end(column))) * 10.0;
        let y = (1.0 - axis.place(*value)) * 1000.0;
        // A point by itself shows as a dot, by its round ends.
        let _ = if drawing {
            write!(out, "L{x:.1} {y:.0}")
        } else {
            write!(out, "M{x:.1} {y:.0}h0")
        };
        drawing = true;
    }
    out
}

/// The phases of the plan behind a chart, every other one shaded.
pub(super) fn bands(frame: &Frame<'_>) -> Markup {
    let style = |phase: &Phase| {
        let (left, right) = (frame.x(phase.start_ms), frame.x(phase.end_ms));
        format!("left:{left:.2}%;width:{:.2}%", right - left)
    };
    html! {
        @for phase in frame.phases {
            div.band style=(style(phase)) title=(phase.name) { span { (phase.name) } }
        }
    }
}

/// The labels below a chart.
pub(super) fn time_labels(frame: &Frame<'_>) -> Markup {
    html! {
        div.xs {
            @for at in axis::times(frame.end_ms) {
                span style=(format!("left:{:.2}%", frame.x(at))) { (units::clock(at)) }
            }
        }
    }
}

/// A value that fits beside an axis.
pub(super) fn short_value(value: f64, unit: &str) -> String {
    let digits = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match unit {
        "ms" if value >= 1000.0 => format!("{} s", digits(value / 1e3)),
        "ms" => format!("{} ms", digits(value)),
        "percent" => format!("{} %", digits(value)),
        "bytes" if value >= 1e9 => format!("{} GB", digits(value / 1e9)),
        "bytes" => format!("{} MB", digits(value / 1e6)),
        _ if value >= 1e6 => format!("{} M", digits(value / 1e6)),
        _ if value >= 1e4 => format!("{} k", digits(value / 1e3)),
        _ => units::decimal(value),
    }
}
