//! The live API (v2) of [Gladia](https://docs.gladia.io/api-reference/v2/live): a session is made over HTTP, with the key;
//! its answer holds the URL of a WebSocket, with a token of its own, which is used again when the connection is lost.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;

use super::{
    AUDIO_DEPTH, BoxFuture, EVENT_DEPTH, Link, OpenError, Provider, Resume, Secret, StreamSpec,
    Utterance,
    socket::{self, ConnectError, Reach, Socket, with_causes},
};

mod messages;
mod request;
mod stream;

use request::{configuration, is_id, refusal, with_path};
use stream::Stream;

/// Where the service is, unless the operator says otherwise.
const SERVICE: &str = "https://api.gladia.io/v2/live";
const KEY_HEADER: &str = "x-gladia-key";
/// The most bytes of an answer over HTTP: the result of a session of four hours is 2 MB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long a connection without a request is kept: less than servers usually keep it.
const IDLE: Duration = Duration::from_secs(30);
/// Connections without a request.
const MAX_IDLE: usize = 8;
/// How long a request over HTTP may take.
const REQUEST: Duration = Duration::from_secs(10);

/// See [`gladia`](self).
pub struct Gladia {
    url: Uri,
    key: RwLock<Secret>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    tls: Arc<ClientConfig>,
    over_http: Reach,
    over_websocket: Reach,
}

impl Gladia {
    /// `text`: another URL than the service's, for another region (`https://api.gladia.io/v2/live?region=us-west`) or a proxy; or
    /// nothing.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(text: &str, key: Secret) -> Result<Self, String> {
        let url = if text.is_empty() { SERVICE } else { text };
        let url: Uri = url
            .parse()
            .map_err(|_| "write gladia as gladia or gladia:https://HOST".to_owned())?;
        // Without TLS there is no server to check.
        let is_secure = url.scheme_str() == Some("https");
        let tls = if is_secure {
            socket::system_tls()?
        } else {
            socket::tls(RootCertStore::empty())?
        };
        Self::new(url, key, tls)
    }

    /// With certificate authorities of the caller's.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn trusting(url: &str, key: Secret, roots: RootCertStore) -> Result<Self, String> {
        let url: Uri = url
            .parse()
            .map_err(|_| "write gladia as gladia or gladia:https://HOST".to_owned())?;
        Self::new(url, key, socket::tls(roots)?)
    }

    fn new(url: Uri, key: Secret, tls: Arc<ClientConfig>) -> Result<Self, String> {
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        let url = if is_http { with_path(url) } else { None };
        let url = url.ok_or("write gladia as gladia or gladia:https://HOST")?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(&tls))
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Self {
            url,
            key: RwLock::new(key),
            client,
            tls,
            over_http: Reach::default(),
            over_websocket: Reach::default(),
        })
    }

    /// The status, the headers and the body of the answer to a request.
    async fn ask(
        &self,
        method: Method,
        url: Uri,
        body: Vec<u8>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), OpenError> {
        let key = self
            .key
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut key = HeaderValue::from_str(key.expose()).map_err(|_| OpenError::Refused(401))?;
        key.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(KEY_HEADER, key)
            .header(CONTENT_TYPE, "application/json");
        let request = request
            .body(Full::new(body.into()))
            .map_err(|_| OpenError::Unreachable)?;
        let asked = async {
            let answer = self.client.request(request).await;
            let (head, body) = answer.map_err(|error| with_causes(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| with_causes(&*error))?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        let answer = match tokio::time::timeout(REQUEST, asked).await {
            Ok(answer) => answer,
            Err(_) => Err("it does not answer".to_owned()),
        };
        answer
            .inspect(|_| self.over_http.found())
            .map_err(|why: String| {
                self.over_http.lost(self.name(), &why);
                OpenError::Unreachable
            })
    }

    /// Makes a session.
    async fn begin(&self, language: Option<&str>) -> Result<Resume, OpenError> {
        let body = configuration(language).to_string().into_bytes();
        let (status, headers, body) = self.ask(Method::POST, self.url.clone(), body).await?;
        refusal(status, &headers)?;
        let created: messages::Created =
            serde_json::from_slice(&body).map_err(|_| OpenError::Unreachable)?;
        let is_safe = created.url.starts_with("wss://") || self.url.scheme_str() == Some("http");
        let url = Secret::new(&created.url)
            .filter(|_| is_safe)
            .ok_or(OpenError::Unreachable)?;
        if !is_id(&created.id) {
            return Err(OpenError::Unreachable);
        }
        Ok(Resume {
            url,
            job: created.id,
            start: 0,
            accepted: 0,
        })
    }

    async fn connect(&self, session: &Resume) -> Result<Socket, ConnectError> {
        let url = session.url.expose().parse();
        let url: Uri = url.map_err(|_| ConnectError::Unreachable("its URL is none".to_owned()))?;
        let connected = socket::connect(&url, Some(&self.tls)).await;
        match &connected {
            Err(ConnectError::Unreachable(why)) => self.over_websocket.lost(self.name(), why),
            _ => self.over_websocket.found(),
        }
        connected
    }

    /// The URL of a session.
    fn job_url(&self, job: &str) -> Result<Uri, OpenError> {
        let wrong = || OpenError::BadConfig("no such job".to_owned());
        if !is_id(job) {
            return Err(wrong());
        }
        let mut parts = self.url.clone().into_parts();
        let path = format!("{}/{job}", self.url.path().trim_end_matches('/'));
        parts.path_and_query = Some(path.parse().map_err(|_| wrong())?);
        Uri::from_parts(parts).map_err(|_| wrong())
    }
}

impl Provider for Gladia {
    fn name(&self) -> &'static str {
        "gladia"
    }

    fn open(&self, spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        Box::pin(async move {
            let is_resuming = spec.resume.is_some();
            let session = match spec.resume {
                Some(session) => session,
                None => self.begin(spec.language.as_deref()).await?,
            };
            let socket = self.connect(&session).await.map_err(|error| match error {
                ConnectError::Status(429) => OpenError::Busy(None),
                ConnectError::Status(400..=499) if is_resuming => OpenError::Gone,
                _ => OpenError::Unreachable,
            })?;
            let (audio, heard) = mpsc::channel(AUDIO_DEPTH);
            let (said, events) = mpsc::channel(EVENT_DEPTH);
            let mut stream = Stream::new(socket, said);
            let (mut resume, mut already) = (session, 0);
            if is_resuming {
                let known = resume.start + resume.accepted;
                let position = stream.find_position().await?;
                already = position.before.saturating_sub(known);
                resume = Resume {
                    start: position.now,
                    accepted: 0,
                    ..resume
                };
            }
            let job = Some(resume.job.clone());
            tokio::spawn(stream.run(heard));
            Ok(Link {
                audio,
                events,
                job,
                resume: Some(resume),
                already,
            })
        })
    }

    fn set_key(&self, key: Secret) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn transcript<'a>(
        &'a self,
        job: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<Utterance>>, OpenError>> {
        Box::pin(async move {
            let (status, headers, body) = self
                .ask(Method::GET, self.job_url(job)?, Vec::new())
                .await?;
            if status == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            refusal(status, &headers)?;
            let result: messages::JobResult =
                serde_json::from_slice(&body).map_err(|_| OpenError::Unreachable)?;
            result.utterances()
        })
    }

    fn delete<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), OpenError>> {
        Box::pin(async move {
            let (status, headers, _) = self
                .ask(Method::DELETE, self.job_url(job)?, Vec::new())
                .await?;
            if status == StatusCode::NOT_FOUND {
                Ok(())
            } else {
                refusal(status, &headers)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gladia(url: &str) -> Result<Gladia, String> {
        Gladia::trusting(
            url,
            Secret::new("key").ok_or("no key")?,
            RootCertStore::empty(),
        )
    }

    #[test]
    fn urls_are_completed() {
        for (url, whole) in [
            ("https://a.example", "https://a.example/v2/live"),
            (
                "https://a.example/?region=us-west",
                "https://a.example/v2/live?region=us-west",
            ),
            ("http://127.0.0.1:80/other", "http://127.0.0.1:80/other"),
        ] {
            assert_eq!(
                gladia(url).map(|gladia| gladia.url.to_string()),
                Ok(whole.to_owned())
            );
        }
        for wrong in ["", "a.example", "ws://a.example", "/v2/live"] {
            assert!(gladia(wrong).is_err(), "{wrong}");
        }
        let gladia = gladia("https://a.example/?region=us-west").expect("it is right");
        assert_eq!(
            gladia.job_url("ab-1").map(|url| url.to_string()),
            Ok("https://a.example/v2/live/ab-1".to_owned())
        );
        for wrong in ["", "../x", "a/b", "a?b", "a b"] {
            assert!(gladia.job_url(wrong).is_err(), "{wrong}");
        }
    }
}
