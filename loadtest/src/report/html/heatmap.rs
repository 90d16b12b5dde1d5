//! Messages by time and latency.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::chart::{Frame, bands, bottom, end, short_value, start, time_labels};
use crate::record::Record;

/// Shades of a cell.
const LEVELS: usize = 7;

/// Empty without messages.
pub(super) fn draw(record: &Record, frame: &Frame<'_>) -> Markup {
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
        return Markup::default();
    };
    let rows = high - low + 1;
    let paths = paths(frame, &columns, low, rows);
    html! {
        figure.chart.card.heat {
            figcaption {
                h3 { "All message latencies" }
                p.note { "the stronger the colour, the more messages took that long at that time" }
            }
            div.plot {
                div.ys {
                    @for (value, height) in labels(bounds, low, rows) {
                        span style=(bottom(height)) { (short_value(value, "ms")) }
                    }
                }
                div.area {
                    svg viewBox="0 0 1000 1000" preserveAspectRatio="none" shape-rendering="crispEdges"
                        role="img" aria-label="Heatmap of message latency" {
                        @for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
                            path class={ "h" (level + 1) } d=(path) {}
                        }
                    }
                    (bands(frame))
                }
                (time_labels(frame))
            }
        }
    }
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

/// By the logarithm, so that a few slow messages show.
fn level(count: u64, most: u64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let fraction = (1.0 + count as f64).ln() / (1.0 + most as f64).ln();
    (0..LEVELS)
        .rev()
        .find(|level| fraction * LEVELS as f64 > *level as f64)
}

/// Powers of ten and their heights from 0 to 1. Within a row they are placed by the logarithm, as the bounds of
/// the rows grow.
fn labels(bounds: &[f64], low: usize, rows: usize) -> Vec<(f64, f64)> {
    let within = |value: f64| {
        let row = bounds.iter().position(|bound| *bound >= value)?;
        let (below, above) = (*bounds.get(row.checked_sub(1)?)?, bounds[row]);
        let height = row as f64 + (value / below).ln() / (above / below).ln() - low as f64;
        let fraction = height / rows as f64;
        (below > 0.0 && (0.0..=1.0).contains(&fraction)).then_some((value, fraction))
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
                .map(|(value, height)| format!("{value} at {height:.3}"))
                .collect::<Vec<_>>()
        };
        let expected = ["1 at 0.333", "10 at 0.667", "100 at 1.000"];
        assert_eq!(labels_of(&[0.1, 1.0, 10.0, 100.0]), expected);
        assert_eq!(labels(&[], 0, 1), []);
    }
}
