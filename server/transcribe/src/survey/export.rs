//! Stored answers as lines of JSON or as CSV.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{engine::read, error::ToolError};
use crate::{
    record::{Answer, Interview, RowId},
    store::Store,
};

/// Interviews that are read at once.
const PAGE: u32 = 100;

/// A piece is at least so long, but for the last one.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object a line; the last line ends too.
    JsonLines,
    /// RFC 4180, with a header. A text that a spreadsheet would take for a formula has an apostrophe before it.
    Csv,
}

/// The stored answers of a survey, interview by interview, each with all its revisions in the order they were given.
pub struct Export {
    store: Arc<dyn Store>,
    survey: String,
    format: Format,
    /// The last interview that was read.
    after: RowId,
    /// Interviews that were read, and whose answers were not.
    page: VecDeque<Interview>,
    header: bool,
}

/// A line of the export.
#[derive(Serialize)]
struct Line<'a> {
    survey: &'a str,
    version: i64,
    /// As a text: it has more digits than scripts keep.
    interview: String,
    respondent: Option<&'a str>,
    language: &'a str,
    started_ms: i64,
    ended_ms: Option<i64>,
    question: &'a str,
    revision: i64,
    /// Whether no later revision has replaced it.
    latest: bool,
    value: &'a RawValue,
    segment: Option<i64>,
    request_id: &'a str,
    answered_ms: i64,
}

const HEADER: &str = "survey,version,interview,respondent,language,started_ms,ended_ms,question,revision,latest,value,segment,request_id,answered_ms\r\n";

impl Export {
    pub(super) fn new(store: Arc<dyn Store>, survey: String, format: Format) -> Self {
        Self {
            store,
            survey,
            format,
            after: RowId(0),
            page: VecDeque::new(),
            header: format == Format::Csv,
        }
    }

    /// Only interviews behind this one, in the order of their ids.
    #[must_use]
    pub fn behind(mut self, interview: RowId) -> Self {
        self.after = interview;
        self
    }

    /// The next piece, none at the end.
    ///
    /// # Errors
    /// `storage_unavailable`: the export has no end.
    pub async fn next(&mut self) -> Result<Option<String>, ToolError> {
        let mut piece = match std::mem::take(&mut self.header) {
            true => HEADER.to_owned(),
            false => String::new(),
        };
        while piece.len() < PIECE_BYTES {
            let Some(interview) = self.next_interview().await? else {
                break;
            };
            let answers = read(self.store.answers(interview.id)).await?;
            lines(self.format, &interview, &answers, &mut piece);
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    async fn next_interview(&mut self) -> Result<Option<Interview>, ToolError> {
        if self.page.is_empty() {
            let page = read(self.store.interviews(&self.survey, self.after, PAGE)).await?;
            self.page = page.into();
        }
        let next = self.page.pop_front();
        self.after = next.as_ref().map_or(self.after, |interview| interview.id);
        Ok(next)
    }
}

fn lines(format: Format, interview: &Interview, answers: &[Answer], piece: &mut String) {
    let latest: HashMap<&str, i64> = answers
        .iter()
        .map(|answer| (answer.question_id.as_str(), answer.revision))
        .collect();
    let null = RawValue::NULL;
    for answer in answers {
        let value: Option<&RawValue> = serde_json::from_str(&answer.value).ok();
        let line = Line {
            survey: &interview.survey_id,
            version: interview.version,
            interview: interview.id.0.to_string(),
            respondent: interview.respondent.as_deref(),
            language: &interview.language,
            started_ms: interview.started_ms,
            ended_ms: interview.ended_ms,
            question: &answer.question_id,
            revision: answer.revision,
            latest: latest.get(answer.question_id.as_str()) == Some(&answer.revision),
            value: value.unwrap_or(null),
            segment: answer.segment_seq,
            request_id: &answer.request_id,
            answered_ms: answer.created_ms,
        };
        match format {
            Format::JsonLines => {
                piece.push_str(&serde_json::to_string(&line).unwrap_or_default());
                piece.push('\n');
            }
            Format::Csv => csv(&line, piece),
        }
    }
}

fn csv(line: &Line<'_>, piece: &mut String) {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    // A text without its quotes, an answer that is none as nothing, the rest as JSON.
    let value = match serde_json::from_str(line.value.get()) {
        Ok(Value::String(text)) => no_formula(&text),
        Ok(Value::Null) => String::new(),
        _ => line.value.get().to_owned(),
    };
    let fields = [
        no_formula(line.survey),
        line.version.to_string(),
        line.interview.clone(),
        no_formula(line.respondent.unwrap_or_default()),
        no_formula(line.language),
        line.started_ms.to_string(),
        number(line.ended_ms),
        no_formula(line.question),
        line.revision.to_string(),
        line.latest.to_string(),
        value,
        number(line.segment),
        no_formula(line.request_id),
        line.answered_ms.to_string(),
    ];
    let quoted = |field: String| {
        if field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field
        }
    };
    piece.push_str(&fields.map(quoted).join(","));
    piece.push_str("\r\n");
}

/// A text that no spreadsheet takes for a formula: an apostrophe before what could begin one, as
/// [OWASP](https://owasp.org/www-community/attacks/CSV_Injection) says.
fn no_formula(text: &str) -> String {
    const BEGINS_ONE: [char; 11] = [
        '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ];
    if text.starts_with(BEGINS_ONE) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}
