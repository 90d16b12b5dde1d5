//! What users ask over HTTP: of the server under test, and of others that a plan names.

use std::{io, net::SocketAddr, sync::Arc};

use http_body_util::Full;
use hyper::{Method, Request, header};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};

use crate::{
    measure::sample::ErrorKind,
    plan::origin::{Origin, bare_host, resolve},
    user::net::{
        http::{self, Answer},
        websocket::Endpoint,
    },
};

/// How much of an answer is kept when something in it is wanted.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// A request as it goes out.
pub struct Asked<'a> {
    pub method: &'a Method,
    /// `None`: the server under test.
    pub origin: Option<&'a Origin>,
    pub path: &'a str,
    pub body: Option<String>,
    /// Something in the answer is wanted.
    pub keep: bool,
}

/// The other servers.
#[derive(Debug, Default)]
pub struct Others {
    addresses: Vec<(Origin, SocketAddr)>,
    /// For those behind TLS.
    tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// Looks up the other servers that users ask, once for all users.
    ///
    /// # Errors
    /// The first that has no address, or cannot be trusted, and why.
    pub async fn with_others(mut self, origins: Vec<Origin>) -> Result<Self, (Origin, String)> {
        let mut others = Others::default();
        for origin in origins {
            let address = match resolve(&origin.host, origin.port).await {
                Ok(Some(address)) => address,
                Ok(None) => return Err((origin, "the host has no address".to_owned())),
                Err(error) => return Err((origin, error.to_string())),
            };
            if origin.tls && others.tls.is_none() {
                match self.access.tls_config() {
                    Ok(tls) => others.tls = Some(tls),
                    Err(error) => return Err((origin, error.to_string())),
                }
            }
            others.addresses.push((origin, address));
        }
        self.others = Arc::new(others);
        Ok(self)
    }

    /// Opens a connection to the server under test and says nothing: TCP, and TLS for `wss`.
    ///
    /// # Errors
    /// What failed. There is no time limit in here.
    pub async fn reach(&self) -> Result<(), ErrorKind> {
        let stream = self.tcp(0).await?;
        if let Some(tls) = self.access.tls() {
            let host = bare_host(&self.uri).unwrap_or_default();
            let opened = secured(tls, &host, stream).await;
            opened.map_err(|_error| ErrorKind::TlsFailed)?;
        }
        Ok(())
    }

    /// Sends the request of the user with this index, and reads its answer. Headers and tokens go along to the
    /// server under test and to others on the same host, and to nobody else. There is no time limit in here.
    ///
    /// # Errors
    /// No connection, or no valid answer.
    pub async fn ask(&self, user: u32, asked: Asked<'_>) -> Result<Answer, ErrorKind> {
        let own_host = bare_host(&self.uri).unwrap_or_default();
        let mut headers = HeaderMap::new();
        if asked.origin.is_none_or(|origin| origin.host == own_host) {
            self.access.add_headers(user, &mut headers);
        }
        let authority = asked.origin.map_or(self.authority(), |it| &it.authority);
        let host = HeaderValue::from_str(authority).map_err(|_unusable| ErrorKind::HttpInvalid)?;
        headers.insert(header::HOST, host);
        let any = HeaderValue::from_static("*/*");
        headers.entry(header::ACCEPT).or_insert(any);
        if asked.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            headers.entry(header::CONTENT_TYPE).or_insert(json);
        }
        let mut request = Request::builder()
            .method(asked.method.clone())
            .uri(asked.path)
            .body(asked.body.map_or_else(Full::default, Full::from))
            .map_err(|_unusable| ErrorKind::HttpInvalid)?;
        *request.headers_mut() = headers;
        let kept = if asked.keep { MAX_KEPT_BYTES } else { 0 };
        let (stream, tls) = match asked.origin {
            None => (self.tcp(user).await?, self.access.tls()),
            Some(origin) => {
                let known = self.others.addresses.iter().find(|(it, _)| it == origin);
                let (_, address) = known.ok_or(ErrorKind::ConnectFailed)?;
                let tls = self.others.tls.clone().filter(|_| origin.tls);
                let opened = TcpStream::connect(address).await;
                let opened = opened.map_err(|error| ErrorKind::of_io(&error, false));
                (opened?, tls)
            }
        };
        match tls {
            None => http::ask(stream, request, kept).await.map_err(unanswered),
            Some(tls) => {
                let host = asked.origin.map_or(&own_host, |origin| &origin.host);
                let opened = secured(tls, host, stream).await;
                let stream = opened.map_err(|error| match error.kind() {
                    // This is how the TLS library tells what it does not accept.
                    io::ErrorKind::InvalidData | io::ErrorKind::Other => ErrorKind::TlsFailed,
                    _ => ErrorKind::of_io(&error, true),
                })?;
                http::ask(stream, request, kept).await.map_err(unanswered)
            }
        }
    }
}

/// Why a request that went out has no answer.
fn unanswered(error: io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::InvalidData => ErrorKind::HttpInvalid,
        _ => ErrorKind::of_io(&error, true),
    }
}

async fn secured(
    tls: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(tls).connect(name, stream).await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        record::Blame,
        user::net::{source_pool::Sources, target::Target},
    };

    async fn asked(address: SocketAddr, source: Option<&str>) -> Result<u16, ErrorKind> {
        let target = Target::new(&format!("ws://{address}/"), Some("none")).expect("good");
        let mut endpoint = Endpoint::new(&target, address);
        if let Some(source) = source {
            let source = source.parse().expect("an address");
            endpoint.sources = Arc::new(Sources::Given(vec![source]));
        }
        let asked = Asked {
            method: &Method::GET,
            origin: None,
            path: "/",
            body: None,
            keep: false,
        };
        endpoint.ask(0, asked).await.map(|answer| answer.status)
    }

    #[tokio::test]
    async fn why_there_is_no_answer_is_told_with_who_is_to_blame() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        // An address of documentation (RFC 5737) is as good as one without a port left.
        let unbound = asked(address, Some("192.0.2.1")).await;
        let error = unbound.expect_err("not of this machine");
        assert_eq!(
            (error.blame(), error),
            (Blame::Generator, ErrorKind::PortsExhausted)
        );
        for (said, kind) in [
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Ok(503)),
            ("", Err(ErrorKind::Ended)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
                Err(ErrorKind::Ended),
            ),
            ("SSH-2.0-OpenSSH_9.6\r\n", Err(ErrorKind::HttpInvalid)),
        ] {
            let answering = async {
                let (mut stream, _) = listener.accept().await.expect("somebody");
                let _ = stream.read(&mut [0; 1024]).await.expect("a request");
                stream.write_all(said.as_bytes()).await.expect("open");
            };
            let (got, ()) = tokio::join!(asked(address, None), answering);
            assert_eq!(got, kind, "{said:?}");
        }
        drop(listener);
        assert_eq!(asked(address, None).await, Err(ErrorKind::ConnectRefused));
    }
}
