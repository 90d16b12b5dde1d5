//! `/api/sessions`: transcription sessions, for the app and for who takes part.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use voicematch_protocol::transcribe::{Deliver, EndReason, Role, TranscribeError};
use voicematch_transcribe::{
    record::{Participant, RowId, Session},
    session::participant_name,
    sessions::{NewParticipant, NewSession, Refusal, View},
};

use super::{Answer, Caller, Problem, Refused, RefusedBody};
use crate::transcribe::{Opens, Transcribe};

type Answered = Result<Answer, Refusal>;

/// A session to be created
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct Create {
    /// Its name: 1 to 64 of A-Z a-z 0-9 _ -; made by the server if it is left out
    #[schema(example = "interview-7")]
    slug: Option<String>,
    /// For people
    title: Option<String>,
    /// What is spoken, such as "en" or "de-AT"
    language: Option<String>,
    /// Who receives the transcript: `host`, `own` (each speaker also what it has said itself), or `listeners`
    #[schema(value_type = Option<String>, example = "host")]
    deliver: Option<Deliver>,
    /// Whether anybody may join as a speaker
    open: bool,
}

/// A session was created
#[derive(Serialize, ToSchema)]
struct Created<'a> {
    slug: &'a str,
    /// Opens `/transcribe` as the host, and whatever is allowed to the host here
    host_token: String,
    /// The host's id as a participant
    host: String,
    /// Whether somebody transcribes
    transcribed: bool,
}

/// Somebody who is to take part
#[derive(Deserialize, ToSchema)]
pub(super) struct Join {
    /// The app's name for the user; joining again with the same one is the same participant
    user: String,
    /// What others see
    name: Option<String>,
    /// `speaker` or `listener`
    #[schema(value_type = Option<String>, example = "speaker")]
    role: Option<Role>,
}

/// Somebody takes part
#[derive(Serialize, ToSchema)]
struct Joined {
    participant: Pass,
    /// Whether somebody transcribes
    transcribed: bool,
}

/// A participant with the token that opens `/transcribe`
#[derive(Serialize, ToSchema)]
struct Pass {
    id: String,
    role: String,
    token: String,
}

/// How a session is
#[derive(Serialize, ToSchema)]
struct Shown<'a> {
    slug: &'a str,
    title: Option<&'a str>,
    language: Option<&'a str>,
    deliver: &'a str,
    open: bool,
    /// Milliseconds since 1970
    created_ms: i64,
    /// Milliseconds since 1970; null while it goes on
    ended_ms: Option<i64>,
    participants: Vec<Person<'a>>,
    /// The number of the last segment
    segments: i64,
    /// All segments up to this number are stored
    stored_through: i64,
}

/// Somebody who takes part
#[derive(Serialize, ToSchema)]
struct Person<'a> {
    id: String,
    user: &'a str,
    name: Option<&'a str>,
    role: &'a str,
    /// Whether they have a connection now
    connected: bool,
}

/// A session was ended
#[derive(Serialize, ToSchema)]
struct Ended<'a> {
    /// Its slug
    ended: &'a str,
}

/// A session was deleted
#[derive(Serialize, ToSchema)]
struct Deleted<'a> {
    /// Its slug
    deleted: &'a str,
}

/// Create a session
#[utoipa::path(post, path = "/api/sessions", tag = "sessions", security(("token" = [])), request_body = Option<Create>, responses(
    (status = 201, body = Created, description = "It is there"),
    (status = 404, body = Problem, description = "At the admin address: this server neither transcribes nor holds surveys"),
    (status = 409, body = Problem, description = "There is a session of this name"),
    (status = 507, body = Problem, description = "Neither the database nor the disk has room"),
    Refused,
    RefusedBody,
))]
pub(super) async fn create(transcribe: &Transcribe, caller: &Caller, new: Create) -> Answered {
    if !caller.sessions {
        return Err(Refusal::new(
            TranscribeError::RoleForbidden,
            "sessions are created at the admin address, or with a token of the app that has the right sessions",
        ));
    }
    let new = NewSession {
        slug: new.slug,
        title: new.title,
        language: new.language,
        deliver: new.deliver,
        open: new.open,
    };
    let (session, host) = transcribe.sessions.create(new).await?;
    let created = Created {
        slug: &session.slug,
        host_token: token(transcribe, &session, &host)?,
        host: participant_name(host.id),
        transcribed: transcribe.transcribes,
    };
    Ok(Answer::json(StatusCode::CREATED, &created))
}

/// Join a session: as the host asks for somebody, or, if it is open, by oneself
#[utoipa::path(post, path = "/api/sessions/{slug}/participants/join", tag = "sessions", security((), ("token" = [])), request_body = Join,
    params(("slug" = String, Path, description = "The session's name")),
    responses(
        (status = 200, body = Joined, description = "The participant, with a token that is good for 12 hours"),
        (status = 404, body = Problem, description = "There is no such session"),
        (status = 409, body = Problem, description = "This user takes part already, and the token of that was not shown"),
        (status = 410, body = Problem, description = "The session has ended"),
        (status = 507, body = Problem, description = "Neither the database nor the disk has room"),
        Refused,
        RefusedBody,
    ))]
pub(super) async fn join(
    transcribe: &Transcribe,
    caller: &Caller,
    slug: &str,
    join: Join,
) -> Answered {
    if may_rule(caller, slug).is_err() {
        transcribe.let_in_stranger(caller)?;
    }
    let view = transcribe.sessions.stored_view(slug).await?;
    let own = shown_as(caller, slug).filter(|(id, _)| takes_part(&view, *id));
    let has_right = caller.sessions || matches!(own, Some((_, Role::Host)));
    if !has_right && own.is_none() && !view.row.open {
        return Err(Refusal::new(
            TranscribeError::RoleForbidden,
            "this session is not open: join with its host_token, or with a token of the app that has the right sessions",
        ));
    }
    let role = join.role.unwrap_or(Role::Speaker);
    let is_own = own.is_some_and(|(own, _)| {
        let mut people = view.participants.iter();
        people.any(|(person, _)| person.id == own && person.user == join.user)
    });
    if role != Role::Speaker && !has_right && !is_own || role == Role::Host {
        return Err(Refusal::new(
            TranscribeError::RoleForbidden,
            "you may join as speaker; the host is who has the host_token",
        ));
    }
    let new = NewParticipant {
        user: join.user,
        name: join.name,
        role,
    };
    let joined = transcribe
        .sessions
        .join(slug, new, has_right || is_own)
        .await;
    let (session, person) = joined?;
    let pass = Pass {
        id: participant_name(person.id),
        token: token(transcribe, &session, &person)?,
        role: person.role,
    };
    let joined = Joined {
        participant: pass,
        transcribed: transcribe.transcribes,
    };
    Ok(Answer::json(StatusCode::OK, &joined))
}

/// Who takes part, and how far it is
#[utoipa::path(get, path = "/api/sessions/{slug}", tag = "sessions", security(("token" = [])),
    params(("slug" = String, Path, description = "The session's name")),
    responses(
        (status = 200, body = Shown, description = "How it is"),
        (status = 404, body = Problem, description = "There is no such session"),
        Refused,
    ))]
pub(super) async fn show(transcribe: &Transcribe, caller: &Caller, slug: &str) -> Answered {
    if shown_as(caller, slug).is_none() {
        may_rule(caller, slug)?;
    }
    let view = transcribe.sessions.view(slug).await?;
    is_of(caller, &view)?;
    Ok(Answer::json(StatusCode::OK, &shown(&view)))
}

/// Delete a session with all that was said in it
#[utoipa::path(delete, path = "/api/sessions/{slug}", tag = "sessions", security(("token" = [])),
    params(("slug" = String, Path, description = "The session's name")),
    responses(
        (status = 200, body = Deleted, description = "It is gone"),
        (status = 404, body = Problem, description = "There is no such session"),
        (status = 507, body = Problem, description = "Neither the database nor the disk has room"),
        Refused,
    ))]
pub(super) async fn delete(transcribe: &Transcribe, caller: &Caller, slug: &str) -> Answered {
    rules(transcribe, caller, slug).await?;
    transcribe.sessions.delete(slug).await?;
    Ok(Answer::json(StatusCode::OK, &Deleted { deleted: slug }))
}

/// End a session
#[utoipa::path(post, path = "/api/sessions/{slug}/end", tag = "sessions", security(("token" = [])),
    params(("slug" = String, Path, description = "The session's name")),
    responses(
        (status = 200, body = Ended, description = "It has ended, and all that was said is text or a gap"),
        (status = 404, body = Problem, description = "There is no such session"),
        (status = 410, body = Problem, description = "It has ended before"),
        (status = 507, body = Problem, description = "Neither the database nor the disk has room"),
        Refused,
    ))]
pub(super) async fn end(transcribe: &Transcribe, caller: &Caller, slug: &str) -> Answered {
    rules(transcribe, caller, slug).await?;
    transcribe.sessions.end(slug, EndReason::App).await?;
    Ok(Answer::json(StatusCode::OK, &Ended { ended: slug }))
}

fn token(
    transcribe: &Transcribe,
    session: &Session,
    person: &Participant,
) -> Result<String, Refusal> {
    let role = Role::ALL.iter().find(|role| role.as_str() == person.role);
    transcribe.tokens.sign(Opens::Session {
        slug: session.slug.clone(),
        participant: person.id,
        role: role.copied().unwrap_or(Role::Listener),
    })
}

/// As whom the caller's token opens a session of this name, and in which role.
fn shown_as(caller: &Caller, slug: &str) -> Option<(RowId, Role)> {
    match &caller.opens {
        Some(Opens::Session {
            slug: own,
            participant,
            role,
        }) if own == slug => Some((*participant, *role)),
        _ => None,
    }
}

fn takes_part(view: &View, who: RowId) -> bool {
    let mut people = view.participants.iter();
    people.any(|(person, _)| person.id == who)
}

/// Who may end, delete and export a session of this name. Of which one [`is_of`] finds out.
pub(super) fn may_rule(caller: &Caller, slug: &str) -> Result<(), Refusal> {
    if caller.sessions || matches!(shown_as(caller, slug), Some((_, Role::Host))) {
        return Ok(());
    }
    Err(Refusal::new(
        TranscribeError::RoleForbidden,
        "this needs the session's host_token, or a token of the app that has the right sessions",
    ))
}

/// A token may outlive its session, and the next one may have the same name: the token opens the one in which its participant is.
pub(super) fn is_of(caller: &Caller, view: &View) -> Result<(), Refusal> {
    let shown = shown_as(caller, &view.row.slug);
    if caller.sessions || shown.is_some_and(|(who, _)| takes_part(view, who)) {
        return Ok(());
    }
    Err(Refusal::new(
        TranscribeError::RoleForbidden,
        "this token is of an earlier session of that name",
    ))
}

/// The caller may end and delete this session.
async fn rules(transcribe: &Transcribe, caller: &Caller, slug: &str) -> Result<(), Refusal> {
    may_rule(caller, slug)?;
    if caller.sessions {
        return Ok(());
    }
    is_of(caller, &transcribe.sessions.view(slug).await?)
}

/// The session in which the caller holds an interview: it is to be one of theirs.
pub(super) async fn held_in(
    transcribe: &Transcribe,
    caller: &Caller,
    slug: &str,
) -> Result<RowId, Refusal> {
    let has_right = caller.sessions || caller.surveys;
    if !has_right && shown_as(caller, slug).is_none() {
        return Err(Refusal::new(
            TranscribeError::RoleForbidden,
            "an interview is held in a session by who takes part in it: show the session's token, or leave session out",
        ));
    }
    let view = transcribe.sessions.stored_view(slug).await?;
    if !has_right {
        is_of(caller, &view)?;
    }
    Ok(view.row.id)
}

fn shown(view: &View) -> Shown<'_> {
    let people = view.participants.iter();
    let people = people.map(|(person, connected)| Person {
        id: participant_name(person.id),
        user: &person.user,
        name: person.name.as_deref(),
        role: &person.role,
        connected: *connected,
    });
    Shown {
        slug: &view.row.slug,
        title: view.row.title.as_deref(),
        language: view.row.language.as_deref(),
        deliver: &view.row.deliver,
        open: view.row.open,
        created_ms: view.row.created_ms,
        ended_ms: view.row.ended_ms,
        participants: people.collect(),
        segments: view.last_seq,
        stored_through: view.stored_through,
    }
}
