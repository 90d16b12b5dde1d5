//! What is where at the admin address, and its description (OpenAPI 3.1), which is made of the same code.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::{
    Method, StatusCode, Uri,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::runtime::{Handle, RuntimeMetrics};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

#[cfg(feature = "transcribe")]
use super::transcription;
use super::{Admin, exposition, page, support};
use crate::http::{Reply, error::HttpError, json_reply, reply};

const TEXT: &str = "text/plain; charset=utf-8";

/// The most bytes of a body.
const MAX_BODY_BYTES: usize = 16 * 1024;

type Routes = OpenApiRouter<Arc<Admin>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "The admin address of voicematch-server",
        description = "For operators and their programs; /api/openapi.json, where there is one, describes what is below /api. All who can connect see metrics; what is below /support shows users, and asks for the token of \
                       --admin-token-file, as /debug does where others than users of this machine can connect."
    ),
    modifiers(&Token),
    tags(
        (name = "support", description = "Answers for people who help users"),
        (name = "operation", description = "Is the server well?")
    )
)]
struct Description;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", bearer);
    }
}

/// The description as JSON.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let api = operation()
        .merge(profiles())
        .merge(support())
        .into_openapi();
    api.to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the description could not be written");
        "{}".to_owned()
    })
});

fn operation() -> Routes {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status_page))
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
}

fn profiles() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(profile))
        .route("/debug/pprof", axum::routing::get(profiles_moved))
        .route("/debug/pprof/", axum::routing::get(list_of_profiles))
}

fn support() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(openapi))
        .merge(support::routes())
}

/// All routes.
pub(super) fn router(admin: Arc<Admin>) -> Router {
    let support = support()
        .route_layer(middleware::from_fn_with_state(admin.clone(), guard))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let profiles = profiles().route_layer(middleware::from_fn_with_state(
        admin.clone(),
        guard_profiles,
    ));
    let all = operation().merge(profiles).merge(support);
    let (router, _) = all.split_for_parts();
    #[cfg(feature = "transcribe")]
    let router = router.merge(transcription::routes(&admin));
    router
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .with_state(admin)
}

/// Lets operators through.
pub(super) async fn guard(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    match admin.access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err((error, message)) => error.reply(&message).into_response(),
    }
}

/// Lets those through who may take profiles.
async fn guard_profiles(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match admin.access.check_profiles(request.headers()) {
        Ok(()) => next.run(request).await,
        Err((error, message)) => error.reply(&message).into_response(),
    }
}

/// How the server is, on one screen, for people
#[utoipa::path(get, path = "/", tag = "operation", responses((status = 200, content_type = "text/html", body = String, description = "A page that refreshes itself")))]
async fn status_page(State(admin): State<Arc<Admin>>) -> Reply {
    page::page(&admin)
}

/// Whether the process is alive
#[utoipa::path(get, path = "/livez", tag = "operation", responses((status = 200, content_type = "text/plain", body = String, description = "It is")))]
async fn livez() -> Reply {
    reply(StatusCode::OK, TEXT, "ok\n")
}

/// Whether the server takes new users
#[utoipa::path(get, path = "/readyz", tag = "operation", responses(
    (status = 200, description = "It does; as JSON where it is one of several nodes, or the database of transcripts does not take rows now", content(
        (String = "text/plain"),
        (std::collections::HashMap<String, String> = "application/json"),
    )),
    (status = 503, description = "It drains, or cannot reach the other nodes and has --cluster-required", content(
        (String = "text/plain"),
        (std::collections::HashMap<String, String> = "application/json"),
    )),
))]
async fn readyz(State(admin): State<Arc<Admin>>) -> Reply {
    if admin.shutdown.has_begun() {
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n");
    }
    #[cfg_attr(
        not(feature = "cluster"),
        allow(unused_mut, reason = "nothing else is not ready")
    )]
    let (mut status, mut parts) = (StatusCode::OK, serde_json::Map::new());
    #[cfg(feature = "cluster")]
    if let Some(node) = &admin.node {
        node.describe(&mut parts);
        if !node.is_ready() {
            status = StatusCode::SERVICE_UNAVAILABLE;
        }
    }
    #[cfg(feature = "transcribe")]
    if transcription::is_degraded(&admin) {
        parts.insert("transcribe".into(), "degraded".into());
    }
    if parts.is_empty() {
        return reply(status, TEXT, "ok\n");
    }
    let is_ok = status == StatusCode::OK;
    parts.insert(
        "status".into(),
        if is_ok { "ok" } else { "not ready" }.into(),
    );
    json_reply(status, &parts.into())
}

/// Every metric, for Prometheus; JSON for a client that accepts only that
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, description = "All of them", content(
    (String = "text/plain"),
    (std::collections::HashMap<String, serde_json::Value> = "application/json"),
))))]
async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Reply {
    let workers: Vec<RuntimeMetrics> = admin.workers.iter().map(Handle::metrics).collect();
    let metrics = &admin.context.metrics;
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(only_json) {
        #[cfg_attr(
            not(feature = "transcribe"),
            allow(unused_mut, reason = "nothing is added")
        )]
        let mut figures = exposition::json(metrics, &workers);
        #[cfg(feature = "transcribe")]
        transcription::add_figures(&admin, &mut figures);
        return json_reply(StatusCode::OK, &figures);
    }
    match exposition::text(metrics, &workers) {
        Ok(text) => reply(StatusCode::OK, prometheus::TEXT_FORMAT, text),
        Err(error) => HttpError::Internal.reply(&error.to_string()),
    }
}

/// Where time and memory go: profile, heap and tasks for Go's pprof; flamegraph is a picture
#[utoipa::path(get, path = "/debug/pprof/{name}", tag = "operation", security((), ("token" = [])),
    params(
        ("name" = String, Path, description = "profile, flamegraph, heap or tasks"),
        ("seconds" = Option<f64>, Query, description = "How long to look; 30"),
        ("debug" = Option<u8>, Query, description = "1: tasks as text"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", description = "A profile"),
        support::Guarded,
        (status = 404, body = support::Problem, description = "There is no such profile"),
        (status = 409, body = support::Problem, description = "Another one is being taken"),
    )
)]
async fn profile(State(admin): State<Arc<Admin>>, Path(name): Path<String>, uri: Uri) -> Reply {
    let query = uri.query().unwrap_or_default();
    let profiler = admin.profiler.clone();
    profiler.answer(&name, query, || admin.tasks()).await
}

async fn list_of_profiles(admin: State<Arc<Admin>>, uri: Uri) -> Reply {
    profile(admin, Path(String::new()), uri).await
}

async fn profiles_moved() -> Reply {
    let mut moved = reply(StatusCode::MOVED_PERMANENTLY, TEXT, "see /debug/pprof/\n");
    moved
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::from_static("/debug/pprof/"));
    moved
}

/// This description
#[utoipa::path(get, path = "/support/openapi.json", tag = "support", security(("token" = [])), responses(
    (status = 200, body = std::collections::HashMap<String, serde_json::Value>, description = "OpenAPI 3.1"),
    support::Guarded,
))]
async fn openapi() -> Reply {
    reply(StatusCode::OK, "application/json", DESCRIPTION.as_str())
}

async fn nothing(uri: Uri) -> Reply {
    let path = uri.path();
    HttpError::NotFound.reply(&format!(
        "there is nothing at {path:.80}; try /, /metrics, /support/openapi.json, /debug/pprof/, /livez or /readyz"
    ))
}

async fn other_method(method: Method, uri: Uri) -> Reply {
    let path = uri.path();
    let message = match path.starts_with("/support/") {
        true => format!("{method:.20} is not for {path:.80}; see /support/openapi.json"),
        false => "use GET".to_owned(),
    };
    let mut reply = HttpError::MethodNotAllowed.reply(&message);
    // The router says which there are.
    reply.headers_mut().remove(header::ALLOW);
    reply
}

fn only_json(accept: &str) -> bool {
    accept.split(',').all(|part| {
        let kind = part.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}
