//! A report as plain text for a terminal, at most 90 columns wide.

use super::{
    document::{Bar, Block, Cell, Column, Section, Table, Tone, Verdict},
    sections,
};
use crate::record::Record;

const WIDTH: usize = 88;

/// The text of a report; it ends in a line break.
pub fn terminal(record: &Record) -> String {
    let document = sections::document(record);
    let mut out = String::with_capacity(8192);
    verdict(&mut out, &document.verdict);
    section(&mut out, &document.measurement);
    // Advice comes last: next to the prompt, where a reader begins.
    let figures = document.overview.iter().chain(&document.details);
    for one in figures.chain([&document.advice]) {
        section(&mut out, one);
    }
    without_commands(out)
}

/// The text of a comparison alone.
pub fn comparison(record: &Record) -> String {
    let mut out = String::new();
    section(&mut out, &sections::comparison(record));
    without_commands(out)
}

/// Some of the text comes from the server: none of it may command the terminal.
fn without_commands(mut text: String) -> String {
    text.retain(|character| character == '\n' || !character.is_control());
    text
}

fn verdict(out: &mut String, verdict: &Verdict) {
    let rule = "─".repeat(WIDTH);
    let start = format!("{:<11}", verdict.outcome.text);
    line(out, &rule);
    wrapped(out, &start, &verdict.conclusion);
    let about = [&verdict.about, &verdict.facts.join(", ")];
    for fact in about.into_iter().chain(&verdict.remarks) {
        wrapped(out, "           ", fact);
    }
    line(out, &rule);
}

fn section(out: &mut String, section: &Section) {
    let blocks = section.blocks.iter();
    let mut blocks = blocks.filter(|block| !matches!(block, Block::Drawing(_)));
    let (first, rest) = (blocks.next(), blocks);
    match (&section.summary, first) {
        (None, None) => return,
        (Some(summary), _) => {
            out.push('\n');
            wrapped(out, "", &format!("{}: {}", section.title, shown(summary)));
            out.extend(first.map(block));
        }
        (None, Some(Block::Table(first))) => {
            out.push('\n');
            out.push_str(&table(first, Some(&section.title)));
        }
        (None, Some(first)) => {
            out.push('\n');
            line(out, &section.title);
            out.push_str(&block(first));
        }
    }
    out.extend(rest.map(block));
}

fn block(block: &Block) -> String {
    let mut out = String::new();
    match block {
        Block::Table(one) => return table(one, None),
        Block::List(items) => {
            for item in items {
                wrapped(&mut out, "  • ", &item.text);
                if let Some(evidence) = &item.evidence {
                    wrapped(&mut out, "    because: ", evidence);
                }
            }
        }
        Block::Note(text) => wrapped(&mut out, "  ", text),
        Block::Caveat(text) => wrapped(&mut out, "  note: ", text),
        Block::Code(text) => text
            .lines()
            .for_each(|text| line(&mut out, &format!("  {text}"))),
        Block::Drawing(_) => {}
    }
    out
}

/// A table below its heads. A title stands in the place of the first head.
fn table(table: &Table, title: Option<&str>) -> String {
    let columns = columns(table, title);
    let mut out = String::new();
    // A title begins two columns to the left of the cells below it.
    let indent = if title.is_some() { "" } else { "  " };
    let heads = columns.iter().map(|(i, ..)| match title {
        Some(title) if *i == 0 => format!("{title:<0$}", columns[0].2 + 2),
        _ => table.columns[*i].name().to_owned(),
    });
    let widths = columns.iter().map(|(i, column, width)| match title {
        Some(_) if *i == 0 => (*column, width + 2),
        _ => (*column, *width),
    });
    row(
        &mut out,
        indent,
        heads.collect(),
        &widths.collect::<Vec<_>>(),
    );
    let widths = columns.iter().map(|(_, column, width)| (*column, *width));
    let widths: Vec<_> = widths.collect();
    for cells in &table.rows {
        let texts = columns.iter().map(|(i, ..)| shown(&cells[*i]));
        row(&mut out, "  ", texts.collect(), &widths);
        for (column, cell) in table.columns.iter().zip(cells) {
            if matches!(column, Column::Prose(_)) && !cell.text.is_empty() {
                wrapped(&mut out, "      ", &cell.text);
            }
        }
    }
    out
}

/// The columns that fit on a line: their places in the table and their widths.
fn columns(table: &Table, title: Option<&str>) -> Vec<(usize, Column, usize)> {
    let all = table.columns.iter().enumerate();
    let fit = all.filter(|(_, column)| !matches!(column, Column::Wide(_) | Column::Prose(_)));
    let mut columns: Vec<_> = fit
        .map(|(i, column)| {
            let head = match title {
                Some(title) if i == 0 => title.chars().count().saturating_sub(2),
                _ => column.name().chars().count(),
            };
            let cells = table.rows.iter().map(|row| shown(&row[i]).chars().count());
            (i, *column, cells.max().unwrap_or(0).max(head))
        })
        .collect();
    let all: usize = columns.iter().map(|(_, _, width)| width + 2).sum();
    let excess = all.saturating_sub(WIDTH);
    // A text in the last column continues on the next line; another one is cut.
    let wraps = columns
        .last()
        .is_some_and(|(_, column, _)| !column.is_number());
    let cut = if wraps {
        columns.last_mut()
    } else {
        let texts = columns.iter_mut();
        let texts = texts.filter(|(_, column, _)| !column.is_number());
        texts.max_by_key(|(_, _, width)| *width)
    };
    if let Some((_, _, width)) = cut {
        *width = width.saturating_sub(excess).max(8);
    }
    columns
}

fn row(out: &mut String, indent: &str, mut texts: Vec<String>, widths: &[(Column, usize)]) {
    let wraps = widths.last().is_some_and(|(column, _)| !column.is_number());
    let last = texts.pop_if(|_| wraps).unwrap_or_default();
    let cells = texts.iter().zip(widths).map(|(text, (column, width))| {
        let text = short(text, *width);
        match column.is_number() {
            true => format!("{text:>width$}"),
            false => format!("{text:<width$}"),
        }
    });
    let cells: Vec<String> = cells.collect();
    let start = format!("{indent}{}", cells.join("  "));
    if last.is_empty() {
        line(out, start.trim_end());
    } else {
        wrapped(out, &format!("{start}  "), &last);
    }
}

/// A cell as text, a bad one in capitals.
fn shown(cell: &Cell) -> String {
    let text = match cell.tone {
        Tone::Bad | Tone::Warn if cell.bar.is_none() => cell.text.to_uppercase(),
        _ => cell.text.clone(),
    };
    match cell.bar {
        Some(Bar::Fraction(fraction)) => format!("{} {text:>9}", bar(fraction)),
        _ => text,
    }
}

/// Twelve columns; a fraction above zero fills at least one.
fn bar(fraction: f64) -> String {
    let filled = (fraction.clamp(0.0, 1.0) * 12.0).floor();
    let columns = (0..12).map(|column| {
        if f64::from(column) < filled || (column == 0 && fraction > 0.0) {
            '█'
        } else {
            '░'
        }
    });
    columns.collect()
}

/// Text of at most `width` characters: a longer one ends in an ellipsis.
fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Words over as many lines as they need, the first behind `start`, the others below it.
fn wrapped(out: &mut String, start: &str, text: &str) {
    let indent = start.chars().count();
    let mut current = start.to_owned();
    let mut column = indent;
    for (i, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > WIDTH {
            line(out, &current);
            current = " ".repeat(indent);
            column = indent;
        } else if i > 0 {
            current.push(' ');
            column += 1;
        }
        current.push_str(word);
        column += length;
    }
    line(out, &current);
}
