//! A transcript as a file: JSON, plain text, and subtitles as SRT and WebVTT. It is read and written piece by piece.

mod spoken;

use std::{collections::HashMap, fmt::Write, mem, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use self::spoken::Spoken;
use crate::{
    record::{Participant, RowId, Segment, SegmentKind, Session, Track},
    session::participant_name,
    store::{Store, StoreError},
};

/// A piece is at least so long, but for the last one.
const PIECE_BYTES: usize = 64 * 1024;

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

/// A transcript that is being written.
pub struct Transcript {
    spoken: Spoken,
    next_after: Option<i64>,
    writer: Writer,
    /// What comes before the first segment.
    head: String,
    /// What comes behind the last one.
    foot: &'static str,
}

impl Transcript {
    /// The transcript of a session whose participants are these, behind the segment `after`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn begin(
        store: Arc<dyn Store>,
        format: Format,
        session: &Session,
        people: Vec<Participant>,
        after: i64,
    ) -> Result<Self, StoreError> {
        let (spoken, next_after) = Spoken::begin(store.clone(), session.id, after).await?;
        let tracks = store.tracks(session.id).await?;
        let (head, foot) = head_and_foot(format, session, next_after);
        Ok(Self {
            spoken,
            next_after,
            writer: Writer {
                format,
                speakers: Speakers::new(&tracks, people),
                written: 0,
            },
            head,
            foot,
        })
    }

    /// There are more segments than one file may have: they are behind this number.
    #[must_use]
    pub fn next_after(&self) -> Option<i64> {
        self.next_after
    }

    /// The next piece, none at the end.
    ///
    /// # Errors
    /// The database does not answer, or the session was deleted meanwhile: the transcript has no end.
    pub async fn next(&mut self) -> Result<Option<String>, StoreError> {
        let mut piece = mem::take(&mut self.head);
        while piece.len() < PIECE_BYTES {
            let segments = self.spoken.next().await?;
            if segments.is_empty() {
                piece.push_str(mem::take(&mut self.foot));
                break;
            }
            for segment in &segments {
                self.writer.segment(segment, &mut piece);
            }
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// Who spoke.
struct Speakers {
    of_tracks: HashMap<RowId, RowId>,
    people: HashMap<RowId, Participant>,
}

impl Speakers {
    fn new(tracks: &[Track], people: Vec<Participant>) -> Self {
        let of_track = |track: &Track| (track.id, track.participant_id);
        Self {
            of_tracks: tracks.iter().map(of_track).collect(),
            people: people
                .into_iter()
                .map(|person| (person.id, person))
                .collect(),
        }
    }

    fn of(&self, track: RowId) -> Option<&Participant> {
        self.people.get(self.of_tracks.get(&track)?)
    }

    fn name(&self, track: RowId) -> &str {
        let person = self.of(track);
        person.map_or("?", |person| person.name.as_deref().unwrap_or(&person.user))
    }
}

/// What JSON has before the segments.
#[derive(Serialize)]
struct Head<'a> {
    session: &'a str,
    title: Option<&'a str>,
    language: Option<&'a str>,
    created_ms: i64,
    ended_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<i64>,
}

/// What comes before the first segment, and behind the last one.
fn head_and_foot(
    format: Format,
    session: &Session,
    next_after: Option<i64>,
) -> (String, &'static str) {
    match format {
        Format::Json => (json_head(session, next_after), "\n]}\n"),
        Format::Vtt => ("WEBVTT\n\n".to_owned(), ""),
        Format::Text | Format::Srt => (String::new(), ""),
    }
}

fn json_head(session: &Session, next_after: Option<i64>) -> String {
    let head = Head {
        session: &session.slug,
        title: session.title.as_deref(),
        language: session.language.as_deref(),
        created_ms: session.created_ms,
        ended_ms: session.ended_ms,
        next_after,
    };
    let head = written(&head);
    let open = head.strip_suffix('}').unwrap_or(&head);
    format!("{open},\"segments\":[")
}

/// A segment in JSON.
#[derive(Serialize)]
struct Line<'a> {
    seq: i64,
    kind: SegmentKind,
    speaker: String,
    name: &'a str,
    start_ms: i64,
    end_ms: i64,
    text: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<&'a RawValue>,
}

/// Writes segments one after another.
struct Writer {
    format: Format,
    speakers: Speakers,
    written: usize,
}

impl Writer {
    fn segment(&mut self, segment: &Segment, out: &mut String) {
        match self.format {
            Format::Json => self.json(segment, out),
            Format::Text => self.text(segment, out),
            Format::Srt => self.srt(segment, out),
            Format::Vtt => self.vtt(segment, out),
        }
        self.written += 1;
    }

    fn json(&self, segment: &Segment, out: &mut String) {
        let speaker = self.speakers.of(segment.track_id);
        let words = segment.words.as_deref().map(serde_json::from_str);
        let line = Line {
            seq: segment.seq,
            kind: segment.kind,
            speaker: participant_name(speaker.map_or(RowId(0), |person| person.id)),
            name: self.speakers.name(segment.track_id),
            start_ms: segment.start_ms,
            end_ms: segment.end_ms,
            text: &segment.text,
            source: &segment.source,
            language: segment.language.as_deref(),
            confidence: segment.confidence,
            words: words.and_then(Result::ok),
        };
        out.push_str(if self.written > 0 { ",\n" } else { "\n" });
        out.push_str(&written(&line));
    }

    fn text(&self, segment: &Segment, out: &mut String) {
        let time = clock(segment.start_ms, '.');
        let name = one_line(self.speakers.name(segment.track_id));
        let _ = writeln!(out, "[{time}] {name}: {}", spoken(segment));
    }

    fn srt(&self, segment: &Segment, out: &mut String) {
        let (from, to) = (clock(segment.start_ms, ','), clock(segment.end_ms, ','));
        let name = one_line(self.speakers.name(segment.track_id));
        let text = spoken(segment).replace("-->", "->");
        let number = self.written + 1;
        let _ = writeln!(out, "{number}\n{from} --> {to}\n{name}: {text}\n");
    }

    fn vtt(&self, segment: &Segment, out: &mut String) {
        let (from, to) = (clock(segment.start_ms, '.'), clock(segment.end_ms, '.'));
        let name = escaped(&one_line(self.speakers.name(segment.track_id)));
        let text = escaped(&spoken(segment));
        let _ = writeln!(out, "{from} --> {to}\n<v {name}>{text}\n");
    }
}

fn written(value: &impl Serialize) -> String {
    // Texts and numbers: writing them cannot fail.
    serde_json::to_string(value).unwrap_or_default()
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
        let segments = [
            segment(1, 3_700_001, "late", SegmentKind::Final),
            segment(2, 1_000, "a --> b & <c>\n\nnext", SegmentKind::Final),
            segment(3, 5_000, "provider_lost", SegmentKind::Gap),
        ];
        let mut segments = segments.to_vec();
        segments.sort_by_key(|segment| segment.start_ms);
        let made = |format| {
            let mut writer = Writer {
                format,
                speakers: Speakers::new(&tracks, people.to_vec()),
                written: 0,
            };
            let (head, foot) = head_and_foot(format, &session, Some(3));
            let mut file = head;
            for segment in &segments {
                writer.segment(segment, &mut file);
            }
            file + foot
        };
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
        assert_eq!(value["next_after"], 3);
        assert_eq!(value["title"], serde_json::Value::Null);
        assert_eq!(value["language"], "en");
    }
}
