//! A report as Markdown for a comment on a change: the verdict, what failed, the figures, the rest folded.

use maud::html;

use super::{
    document::{Block, Cell, Column, Section, Table, Tone, Verdict},
    sections,
};
use crate::record::Record;

/// A comment may have 65,536 characters.
const MAX_ROWS: usize = 25;

pub(super) fn markdown(record: &Record) -> String {
    let document = sections::document(record);
    let mut out = String::with_capacity(8192);
    verdict(&mut out, &document.verdict);
    let first = [&document.measurement]
        .into_iter()
        .chain(&document.overview);
    let all = first.chain([&document.advice]).chain(&document.details);
    for one in all {
        section(&mut out, one);
    }
    section(&mut out, &sections::last_run(record));
    out
}

fn verdict(out: &mut String, verdict: &Verdict) {
    out.push_str(&format!(
        "## {}: {}\n\n{}; {}.\n",
        cell(&verdict.outcome),
        inline(&verdict.conclusion),
        inline(&verdict.about),
        inline(&verdict.facts.join(", "))
    ));
    for remark in &verdict.remarks {
        out.push_str(&format!("\n> {}\n", inline(remark)));
    }
}

fn section(out: &mut String, section: &Section) {
    let blocks = section.blocks.iter();
    let blocks: String = blocks.map(block).collect();
    let title = inline(&section.title);
    let summary = section.summary.as_ref().map(cell);
    out.push_str(&match summary {
        None if blocks.is_empty() => return,
        Some(summary) if blocks.is_empty() => format!("\n**{title}:** {summary}\n"),
        _ if section.folded => folded(section, &blocks),
        Some(summary) => format!("\n### {title}: {summary}\n{blocks}"),
        None => format!("\n### {title}\n{blocks}"),
    });
}

/// The title is HTML: Markdown is not read on its line.
fn folded(section: &Section, blocks: &str) -> String {
    let summary = section.summary.as_ref();
    let title = html! {
        summary { (section.title) @if let Some(summary) = summary { ": " (summary.text) } }
    };
    format!("\n<details>{}\n{blocks}\n</details>\n", title.into_string())
}

fn block(block: &Block) -> String {
    match block {
        Block::Table(one) => table(one),
        Block::List(items) => {
            let items = items.iter().map(|item| match &item.evidence {
                Some(evidence) => format!("- {}<br>_{}_\n", inline(&item.text), inline(evidence)),
                None => format!("- {}\n", inline(&item.text)),
            });
            format!("\n{}", items.collect::<String>())
        }
        Block::Note(text) => format!("\n{}\n", inline(text)),
        Block::Caveat(text) => format!("\n> Note: {}\n", inline(text)),
        Block::Code(text) => format!("\n{}\n", text.lines().map(indented).collect::<String>()),
        Block::Drawing(_) => String::new(),
    }
}

/// A line of code by its indentation, which no text in it can end.
fn indented(line: &str) -> String {
    format!("    {line}\n")
}

fn table(table: &Table) -> String {
    let is_shown = |column: &Column| !matches!(column, Column::Wide(_));
    let columns = || table.columns.iter().filter(|column| is_shown(column));
    let heads: String = columns()
        .map(|column| format!(" {} |", column.name()))
        .collect();
    let lines = columns().map(|column| {
        if column.is_number() {
            " ---: |"
        } else {
            " --- |"
        }
    });
    let mut out = format!("\n|{heads}\n|{}\n", lines.collect::<String>());
    for row in table.rows.iter().take(MAX_ROWS) {
        let cells = table.columns.iter().zip(row);
        let cells = cells.filter(|(column, _)| is_shown(column));
        let cells = cells.map(|(_, one)| format!(" {} |", cell(one)));
        out.push_str(&format!("|{}\n", cells.collect::<String>()));
    }
    match table.rows.len().saturating_sub(MAX_ROWS) {
        0 => {}
        more => out.push_str(&format!("\n{more} more rows are in the other formats.\n")),
    }
    out
}

fn cell(cell: &Cell) -> String {
    let text = inline(&cell.text);
    match cell.tone {
        // A figure with a bar stands beside its judgement, which has the sign.
        _ if cell.bar.is_some() => text,
        Tone::Plain => text,
        Tone::Code => format!("`{}`", code(&cell.text)),
        Tone::Good => format!("✅ {text}"),
        Tone::Warn => format!("⚠️ {text}"),
        Tone::Bad => format!("❌ {text}"),
    }
}

/// Text that a table cell or a line can hold: nothing in it is markup.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' => {
                out.push('\\');
                out.push(character);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            _ => out.push(character),
        }
    }
    out
}

/// Text that a code span in a table cell can hold.
fn code(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
        .replace('`', "'")
        .replace('|', "\\|")
}
