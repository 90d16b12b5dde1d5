//! A report as one page that needs nothing else: style, script and drawings are in it.

mod axis;
mod chart;
mod course;
mod heatmap;
mod stairs;
#[cfg(test)]
mod tests;
mod tiles;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    document::{Bar, Block, Cell, Column, Document, Drawing, Section, Table, Tone, Verdict},
    sections,
};
use crate::record::Record;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

pub(super) fn html(record: &Record) -> String {
    let document = sections::document(record);
    let title = format!(
        "{}: {}",
        document.verdict.outcome.text, document.verdict.about
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(&document))
                main {
                    (tiles::tiles(record))
                    // Without findings, the head says it all.
                    @if !document.measurement.blocks.is_empty() {
                        (section(record, &document.measurement))
                    }
                    div.pair {
                        div { @for one in &document.overview { (section(record, one)) } }
                        div { (section(record, &document.advice)) }
                    }
                    @for one in &document.details { (section(record, one)) }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn head(document: &Document) -> Markup {
    let Verdict {
        outcome,
        conclusion,
        about,
        facts,
        remarks,
    } = &document.verdict;
    let (first, rest) = conclusion.split_at(conclusion.len().min(1));
    let measurement = &document.measurement;
    html! {
        header class=(class(outcome.tone)) {
            div {
                p.verdict {
                    span { (outcome.text) }
                    button #theme type="button" hidden { "Dark" }
                }
                h1 { (first.to_uppercase()) (rest) }
                p.about { (about) }
                p.chips {
                    @if let Some(validity) = &measurement.summary {
                        span class={ "chip " (class(validity.tone)) } { "measurement " (validity.text) }
                    }
                    @for fact in facts { span.chip.plain { (fact) } }
                }
                @for remark in remarks { p.caveat { (remark) } }
            }
        }
    }
}

/// The class that colours a tone.
fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Code => "code",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    }
}

/// A card, and below it the charts, which are cards of their own.
fn section(record: &Record, section: &Section) -> Markup {
    let is_charts = |block: &&Block| {
        matches!(
            block,
            Block::Drawing(Drawing::DriftCharts | Drawing::RunCharts)
        )
    };
    let (charts, card): (Vec<&Block>, Vec<&Block>) = section.blocks.iter().partition(is_charts);
    let summary = section.summary.as_ref();
    html! {
        @if card.is_empty() && summary.is_none() {
            h2.title { (section.title) }
        } @else {
            section.card {
                h2 {
                    (section.title)
                    @if let Some(summary) = summary { span.summary { (cell(summary)) } }
                }
                @for one in card { (block(record, one)) }
            }
        }
        @for one in charts { div.charts { (block(record, one)) } }
    }
}

fn block(record: &Record, block: &Block) -> Markup {
    html! {
        @match block {
            Block::Table(one) => (table(one)),
            Block::List(items) => ol.items {
                @for item in items {
                    li {
                        p { (item.text) }
                        @if let Some(evidence) = &item.evidence { p.evidence { (evidence) } }
                    }
                }
            },
            Block::Note(text) => p.note { (text) },
            Block::Caveat(text) => p.caveat { (text) },
            Block::Code(text) => pre { (text) },
            Block::Drawing(Drawing::CapacityStairs) => (stairs::draw(record)),
            Block::Drawing(Drawing::DriftCharts) => (course::drifts(record)),
            Block::Drawing(Drawing::RunCharts) => (course::charts(record)),
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr {
                    @for column in &table.columns { th class=[column_class(*column)] { (column.name()) } }
                } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, one) in table.columns.iter().zip(row) {
                                td class=[column_class(*column)] { (cell(one)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn column_class(column: Column) -> Option<&'static str> {
    match column {
        Column::Wide(_) => Some("n wide"),
        Column::Prose(_) => Some("prose"),
        Column::Text(_) => None,
        Column::Number(_) | Column::IfAny(_) => Some("n"),
    }
}

fn cell(cell: &Cell) -> Markup {
    let tone = class(cell.tone);
    html! {
        @match (cell.bar, cell.tone) {
            (Some(bar), _) => { (cell.text) (draw(bar, tone)) },
            (None, Tone::Plain) => (cell.text),
            (None, Tone::Code) => code { (cell.text) },
            (None, _) => span class={ "chip " (tone) } { (cell.text) },
        }
    }
}

fn draw(bar: Bar, class: &str) -> Markup {
    let (kind, left, right) = match bar {
        Bar::Fraction(fraction) => ("bar", 0.0, (fraction * 100.0).clamp(0.5, 100.0)),
        Bar::Interval([low, high]) => ("interval", on_scale(low), on_scale(high)),
    };
    let width = (right - left).max(1.0);
    html! {
        span class={ (kind) " " (class) } { i style=(format!("left:{left:.1}%;width:{width:.1}%")) {} }
    }
}

/// A ratio on a logarithmic scale from a half to two, in percent.
fn on_scale(ratio: f64) -> f64 {
    (50.0 + ratio.max(1e-3).log2() * 50.0).clamp(0.0, 100.0)
}
