//! What the program does besides serving.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use http_body_util::Empty;
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use loadtest::{Plan, Target};
use tokio::{net::TcpStream, time::timeout};
use voicematch_server::{Server, config::Cli};

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// How often a self-test says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

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

/// Plays users against a server in this process, with the settings of the environment, and prints what
/// they saw. Exits as `loadtest` does.
pub(crate) fn self_test(users: u32, duration: Duration) -> Outcome {
    let addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let flags = Cli::parse_from(["voicematch-server"].into_iter().chain(addresses)).serve;
    let config = flags.check()?;
    let descriptors = crate::raise_descriptor_limit(&config);
    // A user and its connection in the server take one each.
    let fits = descriptors.saturating_sub(2 * crate::RESERVED_DESCRIPTORS) / 2;
    if u64::from(users) > fits {
        return Err(format!("{users} users do not fit the limit on open files; at most {fits} do, or raise it (ulimit -n)").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::bind(config)?;
        let addrs = server.addrs()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.run(async { _ = stopped.await }));
        let admin = format!("http://{}/metrics", addrs.admin);
        let target = Target::new(&format!("ws://{}/ws", addrs.public), Some(&admin))?;
        let plan = Plan::new(users, duration);
        eprintln!(
            "self-test: {users} users come within {:.1?} and talk for {duration:.1?}",
            plan.ramp()
        );
        let mut told = Instant::now();
        let run = loadtest::run(&plan, &target, |progress| {
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                eprintln!("self-test: {progress}");
            }
        });
        let record = run.await?;
        // The users have said goodbye; what is left of the drain is at most a moment.
        let _ = stop.send(());
        serving.await??;
        print!("{}", loadtest::terminal(&record));
        Ok(ExitCode::from(record.exit_code))
    })
}
