//! Transcription sessions and interviews.

use super::{row, table};
use crate::{
    base::units::{count, decimal, value_or_dash},
    record::Record,
    report::document::{
        Block,
        Column::{IfAny, Number, Text},
        Section,
    },
};

/// What became of the words that were said, at the host and in the transcript.
pub(in crate::report) fn words(record: &Record) -> Section {
    let talks = record.talks.iter().filter(|talks| talks.chunks > 0);
    let rows = talks.clone().map(|talks| {
        let words = &talks.words;
        row![
            "words",
            words.said,
            words.heard,
            value_or_dash(words.success_percent, "percent"),
            words.lost,
            words.in_gaps,
            words.late,
            words.twice,
            words.reordered,
            words.misdelivered,
            words.altered,
            words.pending,
            talks.not_stored,
            talks.wrongly_stored,
            talks.untold,
        ]
    });
    let columns = [
        Text(""),
        Number("said"),
        Number("heard"),
        Number("success"),
        IfAny("lost"),
        IfAny("in gaps"),
        IfAny("late"),
        IfAny("twice"),
        IfAny("reordered"),
        IfAny("misdelivered"),
        IfAny("altered"),
        IfAny("pending"),
        IfAny("not stored"),
        IfAny("wrongly stored"),
        IfAny("untold"),
    ];
    let mut section = table("Transcription", &columns, rows);
    for talks in talks {
        section.blocks.push(Block::Note(format!(
            "{} s of audio in {} chunks; {} partials and {} finals at hosts; {} gaps of {} s; {} transcripts compared \
             word by word with what was said and told",
            decimal(talks.audio_seconds),
            count(talks.chunks),
            count(talks.partials),
            count(talks.finals),
            count(talks.gaps),
            decimal(talks.gap_seconds),
            count(talks.transcripts),
        )));
        if let Some(queue) = record.server.as_ref().and_then(|server| server.queue_peak) {
            section.blocks.push(Block::Note(format!(
                "at most {} segments and answers waited to be stored, by the server's metrics",
                count(queue)
            )));
        }
    }
    section
}

/// What became of the answers of interviews.
pub(in crate::report) fn answers(record: &Record) -> Section {
    let talks = record.talks.iter().filter(|talks| talks.answers > 0);
    let rows = talks.map(|talks| {
        row![
            "answers",
            talks.answers,
            talks.answers_missing,
            talks.answers_twice,
            talks.exports,
        ]
    });
    let columns = [
        Text(""),
        Number("stored"),
        Number("missing"),
        Number("twice"),
        Number("exports"),
    ];
    table("Interviews", &columns, rows)
}
