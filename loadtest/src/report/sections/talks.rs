//! Transcription sessions and interviews.

use super::{row, table};
use crate::{
    base::units::{bytes, count, decimal, value_or_dash},
    record::{Record, ServerTranscription},
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
        let server = record.server.as_ref();
        if let Some(server) = server.and_then(|server| server.transcription.as_ref()) {
            section.blocks.push(Block::Note(server_says(server)));
        }
        section.blocks.push(Block::Note(
            "Latencies: audio ack and partial count from the moment when the chunk was due, final from when the last chunk \
             of its utterance was, stored from the final at the host, fan out from there to a listener."
                .to_owned(),
        ));
    }
    section
}

/// The server's own figures of storage and provider.
fn server_says(server: &ServerTranscription) -> String {
    format!(
        "The server's metrics: {} s of audio billed, {} errors of the provider, which accepted a chunk after {}; {} finals; {} commits ({} of them for 1,000 \
         finals, without those for which somebody waited), {} rows and {} each, and {} that failed; at most {} segments and answers waited to be stored, and {} were in the spill file",
        decimal(server.billed_seconds),
        count(server.provider_errors),
        value_or_dash(server.provider_mean_ms, "ms"),
        count(server.finals),
        count(server.commits),
        value_or_dash(server.commits_per_1000_finals, "count"),
        value_or_dash(server.rows_per_commit, "count"),
        value_or_dash(server.commit_mean_ms, "ms"),
        count(server.flush_errors),
        count(server.queue_peak),
        bytes(server.spill_peak_bytes as f64),
    )
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
