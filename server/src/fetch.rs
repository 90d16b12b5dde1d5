//! Asks other servers of the operator's, over HTTP or HTTPS: for keys, and whether a user may come in.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, StatusCode, Uri, body::Bytes, header::RETRY_AFTER};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How long a connection without a request is kept: less than servers usually keep it.
const IDLE: Duration = Duration::from_secs(30);

/// Connections without a request to one server.
const MAX_IDLE: usize = 32;

/// Asks other servers. Their certificates are checked against the authorities of the system, or those of the file that
/// `SSL_CERT_FILE` names.
pub struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Where all connections live, also those of requests from other runtimes.
    runtime: Handle,
}

/// What a server has answered.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

impl Fetch {
    /// To be called inside the runtime that outlives all requests. `url`: one that is to be asked, for the error.
    pub fn new(url: &Uri) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if is_https(url) {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(format!(
                    "there are no certificate authorities to check {url} with; install ca-certificates, or name a file in SSL_CERT_FILE"
                ));
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        let runtime = Handle::current();
        Ok(Self { client, runtime })
    }

    /// Sends a request and waits for the whole answer. The error says why there is none.
    pub async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Answer, String> {
        let asked = self.client.request(request);
        let asked = async move {
            let response = asked.await.map_err(|error| with_causes(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| with_causes(&*error))?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        // Dropping this future drops the request too: nothing goes on for a user who has left.
        let mut asking = JoinSet::new();
        asking.spawn_on(timeout(within, asked), &self.runtime);
        match asking.join_next().await {
            Some(Ok(Ok(answer))) => answer,
            Some(Ok(Err(_))) => Err(format!("no answer within {within:?}")),
            Some(Err(_)) | None => Err("this server is stopping".to_owned()),
        }
    }
}

/// The longest time for which a server that wants quiet gets it.
pub const MOST_QUIET: Duration = Duration::from_secs(600);

/// How long a server wants to hear nothing, if its answer says that it was asked too often (RFC 9110, 10.2.3).
pub fn retry_after(answer: &Answer) -> Option<Duration> {
    let is_busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ]
    .contains(&answer.status);
    asked_wait(&answer.headers, MOST_QUIET).filter(|_| is_busy)
}

/// How long an answer asks to wait, in seconds or until a date (RFC 9110, 10.2.3); no longer than `most`.
pub fn asked_wait(headers: &HeaderMap, most: Duration) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = httpdate::parse_http_date(text).ok()?;
            then.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(most))
}

/// Reads the URL of a flag.
pub fn url(text: &str) -> Result<Uri, String> {
    let url = text.parse::<Uri>().ok();
    let known = |url: &Uri| is_https(url) || url.scheme_str() == Some("http");
    let url = url
        .filter(|url| known(url) && url.host().is_some_and(|host| !host.is_empty()))
        .ok_or_else(|| "write it as https://app.example/path".to_owned())?;
    match url.authority().is_some_and(|it| it.as_str().contains('@')) {
        true => Err("a password in it would not be sent, but logged; leave it out".to_owned()),
        false => Ok(url),
    }
}

fn is_https(url: &Uri) -> bool {
    url.scheme_str() == Some("https")
}

/// An error of the client says little; its causes say what happened.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_url_has_a_host_and_no_password() {
        for good in [
            "https://app.example/x?y=1",
            "http://127.0.0.1:8080",
            "https://[::1]/",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "app.example",
            "ftp://app.example/",
            "https://",
            "https://user:pass@app.example/",
            "http://user@app.example/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        let (seconds, most) = (Duration::from_secs, Duration::from_secs(300));
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("a header"));
            asked_wait(&headers, most)
        };
        assert_eq!(asked("7"), Some(seconds(7)));
        assert_eq!(asked("86400"), Some(most));
        let date = |after: u64| httpdate::fmt_http_date(SystemTime::now() + seconds(after));
        let wait = asked(&date(10)).expect("a date");
        assert!((seconds(8)..=seconds(10)).contains(&wait));
        assert_eq!(asked(&date(9999)), Some(most));
        assert_eq!(
            asked(&httpdate::fmt_http_date(UNIX_EPOCH)),
            Some(seconds(0))
        );
        for nonsense in ["soon", "-1", "1.5"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
        assert_eq!(asked_wait(&HeaderMap::new(), most), None);
    }
}
