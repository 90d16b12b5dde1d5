//! A report before it is printed. Text, Markdown and HTML print this same document, each in its own way.

use crate::base::units;

pub(super) struct Document {
    pub(super) verdict: Verdict,
    pub(super) measurement: Section,
    /// What was asked of the server, and how far its users came.
    pub(super) overview: [Section; 2],
    pub(super) advice: Section,
    /// The figures behind the verdict, in the order of reading.
    pub(super) details: Vec<Section>,
}

pub(super) struct Verdict {
    /// In one word.
    pub(super) outcome: Cell,
    /// In one sentence without its full stop.
    pub(super) conclusion: String,
    /// What was run.
    pub(super) about: String,
    /// When, and of which build.
    pub(super) facts: Vec<String>,
    /// What a reader has to know before any figure.
    pub(super) remarks: Vec<String>,
}

#[derive(Default)]
pub(super) struct Section {
    pub(super) title: String,
    /// The section in a few words.
    pub(super) summary: Option<Cell>,
    pub(super) blocks: Vec<Block>,
    /// Markdown shows the title alone until a reader opens the section.
    pub(super) folded: bool,
}

pub(super) enum Block {
    Table(Table),
    List(Vec<Item>),
    Note(String),
    /// A note that weakens what the section says.
    Caveat(String),
    Code(String),
    /// Only a page has drawings; a section says the same in words.
    Drawing(Drawing),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drawing {
    CapacityStairs,
    DriftCharts,
    RunCharts,
}

pub(super) struct Item {
    pub(super) text: String,
    /// The figures that it follows from.
    pub(super) evidence: Option<String>,
}

pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// Each row has a cell for each column.
    pub(super) rows: Vec<Vec<Cell>>,
}

/// The name of a column, and what its cells hold.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
    /// Left out if all of its cells are zero or empty.
    IfAny(&'static str),
    /// Only a page is wide enough.
    Wide(&'static str),
    /// A sentence.
    Prose(&'static str),
}

#[derive(Clone, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    pub(super) bar: Option<Bar>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Code,
    Good,
    Warn,
    Bad,
}

#[derive(Clone, Copy)]
pub(super) enum Bar {
    /// Of the whole, from 0 to 1.
    Fraction(f64),
    /// The ends of the confidence interval of a ratio.
    Interval([f64; 2]),
}

impl Section {
    pub(super) fn is_empty(&self) -> bool {
        self.summary.is_none() && self.blocks.is_empty()
    }
}

impl Table {
    pub(super) fn new(columns: &[Column], rows: Vec<Vec<Cell>>) -> Self {
        let counted = |i: usize| {
            let mut cells = rows.iter().filter_map(|row| row.get(i));
            cells.any(|cell| !matches!(cell.text.as_str(), "" | "0" | "–"))
        };
        let keep: Vec<bool> = columns
            .iter()
            .enumerate()
            .map(|(i, column)| !matches!(column, Column::IfAny(_)) || counted(i))
            .collect();
        let kept = |row: Vec<Cell>| {
            let cells = row.into_iter().zip(&keep);
            cells.filter_map(|(cell, keep)| keep.then_some(cell))
        };
        let columns = columns.iter().zip(&keep);
        Self {
            columns: columns
                .filter_map(|(column, keep)| keep.then_some(*column))
                .collect(),
            rows: rows.into_iter().map(|row| kept(row).collect()).collect(),
        }
    }
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text(name)
            | Self::Number(name)
            | Self::IfAny(name)
            | Self::Wide(name)
            | Self::Prose(name) => name,
        }
    }

    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Text(_) | Self::Prose(_))
    }
}

impl Cell {
    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone,
            bar: None,
        }
    }

    pub(super) fn with_bar(text: impl Into<String>, bar: Option<Bar>) -> Self {
        Self {
            text: text.into(),
            tone: Tone::Plain,
            bar,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::from(units::count(count))
    }
}
