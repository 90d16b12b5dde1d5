//! Requests over HTTP/1.1: one on a connection of its own, or several on one that is kept.

use std::{error::Error, io, pin::pin};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, ToSocketAddrs},
    task::spawn_local,
};

use crate::{
    measure::sample::ErrorKind,
    user::net::{endpoint::Endpoint, stream::Stream},
};

/// The most bytes that are kept of an answer from which values are saved.
pub const MAX_KEPT_BYTES: usize = 64 << 10;
/// The most bytes that are read of a metrics page.
const MAX_METRICS_BYTES: usize = 4 << 20;

/// A user's request.
pub struct UserRequest<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub body: Option<String>,
    /// A token of the server, instead of the user's credentials.
    pub bearer: Option<&'a str>,
    /// The most bytes of the answer that are kept.
    pub kept: usize,
}

pub struct Answer {
    pub status: u16,
    /// `None`: it is too long to keep.
    pub body: Option<Vec<u8>>,
}

/// Sends the request of the user with this index to a server, and reads its answer. The caller limits the time.
///
/// # Errors
/// No connection, or no valid answer.
pub async fn ask(
    endpoint: &Endpoint,
    user: u32,
    asked: UserRequest<'_>,
) -> Result<Answer, ErrorKind> {
    let mut headers = endpoint.headers(user);
    let any = HeaderValue::from_static("*/*");
    headers.entry(header::ACCEPT).or_insert(any);
    if let Some(token) = asked.bearer {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        let bearer = bearer.map_err(|_unusable| ErrorKind::HttpInvalid)?;
        headers.insert(header::AUTHORIZATION, bearer);
    }
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
    exchange(endpoint.open(user).await?, request, asked.kept).await
}

/// Asks for a metrics page. The caller limits the time.
///
/// # Errors
/// No connection, or no valid answer.
pub async fn get(
    address: impl ToSocketAddrs,
    authority: &str,
    path: &str,
) -> Result<Answer, ErrorKind> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| ErrorKind::of_io(&error, false))?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "text/plain, */*;q=0.1")
        .body(Full::default())
        .map_err(|_unusable| ErrorKind::HttpInvalid)?;
    exchange(Stream::plain(stream), request, MAX_METRICS_BYTES).await
}

/// Sends a request, and reads its answer to the end. Keeps at most `kept` bytes.
async fn exchange(
    stream: Stream,
    mut request: Request<Full<Bytes>>,
    kept: usize,
) -> Result<Answer, ErrorKind> {
    let failed = |error| kind_of(&error, ErrorKind::HttpInvalid);
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(failed)?;
    let close = HeaderValue::from_static("close");
    request.headers_mut().insert(header::CONNECTION, close);
    let answer = async {
        let response = sender.send_request(request).await?;
        Ok(Answer {
            status: response.status().as_u16(),
            body: read(response.into_body(), kept).await?,
        })
    };
    let mut answer = pin!(answer);
    // The connection must be driven for the answer to come. It may end first: then the answer is there already, or
    // never comes.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    answer.map_err(failed)
}

/// A connection for several requests, one after the other.
pub struct KeptConnection(http1::SendRequest<Full<Bytes>>);

impl KeptConnection {
    /// Opens one. It closes when this and the body of its last answer are dropped. Must be called in a local task set,
    /// which drives it.
    ///
    /// # Errors
    /// What failed. The caller limits the time.
    pub async fn open(endpoint: &Endpoint, user: u32) -> Result<Self, ErrorKind> {
        let stream = endpoint.open(user).await?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let failed = |error| kind_of(&error, ErrorKind::HttpInvalid);
        let (sender, connection) = opened.map_err(failed)?;
        // Who asks is told what failed.
        spawn_local(async { _ = connection.await });
        Ok(Self(sender))
    }

    /// Makes a request, and reads the head of its answer.
    ///
    /// # Errors
    /// No valid answer. [`ErrorKind::Ended`] or [`ErrorKind::Reset`] if the server has closed the connection.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, ErrorKind> {
        let failed = |error| kind_of(&error, ErrorKind::HttpInvalid);
        self.0.ready().await.map_err(failed)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(body))
            .map_err(|_unusable| ErrorKind::HttpInvalid)?;
        *request.headers_mut() = headers;
        self.0.send_request(request).await.map_err(failed)
    }
}

/// Reads the body of an answer, of this many bytes at the most.
///
/// # Errors
/// It is longer, or the connection is lost.
pub async fn collect(body: Incoming, most: usize) -> Result<Bytes, ErrorKind> {
    let kept = read(body, most).await;
    let kept = kept.map_err(|error| kind_of(&error, ErrorKind::HttpInvalid))?;
    kept.map(Bytes::from).ok_or(ErrorKind::MessageTooLong)
}

/// Why an exchange failed: the system's error, an `invalid` answer, or an incomplete one.
pub fn kind_of(error: &hyper::Error, invalid: ErrorKind) -> ErrorKind {
    if error.is_parse_too_large() {
        return ErrorKind::HeadersTooLong;
    }
    if error.is_parse() {
        return invalid;
    }
    let source = error.source().and_then(|source| source.downcast_ref());
    match source {
        // The TLS library reports a refused certificate or message like this.
        Some(error) if io::Error::kind(error) == io::ErrorKind::InvalidData => ErrorKind::TlsFailed,
        Some(error) => ErrorKind::of_io(error, true),
        None => ErrorKind::Ended,
    }
}

async fn read(mut body: Incoming, most: usize) -> hyper::Result<Option<Vec<u8>>> {
    let mut kept = Some(Vec::new());
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            kept = kept.filter(|kept| kept.len() + data.len() <= most);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(data);
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{base::server_url::ServerUrl, record::Blame};

    async fn asked(address: SocketAddr, source: &[&str]) -> Result<u16, ErrorKind> {
        let url = ServerUrl::parse(&format!("http://{address}/"), &["http"]).expect("good");
        let source_ips: Vec<_> = source.iter().map(|ip| ip.parse().expect("one")).collect();
        let within = Duration::from_secs(10);
        let endpoint = Endpoint::find(&url, None, &source_ips, within).await;
        let request = UserRequest {
            method: &Method::GET,
            path: "/",
            body: None,
            bearer: None,
            kept: 0,
        };
        let answer = ask(&endpoint.expect("an address"), 0, request).await;
        answer.map(|answer| answer.status)
    }

    #[tokio::test]
    async fn a_request_without_an_answer_says_why_and_who_is_to_blame() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        // No machine has an address of this block (RFC 1112, section 4): it fails like one without a free port.
        let unbound = asked(address, &["240.0.0.1"]).await;
        let error = unbound.expect_err("not of this machine");
        assert_eq!(
            (error.blame(), error),
            (Blame::Generator, ErrorKind::PortsExhausted)
        );
        let long = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(1000));
        for (said, kind) in [
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Ok(503)),
            ("", Err(ErrorKind::Ended)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
                Err(ErrorKind::Ended),
            ),
            ("SSH-2.0-OpenSSH_9.6\r\n", Err(ErrorKind::HttpInvalid)),
            (&long, Err(ErrorKind::HeadersTooLong)),
        ] {
            let answering = async {
                let (mut stream, _) = listener.accept().await.expect("somebody");
                let _ = stream.read(&mut [0; 1024]).await.expect("a request");
                stream.write_all(said.as_bytes()).await.expect("open");
            };
            let (got, ()) = tokio::join!(asked(address, &[]), answering);
            assert_eq!(got, kind, "{said:?}");
        }
        drop(listener);
        assert_eq!(asked(address, &[]).await, Err(ErrorKind::ConnectRefused));
    }
}
