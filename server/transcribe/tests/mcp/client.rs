//! The HTTP of rmcp's client over hyper, a connection for each request.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::streamable_http_client::{
        StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use sse_stream::{Error as SseError, Sse};
use tokio::net::TcpStream;

/// Where a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Hyper(#[from] hyper::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] http::Error),
}

#[derive(Clone, Default)]
pub(crate) struct Http;

/// Sends a request and reads its answer whole.
pub(crate) async fn send(
    address: &str,
    request: Request<Full<bytes::Bytes>>,
) -> Result<(StatusCode, bytes::Bytes), Failed> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

/// A POST as the protocol asks for it.
pub(crate) fn post(uri: &str, token: Option<&str>) -> http::request::Builder {
    let host = uri
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let request = Request::post(uri)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "text/event-stream, application/json");
    match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}

impl StreamableHttpClient for Http {
    type Error = Failed;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        _: Option<Arc<str>>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Failed>> {
        let body = serde_json::to_string(&message)?;
        let mut request = post(&uri, token.as_deref());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::from(body))
            .map_err(|error| StreamableHttpError::Client(error.into()))?;
        let address = uri
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or_default();
        let (status, body) = send(address, request)
            .await
            .map_err(StreamableHttpError::Client)?;
        match status {
            StatusCode::ACCEPTED => Ok(StreamableHttpPostResponse::Accepted),
            StatusCode::OK => Ok(StreamableHttpPostResponse::Json(
                serde_json::from_slice(&body)?,
                None,
            )),
            _ => {
                let text = format!("{status}: {}", String::from_utf8_lossy(&body));
                Err(StreamableHttpError::UnexpectedServerResponse(text.into()))
            }
        }
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        _: Arc<str>,
        _: Option<String>,
        _: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<Failed>> {
        Err(StreamableHttpError::ServerDoesNotSupportDeleteSession)
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        _: Option<Arc<str>>,
        _: Option<String>,
        _: Option<String>,
        _: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<Failed>> {
        Err(StreamableHttpError::ServerDoesNotSupportSse)
    }
}
