//! What the program does besides serving.

use std::{process::ExitCode, time::Duration};

use http_body_util::Empty;
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// How long a healthy server may take to answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Exits 0 if the server at `url` says that it is well.
pub(crate) fn healthcheck(url: &str) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(async {
        let answer = timeout(HEALTH_TIMEOUT, status_of(url)).await;
        answer.map_err(|_| format!("{url} did not answer within {HEALTH_TIMEOUT:?}"))?
    })?;
    if status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("{url} answered {status}").into())
}

async fn status_of(url: &str) -> Result<hyper::StatusCode, Box<dyn std::error::Error>> {
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
    let host =
        host.ok_or_else(|| format!("{url}: give a URL such as http://127.0.0.1:8080/health"))?;
    let address = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("{url}: {error}; is the server running?"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await?.status();
    connection.abort();
    Ok(status)
}

pub(crate) fn self_test(_users: u32, _duration: Duration) -> Outcome {
    Err("x".into())
}
