//! `/api/sessions` and `/api/surveys`: what the app and its users ask over HTTP.

use hyper::{Method, StatusCode, body::Bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use voicematch_protocol::transcribe::{Deliver, EndReason, Role, TranscribeError};
use voicematch_transcribe::{
    export::{self, Format, Speakers},
    record::{Participant, RowId, Session},
    session::participant_name,
    sessions::{NewParticipant, NewSession, Refusal, View},
};

use super::{Opens, Transcribe};

/// The most bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Segments that are read at once for a transcript, and in all.
const PAGE: u32 = 1_000;
const MAX_SEGMENTS: usize = 200_000;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// May create, see, end and delete sessions: the operator, or a token of the app with the right `sessions`.
    pub sessions: bool,
    /// May begin and see interviews: the operator, or a token of the app with the right `surveys`.
    pub surveys: bool,
    /// What the token of this server opens that the caller has shown.
    pub opens: Option<Opens>,
}

/// A request.
#[derive(Debug)]
pub struct Call {
    /// How.
    pub method: Method,
    /// The path, from `/api/` on.
    pub path: String,
    /// Its query.
    pub query: String,
    /// Who asks.
    pub caller: Caller,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: format!("{body}\n").into(),
        }
    }

    /// What a refusal says.
    pub fn refuse(refusal: &Refusal) -> Self {
        Self::json(
            status(refusal.code),
            &json!({ "code": refusal.code.as_str(), "error": refusal.message }),
        )
    }
}

/// The status of each refusal.
pub fn status(code: TranscribeError) -> StatusCode {
    match code {
        TranscribeError::UnknownSession => StatusCode::NOT_FOUND,
        TranscribeError::SessionEnded => StatusCode::GONE,
        TranscribeError::SlugTaken | TranscribeError::ParticipantKnown => StatusCode::CONFLICT,
        TranscribeError::TokenInvalid | TranscribeError::TokenExpired => StatusCode::UNAUTHORIZED,
        TranscribeError::RoleForbidden => StatusCode::FORBIDDEN,
        TranscribeError::BadSlug
        | TranscribeError::BadMessage
        | TranscribeError::UnknownType
        | TranscribeError::BadAudio
        | TranscribeError::UnsupportedRate
        | TranscribeError::AudioRateMismatch => StatusCode::BAD_REQUEST,
        TranscribeError::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        TranscribeError::TooManySessions
        | TranscribeError::TooManyTracks
        | TranscribeError::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        TranscribeError::ProviderDown
        | TranscribeError::ProviderBusy
        | TranscribeError::Budget
        | TranscribeError::Draining => StatusCode::SERVICE_UNAVAILABLE,
        TranscribeError::NotTranscribed => StatusCode::NOT_IMPLEMENTED,
        TranscribeError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    slug: Option<String>,
    title: Option<String>,
    language: Option<String>,
    deliver: Option<Deliver>,
    open: bool,
}

#[derive(Deserialize)]
struct Join {
    user: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    role: Option<Role>,
}

impl Transcribe {
    /// Answers a request.
    pub(super) async fn answer_call(&self, call: Call) -> Answer {
        match self.try_answer(&call).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::refuse(&refusal),
        }
    }

    async fn try_answer(&self, call: &Call) -> Result<Answer, Refusal> {
        let path = call.path.strip_prefix("/api/").unwrap_or(&call.path);
        let parts: Vec<_> = path.split('/').collect();
        let caller = &call.caller;
        match (&call.method, &parts[..]) {
            (&Method::POST, ["sessions"]) => self.create(caller, body(&call.body)?).await,
            (&Method::POST, ["sessions", slug, "participants", "join"]) => {
                self.join(caller, slug, body(&call.body)?).await
            }
            (&Method::GET, ["sessions", slug]) => {
                may_see(caller, slug)?;
                let view = self.sessions.view(slug).await?;
                Ok(Answer::json(StatusCode::OK, &view_json(&view)))
            }
            (&Method::DELETE, ["sessions", slug]) => {
                may_rule(caller, slug)?;
                self.sessions.delete(slug).await?;
                Ok(Answer::json(StatusCode::OK, &json!({ "deleted": slug })))
            }
            (&Method::POST, ["sessions", slug, "end"]) => {
                may_rule(caller, slug)?;
                self.sessions.end(slug, EndReason::App).await?;
                Ok(Answer::json(StatusCode::OK, &json!({ "ended": slug })))
            }
            (&Method::GET, ["sessions", slug, file]) if file.starts_with("transcript.") => {
                may_rule(caller, slug)?;
                self.transcript(slug, file, &call.query).await
            }
            (method, ["sessions", ..]) => Err(nothing(method, &call.path)),
            _ => self.answer_survey(call, &parts).await,
        }
    }

    async fn create(&self, caller: &Caller, new: Create) -> Result<Answer, Refusal> {
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
        let (session, host) = self.sessions.create(new).await?;
        let token = self.token(&session, &host)?;
        let body = json!({
            "slug": session.slug,
            "host_token": token,
            "host": participant_name(host.id),
            "transcribed": self.transcribes,
        });
        Ok(Answer::json(StatusCode::CREATED, &body))
    }

    async fn join(&self, caller: &Caller, slug: &str, join: Join) -> Result<Answer, Refusal> {
        let is_host = is_host_of(caller, slug);
        let has_right = caller.sessions || is_host;
        let own = match &caller.opens {
            Some(Opens::Session {
                slug: own,
                participant,
                ..
            }) if own == slug => Some(*participant),
            _ => None,
        };
        let view = self.sessions.view(slug).await?;
        if !has_right && own.is_none() && !view.row.open {
            return Err(Refusal::new(
                TranscribeError::RoleForbidden,
                "this session is not open: join with its host_token, or with a token of the app that has the right sessions",
            ));
        }
        let role = join.role.unwrap_or(Role::Speaker);
        let is_own = own.is_some_and(|own| {
            view.participants
                .iter()
                .any(|(person, _)| person.id == own && person.user == join.user)
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
        let (session, person) = self.sessions.join(slug, new, has_right || is_own).await?;
        let token = self.token(&session, &person)?;
        let body = json!({
            "participant": { "id": participant_name(person.id), "role": person.role, "token": token },
            "transcribed": self.transcribes,
        });
        Ok(Answer::json(StatusCode::OK, &body))
    }

    fn token(&self, session: &Session, person: &Participant) -> Result<String, Refusal> {
        let role = Role::ALL.iter().find(|role| role.as_str() == person.role);
        self.tokens.sign(Opens::Session {
            slug: session.slug.clone(),
            participant: person.id,
            role: role.copied().unwrap_or(Role::Listener),
        })
    }

    async fn transcript(&self, slug: &str, file: &str, query: &str) -> Result<Answer, Refusal> {
        let format = file.strip_prefix("transcript.").and_then(Format::of).ok_or_else(|| {
            Refusal::new(
                TranscribeError::UnknownSession,
                "a transcript is transcript.json, transcript.txt, transcript.srt or transcript.vtt",
            )
        })?;
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("after="));
        let after = after.map(str::parse::<i64>).transpose().map_err(|_| {
            Refusal::new(
                TranscribeError::BadMessage,
                "after is the number of a segment, as in after=41",
            )
        })?;
        // A transcript is made in memory: a few at a time.
        let _permit = self.exports.acquire().await;
        let session = self.sessions.view(slug).await?;
        let (id, mut at) = (session.row.id, after.unwrap_or(0));
        let mut segments = Vec::new();
        loop {
            let page = self.store.segments(id, at, PAGE).await?;
            let Some(last) = page.last() else { break };
            at = last.seq;
            segments.extend(page);
            if segments.len() >= MAX_SEGMENTS {
                let message = format!(
                    "this transcript is too long for one answer; ask for the rest with after={at}"
                );
                tracing::warn!(slug, "{message}");
                break;
            }
        }
        let people: Vec<_> = session
            .participants
            .iter()
            .map(|(person, _)| person.clone())
            .collect();
        let tracks = self.store.tracks(id).await?;
        let speakers = Speakers::new(&tracks, &people);
        Ok(Answer {
            status: StatusCode::OK,
            content_type: format.content_type(),
            body: export::write(format, &session.row, segments, &speakers).into(),
        })
    }
}

/// What a request in JSON asks for; an empty body is an empty object.
pub(super) fn body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(
            TranscribeError::BadMessage,
            format!("the body is not the JSON that is expected here: {error:.200}"),
        )
    })
}

pub(super) fn nothing(method: &Method, path: &str) -> Refusal {
    Refusal::new(
        TranscribeError::UnknownSession,
        format!(
            "there is nothing for {method} at {path:.100}; server/README.md lists what there is"
        ),
    )
}

fn is_host_of(caller: &Caller, slug: &str) -> bool {
    matches!(&caller.opens, Some(Opens::Session { slug: own, role: Role::Host, .. }) if own == slug)
}

/// Who may end, delete and export a session.
fn may_rule(caller: &Caller, slug: &str) -> Result<(), Refusal> {
    if caller.sessions || is_host_of(caller, slug) {
        return Ok(());
    }
    Err(Refusal::new(
        TranscribeError::RoleForbidden,
        "this needs the session's host_token, or a token of the app that has the right sessions",
    ))
}

/// Who may see who is in a session.
fn may_see(caller: &Caller, slug: &str) -> Result<(), Refusal> {
    match &caller.opens {
        Some(Opens::Session { slug: own, .. }) if own == slug => Ok(()),
        _ => may_rule(caller, slug),
    }
}

fn view_json(view: &View) -> Value {
    let people: Vec<_> = (view.participants.iter())
        .map(|(person, connected)| {
            json!({
                "id": participant_name(person.id),
                "user": person.user,
                "name": person.name,
                "role": person.role,
                "connected": connected,
            })
        })
        .collect();
    json!({
        "slug": view.row.slug,
        "title": view.row.title,
        "language": view.row.language,
        "deliver": view.row.deliver,
        "open": view.row.open,
        "created_ms": view.row.created_ms,
        "ended_ms": view.row.ended_ms,
        "participants": people,
        "segments": view.last_seq,
        "stored_through": view.stored_through,
    })
}

/// The id of an interview in a path, as its begin was answered.
pub(super) fn row_id(text: &str) -> Option<RowId> {
    let id = text.parse().ok()?;
    (id > 0).then_some(RowId(id))
}
