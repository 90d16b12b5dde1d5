//! Transcription and surveys for operators, and for programs of the app that reach this address.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{DefaultBodyLimit, Request, State},
    middleware,
    response::IntoResponse,
    routing::any,
};
use serde_json::{Value, json};

use super::{Admin, routes::guard};
use crate::{
    http::{Reply, error::HttpError, transcribed},
    transcribe::api::{Call, Caller, MAX_BODY_BYTES},
};
use voicematch_transcribe::store::writer::Health;

/// `/api/...`, for those who may ask `/support`.
pub(super) fn routes(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    let guard = middleware::from_fn_with_state(admin.clone(), guard);
    Router::new()
        .route("/api/{*path}", any(answer))
        .route_layer(guard)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

async fn answer(State(admin): State<Arc<Admin>>, request: Request) -> axum::response::Response {
    call(&admin, request).await.into_response()
}

async fn call(admin: &Admin, request: Request<Body>) -> Reply {
    let Some(transcribe) = &admin.transcribe else {
        return HttpError::NotFound
            .reply("this server neither transcribes nor holds surveys: start it with --transcribe or --survey");
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return HttpError::TooLarge.reply("this body may have 64 KiB at the most");
    };
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        caller: Caller {
            sessions: true,
            surveys: true,
            ..Caller::default()
        },
        body: body.into(),
    };
    transcribed::write(transcribe.call(call).await)
}

/// The figures under the names that requirements of transcription services have for them, for `/metrics` as JSON.
pub(super) fn figures(admin: &Admin) -> Option<[(String, Value); 3]> {
    let figures = admin.transcribe.as_ref()?.figures();
    let queue = json!({
        "queueLength": figures.queue.length,
        "totalQueued": figures.queue.queued,
        "totalFlushed": figures.queue.flushed,
        "totalErrors": figures.queue.errors,
    });
    Some([
        ("activeConnections".to_owned(), figures.connections.into()),
        ("activeGladiaBridges".to_owned(), figures.bridges.into()),
        ("queue".to_owned(), queue),
    ])
}

/// Whether rows are stored elsewhere than in the database: matching goes on without it.
pub(super) fn is_degraded(admin: &Admin) -> bool {
    let transcribe = admin.transcribe.as_ref();
    transcribe.is_some_and(|transcribe| transcribe.health() != Health::Good)
}
