//! A server of the tools, and clients of it.

use std::sync::Arc;

use http::{StatusCode, header};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rmcp::{
    service::{ClientLifecycleMode, ClientServiceExt},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use voicematch_transcribe::{
    record::RowId,
    survey::{
        Engine, Survey, SurveyMetrics,
        mcp::{self, Scope},
    },
};

use crate::{
    Client, MOBILITY, PATIENCE,
    client::{Http, send},
    memory::Memory,
};

/// A server on a port of its own, and an interview.
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) memory: Arc<Memory>,
    pub(super) interview: RowId,
    pub(super) address: String,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The tokens are `all`, and the id of an interview for that one alone.
fn access(parts: &http::request::Parts) -> Option<Scope> {
    let token = parts
        .headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")?;
    match token {
        "all" => Some(Scope::All),
        id => Some(Scope::One(RowId(id.parse().ok()?))),
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        let memory = Memory::new();
        let survey = Survey::parse(MOBILITY, "mobility.toml").unwrap();
        let engine = Engine::new(
            memory.clone(),
            memory.clone(),
            vec![survey],
            SurveyMetrics::new().unwrap(),
        );
        let interview = engine
            .start("mobility", None, None, None)
            .await
            .unwrap()
            .interview;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = TowerToHyperService::new(mcp::service(engine.clone(), access, Vec::new()));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Self {
            engine,
            memory,
            interview,
            address,
            accepting,
        }
    }

    pub(super) fn uri(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub(super) async fn client(&self, token: &str, lifecycle: ClientLifecycleMode) -> Client {
        let config = StreamableHttpClientTransportConfig::with_uri(self.uri()).auth_header(token);
        let transport = StreamableHttpClientTransport::with_client(Http, config);
        let client = ().serve_with_lifecycle(transport, lifecycle);
        tokio::time::timeout(PATIENCE, client)
            .await
            .unwrap()
            .unwrap()
    }

    pub(super) async fn status(
        &self,
        request: http::request::Builder,
        body: &str,
    ) -> (StatusCode, String) {
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let (status, body) = send(&self.address, request).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
