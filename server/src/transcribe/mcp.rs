//! `/mcp`: the tools of surveys by the Model Context Protocol.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use tower_service::Service;
use voicematch_transcribe::survey::mcp::{McpService, Scope, service};

use super::{Engine, Opens, Transcribe, api::Caller};

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
    pub async fn mcp(
        &self,
        mut request: Request<Incoming>,
        caller: &Caller,
    ) -> Response<Full<hyper::body::Bytes>> {
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
            Some(Response::from_parts(parts, Full::new(body.to_bytes())))
        });
        answer.await.ok().flatten().unwrap_or_else(|| {
            let mut failed = Response::new(Full::from("the server failed here; see its log\n"));
            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            failed
        })
    }
}
