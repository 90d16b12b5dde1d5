//! Surveys over HTTP and over `/transcribe`.

use std::path::Path;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use voicematch_protocol::transcribe::{Said, SaidType, Told, TranscribeError};
use voicematch_transcribe::{
    record::RowId,
    session::Tool as Asked,
    sessions::Refusal,
    survey::{ARGUMENTS_BYTES, Format, Name, Survey, Tool, ToolCall, ToolError},
};

use super::{
    Opens, Transcribe,
    api::{self, Answer, Call, Caller},
    socket,
};
use crate::files;

/// The longest questionnaire, in bytes.
const MAX_SURVEY_BYTES: u64 = 1024 * 1024;

/// Reads a questionnaire. The error has a line for each fault.
pub fn read_file(path: &Path) -> Result<Survey, String> {
    let shown = path.display().to_string();
    let (bytes, _) =
        files::read(path, MAX_SURVEY_BYTES).map_err(|error| format!("--survey: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("--survey: {shown} is not UTF-8"))?;
    Survey::parse(&text, &shown).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("\n")
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Begin {
    respondent: Option<String>,
    language: Option<String>,
    /// The transcription session in which the interview is held.
    session: Option<String>,
}

impl Transcribe {
    /// Answers a request below `/api/surveys`.
    pub(super) async fn answer_survey(
        &self,
        call: &Call,
        parts: &[&str],
    ) -> Result<Answer, Refusal> {
        match (&call.method, parts) {
            (&Method::POST, ["surveys", "sessions", interview, name]) => {
                Ok(self.tool_over_http(call, interview, name).await)
            }
            (&Method::POST, ["surveys", id, "sessions"]) => {
                self.begin(&call.caller, id, api::body(&call.body)?).await
            }
            (&Method::GET, ["surveys", id, file]) => {
                if !call.caller.surveys {
                    return Err(no_right());
                }
                let format = match *file {
                    "answers.csv" => Format::Csv,
                    "answers.jsonl" => Format::JsonLines,
                    _ => return Err(api::nothing(&call.method, &call.path)),
                };
                self.answers(id, format).await
            }
            (method, _) => Err(api::nothing(method, &call.path)),
        }
    }

    async fn begin(&self, caller: &Caller, id: &str, begin: Begin) -> Result<Answer, Refusal> {
        let survey = self.engine.survey(id).ok_or_else(|| {
            Refusal::new(
                TranscribeError::UnknownSession,
                format!("there is no survey {id:.64}"),
            )
        })?;
        if !caller.surveys && !survey.open {
            return Err(no_right());
        }
        let session = match &begin.session {
            Some(slug) => Some(self.sessions.view(slug).await?.row.id),
            None => None,
        };
        let respondent = begin.respondent.map(Name::try_from).transpose();
        let respondent = respondent.map_err(|error| {
            Refusal::new(TranscribeError::BadMessage, format!("respondent: {error}"))
        })?;
        let started = self
            .engine
            .start(id, respondent, begin.language.as_deref(), session)
            .await;
        let started = match started {
            Ok(started) => started,
            Err(error) => return Ok(tool_error(&error)),
        };
        let is_theirs = caller.opens
            == Some(Opens::Interview {
                id: started.interview,
            });
        if started.resumed && !caller.surveys && !is_theirs {
            let message = "this respondent has begun already; use the token that was given then";
            return Err(Refusal::new(TranscribeError::ParticipantKnown, message));
        }
        let token = self.tokens.sign(Opens::Interview {
            id: started.interview,
        })?;
        let body = json!({
            "session": interview_name(started.interview),
            "token": token,
            "resumed": started.resumed,
        });
        let status = if started.resumed {
            StatusCode::OK
        } else {
            StatusCode::CREATED
        };
        Ok(Answer::json(status, &body))
    }

    async fn tool_over_http(&self, call: &Call, interview: &str, name: &str) -> Answer {
        let Some(id) = api::row_id(interview) else {
            return tool_error(&ToolError::UnknownSession);
        };
        let is_theirs = call.caller.opens == Some(Opens::Interview { id });
        if !call.caller.surveys && !is_theirs {
            return Answer::refuse(&no_right());
        }
        let arguments = match api::body::<Value>(&call.body) {
            Ok(arguments) => arguments,
            Err(refusal) => return Answer::refuse(&refusal),
        };
        let tool = match Tool::parse(name, arguments) {
            Ok(tool) => tool,
            Err(error) => {
                return Answer::refuse(&Refusal::new(
                    TranscribeError::BadMessage,
                    error.to_string(),
                ));
            }
        };
        match self.engine.call(ToolCall { session: id, tool }).await {
            Ok(result) => Answer::json(StatusCode::OK, &json!(result)),
            Err(error) => tool_error(&error),
        }
    }

    /// Carries out a call that came over a socket; the error is a code, and a sentence.
    pub(super) async fn call_tool(
        &self,
        id: RowId,
        asked: &Asked,
    ) -> Result<Value, (String, String)> {
        let tool = Tool::parse(&asked.name, asked.arguments.clone()).map_err(|error| {
            (
                TranscribeError::BadMessage.as_str().to_owned(),
                error.to_string(),
            )
        })?;
        match self.engine.call(ToolCall { session: id, tool }).await {
            Ok(result) => Ok(json!(result)),
            Err(error) => Err((error.code().to_owned(), error.to_string())),
        }
    }

    async fn answers(&self, id: &str, format: Format) -> Result<Answer, Refusal> {
        // The file is made in memory: a few at a time.
        let _permit = self.exports.acquire().await;
        let mut export = match self.engine.export(id, format).await {
            Ok(export) => export,
            Err(error) => return Ok(tool_error(&error)),
        };
        let mut file = String::new();
        loop {
            match export.next().await {
                Ok(Some(piece)) => file.push_str(&piece),
                Ok(None) => break,
                Err(error) => return Ok(tool_error(&error)),
            }
        }
        let content_type = match format {
            Format::Csv => "text/csv; charset=utf-8",
            Format::JsonLines => "application/x-ndjson",
        };
        Ok(Answer {
            status: StatusCode::OK,
            content_type,
            body: file.into(),
        })
    }
}

/// The name of an interview in paths and tools.
pub(super) fn interview_name(id: RowId) -> String {
    id.0.to_string()
}

fn no_right() -> Refusal {
    Refusal::new(
        TranscribeError::RoleForbidden,
        "this needs the interview's own token, or a token of the app that has the right surveys",
    )
}

fn tool_error(error: &ToolError) -> Answer {
    let status = match error {
        ToolError::UnknownSurvey(_) | ToolError::UnknownSession | ToolError::UnknownQuestion(_) => {
            StatusCode::NOT_FOUND
        }
        ToolError::NotCurrent(_) | ToolError::SurveyDone | ToolError::RequestIdReused => {
            StatusCode::CONFLICT
        }
        ToolError::InvalidAnswer { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        ToolError::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ToolError::StorageUnavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    Answer::json(status, &json!(error.body()))
}

/// What a respondent's program has said over a socket.
pub(super) enum Request {
    /// It calls a tool.
    Tool(Asked),
    /// This is the answer.
    Answer(String),
}

/// Reads a message of a respondent's program. The error is what it is told.
pub(super) fn read(text: &str) -> Result<Request, String> {
    if text.len() > ARGUMENTS_BYTES {
        return Err(socket::error(
            TranscribeError::BadMessage,
            "this call is too long",
        ));
    }
    let said =
        Said::read(text).map_err(|message| socket::error(TranscribeError::BadMessage, &message))?;
    match said.kind {
        SaidType::Tool => (Asked::read(&said).map(Request::Tool))
            .map_err(|message| socket::error(TranscribeError::BadMessage, message)),
        SaidType::Ping => {
            let pong = serde_json::to_string(&Told::Pong { id: said.id });
            Ok(Request::Answer(pong.unwrap_or_default()))
        }
        _ => Err(socket::error(
            TranscribeError::RoleForbidden,
            "a survey's token takes tool and ping only",
        )),
    }
}
