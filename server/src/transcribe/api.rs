//! `/api/sessions` and `/api/surveys`: what the app and its users ask over HTTP.

mod description;
mod exports;
mod sessions;
mod surveys;
mod transcripts;

use std::{net::IpAddr, time::Instant};

use hyper::{Method, StatusCode, body::Bytes};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoResponses, ToSchema};
use voicematch_protocol::transcribe::TranscribeError;
use voicematch_transcribe::{sessions::Refusal, survey::Tool};

use super::{Opens, Transcribe};

/// The most bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How often an address may begin interviews and join sessions in a minute, without a right to it. Each is stored.
pub(super) const STRANGERS_PER_MINUTE: u32 = 60;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// May create, see, end and delete sessions: the operator, or a token of the app with the right `sessions`.
    pub sessions: bool,
    /// May begin and see interviews: the operator, or a token of the app with the right `surveys`.
    pub surveys: bool,
    /// What the token of this server opens that the caller has shown.
    pub opens: Option<Opens>,
    /// The address under which the caller is counted; `None`: it is exempt.
    pub address: Option<IpAddr>,
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
    pub body: Body,
    /// The methods that there are, where another one was asked for.
    pub allow: Option<&'static str>,
    /// The same request at the server that is to be asked.
    pub location: Option<String>,
    /// Where the rest is, as a header `Link` says it.
    pub link: Option<String>,
    /// The seconds after which the same request may be answered.
    pub retry_after: Option<u32>,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// A file that is made while it is sent: behind its last piece there is `None`. Where that does not come, the client is not to
    /// take a part for all.
    Pieces(mpsc::Receiver<Option<Bytes>>),
}

/// Why a request was refused
#[derive(Serialize, ToSchema)]
struct Problem<'a> {
    /// For programs
    #[schema(example = "unknown_session")]
    code: &'a str,
    /// For people: what was wrong, and what to do
    error: &'a str,
    /// Of `moved`: the server that has the session; ask it the same
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://node-2.example.org")]
    url: Option<&'a str>,
}

/// What may be answered at each path.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the description is made of it")]
enum Refused {
    /// Something in the path, the query or the body is wrong
    #[response(status = 400)]
    Bad(#[to_schema] Problem<'static>),
    /// The token is wrong or has expired
    #[response(status = 401)]
    Unauthorized(#[to_schema] Problem<'static>),
    /// The token does not allow this, or there is none
    #[response(status = 403)]
    Forbidden(#[to_schema] Problem<'static>),
    /// The path is not for this method; `Allow` has those that it is for
    #[response(status = 405)]
    OtherMethod(#[to_schema] Problem<'static>),
    /// Another server has the session (`moved`): it is at `url`, and `Location` is this request there
    #[response(status = 421)]
    Misdirected(#[to_schema] Problem<'static>),
    /// Too many sessions, or too many requests
    #[response(status = 429)]
    TooMany(#[to_schema] Problem<'static>),
    /// The server's own fault (`internal`); its log says more
    #[response(status = 500)]
    Failed(#[to_schema] Problem<'static>),
    /// The database does not answer now (`storage_unavailable`), or another server has the session and does not say where (`session_elsewhere`): try
    /// again after `Retry-After`
    #[response(status = 503)]
    Unavailable(#[to_schema] Problem<'static>),
}

/// What may be answered where a request has a body.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the description is made of it")]
enum RefusedBody {
    /// The body did not come within 10 s
    #[response(status = 408)]
    Late(#[to_schema] Problem<'static>),
    /// A body without its length
    #[response(status = 411)]
    NoLength(#[to_schema] Problem<'static>),
    /// The body is too long
    #[response(status = 413)]
    TooLarge(#[to_schema] Problem<'static>),
    /// The body is neither application/json nor text/plain with JSON in it
    #[response(status = 415)]
    OtherType(#[to_schema] Problem<'static>),
}

impl Call {
    /// This request at another server.
    fn at(&self, url: &str) -> String {
        match &*self.query {
            "" => format!("{url}{}", self.path),
            query => format!("{url}{}?{query}", self.path),
        }
    }
}

impl Answer {
    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let mut bytes = serde_json::to_vec(body).unwrap_or_default();
        bytes.push(b'\n');
        Self {
            status,
            content_type: "application/json",
            body: Body::Whole(bytes.into()),
            allow: None,
            location: None,
            link: None,
            retry_after: None,
        }
    }

    fn not_found(message: &str) -> Self {
        let problem = Problem {
            code: "not_found",
            error: message,
            url: None,
        };
        Self::json(StatusCode::NOT_FOUND, &problem)
    }

    fn other_method(method: &Method, path: &str, methods: &'static str) -> Self {
        let problem = Problem {
            code: "method_not_allowed",
            error: &format!("{method:.20} is not for {path:.80}; use {methods}"),
            url: None,
        };
        Self {
            allow: Some(methods),
            ..Self::json(StatusCode::METHOD_NOT_ALLOWED, &problem)
        }
    }

    /// What a refusal says. [`Transcribe::refuse`] counts it, too.
    fn refuse(refusal: &Refusal) -> Self {
        let problem = Problem {
            code: refusal.code.as_str(),
            error: &refusal.message,
            url: refusal.url.as_deref(),
        };
        Self {
            retry_after: retry_after(refusal.code),
            ..Self::json(status(refusal.code), &problem)
        }
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
        | TranscribeError::StorageUnavailable
        | TranscribeError::SessionElsewhere
        | TranscribeError::Draining => StatusCode::SERVICE_UNAVAILABLE,
        // No redirect: clients follow one to another host without their Authorization, and pages do not see where it leads.
        TranscribeError::Moved => StatusCode::MISDIRECTED_REQUEST,
        TranscribeError::NotTranscribed => StatusCode::NOT_IMPLEMENTED,
        TranscribeError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The seconds after which the same request may be answered.
fn retry_after(code: TranscribeError) -> Option<u32> {
    match code {
        // It may be free, or back, by then.
        TranscribeError::SessionElsewhere | TranscribeError::StorageUnavailable => Some(2),
        TranscribeError::RateLimited => Some(5),
        _ => None,
    }
}

impl Transcribe {
    /// Somebody without a right to it begins an interview, or joins a session.
    fn let_in_stranger(&self, caller: &Caller) -> Result<(), Refusal> {
        let now = Instant::now();
        if self.strangers.wait(caller.address, now).is_some() {
            let message = format!(
                "from one address {STRANGERS_PER_MINUTE} interviews and participants a minute may begin without a token of the app; wait, or show one"
            );
            return Err(Refusal::new(TranscribeError::RateLimited, message));
        }
        self.strangers.charge(caller.address, now);
        Ok(())
    }

    /// Answers a request.
    pub(super) async fn answer_call(&self, call: Call) -> Answer {
        match self.try_answer(&call).await {
            Ok(answer) => answer,
            Err(refusal) => Answer {
                location: refusal.url.as_deref().map(|url| call.at(url)),
                ..self.refuse(&refusal)
            },
        }
    }

    /// Refuses a request.
    pub fn refuse(&self, refusal: &Refusal) -> Answer {
        self.session_metrics.refused(refusal.code);
        Answer::refuse(refusal)
    }

    async fn try_answer(&self, call: &Call) -> Result<Answer, Refusal> {
        let path = call.path.strip_prefix("/api/").unwrap_or(&call.path);
        let parts: Vec<_> = path.split('/').collect();
        let (caller, sent) = (&call.caller, &call.body);
        match (&call.method, &parts[..]) {
            (&Method::GET, ["openapi.json"]) => Ok(description::answer()),
            (&Method::POST, ["sessions"]) => sessions::create(self, caller, body(sent)?).await,
            (&Method::POST, ["sessions", slug, "participants", "join"]) => {
                sessions::join(self, caller, slug, body(sent)?).await
            }
            (&Method::GET, ["sessions", slug]) => sessions::show(self, caller, slug).await,
            (&Method::DELETE, ["sessions", slug]) => sessions::delete(self, caller, slug).await,
            (&Method::POST, ["sessions", slug, "end"]) => sessions::end(self, caller, slug).await,
            (&Method::GET, ["sessions", slug, file]) if file.starts_with("transcript.") => {
                transcripts::transcript(self, caller, slug, file, &call.query).await
            }
            (&Method::POST, ["surveys", "sessions", interview, "get_next_question"]) => {
                Ok(surveys::get_next_question(self, call, interview).await)
            }
            (&Method::POST, ["surveys", "sessions", interview, "validate_answer"]) => {
                Ok(surveys::validate_answer(self, call, interview).await)
            }
            (&Method::POST, ["surveys", "sessions", interview, "record_response"]) => {
                Ok(surveys::record_response(self, call, interview).await)
            }
            (&Method::POST, ["surveys", id, "sessions"]) => {
                surveys::begin(self, caller, id, body(sent)?).await
            }
            (&Method::GET, ["surveys", id, file]) if file.starts_with("answers.") => {
                surveys::answers(self, caller, id, file, &call.query).await
            }
            (method, parts) => match allowed(parts) {
                Some(methods) => Ok(Answer::other_method(method, &call.path, methods)),
                None => {
                    let path = &call.path;
                    let message = format!("there is nothing at {path:.100}; see /api/openapi.json");
                    Ok(Answer::not_found(&message))
                }
            },
        }
    }
}

/// What a request in JSON asks for; no body, or null, is an empty object.
fn body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let is_nothing = matches!(body.trim_ascii(), b"" | b"null");
    let body = if is_nothing { b"{}" } else { body };
    // Values in an array are no names for them.
    if body.trim_ascii_start().first() == Some(&b'[') {
        let message = "the body is an array, and an object is expected here";
        return Err(Refusal::new(TranscribeError::BadMessage, message));
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(
            TranscribeError::BadMessage,
            format!("the body is not the JSON that is expected here: {error:.200}"),
        )
    })
}

/// The methods for this path; `None`: there is nothing.
fn allowed(parts: &[&str]) -> Option<&'static str> {
    Some(match parts {
        ["openapi.json"] => "GET",
        ["sessions"] | ["sessions", _, "participants", "join"] | ["sessions", _, "end"] => "POST",
        ["sessions", _] => "GET, DELETE",
        ["sessions", _, file] if file.starts_with("transcript.") => "GET",
        ["surveys", "sessions", _, tool] if Tool::NAMES.contains(tool) => "POST",
        ["surveys", _, "sessions"] => "POST",
        ["surveys", _, file] if file.starts_with("answers.") => "GET",
        _ => return None,
    })
}
