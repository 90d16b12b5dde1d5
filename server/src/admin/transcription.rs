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

/// Adds to `/metrics` as JSON the figures under the names that requirements of transcription and survey services have for them.
/// `BedrockLatency` (of any provider) and `DatabaseLatency` are means in milliseconds, null as long as there is nothing to measure;
/// `ErrorRate` is a part of a hundred.
pub(super) fn add_figures(admin: &Admin, all: &mut Value) {
    let Some(figures) = admin.transcribe.as_ref().map(|it| it.figures()) else {
        return;
    };
    let mean_ms = |name: &str| {
        let histogram = &all[name];
        let mean = histogram["sum"].as_f64()? / histogram["count"].as_f64()?;
        Some(mean * 1000.0).filter(|mean| mean.is_finite())
    };
    let calls = all["survey_tool_calls_total"].as_object();
    let (mut called, mut failed) = (0.0, 0.0);
    for (labels, count) in calls.into_iter().flatten() {
        let count = count.as_f64().unwrap_or(0.0);
        called += count;
        if !labels.split(',').any(|label| label == "ok") {
            failed += count;
        }
    }
    let named = json!({
        "activeConnections": figures.connections,
        "activeGladiaBridges": figures.bridges,
        "queue": {
            "queueLength": figures.queue.length,
            "totalQueued": figures.queue.queued,
            "totalFlushed": figures.queue.flushed,
            "totalErrors": figures.queue.errors,
        },
        "ConcurrentSessions": all["survey_sessions_active"],
        "WebSocketConnections": all["websocket_active_connections"],
        "AudioChunksProcessed": all["transcribe_audio_chunks_total"],
        "BedrockLatency": mean_ms("transcribe_provider_latency_seconds"),
        "DatabaseLatency": mean_ms("transcribe_commit_seconds"),
        "ErrorRate": if called > 0.0 { 100.0 * failed / called } else { 0.0 },
    });
    if let (Value::Object(named), Value::Object(all)) = (named, all) {
        all.extend(named);
    }
}

/// Whether rows are stored elsewhere than in the database: matching goes on without it.
pub(super) fn is_degraded(admin: &Admin) -> bool {
    let transcribe = admin.transcribe.as_ref();
    transcribe.is_some_and(|transcribe| transcribe.health() != Health::Good)
}
