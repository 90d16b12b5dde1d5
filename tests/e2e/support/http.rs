//! A small HTTP/1.1 client, made by hand so that it shares no mistake with the server's library.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::within;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path, "").await
}

/// `headers`: more header lines, each with its line end.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> Response {
    request_with_body(address, method, path, headers, "").await
}

/// The same with a body, whose length is in the headers.
pub(crate) async fn request_with_body(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Response {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(text.as_bytes()).await.unwrap();
    let has_body = method != "HEAD";
    within(path, read_response(&mut stream, has_body)).await
}

/// The statuses of the answers to GETs of these paths, with these header lines, over one connection; none after the
/// server has closed it.
pub(crate) async fn statuses(address: SocketAddr, requests: &[(&str, &str)]) -> Vec<u16> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut statuses = Vec::new();
    for (path, headers) in requests {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = within(path, read_response(&mut stream, true)).await;
        statuses.push(response.status);
        if response.header("connection") == Some("close") {
            break;
        }
    }
    statuses
}

/// Sends these very bytes, and reads the answer.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> Response {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    within("an answer", read_response(&mut stream, true)).await
}

/// The same. Returns the status, and the connection, which stays open.
pub(crate) async fn exchange_kept(
    address: SocketAddr,
    request: &str,
) -> (u16, BufReader<TcpStream>) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = within("an answer", read_response(&mut stream, true)).await;
    (response.status, stream)
}

/// Reads an answer and nothing behind it.
pub(crate) async fn read_response(stream: &mut BufReader<TcpStream>, has_body: bool) -> Response {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(
            stream.read_line(&mut line).await.unwrap() > 0,
            "the connection ended in the header, after {lines:?}"
        );
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let length = response.header("content-length").map(str::to_owned);
    if has_body && let Some(length) = length {
        response.body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut response.body).await.unwrap();
    }
    if has_body && response.header("transfer-encoding") == Some("chunked") {
        response.body = read_chunks(stream).await;
    }
    response
}

/// A body whose length was not known before it (RFC 9112 section 7.1), without trailers.
async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut length = String::new();
        stream.read_line(&mut length).await.unwrap();
        let length = usize::from_str_radix(length.trim_end(), 16).unwrap();
        let begin = body.len();
        // With the end of the line behind the chunk.
        body.resize(begin + length + 2, 0);
        stream.read_exact(&mut body[begin..]).await.unwrap();
        assert!(body.ends_with(b"\r\n"));
        body.truncate(begin + length);
        if length == 0 {
            return body;
        }
    }
}
