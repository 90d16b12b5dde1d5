//! The tools of surveys by the Model Context Protocol: `/mcp`, and `survey mcp` on standard input and output.

use std::{path::PathBuf, sync::Arc};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use tokio::time::Instant;
use tower_service::Service;
use voicematch_transcribe::{
    store::{
        self,
        metrics::StorageMetrics,
        writer::{Settings, Writer},
    },
    survey::{
        Engine, Name, Survey, SurveyMetrics,
        mcp::{McpService, Scope, service, stdio},
    },
};

use super::{LAST_WRITES, Opens, Transcribe, api::Caller};

/// The longest answer: a question with many choices is far shorter.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The service: who may call is found out before, and stands in the request.
pub(super) fn new(engine: Engine) -> McpService {
    service(
        engine,
        |parts| parts.extensions.get::<Scope>().copied(),
        Vec::new(),
    )
}

impl Transcribe {
    /// Answers a request to `/mcp`.
    pub async fn mcp(&self, mut request: Request<Incoming>, caller: &Caller) -> Response<Bytes> {
        let scope = match caller.opens {
            Some(Opens::Interview { id }) => Some(Scope::One(id)),
            _ => caller.surveys.then_some(Scope::All),
        };
        if let Some(scope) = scope {
            request.extensions_mut().insert(scope);
        }
        // Whose page may ask was decided by its origin, and each call needs a token: the name of the server says nothing.
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("localhost"));
        request.headers_mut().remove(header::ORIGIN);
        let mut service = self.mcp.clone();
        let answer = self.handle.spawn(async move {
            let Ok(answer) = service.call(request).await;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.ok()?;
            Some(Response::from_parts(parts, body.to_bytes()))
        });
        answer.await.ok().flatten().unwrap_or_else(|| {
            let mut failed = Response::new(Bytes::from("the server failed here; see its log\n"));
            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            failed
        })
    }
}

/// An interview that a program on this machine leads.
#[derive(Debug)]
pub struct Interview {
    /// Who is asked; the same one goes on with the same interview.
    pub respondent: Option<Name>,
    /// Language of the texts.
    pub language: Option<String>,
    /// The database's URL.
    pub database: String,
    /// Where rows wait for the database.
    pub state_dir: PathBuf,
}

/// Leads one interview on standard input and output, until the input ends. Answers are stored as the server stores them.
pub async fn lead(survey: Survey, interview: Interview) -> Result<(), String> {
    let failed = |error: prometheus::Error| format!("metrics: {error}");
    let store = store::connect(&interview.database, true).await;
    let store = store.map_err(|error| format!("--database: {error}"))?;
    let metrics = StorageMetrics::new().map_err(failed)?;
    let settings = Settings::new(interview.state_dir);
    let writer = Writer::start(store.clone(), settings, metrics).await;
    let writer = Arc::new(writer.map_err(|error| format!("--database: {error}"))?);
    let id = survey.id.clone();
    let metrics = SurveyMetrics::new().map_err(failed)?;
    let engine = Engine::new(store, writer.clone(), vec![survey], metrics);
    let language = interview.language.as_deref();
    let started = engine
        .start(&id, interview.respondent, language, None)
        .await;
    let started = started.map_err(|error| error.to_string())?;
    let ended = stdio(engine, Scope::One(started.interview)).await;
    match writer.close(Instant::now() + LAST_WRITES).await {
        Some(left) if left.lost > 0 => Err(format!("{} answers are stored nowhere", left.lost)),
        _ => ended.map_err(|error| {
            format!("the MCP client does not speak the protocol, or has gone: {error}")
        }),
    }
}
