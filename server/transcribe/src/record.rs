//! What is stored: one record for each row that is written, and the rows that are read back.

use serde::{Deserialize, Serialize};

/// The id of a session, a participant, a track or a survey session: positive, 63 bits, made by the process that
/// creates the row, so that no look-up is needed before writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowId(pub i64);

impl RowId {
    /// A new id. Two of them are never equal in practice: 62 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self((rand::random::<u64>() >> 2).cast_signed().max(1))
    }
}

/// A transcription session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: RowId,
    /// Its public name: 1 to 64 of `[A-Za-z0-9_-]`.
    pub slug: String,
    pub title: Option<String>,
    /// BCP 47, as the app has named it.
    pub language: Option<String>,
    /// Who receives transcripts: `host`, `own` or `listeners`.
    pub deliver: String,
    /// Whether a participant may join without a right of its own.
    pub open: bool,
    /// Milliseconds since 1970, as all times of rows that do not count audio.
    pub created_ms: i64,
    pub ended_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    pub id: RowId,
    pub session_id: RowId,
    /// The app's name for the user; unique in the session.
    pub user: String,
    pub name: Option<String>,
    /// `host`, `speaker` or `listener`.
    pub role: String,
    pub joined_ms: i64,
}

/// One speaker's audio from its begin to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    pub id: RowId,
    pub session_id: RowId,
    pub participant_id: RowId,
    pub provider: String,
    /// When its first audio came. That of the session's first track is where the times of its segments begin.
    pub started_ms: i64,
    /// Milliseconds of audio received; known when the track has ended.
    pub audio_ms: Option<i64>,
    pub ended_ms: Option<i64>,
}

/// A piece of the provider's work on a track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderJob {
    pub track_id: RowId,
    /// The provider's name for it.
    pub job: String,
    /// Where its audio begins, in milliseconds of the session.
    pub start_ms: i64,
}

/// Where a provider's job goes on with other audio than what comes next in the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPiece {
    pub track_id: RowId,
    /// Counts the pieces of a track. A later one takes the place of what was said of the job from `job_ms` on.
    pub number: i64,
    pub job: String,
    /// Where it begins, in milliseconds of the job.
    pub job_ms: i64,
    /// The same in milliseconds of the session.
    pub start_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// What somebody said.
    Final,
    /// Audio that was not transcribed; its text is the reason.
    Gap,
}

impl SegmentKind {
    /// Its name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Gap => "gap",
        }
    }

    /// The kind of that name; of any other one, a gap.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "final" => Self::Final,
            _ => Self::Gap,
        }
    }
}

/// A final sentence or a gap. `seq` numbers those of a session from 1 without holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub session_id: RowId,
    pub seq: i64,
    pub track_id: RowId,
    pub kind: SegmentKind,
    /// `live`, or `reconciled` if it was fetched from the provider afterwards.
    pub source: String,
    /// Milliseconds since the first audio of the session.
    pub start_ms: i64,
    pub end_ms: i64,
    pub language: Option<String>,
    pub confidence: Option<f64>,
    pub text: String,
    /// The words with their times, as JSON: `[{"word","start_ms","end_ms","confidence"}]`.
    pub words: Option<String>,
    pub created_ms: i64,
}

/// One version of a questionnaire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyVersion {
    pub id: String,
    pub version: i64,
    /// The questionnaire as JSON.
    pub definition: String,
}

/// One respondent's way through one version of a questionnaire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interview {
    pub id: RowId,
    pub survey_id: String,
    pub version: i64,
    /// The transcription session in which it is held, if it is.
    pub session_id: Option<RowId>,
    /// The app's name for the respondent; unique in the survey.
    pub respondent: Option<String>,
    pub language: String,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub interview_id: RowId,
    pub question_id: String,
    /// 1 for the first answer to the question, 2 for the first correction, and so on.
    pub revision: i64,
    /// The caller's name for the call: the same one gets the same reply. Unique in the interview.
    pub request_id: String,
    /// The answer as JSON.
    pub value: String,
    /// The segment of the transcript in which it was given.
    pub segment_seq: Option<i64>,
    pub created_ms: i64,
}

/// A row to write. Writing the same record again changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    Session(Session),
    SessionEnded {
        id: RowId,
        ended_ms: i64,
    },
    /// The session and all that belongs to it goes.
    SessionDeleted {
        id: RowId,
    },
    Participant(Participant),
    Track(Track),
    ProviderJob(ProviderJob),
    JobPiece(JobPiece),
    TrackEnded {
        id: RowId,
        audio_ms: i64,
        ended_ms: i64,
    },
    Segment(Segment),
    Survey(SurveyVersion),
    Interview(Interview),
    InterviewEnded {
        id: RowId,
        ended_ms: i64,
    },
    Answer(Answer),
    /// How much audio a process has sent to its provider on a day, in days since 1970. The highest figure counts.
    Spent {
        day: i64,
        process: RowId,
        audio_ms: i64,
    },
}

impl Record {
    /// Removes NUL characters, which PostgreSQL refuses, from whatever came from outside.
    pub(crate) fn remove_nul(&mut self) {
        let (texts, options) = self.texts();
        for text in texts {
            clean(text);
        }
        for text in options.into_iter().flatten() {
            clean(text);
        }
    }

    #[rustfmt::skip]
    fn texts(&mut self) -> (Vec<&mut String>, Vec<&mut Option<String>>) {
        match self {
            Self::Session(row) => (vec![&mut row.slug, &mut row.deliver], vec![&mut row.title, &mut row.language]),
            Self::Participant(row) => (vec![&mut row.user, &mut row.role], vec![&mut row.name]),
            Self::Track(row) => (vec![&mut row.provider], vec![]),
            Self::ProviderJob(row) => (vec![&mut row.job], vec![]),
            Self::JobPiece(row) => (vec![&mut row.job], vec![]),
            Self::Segment(row) => (vec![&mut row.source, &mut row.text], vec![&mut row.language, &mut row.words]),
            Self::Survey(row) => (vec![&mut row.id, &mut row.definition], vec![]),
            Self::Interview(row) => (vec![&mut row.survey_id, &mut row.language], vec![&mut row.respondent]),
            Self::Answer(row) => (vec![&mut row.question_id, &mut row.request_id, &mut row.value], vec![]),
            Self::SessionEnded { .. } | Self::SessionDeleted { .. } | Self::TrackEnded { .. } | Self::InterviewEnded { .. }
            | Self::Spent { .. } => {
                (vec![], vec![])
            }
        }
    }
}

fn clean(text: &mut String) {
    if text.contains('\0') {
        text.retain(|character| character != '\0');
    }
}
