//! A transcript as a file: JSON, plain text, and subtitles as SRT and WebVTT.

use std::{collections::HashMap, fmt::Write};

use serde_json::json;

use crate::record::{Participant, RowId, Segment, SegmentKind, Session, Track};

/// How a transcript is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object with all that is known.
    Json,
    /// A line for each sentence.
    Text,
    /// SubRip.
    Srt,
    /// WebVTT (<https://www.w3.org/TR/webvtt1/>), with the speaker of each cue.
    Vtt,
}

impl Format {
    /// The format that a file of this extension has.
    #[must_use]
    pub fn of(extension: &str) -> Option<Self> {
        Some(match extension {
            "json" => Self::Json,
            "txt" => Self::Text,
            "srt" => Self::Srt,
            "vtt" => Self::Vtt,
            _ => return None,
        })
    }

    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Srt => "application/x-subrip; charset=utf-8",
            Self::Vtt => "text/vtt; charset=utf-8",
        }
    }
}

/// Who spoke, by track.
pub struct Speakers<'a>(HashMap<RowId, &'a Participant>);

impl<'a> Speakers<'a> {
    /// The speakers of these tracks.
    #[must_use]
    pub fn new(tracks: &[Track], people: &'a [Participant]) -> Self {
        let of = |id| people.iter().find(|person| person.id == id);
        Self(
            tracks
                .iter()
                .filter_map(|track| Some((track.id, of(track.participant_id)?)))
                .collect(),
        )
    }

    fn name(&self, track: RowId) -> &str {
        let person = self.0.get(&track);
        person.map_or("?", |person| person.name.as_deref().unwrap_or(&person.user))
    }
}

/// The transcript of a session as a file. `segments` are put in the order in which they were spoken. `next_after`: there are
/// more behind this number.
#[must_use]
pub fn write(
    format: Format,
    session: &Session,
    mut segments: Vec<Segment>,
    next_after: Option<i64>,
    speakers: &Speakers<'_>,
) -> String {
    segments.sort_by_key(|segment| (segment.start_ms, segment.seq));
    match format {
        Format::Json => json(session, &segments, next_after, speakers),
        Format::Text => text(&segments, speakers),
        Format::Srt => srt(&segments, speakers),
        Format::Vtt => vtt(&segments, speakers),
    }
}

fn json(
    session: &Session,
    segments: &[Segment],
    next_after: Option<i64>,
    speakers: &Speakers<'_>,
) -> String {
    let segments: Vec<_> = segments
        .iter()
        .map(|segment| {
            let mut value = json!({
                "seq": segment.seq,
                "kind": segment.kind,
                "speaker": crate::session::participant_name(
                    speakers.0.get(&segment.track_id).map_or(RowId(0), |person| person.id)),
                "name": speakers.name(segment.track_id),
                "start_ms": segment.start_ms,
                "end_ms": segment.end_ms,
                "text": segment.text,
                "source": segment.source,
            });
            if let Some(language) = &segment.language {
                value["language"] = language.as_str().into();
            }
            if let Some(confidence) = segment.confidence {
                value["confidence"] = confidence.into();
            }
            let words = segment
                .words
                .as_deref()
                .map(serde_json::from_str::<serde_json::Value>);
            if let Some(Ok(words)) = words {
                value["words"] = words;
            }
            value
        })
        .collect();
    let mut whole = json!({
        "session": session.slug,
        "title": session.title,
        "language": session.language,
        "created_ms": session.created_ms,
        "ended_ms": session.ended_ms,
        "segments": segments,
    });
    if let Some(after) = next_after {
        whole["next_after"] = after.into();
    }
    format!("{whole:#}\n")
}

/// What is read of a segment.
fn spoken(segment: &Segment) -> String {
    // An empty line would end a cue.
    match segment.kind {
        SegmentKind::Final => segment
            .text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        SegmentKind::Gap => {
            let seconds = (segment.end_ms - segment.start_ms) as f64 / 1000.0;
            format!("[{seconds:.1} s not transcribed]")
        }
    }
}

fn text(segments: &[Segment], speakers: &Speakers<'_>) -> String {
    let mut out = String::new();
    for segment in segments {
        let (time, name) = (
            clock(segment.start_ms, '.'),
            speakers.name(segment.track_id),
        );
        let _ = writeln!(out, "[{time}] {}: {}", one_line(name), spoken(segment));
    }
    out
}

fn srt(segments: &[Segment], speakers: &Speakers<'_>) -> String {
    let mut out = String::new();
    for (index, segment) in segments.iter().enumerate() {
        let (from, to) = (clock(segment.start_ms, ','), clock(segment.end_ms, ','));
        let name = one_line(speakers.name(segment.track_id));
        let text = spoken(segment).replace("-->", "->");
        let _ = writeln!(out, "{}\n{from} --> {to}\n{name}: {text}\n", index + 1);
    }
    out
}

fn vtt(segments: &[Segment], speakers: &Speakers<'_>) -> String {
    let mut out = "WEBVTT\n\n".to_owned();
    for segment in segments {
        let (from, to) = (clock(segment.start_ms, '.'), clock(segment.end_ms, '.'));
        let name = escaped(&one_line(speakers.name(segment.track_id)));
        let _ = writeln!(
            out,
            "{from} --> {to}\n<v {name}>{}\n",
            escaped(&spoken(segment))
        );
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// With `>` escaped, `-->` is too.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// `01:02:03.456`
fn clock(ms: i64, point: char) -> String {
    let ms = ms.max(0);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}{point}{:03}",
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_holds_what_was_said_in_its_order() {
        let session = Session {
            id: RowId(1),
            slug: "talk".into(),
            title: None,
            language: Some("en".into()),
            deliver: "host".into(),
            open: false,
            created_ms: 5,
            ended_ms: None,
        };
        let people = [Participant {
            id: RowId(7),
            session_id: RowId(1),
            user: "u".into(),
            name: Some("Ann <3\nX".into()),
            role: "speaker".into(),
            joined_ms: 0,
        }];
        let tracks = [Track {
            id: RowId(9),
            session_id: RowId(1),
            participant_id: RowId(7),
            provider: "fake".into(),
            started_ms: 0,
            audio_ms: None,
            ended_ms: None,
        }];
        let segment = |seq, start_ms, text: &str, kind| Segment {
            session_id: RowId(1),
            seq,
            track_id: RowId(9),
            kind,
            source: "live".into(),
            start_ms,
            end_ms: start_ms + 2_400,
            language: None,
            confidence: None,
            text: text.into(),
            words: Some(r#"[{"word":"a","start_ms":1,"end_ms":2}]"#.into()),
            created_ms: 0,
        };
        let segments = vec![
            segment(1, 3_700_001, "late", SegmentKind::Final),
            segment(2, 1_000, "a --> b & <c>\n\nnext", SegmentKind::Final),
            segment(3, 5_000, "provider_lost", SegmentKind::Gap),
        ];
        let speakers = Speakers::new(&tracks, &people);
        let made = |format| write(format, &session, segments.clone(), None, &speakers);
        assert_eq!(
            made(Format::Text),
            "[00:00:01.000] Ann <3 X: a --> b & <c> next\n[00:00:05.000] Ann <3 X: [2.4 s not transcribed]\n[01:01:40.001] Ann <3 X: late\n"
        );
        assert_eq!(
            made(Format::Vtt),
            "WEBVTT\n\n00:00:01.000 --> 00:00:03.400\n<v Ann &lt;3 X>a --&gt; b &amp; &lt;c&gt; next\n\n\
             00:00:05.000 --> 00:00:07.400\n<v Ann &lt;3 X>[2.4 s not transcribed]\n\n\
             01:01:40.001 --> 01:01:42.401\n<v Ann &lt;3 X>late\n\n"
        );
        assert!(
            made(Format::Srt).starts_with(
                "1\n00:00:01,000 --> 00:00:03,400\nAnn <3 X: a -> b & <c> next\n\n2\n"
            )
        );
        let value: serde_json::Value = serde_json::from_str(&made(Format::Json)).expect("JSON");
        assert_eq!(value["segments"][0]["seq"], 2);
        assert_eq!(value["segments"][2]["words"][0]["word"], "a");
        assert_eq!(value["segments"][1]["kind"], "gap");
        assert_eq!(value["segments"][1]["speaker"], "p7");
        assert_eq!(value.get("next_after"), None);
        let cut = write(Format::Json, &session, segments, Some(3), &speakers);
        let cut: serde_json::Value = serde_json::from_str(&cut).expect("JSON");
        assert_eq!(cut["next_after"], 3);
    }
}
