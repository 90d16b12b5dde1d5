//! A chart over the time of a run. The lines are SVG that stretches to its place; all text is HTML beside it, so that it stays as
//! large as it is on any screen. It is complete without scripts; with them it tells the values under the pointer.

use std::fmt::Write as _;

use super::{
    axis::{self, Axis},
    escape,
};
use crate::{
    base::units,
    record::{Phase, Record, Series, Window},
};

/// More columns than this are not to be told apart.
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

    /// What is counted in each column, a second.
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

    /// Where a moment lies, in percent of the width.
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
    /// How it is drawn: a class of the style sheet.
    pub(super) class: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

/// A line across, that a threshold draws.
pub(super) struct Limit {
    pub(super) label: String,
    pub(super) at: f64,
}

/// A chart.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) unit: &'static str,
    pub(super) log: bool,
    pub(super) lines: Vec<Line>,
    pub(super) limits: Vec<Limit>,
}

impl Chart {
    /// As HTML; empty if there is nothing to draw.
    pub(super) fn draw(&self, frame: &Frame<'_>) -> String {
        let values = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().flatten().copied());
        let Some(largest) = values.clone().reduce(f64::max) else {
            return String::new();
        };
        // A limit far above all values would press them to the ground.
        let near = |limit: &&Limit| limit.at <= largest * if self.log { 300.0 } else { 2.5 };
        let limits = self.limits.iter().filter(near).map(|limit| limit.at);
        let shown = values.chain(limits);
        let axis = if self.log {
            Axis::log(shown)
        } else {
            Axis::linear(shown)
        };
        let mut out = String::with_capacity(16 * 1024);
        let _ = write!(
            out,
            "<figure class=\"chart card\" data-unit=\"{}\"><figcaption><h3>{}</h3>{}{}</figcaption>",
            self.unit,
            escape(&self.title),
            self.note_below(near),
            self.legend()
        );
        out.push_str("<div class=\"plot\"><div class=\"ys\">");
        for tick in axis.ticks() {
            let label = short_value(tick, self.unit);
            let _ = write!(
                out,
                "<span style=\"bottom:{:.1}%\">{label}</span>",
                axis.place(tick) * 100.0
            );
        }
        out.push_str("</div><div class=\"area\">");
        out.push_str(&bands(frame));
        self.svg(&mut out, frame, axis);
        for limit in self.limits.iter().filter(near) {
            let _ = write!(
                out,
                "<div class=\"limit{}\" style=\"bottom:{:.1}%\"><span>{}</span></div>",
                if axis.place(limit.at) > 0.85 {
                    " high"
                } else {
                    ""
                },
                axis.place(limit.at) * 100.0,
                escape(&limit.label)
            );
        }
        out.push_str("<i class=\"cursor\"></i></div>");
        out.push_str(&time_labels(frame));
        out.push_str("</div>");
        self.data(&mut out, frame);
        out.push_str("</figure>");
        out
    }

    /// What the chart shows, and limits that lie beyond it.
    fn note_below(&self, near: impl Fn(&&Limit) -> bool) -> String {
        let far = self.limits.iter().filter(|limit| !near(limit));
        let far: Vec<String> = far
            .map(|limit| format!("limit {} is far above", limit.label))
            .collect();
        let note: Vec<&str> = [self.note.as_str()]
            .into_iter()
            .chain(far.iter().map(String::as_str))
            .filter(|part| !part.is_empty())
            .collect();
        if note.is_empty() {
            return String::new();
        }
        format!("<p class=\"note\">{}</p>", escape(&note.join("; ")))
    }

    fn legend(&self) -> String {
        let mut out = String::from("<ul class=\"legend\">");
        for line in &self.lines {
            let largest = line.values.iter().flatten().copied().reduce(f64::max);
            let _ = write!(
                out,
                "<li class=\"{}\"><i></i>{} <b>{}</b></li>",
                line.class,
                escape(&line.name),
                units::value_or_dash(largest, self.unit)
            );
        }
        out.push_str("<li class=\"when\">highest</li></ul>");
        out
    }

    fn svg(&self, out: &mut String, frame: &Frame<'_>, axis: Axis) {
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        for tick in axis.ticks() {
            let y = (1.0 - axis.place(tick)) * 1000.0;
            let _ = write!(out, "<path class=\"grid\" d=\"M0 {y:.1}H1000\"/>");
        }
        for line in &self.lines {
            let points = path(frame, axis, &line.values);
            let _ = write!(out, "<path class=\"line {}\" d=\"{points}\"/>", line.class);
        }
        out.push_str("</svg>");
    }

    /// What the script tells under the pointer: the middle of each column in percent, and the values.
    fn data(&self, out: &mut String, frame: &Frame<'_>) {
        out.push_str("<script type=\"application/json\">{\"t\":[");
        let times = frame
            .columns()
            .iter()
            .map(|column| format!("{:.0}", start(column)));
        out.push_str(&times.collect::<Vec<_>>().join(","));
        let _ = write!(out, "],\"end\":{:.0},\"v\":[", frame.end_ms);
        for (i, line) in self.lines.iter().enumerate() {
            out.push_str(if i > 0 { ",[" } else { "[" });
            let values = line.values.iter().map(|value| match value {
                Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
                Some(value) => format!("{value:.2}"),
                None => "null".to_owned(),
            });
            out.push_str(&values.collect::<Vec<_>>().join(","));
            out.push(']');
        }
        out.push_str("]}</script>");
    }
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
pub(super) fn bands(frame: &Frame<'_>) -> String {
    let mut out = String::new();
    for phase in frame.phases {
        let (left, right) = (frame.x(phase.start_ms), frame.x(phase.end_ms));
        let _ = write!(
            out,
            "<div class=\"band\" style=\"left:{left:.2}%;width:{:.2}%\" title=\"{name}\"><span>{name}</span></div>",
            right - left,
            name = escape(&phase.name)
        );
    }
    out
}

/// The labels below a chart.
pub(super) fn time_labels(frame: &Frame<'_>) -> String {
    let mut out = String::from("<div class=\"xs\">");
    for at in axis::times(frame.end_ms) {
        let _ = write!(
            out,
            "<span style=\"left:{:.2}%\">{}</span>",
            frame.x(at),
            units::clock(at)
        );
    }
    out.push_str("</div>");
    out
}

/// A value as an axis has room for it.
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
