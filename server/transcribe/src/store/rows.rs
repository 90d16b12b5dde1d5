//! What is read, for both engines: their SQL for it is the same.

use super::{Elsewhere, Held, Owner, Progress};
use crate::record::{
    Answer, Interview, JobPiece, Participant, ProviderJob, RowId, Segment, SegmentKind, Session,
    SurveyVersion, Track,
};

pub(super) const SESSION: &str = "SELECT id, slug, title, language, deliver, open, created_ms, ended_ms FROM sessions WHERE slug = $1";
pub(super) const PARTICIPANTS: &str = "SELECT id, session_id, user_ref, name, role, joined_ms FROM participants WHERE session_id = $1 \
     ORDER BY joined_ms, id";
pub(super) const TRACKS: &str = "SELECT id, session_id, participant_id, provider, started_ms, audio_ms, ended_ms FROM tracks \
     WHERE session_id = $1 ORDER BY started_ms, id";
pub(super) const SEGMENTS: &str = "SELECT session_id, seq, track_id, kind, source, start_ms, end_ms, language, confidence, text, words, \
     created_ms FROM segments WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
pub(super) const JOBS: &str = "SELECT track_id, job, start_ms FROM provider_jobs JOIN tracks ON tracks.id = track_id \
     WHERE session_id = $1 ORDER BY start_ms, job";
pub(super) const JOB_PIECES: &str = "SELECT track_id, number, job, job_ms, start_ms FROM job_pieces WHERE track_id = $1 \
     ORDER BY number";
pub(super) const AUDIO_MS: &str =
    "SELECT CAST(COALESCE(SUM(audio_ms), 0) AS BIGINT) FROM tracks WHERE started_ms >= $1";
pub(super) const SPENT_MS: &str =
    "SELECT CAST(COALESCE(SUM(audio_ms), 0) AS BIGINT) FROM spent WHERE day = $1 AND process <> $2";
pub(super) const LAST_SEQ: &str =
    "SELECT COALESCE(MAX(seq), 0) FROM segments WHERE session_id = $1";
pub(super) const SURVEY: &str =
    "SELECT id, version, definition FROM surveys WHERE id = $1 ORDER BY version DESC LIMIT 1";
pub(super) const SURVEY_VERSION: &str =
    "SELECT id, version, definition FROM surveys WHERE id = $1 AND version = $2";
pub(super) const INTERVIEW: &str = "SELECT id, survey_id, version, session_id, respondent, language, started_ms, ended_ms \
     FROM survey_sessions WHERE id = $1";
pub(super) const PROGRESS: &str = "SELECT (SELECT COUNT(*) FROM answers WHERE survey_session_id = id), ended_ms FROM survey_sessions WHERE id = $1";
pub(super) const INTERVIEW_OF: &str = "SELECT id, survey_id, version, session_id, respondent, language, started_ms, ended_ms \
     FROM survey_sessions WHERE survey_id = $1 AND respondent = $2";
pub(super) const INTERVIEW_IN: &str = "SELECT id, survey_id, version, session_id, respondent, language, started_ms, ended_ms \
     FROM survey_sessions WHERE session_id = $1 ORDER BY started_ms DESC, id DESC LIMIT 1";
pub(super) const INTERVIEWS: &str = "SELECT id, survey_id, version, session_id, respondent, language, started_ms, ended_ms \
     FROM survey_sessions WHERE survey_id = $1 AND id > $2 ORDER BY id LIMIT $3";
pub(super) const ANSWERS: &str = "SELECT survey_session_id, question_id, revision, request_id, value, segment_seq, created_ms FROM answers \
     WHERE survey_session_id = $1 ORDER BY created_ms, question_id, revision";

// Retention: first what belongs to old sessions and interviews, then these. What never ended is old when nothing has come of it
// for long: a session may go on for longer than ended ones are kept.
macro_rules! old_session {
    () => {
        "(s.ended_ms < $1 OR s.ended_ms IS NULL AND s.created_ms < $2 \
         AND NOT EXISTS (SELECT 1 FROM tracks t WHERE t.session_id = s.id AND COALESCE(t.ended_ms, t.started_ms) >= $2) \
         AND NOT EXISTS (SELECT 1 FROM session_owners o WHERE o.session_id = s.id AND o.until_ms >= $2))"
    };
}

macro_rules! old_interview {
    () => {
        "(i.ended_ms < $1 OR i.ended_ms IS NULL AND i.started_ms < $2 \
         AND NOT EXISTS (SELECT 1 FROM answers n WHERE n.survey_session_id = i.id AND n.created_ms >= $2))"
    };
}

pub(super) const EXPIRE: [&str; 4] = [
    concat!(
        "DELETE FROM segments WHERE (session_id, seq) IN (SELECT g.session_id, g.seq FROM segments g \
         JOIN sessions s ON s.id = g.session_id WHERE ",
        old_session!(),
        " LIMIT $3)"
    ),
    concat!(
        "DELETE FROM answers WHERE (survey_session_id, request_id) IN (SELECT a.survey_session_id, a.request_id FROM answers a \
         JOIN survey_sessions i ON i.id = a.survey_session_id WHERE ",
        old_interview!(),
        " LIMIT $3)"
    ),
    concat!(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions s WHERE ",
        old_session!(),
        " AND NOT EXISTS (SELECT 1 FROM segments g WHERE g.session_id = s.id) LIMIT $3 / 50 + 1)"
    ),
    concat!(
        "DELETE FROM survey_sessions WHERE id IN (SELECT id FROM survey_sessions i WHERE ",
        old_interview!(),
        " AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.survey_session_id = i.id) LIMIT $3)"
    ),
];

pub(super) const RELEASE: &str = "DELETE FROM session_owners WHERE owner = $1";

pub(super) type OwnerRow = (i64, String);
pub(super) type HolderRow = (i64, i64, String);

pub(super) fn owner((id, url): OwnerRow) -> Owner {
    Owner { id: RowId(id), url }
}

/// What has changed: `before` are the sessions that the owner held, `after` says who holds each now.
pub(super) fn held(owner: RowId, before: &[(i64,)], after: Vec<HolderRow>) -> Held {
    let mut held = Held::default();
    for (session, holder, url) in after {
        if holder != owner.0 {
            held.elsewhere.push(Elsewhere {
                session: RowId(session),
                url,
            });
        } else if !before.contains(&(session,)) {
            held.taken.push(RowId(session));
        }
    }
    held
}

type Text = Option<String>;
pub(super) type SessionRow = (i64, String, Text, Text, String, bool, i64, Option<i64>);
pub(super) type ParticipantRow = (i64, i64, String, Text, String, i64);
pub(super) type TrackRow = (i64, i64, i64, String, i64, Option<i64>, Option<i64>);
pub(super) type JobRow = (i64, String, i64);
pub(super) type JobPieceRow = (i64, i64, String, i64, i64);
#[rustfmt::skip]
pub(super) type SegmentRow = (i64, i64, i64, String, String, i64, i64, Text, Option<f64>, String, Text, i64);
pub(super) type SurveyRow = (String, i64, String);
pub(super) type InterviewRow = (
    i64,
    String,
    i64,
    Option<i64>,
    Text,
    String,
    i64,
    Option<i64>,
);
pub(super) type AnswerRow = (i64, String, i64, String, String, Option<i64>, i64);

pub(super) fn session(row: SessionRow) -> Session {
    let (id, slug, title, language, deliver, open, created_ms, ended_ms) = row;
    Session {
        id: RowId(id),
        slug,
        title,
        language,
        deliver,
        open,
        created_ms,
        ended_ms,
    }
}

pub(super) fn participant(row: ParticipantRow) -> Participant {
    let (id, session_id, user, name, role, joined_ms) = row;
    Participant {
        id: RowId(id),
        session_id: RowId(session_id),
        user,
        name,
        role,
        joined_ms,
    }
}

pub(super) fn track(row: TrackRow) -> Track {
    let (id, session_id, participant_id, provider, started_ms, audio_ms, ended_ms) = row;
    Track {
        id: RowId(id),
        session_id: RowId(session_id),
        participant_id: RowId(participant_id),
        provider,
        started_ms,
        audio_ms,
        ended_ms,
    }
}

pub(super) fn job((track_id, job, start_ms): JobRow) -> ProviderJob {
    ProviderJob {
        track_id: RowId(track_id),
        job,
        start_ms,
    }
}

pub(super) fn job_piece((track_id, number, job, job_ms, start_ms): JobPieceRow) -> JobPiece {
    JobPiece {
        track_id: RowId(track_id),
        number,
        job,
        job_ms,
        start_ms,
    }
}

#[rustfmt::skip]
pub(super) fn segment(row: SegmentRow) -> Segment {
    let (session_id, seq, track_id, kind, source, start_ms, end_ms, language, confidence, text, words, created_ms) = row;
    Segment {
        session_id: RowId(session_id), seq, track_id: RowId(track_id), kind: SegmentKind::named(&kind),
        source, start_ms, end_ms, language, confidence, text, words, created_ms,
    }
}

pub(super) fn survey((id, version, definition): SurveyRow) -> SurveyVersion {
    SurveyVersion {
        id,
        version,
        definition,
    }
}

pub(super) fn interview(row: InterviewRow) -> Interview {
    let (id, survey_id, version, session_id, respondent, language, started_ms, ended_ms) = row;
    Interview {
        id: RowId(id),
        survey_id,
        version,
        session_id: session_id.map(RowId),
        respondent,
        language,
        started_ms,
        ended_ms,
    }
}

pub(super) fn progress((answers, ended_ms): (i64, Option<i64>)) -> Progress {
    Progress {
        answers: usize::try_from(answers).unwrap_or(0),
        ended_ms,
    }
}

pub(super) fn answer(row: AnswerRow) -> Answer {
    let (interview_id, question_id, revision, request_id, value, segment_seq, created_ms) = row;
    Answer {
        interview_id: RowId(interview_id),
        question_id,
        revision,
        request_id,
        value,
        segment_seq,
        created_ms,
    }
}

/// The reading half of [`Store`](super::Store) over `self.readers`: once, for both engines.
macro_rules! reads {
    () => {
        fn session<'a>(&'a self, slug: &'a str) -> Answered<'a, Option<Session>> {
            read!(self, fetch_optional, rows::SESSION, [slug], |row| {
                rows::maybe(row, rows::session)
            })
        }
        fn participants(&self, session: RowId) -> Answered<'_, Vec<Participant>> {
            read!(self, fetch_all, rows::PARTICIPANTS, [session.0], |all| {
                rows::each(all, rows::participant)
            })
        }
        fn tracks(&self, session: RowId) -> Answered<'_, Vec<Track>> {
            read!(
                self,
                fetch_all,
                rows::TRACKS,
                [session.0],
                |all| rows::each(all, rows::track)
            )
        }
        fn segments(&self, session: RowId, after: i64, limit: u32) -> Answered<'_, Vec<Segment>> {
            read!(
                self,
                fetch_all,
                rows::SEGMENTS,
                [session.0, after, i64::from(limit)],
                |all| rows::each(all, rows::segment)
            )
        }
        fn jobs(&self, session: RowId) -> Answered<'_, Vec<ProviderJob>> {
            read!(self, fetch_all, rows::JOBS, [session.0], |all| rows::each(
                all,
                rows::job
            ))
        }
        fn job_pieces(&self, track: RowId) -> Answered<'_, Vec<JobPiece>> {
            read!(self, fetch_all, rows::JOB_PIECES, [track.0], |all| {
                rows::each(all, rows::job_piece)
            })
        }
        fn audio_ms(&self, since_ms: i64) -> Answered<'_, i64> {
            read!(self, fetch_one, rows::AUDIO_MS, [since_ms], |(ms,): (
                i64,
            )| ms)
        }
        fn spent_ms(&self, day: i64, but: RowId) -> Answered<'_, i64> {
            read!(self, fetch_one, rows::SPENT_MS, [day, but.0], |(ms,): (
                i64,
            )| ms)
        }
        fn last_seq(&self, session: RowId) -> Answered<'_, i64> {
            read!(self, fetch_one, rows::LAST_SEQ, [session.0], |(seq,): (
                i64,
            )| seq)
        }
        fn survey<'a>(&'a self, id: &'a str) -> Answered<'a, Option<SurveyVersion>> {
            read!(self, fetch_optional, rows::SURVEY, [id], |row| rows::maybe(
                row,
                rows::survey
            ))
        }
        fn survey_version<'a>(
            &'a self,
            id: &'a str,
            version: i64,
        ) -> Answered<'a, Option<SurveyVersion>> {
            read!(
                self,
                fetch_optional,
                rows::SURVEY_VERSION,
                [id, version],
                |row| rows::maybe(row, rows::survey)
            )
        }
        fn interview(&self, id: RowId) -> Answered<'_, Option<Interview>> {
            read!(self, fetch_optional, rows::INTERVIEW, [id.0], |row| {
                rows::maybe(row, rows::interview)
            })
        }
        fn progress(&self, interview: RowId) -> Answered<'_, Option<Progress>> {
            read!(self, fetch_optional, rows::PROGRESS, [interview.0], |row| {
                rows::maybe(row, rows::progress)
            })
        }
        fn interview_of<'a>(
            &'a self,
            survey: &'a str,
            respondent: &'a str,
        ) -> Answered<'a, Option<Interview>> {
            read!(
                self,
                fetch_optional,
                rows::INTERVIEW_OF,
                [survey, respondent],
                |row| rows::maybe(row, rows::interview)
            )
        }
        fn interview_in(&self, session: RowId) -> Answered<'_, Option<Interview>> {
            read!(
                self,
                fetch_optional,
                rows::INTERVIEW_IN,
                [session.0],
                |row| { rows::maybe(row, rows::interview) }
            )
        }
        fn interviews<'a>(
            &'a self,
            survey: &'a str,
            after: RowId,
            limit: u32,
        ) -> Answered<'a, Vec<Interview>> {
            read!(
                self,
                fetch_all,
                rows::INTERVIEWS,
                [survey, after.0, i64::from(limit)],
                |all| rows::each(all, rows::interview)
            )
        }
        fn answers(&self, interview: RowId) -> Answered<'_, Vec<Answer>> {
            read!(self, fetch_all, rows::ANSWERS, [interview.0], |all| {
                rows::each(all, rows::answer)
            })
        }
    };
}

/// One query, with its values, and what is made of its rows.
macro_rules! read {
    ($store:ident, $fetch:ident, $sql:expr, [$($value:expr),*], $made:expr) => {
        answered(async move {
            let mut taken = $store.readers.take().await?;
            let found = sqlx::query_as($sql)$(.bind($value))*.$fetch(&mut taken.connection).await?;
            taken.give_back();
            let made = $made;
            Ok(made(found))
        })
    };
}

pub(super) use {read, reads};

pub(super) fn maybe<R, T>(row: Option<R>, made: impl Fn(R) -> T) -> Option<T> {
    row.map(made)
}

pub(super) fn each<R, T>(rows: Vec<R>, made: impl Fn(R) -> T) -> Vec<T> {
    rows.into_iter().map(made).collect()
}
