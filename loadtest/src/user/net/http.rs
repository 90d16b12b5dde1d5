//! One request over HTTP/1.1, on a connection of its own.

use std::{error::Error, io};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, ToSocketAddrs},
};

/// How long a page may be.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// An answer.
pub struct Answer {
    pub status: u16,
    /// `None`: it is longer than was to be kept.
    pub body: Option<Vec<u8>>,
}

/// Asks for the page at `path`. There is no time limit in here.
///
/// # Errors
/// No connection, or no valid answer.
pub async fn get(address: impl ToSocketAddrs, authority: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "text/plain, */*;q=0.1")
        .body(Full::default())
        .map_err(io::Error::other)?;
    ask(stream, request, MAX_PAGE_BYTES).await
}

/// Sends a request, and reads its answer to the end, of which no more than `kept` bytes are kept. There is no
/// time limit in here.
///
/// # Errors
/// No valid answer.
pub async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut request: Request<Full<Bytes>>,
    kept: usize,
) -> io::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io_error)?;
    let close = header::HeaderValue::from_static("close");
    request.headers_mut().insert(header::CONNECTION, close);
    let answer = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(io_error)?;
        Ok(Answer {
            status: response.status().as_u16(),
            body: read(response.into_body(), kept).await?,
        })
    };
    let mut answer = std::pin::pin!(answer);
    // The connection has to be driven for the answer to come. It may end first: the answer is then
    // there already, or never will be.
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// What the system said, where it was that; an answer that breaks off is an unexpected end, and one that is no HTTP
/// invalid data.
fn io_error(error: hyper::Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref());
    let kind = match source.map(|source: &io::Error| (source.raw_os_error(), source.kind())) {
        Some((Some(code), _)) => return io::Error::from_raw_os_error(code),
        Some((None, kind)) => kind,
        None if error.is_parse() => io::ErrorKind::InvalidData,
        None => io::ErrorKind::UnexpectedEof,
    };
    io::Error::new(kind, error)
}

async fn read(mut body: Incoming, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut kept = Some(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io_error)?;
        if let Some(data) = frame.data_ref() {
            kept = kept.filter(|kept| kept.len() + data.len() <= most);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(data);
            }
        }
    }
    Ok(kept)
}
