//! The texts of the screen. Pure.

use std::{fmt::Write as _, time::Duration};

use crate::Progress;

use super::history::{Course, History};

/// Columns before a sparkline: its name and the latest value.
const LABEL_COLUMNS: usize = 32;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One line: the run's place in its plan.
pub(super) fn heading(progress: &Progress) -> String {
    if let Some(left) = progress.starts_in {
        return format!("starts in {}", clock(left));
    }
    let mut line = format!("{} of {}", clock(progress.elapsed), clock(progress.planned));
    if !progress.phase.is_empty() {
        let _ = write!(line, "  {}", progress.phase);
    }
    line
}

/// The lines below it, none wider than `columns`.
pub(super) fn body(progress: &Progress, history: &History, columns: usize) -> String {
    let Progress {
        users,
        connected,
        in_rooms,
        sent,
        delivered,
        errors,
        ..
    } = progress;
    let mut text = format!(
        "users    {connected} of {users} connected, {in_rooms} in rooms\n\
         messages {sent} sent, {delivered} delivered; {errors} errors\n"
    );
    if let Some(speech) = progress.speech() {
        let _ = writeln!(text, "talks    {speech}");
    }
    if let Some(server) = progress.server() {
        let _ = writeln!(text, "{server}");
    }
    let courses = [
        ("sent per second", "", &history.sent),
        ("matches per second", "", &history.matches),
        ("errors per second", "", &history.errors),
        ("message p50", " ms", &history.message_p50),
        ("message p99", " ms", &history.message_p99),
        ("match p50", " ms", &history.match_p50),
        ("match p99", " ms", &history.match_p99),
        ("own lateness p99", " ms", &history.own_p99),
    ];
    let width = columns.saturating_sub(LABEL_COLUMNS + 1);
    for (name, unit, course) in courses {
        let latest = course.back().copied().flatten();
        let value = latest.map_or("-".to_owned(), |value| format!("{value:.1}{unit}"));
        let _ = writeln!(text, "{name:<19}{value:>12} {}", sparkline(course, width));
    }
    let lines = text
        .lines()
        .map(|line| line.chars().take(columns.max(1)).collect());
    lines.collect::<Vec<String>>().join("\n")
}

/// One line for a log.
pub(super) fn plain(progress: &Progress) -> String {
    if let Some(left) = progress.starts_in {
        return format!("starts in {} s", left.as_secs());
    }
    let mut line = progress.to_string();
    let latencies = [
        ("message p99", progress.message.p99_ms),
        ("own lateness p99", progress.own_lateness.p99_ms),
    ];
    for (name, value) in latencies {
        if let Some(ms) = value {
            let _ = write!(line, "  {name} {ms:.1} ms");
        }
    }
    if !progress.phase.is_empty() {
        let _ = write!(line, "  [{}]", progress.phase);
    }
    line
}

/// The last `width` values, each as a block as high as its fraction of the highest among them.
fn sparkline(course: &Course, width: usize) -> String {
    let shown = course.iter().skip(course.len().saturating_sub(width));
    let highest = shown.clone().flatten().copied().fold(0.0, f64::max);
    shown
        .map(|value| match value {
            None => ' ',
            Some(value) => block(value / highest),
        })
        .collect()
}

/// The block for a fraction of 0 to 1; the lowest for no value.
fn block(fraction: f64) -> char {
    let over = |step: &&char| fraction * 8.0 > (**step as u32 - BLOCKS[0] as u32) as f64;
    BLOCKS.iter().rev().find(over).copied().unwrap_or(BLOCKS[0])
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}", seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use crate::record::Quantiles;

    use super::*;

    #[test]
    fn sparklines_are_scaled_to_their_highest() {
        let course = |values: &[Option<f64>]| values.iter().copied().collect::<Course>();
        assert_eq!(
            sparkline(&course(&[Some(0.0), None, Some(4.0), Some(8.0)]), 9),
            "▁ ▄█"
        );
        assert_eq!(
            sparkline(&course(&[Some(0.0); 2]), 9),
            "▁▁",
            "nothing happened"
        );
        assert_eq!(
            sparkline(&course(&[Some(9.0), Some(1.0)]), 1),
            "█",
            "the latest"
        );
        assert_eq!(sparkline(&course(&[]), 9), "");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut history = History::default();
        let mut progress = Progress {
            users: 10_000,
            planned: Duration::from_secs(7_200),
            phase: "ramp".to_owned(),
            message: Quantiles {
                p99_ms: Some(12.34),
                ..Quantiles::default()
            },
            ..Progress::default()
        };
        for second in 0..300 {
            progress.elapsed = Duration::from_secs(second);
            history.add(&progress);
        }
        for columns in [0, 1, 20, 80, 200] {
            let text = body(&progress, &history, columns);
            assert!(
                text.lines()
                    .all(|line| line.chars().count() <= columns.max(1)),
                "{text}"
            );
        }
        let wide = body(&progress, &history, 100);
        assert!(wide.contains("message p99             12.3 ms █"), "{wide}");
        assert_eq!(heading(&progress), "4:59 of 2:00:00  ramp");
        let waiting = Progress {
            starts_in: Some(Duration::from_millis(61_900)),
            ..Progress::default()
        };
        assert_eq!(
            (heading(&waiting), plain(&waiting)),
            ("starts in 1:01".to_owned(), "starts in 61 s".to_owned())
        );
        assert!(plain(&progress).contains("message p99 12.3 ms  [ramp]"));
    }
}
