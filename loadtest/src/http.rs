//! One request over HTTP/1.1, on a connection of its own.

use std::io;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, ToSocketAddrs};

/// How long an answer may be.
const MAX_BODY_BYTES: usize = 4 << 20;

/// An answer.
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Asks for `path`. There is no time limit in here.
///
/// # Errors
/// No connection, or no valid answer.
pub(crate) async fn get(
    address: impl ToSocketAddrs,
    authority: &str,
    path: &str,
) -> io::Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "text/plain, */*;q=0.1")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body.collect().await.map_err(io::Error::other)?;
        Ok(Answer {
            status,
            body: body.to_bytes().into(),
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
