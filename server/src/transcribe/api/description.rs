//! The description of the API (OpenAPI 3.1), which is made of the functions that answer.

use std::sync::LazyLock;

use hyper::{StatusCode, body::Bytes};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Description,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{Answer, Body, sessions, surveys, transcripts};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Transcription sessions and surveys of voicematch-server",
        description = "At the public address with a token of the app that has the rights `sessions` or `surveys`, the token of a session or of an \
                       interview; at the admin address with the token of operators. Audio and transcripts go over the WebSocket `/transcribe`."
    ),
    paths(
        sessions::create,
        sessions::join,
        sessions::show,
        sessions::delete,
        sessions::end,
        transcripts::transcript,
        surveys::begin,
        surveys::get_next_question,
        surveys::validate_answer,
        surveys::record_response,
        surveys::answers,
    ),
    modifiers(&Token),
    tags(
        (name = "sessions", description = "Who speaks, and what was said"),
        (name = "surveys", description = "Interviews by a questionnaire")
    )
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut Description) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", bearer);
    }
}

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    Api::openapi().to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the description could not be written");
        "{}".to_owned()
    })
});

/// Everybody may see it.
pub(super) fn answer() -> Answer {
    Answer {
        status: StatusCode::OK,
        content_type: "application/json",
        body: Body::Whole(Bytes::from_static(DESCRIPTION.as_bytes())),
        allow: None,
        location: None,
        link: None,
        retry_after: None,
    }
}
