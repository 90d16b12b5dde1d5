//! The generator's own metrics, for a Prometheus server to read during the run.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prometheus::{Counter, Gauge, GaugeVec, Opts, Registry, TextEncoder};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle, time::timeout};

use crate::{
    base::machine::{cpu_seconds, rss_bytes},
    run::progress::Progress,
};

/// The most readers at the same time.
const MAX_READERS: usize = 16;
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `GET /metrics` until dropped.
#[derive(Debug)]
pub struct Exposed {
    address: SocketAddr,
    latest: Arc<Mutex<Progress>>,
    server: JoinHandle<()>,
}

impl Exposed {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be used.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let latest = Arc::<Mutex<Progress>>::default();
        let server = tokio::spawn(serve(listener, Arc::clone(&latest)));
        Ok(Self {
            address,
            latest,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves these figures from now on.
    pub fn show(&self, progress: &Progress) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone_from(progress);
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, latest: Arc<Mutex<Progress>>) {
    let readers = Arc::new(Semaphore::new(MAX_READERS));
    loop {
        // More readers wait in the kernel's queue: descriptors are for users.
        let Ok(reader) = Arc::clone(&readers).acquire_owned().await else {
            return;
        };
        let Ok((stream, _peer)) = listener.accept().await else {
            // There is no free descriptor: users need them more.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let latest = Arc::clone(&latest);
        let answer = service_fn(move |request: Request<Incoming>| {
            let progress = latest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            async move { Ok::<_, Infallible>(respond(request.uri().path(), &progress)) }
        });
        tokio::spawn(async move {
            // A reader that goes away does not matter to the run.
            let reading = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = timeout(READ_TIMEOUT, reading).await;
            drop(reader);
        });
    }
}

fn respond(path: &str, progress: &Progress) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => match metrics(progress) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let text_format = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, text_format);
    response
}

/// The Prometheus text format: seconds and bytes.
fn metrics(now: &Progress) -> prometheus::Result<String> {
    let registry = Registry::new();
    for (name, help, value) in [
        (
            "loadtest_users_planned",
            "Most users of the plan at the same time.",
            f64::from(now.users),
        ),
        (
            "loadtest_users_connected",
            "Users connected now.",
            now.connected as f64,
        ),
        (
            "loadtest_users_in_rooms",
            "Users in a room now.",
            now.in_rooms as f64,
        ),
        (
            "loadtest_elapsed_seconds",
            "Since the start of the run.",
            now.elapsed.as_secs_f64(),
        ),
        (
            "loadtest_planned_seconds",
            "Length of the plan.",
            now.planned.as_secs_f64(),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            rss_bytes() as f64,
        ),
    ] {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))?;
    }
    for (name, help, value) in [
        (
            "loadtest_matches_total",
            "How often a user joined a room.",
            now.matches as f64,
        ),
        (
            "loadtest_messages_sent_total",
            "Messages sent.",
            now.sent as f64,
        ),
        (
            "loadtest_messages_delivered_total",
            "Messages received by the partner, each once.",
            now.delivered as f64,
        ),
        (
            "loadtest_errors_total",
            "Errors of all kinds.",
            now.errors as f64,
        ),
        (
            "process_cpu_seconds_total",
            "CPU time used.",
            cpu_seconds(false),
        ),
    ] {
        let counter = Counter::new(name, help)?;
        counter.inc_by(value);
        registry.register(Box::new(counter))?;
    }
    for (name, help, quantiles) in [
        (
            "loadtest_match_latency_seconds",
            "Match latency in the last second.",
            now.matching,
        ),
        (
            "loadtest_message_latency_seconds",
            "Message latency in the last second, from the moment due.",
            now.message,
        ),
        (
            "loadtest_own_lateness_seconds",
            "How late the generator itself was in the last second.",
            now.own_lateness,
        ),
    ] {
        // Not `quantile`: Prometheus keeps that label for summaries, which count from the start.
        let gauges = GaugeVec::new(Opts::new(name, help), &["percentile"])?;
        for (percentile, ms) in [
            ("50", quantiles.p50_ms),
            ("95", quantiles.p95_ms),
            ("99", quantiles.p99_ms),
            ("100", quantiles.max_ms),
        ] {
            if let Some(ms) = ms {
                gauges.with_label_values(&[percentile]).set(ms / 1e3);
            }
        }
        registry.register(Box::new(gauges))?;
    }
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::record::Quantiles;

    #[test]
    fn the_metrics_are_prometheus_text() {
        let progress = Progress {
            users: 7,
            sent: 3,
            message: Quantiles {
                p99_ms: Some(2.5),
                ..Quantiles::default()
            },
            ..Progress::default()
        };
        let text = metrics(&progress).expect("good names");
        for line in [
            "loadtest_users_planned 7",
            "loadtest_messages_sent_total 3",
            "loadtest_message_latency_seconds{percentile=\"99\"} 0.0025",
        ] {
            assert!(text.lines().any(|have| have == line), "no {line} in {text}");
        }
        check_with_promtool(&text);
    }

    #[expect(clippy::print_stderr, reason = "a test that skips a check says so")]
    fn check_with_promtool(text: &str) {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = promtool else {
            eprintln!("skipped: promtool is not installed (Debian: prometheus)");
            return;
        };
        let mut input = promtool.stdin.take().expect("piped");
        input.write_all(text.as_bytes()).expect("it reads");
        drop(input);
        let output = promtool.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }

    #[tokio::test]
    async fn a_silent_reader_does_not_keep_others_out_for_good() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let exposed = Exposed::start(address).await.expect("a free port");
        let mut silent = Vec::new();
        for _ in 0..MAX_READERS {
            let stream = tokio::net::TcpStream::connect(exposed.address());
            silent.push(stream.await.expect("it listens"));
        }
        let asked = crate::user::net::http::get(exposed.address(), "localhost", "/metrics");
        let answer = timeout(4 * READ_TIMEOUT, asked).await;
        let answer = answer.expect("in time").expect("an answer");
        assert_eq!(answer.status, 200);
        for stream in silent {
            let ready = timeout(READ_TIMEOUT, stream.readable()).await;
            ready.expect("hung up").expect("no error");
            let read = stream.try_read(&mut [0; 64]);
            assert!(read.is_err() || read.is_ok_and(|n| n == 0), "no answer");
        }
    }

    #[test]
    fn another_path_says_where_the_metrics_are() {
        let response = respond("/", &Progress::default());
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            respond("/metrics", &Progress::default()).status(),
            StatusCode::OK
        );
    }
}
