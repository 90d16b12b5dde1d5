//! The survey tools by the Model Context Protocol, over HTTP and over standard input and output.
//!
//! The interview is an argument of each call: there are no sessions of the transport, and a restart costs nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
        Tool as ToolInfo, ToolAnnotations,
    },
    service::RequestContext,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService, stdio_pipes,
        streamable_http_server::session::never::NeverSessionManager,
    },
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;
use tower_service::Service;

use super::{
    engine::Engine,
    error::ToolError,
    tools::{
        ARGUMENTS_BYTES, Checked, GetNextQuestion, NextQuestion, RecordResponse, Recorded, Tool,
        ToolCall, ValidateAnswer, take_session,
    },
};
use crate::record::RowId;

/// Which interviews a caller may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them: the caller has the right `surveys`.
    All,
    /// One: the caller has its token. It need not name it.
    One(RowId),
}

/// Decides on each request who may call; none is refused with 401.
type Access = Arc<dyn Fn(&Parts) -> Option<Scope> + Send + Sync>;

/// The tools over HTTP: a tower service that hyper takes by `TowerToHyperService`. Each answer is one JSON body.
///
/// `hosts` are the names under which the server is reached, with or without a port; without any it answers on
/// loopback names only.
pub fn service(
    engine: Engine,
    access: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static,
    hosts: Vec<String>,
) -> McpService {
    let mut config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(ARGUMENTS_BYTES);
    if !hosts.is_empty() {
        config = config.with_allowed_hosts(hosts);
    }
    let handler = Handler {
        engine,
        scope: None,
    };
    let http = StreamableHttpService::new(move || Ok(handler.clone()), Arc::default(), config);
    McpService {
        http,
        access: Arc::new(access),
    }
}

/// Serves the tools on standard input and output until the input ends.
///
/// # Errors
/// The client does not speak the protocol, or goes away in the middle of a message.
pub async fn stdio(engine: Engine, scope: Scope) -> std::io::Result<()> {
    let handler = Handler {
        engine,
        scope: Some(scope),
    };
    let running = handler
        .serve(stdio_pipes())
        .await
        .map_err(std::io::Error::other)?;
    running.waiting().await.map_err(std::io::Error::other)?;
    Ok(())
}

/// Made by [`service`].
#[derive(Clone)]
pub struct McpService {
    http: StreamableHttpService<Handler, NeverSessionManager>,
    access: Access,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl<B> Service<Request<B>> for McpService
where
    B: http_body::Body<Data: Send, Error: std::fmt::Display> + Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let Some(scope) = (self.access)(&parts) else {
            return Box::pin(async { Ok(refused()) });
        };
        parts.extensions.insert(scope);
        self.http.call(Request::from_parts(parts, body))
    }
}

fn refused() -> Answer {
    let body = r#"{"code":"token_invalid","error":"send the token of the interview as Authorization: Bearer TOKEN"}"#;
    let mut response = Response::new(Full::from(body).boxed());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Arguments with the interview that the other ways of calling know already.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for its schema")]
struct OfSession<T> {
    /// Id of the interview, digits. It may be left out by a caller who may lead one interview only
    session: Option<String>,
    #[serde(flatten)]
    arguments: T,
}

#[derive(Clone)]
struct Handler {
    engine: Engine,
    /// Over HTTP each request has its own.
    scope: Option<Scope>,
}

const INSTRUCTIONS: &str = "You lead an interview by a questionnaire. Call get_next_question and put its text to the \
    respondent. When they have answered, call record_response with `spoken`, their words, or with `value`, the answer \
    as you understand it, and with a new request_id. Its reply has the next question. If it is refused as not valid, \
    explain the hint to the respondent and ask again. If it fails for another reason, do what the text says; to try \
    again send the same request_id. Go on until `done` is true. Never answer for the respondent.";

impl Handler {
    async fn answer(
        &self,
        request: CallToolRequestParams,
        scope: Option<Scope>,
    ) -> Result<Value, String> {
        let mut arguments = Value::Object(request.arguments.unwrap_or_default());
        let named = take_session(&mut arguments).map_err(|error| text(&error))?;
        let session = session(named, scope)?;
        let tool = Tool::parse(&request.name, arguments).map_err(|error| error.to_string())?;
        let result = self.engine.call(ToolCall { session, tool }).await;
        let result = result.map_err(|error| text(&error))?;
        serde_json::to_value(result).map_err(|error| error.to_string())
    }
}

/// The interview that is named or implied, if the caller may lead it.
fn session(named: Option<RowId>, scope: Option<Scope>) -> Result<RowId, String> {
    match (scope, named) {
        (Some(Scope::All), Some(named)) => Ok(named),
        (Some(Scope::All), None) => {
            Err("the argument `session` is missing: it is the id of the interview".to_owned())
        }
        (Some(Scope::One(own)), None) => Ok(own),
        (Some(Scope::One(own)), Some(named)) if own == named => Ok(own),
        // The same whether the interview does not exist or is somebody else's.
        _ => Err(text(&ToolError::UnknownSession)),
    }
}

/// What a language model is told.
fn text(error: &ToolError) -> String {
    format!("{}: {error}", error.code())
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(
                "voicematch-surveys",
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    fn get_tool(&self, name: &str) -> Option<ToolInfo> {
        tools().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let parts = context.extensions.get::<Parts>();
        let scope = self
            .scope
            .or_else(|| parts?.extensions.get::<Scope>().copied());
        let result = match self.answer(request, scope).await {
            Ok(value) => CallToolResult::structured(value),
            Err(text) => CallToolResult::error(vec![ContentBlock::text(text)]),
        };
        Ok(result.into())
    }
}

/// The three tools, as they are offered to a language model.
fn tools() -> Vec<ToolInfo> {
    let asks = |title: &str| {
        ToolAnnotations::with_title(title)
            .read_only(true)
            .open_world(false)
    };
    let records = ToolAnnotations::with_title("Record an answer")
        .read_only(false)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    vec![
        tool::<GetNextQuestion, NextQuestion>(
            "get_next_question",
            "Returns the question to put to the respondent now, with its choices or limits. It changes nothing: asked \
             again it is the same, until record_response has stored an answer. `done` is true when the interview is over.",
            asks("Get the next question"),
        ),
        tool::<ValidateAnswer, Checked>(
            "validate_answer",
            "Checks an answer without storing it. Give `value`, or `spoken` with the respondent's words. Returns the \
             value that would be stored, or the problem and a hint for asking again. record_response makes the same \
             check: call this one only to confirm an answer with the respondent first.",
            asks("Check an answer"),
        ),
        tool::<RecordResponse, Recorded>(
            "record_response",
            "Stores the respondent's answer to the current question and returns the next question. Give `value`, or \
             `spoken` with the respondent's words; value null means that they do not want to answer. Each answer needs \
             a new `request_id`; to repeat a call whose reply was lost use the same one, and the answer is stored once. \
             To correct an earlier answer name its question and set `revise` to true.",
            records,
        ),
    ]
}

fn tool<Arguments: JsonSchema, Reply: JsonSchema>(
    name: &'static str,
    description: &'static str,
    annotations: ToolAnnotations,
) -> ToolInfo {
    let mut tool = ToolInfo::new(name, description, schema::<OfSession<Arguments>>());
    tool.output_schema = Some(Arc::new(schema::<Reply>()));
    tool.annotations = Some(annotations);
    tool
}

/// The schema of a type in one piece, which all models understand.
fn schema<T: JsonSchema>() -> JsonObject {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    schema.remove("title");
    schema.as_object().cloned().unwrap_or_default()
}
