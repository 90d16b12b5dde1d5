//! Messages by time and latency: how many took how long, when.

use std::fmt::Write as _;

use super::chart::{Frame, bands, end, short_value, start, time_labels};
use crate::record::Record;

/// Shades of a cell.
const LEVELS: usize = 7;

/// As HTML; empty without messages.
pub(super) fn draw(record: &Record, frame: &Frame<'_>) -> String {
    let bounds = &record.series.heat_bounds_ms;
    let columns: Vec<Vec<u64>> = frame
        .columns()
        .iter()
        .map(|column| {
            let mut cells = vec![0; bounds.len() + 1];
            for window in *column {
                for (cell, count) in cells.iter_mut().zip(&window.heat) {
                    *cell += count;
                }
            }
            cells
        })
        .collect();
    let used = |row: usize| columns.iter().any(|cells| cells[row] > 0);
    let (Some(low), Some(high)) = (
        (0..=bounds.len()).find(|row| used(*row)),
        (0..=bounds.len()).rev().find(|row| used(*row)),
    ) else {
        return String::new();
    };
    let rows = high - low + 1;
    let mut out = String::from(
        "<figure class=\"chart card heat\"><figcaption><h3>Message latency, all of it</h3>\
         <p class=\"note\">the stronger the colour, the more messages took that long at that time</p></figcaption>\
         <div class=\"plot\"><div class=\"ys\">",
    );
    for (value, bottom) in labels(bounds, low, rows) {
        let label = short_value(value, "ms");
        let _ = write!(out, "<span style=\"bottom:{bottom:.1}%\">{label}</span>");
    }
    out.push_str("</div><div class=\"area\">");
    out.push_str(
        "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"Heatmap of message latency\">",
    );
    for (level, path) in paths(frame, &columns, low, rows).iter().enumerate() {
        if !path.is_empty() {
            let _ = write!(out, "<path class=\"h{}\" d=\"{path}\"/>", level + 1);
        }
    }
    out.push_str("</svg>");
    out.push_str(&bands(frame));
    out.push_str("</div>");
    out.push_str(&time_labels(frame));
    out.push_str("</div></figure>");
    out
}

/// For each level the outline of its cells: one path is far smaller than a thousand rectangles.
fn paths(frame: &Frame<'_>, columns: &[Vec<u64>], low: usize, rows: usize) -> Vec<String> {
    let most = columns.iter().flatten().max().copied().unwrap_or(1);
    let mut paths = vec![String::new(); LEVELS];
    let height = 1000.0 / rows as f64;
    for (column, cells) in frame.columns().iter().zip(columns) {
        let left = frame.x(start(column)) * 10.0;
        // A hair wider, so that no light shows between columns.
        let width = frame.x(end(column)) * 10.0 - left + 0.3;
        for (row, count) in cells.iter().skip(low).take(rows).enumerate() {
            let Some(level) = level(*count, most) else {
                continue;
            };
            let top = 1000.0 - (row + 1) as f64 * height;
            let _ = write!(
                paths[level],
                "M{left:.1} {top:.1}h{width:.1}v{height:.1}h-{width:.1}z"
            );
        }
    }
    paths
}

/// By the logarithm: a few slow messages are what the chart is for.
fn level(count: u64, most: u64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let fraction = (1.0 + count as f64).ln() / (1.0 + most as f64).ln();
    (0..LEVELS)
        .rev()
        .find(|level| fraction * LEVELS as f64 > *level as f64)
}

/// Powers of ten, and where they lie in percent of the height. Within a row they are placed by the logarithm,
/// as the bounds of the rows grow.
fn labels(bounds: &[f64], low: usize, rows: usize) -> Vec<(f64, f64)> {
    let within = |value: f64| {
        let row = bounds.iter().position(|bound| *bound >= value)?;
        let (below, above) = (*bounds.get(row.checked_sub(1)?)?, bounds[row]);
        let height = row as f64 + (value / below).ln() / (above / below).ln() - low as f64;
        let fraction = height / rows as f64;
        (below > 0.0 && (0.0..=1.0).contains(&fraction)).then_some((value, fraction * 100.0))
    };
    (-3..7)
        .filter_map(|power| within(10_f64.powi(power)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_message_shows_and_none_does_not() {
        assert_eq!(level(0, 1_000_000), None);
        assert_eq!(level(1, 1_000_000), Some(0));
        assert_eq!(level(1_000_000, 1_000_000), Some(LEVELS - 1));
        assert_eq!(level(1, 1), Some(LEVELS - 1));
    }

    #[test]
    fn rows_are_labelled_where_their_bounds_are() {
        let labels_of = |bounds: &[f64]| {
            let labels = labels(bounds, 1, 3).into_iter();
            labels
                .map(|(value, bottom)| format!("{value} at {bottom:.1}"))
                .collect::<Vec<_>>()
        };
        let expected = ["1 at 33.3", "10 at 66.7", "100 at 100.0"];
        assert_eq!(labels_of(&[0.1, 1.0, 10.0, 100.0]), expected);
        assert_eq!(labels(&[], 0, 1), []);
    }
}
