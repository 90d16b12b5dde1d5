//! The table of a comparison.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    figures::{Figures, MEMORY, ROWS, Row},
    stats::Spread,
};

/// One row over all repetitions.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    phase: &'static str,
    name: &'static str,
    server: Option<Cell>,
    baseline: Option<Cell>,
    /// Median of the server over median of the baseline.
    ratio: Option<f64>,
}

/// One server's figure.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cell {
    #[serde(flatten)]
    spread: Spread,
    /// Whether the generator was starved in every repetition, so that there is nothing better to show.
    disturbed: bool,
}

/// Medians of all rows. Repetitions in which a row's phase was disturbed count only if all were.
pub(crate) fn lines(server: &[Figures], baseline: &[Figures]) -> Vec<Line> {
    let line = |row: &Row| {
        let (server, baseline) = (cell(row, server), cell(row, baseline));
        let medians = server
            .zip(baseline)
            .map(|(s, b)| (s.spread.median, b.spread.median));
        let ratio = medians.filter(|(_, b)| *b != 0.0).map(|(s, b)| s / b);
        Line {
            phase: row.phase,
            name: row.name,
            server,
            baseline,
            ratio,
        }
    };
    ROWS.iter().map(line).collect()
}

fn cell(row: &Row, repetitions: &[Figures]) -> Option<Cell> {
    let disturbed = |figures: &&Figures| {
        row.phase != MEMORY
            && figures
                .quiet
                .get(row.phase)
                .is_some_and(|quiet| quiet.disturbed)
    };
    let calm: Vec<_> = repetitions
        .iter()
        .filter(|f| !disturbed(f))
        .filter_map(row.get)
        .collect();
    if let Some(spread) = Spread::of(&calm) {
        return Some(Cell {
            spread,
            disturbed: false,
        });
    }
    let all: Vec<_> = repetitions.iter().filter_map(row.get).collect();
    Spread::of(&all).map(|spread| Cell {
        spread,
        disturbed: true,
    })
}

/// The lines as text, in columns.
pub(crate) fn render(lines: &[Line]) -> String {
    let compared = lines.iter().any(|line| line.baseline.is_some());
    let mut rows = vec![["", "", "server", "", "baseline", "", "ratio"].map(String::from)];
    let mut phase = "";
    for line in lines.iter().filter(|line| line.server.is_some()) {
        let shown = if line.phase == phase { "" } else { line.phase };
        phase = line.phase;
        let [server, server_range] = texts(line.server);
        let [baseline, baseline_range] = texts(line.baseline);
        let ratio = line
            .ratio
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default();
        let name = line.name.into();
        rows.push([
            shown.into(),
            name,
            server,
            server_range,
            baseline,
            baseline_range,
            ratio,
        ]);
    }
    let columns = if compared { 7 } else { 4 };
    let mut widths = [0; 7];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut text = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).take(columns).enumerate() {
            // Words to the left, numbers to the right, ranges beside their number.
            let _ = match i {
                0 | 1 | 3 | 5 => write!(text, "{cell:<width$}  "),
                _ => write!(text, "{cell:>width$}  "),
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    if lines.iter().any(|line| {
        [line.server, line.baseline]
            .iter()
            .flatten()
            .any(|c| c.disturbed)
    }) {
        out.push_str(
            "\n* disturbed: in every repetition something else used the generator's CPU\n",
        );
    }
    out
}

/// A median, and the range it is from, if the repetitions differ.
fn texts(cell: Option<Cell>) -> [String; 2] {
    let Some(Cell { spread, disturbed }) = cell else {
        return Default::default();
    };
    let star = if disturbed { "*" } else { "" };
    let (min, max) = (number(spread.min), number(spread.max));
    let range = if min == max {
        String::new()
    } else {
        format!("({min} - {max})")
    };
    [format!("{}{star}", number(spread.median)), range]
}

/// Three or four digits, however large.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        size if size < 9_999.5 => format!("{value:.0}"),
        _ => {
            let digits = format!("{:.0}", value.abs());
            let mut out = String::new();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            if value < 0.0 { format!("-{out}") } else { out }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{CLOSED, Quiet};

    fn figures(closed_rate: f64, disturbed: bool) -> Figures {
        let quiet = Quiet {
            generator_cpu_percent: 99.0,
            generator_waited_percent: 0.5,
            server_waited_percent: 0.5,
            disturbed,
        };
        Figures {
            closed_rate,
            quiet: [(CLOSED, quiet)].into(),
            ..Figures::default()
        }
    }

    #[test]
    fn columns_stand_under_each_other() {
        let fast = [190_000.0, 200_000.0, 210_000.0].map(|rate| figures(rate, false));
        let text = render(&lines(&fast, &[figures(50_000.0, false)]));
        let head = text.lines().next().unwrap_or_default();
        let rate = text
            .lines()
            .find(|line| line.contains("messages/s, at most"));
        let rate = rate.unwrap_or_default();
        assert!(
            rate.contains("200,000  (190,000 - 210,000)") && rate.ends_with("4.00"),
            "{text}"
        );
        let end = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        assert_eq!(end(head, "server"), end(rate, "200,000"), "{text}");
        assert_eq!(end(head, "ratio"), Some(rate.len()), "{text}");
        assert!(
            !text.contains("sessions/s") && !text.contains('*'),
            "{text}"
        );
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio() {
        let text = render(&lines(&[Figures::default()], &[]));
        assert!(text.contains("server") && !text.contains("baseline") && !text.contains("ratio"));
    }

    #[test]
    fn disturbed_repetitions_count_only_if_there_are_no_others() {
        let (calm, wild) = (figures(100.0, false), figures(1.0, true));
        let text = render(&lines(&[wild.clone(), calm], &[]));
        assert!(text.contains(" 100\n") && !text.contains('*'), "{text}");
        let text = render(&lines(&[wild], &[]));
        assert!(
            text.contains("1.00*") && text.contains("disturbed"),
            "{text}"
        );
    }

    #[test]
    fn numbers_have_as_many_digits_as_help() {
        for (value, text) in [
            (0.0, "0"),
            (0.256, "0.26"),
            (12.34, "12.3"),
            (-1234.5, "-1234"),
            (9999.4, "9999"),
            (9999.9, "10,000"),
            (194_321.4, "194,321"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
