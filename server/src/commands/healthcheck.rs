//! `healthcheck`: asks a running server whether it is well.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use voicematch_server::{config::parse::parse, io::Stream, listen::Address};

use super::Outcome;

/// How long a healthy server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Exits 0 if the server says that it is well: the one at `url`, or the one with these flags and the settings of its file and
/// environment. One to whose public address users speak TLS or PROXY is asked at its admin address.
pub(crate) fn run(flags: &[(&str, Option<OsString>)], url: Option<&str>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let given = flags.iter().filter_map(|(flag, value)| {
        let mut arg = OsString::from(format!("{flag}="));
        arg.push(value.as_ref()?);
        Some(arg)
    });
    let args = std::iter::once("voicematch-server".into()).chain(given);
    let parsed = parse(args).map_err(|why| why.faults().join("\n"))?;
    let flags = parsed.cli.serve;
    let is_plain = flags.tls_cert.is_none() || matches!(flags.listen[0], Address::Unix(_));
    let (address, path) = match is_plain && !flags.proxy_protocol {
        true => (&flags.listen[0], "/health"),
        false => (&flags.admin_listen, "/readyz"),
    };
    let asked = url.map_or_else(|| address.to_string(), str::to_owned);
    let answer = runtime.block_on(async {
        match url {
            Some(url) => timeout(TIMEOUT, ask_url(url)).await,
            None => timeout(TIMEOUT, ask_address(address, path)).await,
        }
    });
    let answer = answer.map_err(|_| format!("{asked} did not answer within {TIMEOUT:?}"))?;
    let status = answer.map_err(|error| format!("{asked}: {error}"))?;
    if status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("{asked} answered {status}").into())
}

type Answer = Result<StatusCode, Box<dyn std::error::Error>>;

async fn ask_address(address: &Address, path: &str) -> Answer {
    let stream = match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        Address::Systemd(_) => {
            return Err("systemd has its address, not the server; give it with --url".into());
        }
        address => TcpStream::connect(&address.reachable_at()?[..])
            .await
            .map(Stream::Tcp),
    };
    ask(stream, "localhost", path).await
}

async fn ask_url(url: &str) -> Answer {
    const HINT: &str = "give a URL such as http://127.0.0.1:8080/health";
    let uri: Uri = url.parse().map_err(|error| format!("{error}; {HINT}"))?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
    let host = host.ok_or(HINT)?;
    let address = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map(Stream::Tcp);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    ask(stream, host, path).await
}

async fn ask(stream: std::io::Result<Stream>, host: &str, path: &str) -> Answer {
    let stream = stream.map_err(|error| format!("{error}; is the server running?"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await?.status();
    connection.abort();
    Ok(status)
}
