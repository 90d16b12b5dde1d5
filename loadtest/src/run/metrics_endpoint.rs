//! The generator's own metrics, for a Prometheus server to read while a run is on.

use std::{
    convert::Infallible,
    fmt::Write as _,
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
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle, time::timeout};

use crate::{
    base::machine::{cpu_seconds, rss_bytes},
    run::progress::Progress,
};

/// The most that read at the same time.
const MAX_READERS: usize = 16;
/// How long one may take.
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
    /// The address cannot be listened on.
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

    /// Takes the picture of now.
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
        // Those beyond wait in the kernel's queue: descriptors are for users.
        let Ok(reader) = Arc::clone(&readers).acquire_owned().await else {
            return;
        };
        let Ok((stream, _peer)) = listener.accept().await else {
            // Out of file descriptors: users need them more. The next reading may be luckier.
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
            // A reader that goes away in the middle is no concern of the run.
            let reading = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = timeout(READ_TIMEOUT, reading).await;
            drop(reader);
        });
    }
}

fn respond(path: &str, progress: &Progress) -> Response<Full<Bytes>> {
    let found = path == "/metrics";
    let text = if found {
        metrics(progress)
    } else {
        "metrics are at /metrics\n".to_owned()
    };
    let mut response = Response::new(Full::from(text));
    if !found {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let text_format = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, text_format);
    response
}

/// The Prometheus text format: seconds and bytes.
fn metrics(now: &Progress) -> String {
    let gauges = [
        (
            "users_planned",
            "Most users of the plan at the same time.",
            f64::from(now.users),
        ),
        (
            "users_connected",
            "Users connected now.",
            now.connected as f64,
        ),
        (
            "users_in_rooms",
            "Users in a room now.",
            now.in_rooms as f64,
        ),
        (
            "elapsed_seconds",
            "Since the start of the run.",
            now.elapsed.as_secs_f64(),
        ),
        (
            "planned_seconds",
            "Length of the plan.",
            now.planned.as_secs_f64(),
        ),
    ];
    let counters = [
        (
            "matches_total",
            "Times that a user came into a room.",
            now.matches,
        ),
        ("messages_sent_total", "Messages sent.", now.sent),
        (
            "messages_delivered_total",
            "Messages received by the partner, each once.",
            now.delivered,
        ),
        ("errors_total", "Errors of all kinds.", now.errors),
    ];
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, help, value) in gauges {
        let _ = metric(&mut text, &format!("loadtest_{name}"), "gauge", help, value);
    }
    for (name, help, value) in counters {
        let _ = metric(
            &mut text,
            &format!("loadtest_{name}"),
            "counter",
            help,
            value as f64,
        );
    }
    let latencies = [
        (
            "match_latency_seconds",
            "Match latency in the last second.",
            now.matching,
        ),
        (
            "message_latency_seconds",
            "Message latency in the last second, from the moment due.",
            now.message,
        ),
        (
            "own_lateness_seconds",
            "How late the generator itself was in the last second.",
            now.own_lateness,
        ),
    ];
    for (name, help, quantiles) in latencies {
        let _ = writeln!(
            text,
            "# HELP loadtest_{name} {help}\n# TYPE loadtest_{name} gauge"
        );
        let values = [
            ("0.5", quantiles.p50_ms),
            ("0.95", quantiles.p95_ms),
            ("0.99", quantiles.p99_ms),
            ("1", quantiles.max_ms),
        ];
        for (quantile, ms) in values {
            if let Some(ms) = ms {
                let _ = writeln!(
                    text,
                    "loadtest_{name}{{quantile=\"{quantile}\"}} {}",
                    ms / 1e3
                );
            }
        }
    }
    let (cpu, rss) = (cpu_seconds(false), rss_bytes() as f64);
    let _ = metric(
        &mut text,
        "process_cpu_seconds_total",
        "counter",
        "CPU time used.",
        cpu,
    );
    let _ = metric(
        &mut text,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        rss,
    );
    text
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: f64) -> std::fmt::Result {
    writeln!(
        text,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Quantiles;

    #[test]
    fn every_line_is_prometheus_text() {
        let progress = Progress {
            users: 7,
            sent: 3,
            message: Quantiles {
                p99_ms: Some(2.5),
                ..Quantiles::default()
            },
            ..Progress::default()
        };
        let text = metrics(&progress);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            assert!(
                name.starts_with("loadtest_") || name.starts_with("process_"),
                "{line}"
            );
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        for line in [
            "loadtest_users_planned 7",
            "loadtest_messages_sent_total 3",
            "loadtest_message_latency_seconds{quantile=\"0.99\"} 0.0025",
        ] {
            assert!(text.lines().any(|have| have == line), "no {line} in {text}");
        }
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_others_waiting_but_not_for_ever() {
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
    fn what_is_not_there_says_where_it_is() {
        let response = respond("/", &Progress::default());
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            respond("/metrics", &Progress::default()).status(),
            StatusCode::OK
        );
    }
}
