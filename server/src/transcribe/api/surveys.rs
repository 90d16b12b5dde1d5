//! `/api/surveys`: interviews by questionnaires, for the app and for who leads them.

use futures_util::{
    StreamExt,
    stream::{iter, try_unfold},
};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use voicematch_protocol::transcribe::TranscribeError;
use voicematch_transcribe::{
    record::RowId,
    sessions::Refusal,
    survey::{
        Checked, ErrorBody, Format, GetNextQuestion, Name, NextQuestion, RecordResponse, Recorded,
        Tool, ToolCall, ToolError, ValidateAnswer,
    },
};

use super::{
    Answer, Call, Caller, Problem, Refused, RefusedBody,
    exports::{self, Place},
    sessions,
};
use crate::transcribe::{Opens, Transcribe};

/// An interview to be begun
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct Begin {
    /// Who is asked: the same respondent goes on with the same interview
    respondent: Option<String>,
    /// Language of the texts, such as "de"; the first of the survey if it is left out
    language: Option<String>,
    /// The transcription session in which the interview is held; it needs the right `surveys` or `sessions`, or that session's token
    session: Option<String>,
}

/// An interview has begun
#[derive(Serialize, ToSchema)]
struct Begun {
    /// The interview's id, digits
    session: String,
    /// Leads this interview
    token: String,
    /// Whether the respondent had begun before
    resumed: bool,
}

/// Begin an interview, or go on with it
#[utoipa::path(post, path = "/api/surveys/{id}/sessions", tag = "surveys", security((), ("token" = [])), request_body = Option<Begin>,
    params(("id" = String, Path, description = "The survey")),
    responses(
        (status = 201, body = Begun, description = "It has begun"),
        (status = 200, body = Begun, description = "The respondent had begun before"),
        (status = 404, body = ErrorBody, description = "There is no such survey, or no such session"),
        (status = 409, body = Problem, description = "The respondent has begun, and the token of that was not shown"),
        Refused,
        RefusedBody,
    ))]
pub(super) async fn begin(
    transcribe: &Transcribe,
    caller: &Caller,
    id: &str,
    begin: Begin,
) -> Result<Answer, Refusal> {
    let Some(survey) = transcribe.engine.survey(id) else {
        let id = id.chars().take(64).collect();
        return Ok(refuse(&ToolError::UnknownSurvey(id)));
    };
    if !caller.surveys {
        if !survey.open {
            return Err(no_right());
        }
        transcribe.let_in_stranger(caller)?;
    }
    let session = match &begin.session {
        Some(slug) => Some(sessions::held_in(transcribe, caller, slug).await?),
        None => None,
    };
    let respondent = begin.respondent.map(Name::try_from).transpose();
    let respondent = respondent.map_err(|error| {
        Refusal::new(TranscribeError::BadMessage, format!("respondent: {error}"))
    })?;
    let language = begin.language.as_deref();
    let started = transcribe
        .engine
        .start(id, respondent, language, session)
        .await;
    let started = match started {
        Ok(started) => started,
        Err(error) => return Ok(refuse(&error)),
    };
    let opens = Opens::Interview {
        id: started.interview,
    };
    let is_theirs = caller.opens.as_ref() == Some(&opens);
    if started.resumed && !caller.surveys && !is_theirs {
        let message = "this respondent has begun already; use the token that was given then";
        return Err(Refusal::new(TranscribeError::ParticipantKnown, message));
    }
    let begun = Begun {
        session: started.interview.0.to_string(),
        token: transcribe.tokens.sign(opens)?,
        resumed: started.resumed,
    };
    let status = if started.resumed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok(Answer::json(status, &begun))
}

/// The question that is to be put to the respondent now; asked again, the same
#[utoipa::path(post, path = "/api/surveys/sessions/{session}/get_next_question", tag = "surveys", security(("token" = [])),
    request_body = Option<GetNextQuestion>,
    params(("session" = String, Path, description = "The interview's id")),
    responses(
        (status = 200, body = NextQuestion, description = "The question, or that the interview is over"),
        (status = 404, body = ErrorBody, description = "There is no such interview"),
        Refused,
        RefusedBody,
    ))]
pub(super) async fn get_next_question(
    transcribe: &Transcribe,
    call: &Call,
    interview: &str,
) -> Answer {
    tool(transcribe, call, interview, "get_next_question").await
}

/// Whether an answer would be accepted; changes nothing
#[utoipa::path(post, path = "/api/surveys/sessions/{session}/validate_answer", tag = "surveys", security(("token" = [])),
    request_body = ValidateAnswer,
    params(("session" = String, Path, description = "The interview's id")),
    responses(
        (status = 200, body = Checked, description = "The answer as it would be stored, or what is wrong with it"),
        (status = 404, body = ErrorBody, description = "There is no such interview, or no such question"),
        (status = 409, body = ErrorBody, description = "Another question is the current one, or the interview is over"),
        Refused,
        RefusedBody,
    ))]
pub(super) async fn validate_answer(
    transcribe: &Transcribe,
    call: &Call,
    interview: &str,
) -> Answer {
    tool(transcribe, call, interview, "validate_answer").await
}

/// Store an answer; the same `request_id` again stores nothing more and is answered the same
#[utoipa::path(post, path = "/api/surveys/sessions/{session}/record_response", tag = "surveys", security(("token" = [])),
    request_body = RecordResponse,
    params(("session" = String, Path, description = "The interview's id")),
    responses(
        (status = 200, body = Recorded, description = "It is stored, and this comes next"),
        (status = 404, body = ErrorBody, description = "There is no such interview, or no such question"),
        (status = 409, body = ErrorBody, description = "Another question is the current one, the interview is over, or the request_id was used for another answer"),
        (status = 422, body = ErrorBody, description = "The answer is not valid"),
        Refused,
        RefusedBody,
    ))]
pub(super) async fn record_response(
    transcribe: &Transcribe,
    call: &Call,
    interview: &str,
) -> Answer {
    tool(transcribe, call, interview, "record_response").await
}

async fn tool(transcribe: &Transcribe, call: &Call, interview: &str, name: &str) -> Answer {
    let Some(id) = interview.parse().ok().filter(|id| *id > 0).map(RowId) else {
        return refuse(&ToolError::UnknownSession);
    };
    let is_theirs = call.caller.opens == Some(Opens::Interview { id });
    if !call.caller.surveys && !is_theirs {
        return transcribe.refuse(&no_right());
    }
    let arguments = match super::body::<Value>(&call.body) {
        Ok(arguments) => arguments,
        Err(refusal) => return transcribe.refuse(&refusal),
    };
    let tool = match Tool::parse(name, arguments) {
        Ok(tool) => tool,
        Err(error) => {
            let refusal = Refusal::new(TranscribeError::BadMessage, error.to_string());
            return transcribe.refuse(&refusal);
        }
    };
    let call = ToolCall { session: id, tool };
    match transcribe.engine.call(call).await {
        Ok(result) => Answer::json(StatusCode::OK, &json!(result)),
        Err(error) => refuse(&error),
    }
}

/// All answers of a survey, also of its earlier versions
#[utoipa::path(get, path = "/api/surveys/{id}/answers.{format}", tag = "surveys", security(("token" = [])),
    params(
        ("id" = String, Path, description = "The survey"),
        ("format" = String, Path, description = "csv or jsonl"),
        ("after" = Option<i64>, Query, description = "Only interviews with a higher id"),
    ),
    responses(
        (status = 200, description = "A line for each answer, interview by interview", content(
            (String = "text/csv"),
            (String = "application/x-ndjson"),
        )),
        (status = 404, body = ErrorBody, description = "There is no such survey, or no such format"),
        Refused,
    ))]
pub(super) async fn answers(
    transcribe: &Transcribe,
    caller: &Caller,
    id: &str,
    file: &str,
    query: &str,
) -> Result<Answer, Refusal> {
    if !caller.surveys {
        return Err(no_right());
    }
    let (format, content_type) = match file {
        "answers.csv" => (Format::Csv, "text/csv; charset=utf-8"),
        "answers.jsonl" => (Format::JsonLines, "application/x-ndjson"),
        _ => {
            return Ok(Answer::not_found(
                "answers are answers.csv or answers.jsonl",
            ));
        }
    };
    let after = exports::after(query)?;
    let place = Place::wait_for(transcribe).await?;
    let export = match transcribe.engine.export(id, format).await {
        Ok(export) => export,
        Err(error) => return Ok(refuse(&error)),
    };
    let mut export = export.behind(RowId(after));
    // Whether the database answers is known when the first piece is there.
    let first = match export.next().await {
        Ok(first) => first,
        Err(error) => return Ok(refuse(&error)),
    };
    let rest = try_unfold(export, async |mut export| {
        let piece = export.next().await?;
        Ok::<_, ToolError>(piece.map(|piece| (piece, export)))
    });
    Ok(Answer {
        status: StatusCode::OK,
        content_type,
        body: place.send(iter(first.map(Ok)).chain(rest)),
        allow: None,
        location: None,
        link: None,
        retry_after: None,
    })
}

fn no_right() -> Refusal {
    Refusal::new(
        TranscribeError::RoleForbidden,
        "this needs the interview's own token, or a token of the app that has the right surveys",
    )
}

fn refuse(error: &ToolError) -> Answer {
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
    let retry_after = match error {
        ToolError::RateLimited => Some(1),
        ToolError::StorageUnavailable => super::retry_after(TranscribeError::StorageUnavailable),
        _ => None,
    };
    Answer {
        retry_after,
        ..Answer::json(status, &error.body())
    }
}
