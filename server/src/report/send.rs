//! Sends reports, one after another, on the main thread.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::Full;
use hyper::{HeaderMap, Request, StatusCode, header};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use voicematch_core::metrics::Metrics;

use super::{
    Dsn, ReportConfig,
    envelope::Origin,
    layer::{Report, Reporter},
    limiter::Limiter,
};
use crate::{
    fetch::{self, Fetch},
    sending::Sending,
};

/// Reports that may wait to be sent: as many as may be sent in an hour.
const MAX_WAITING: usize = 60;

/// How long the service has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long it gets quiet if it wants some and does not say how much.
const QUIET: Duration = Duration::from_secs(60);

const CLIENT: &str = concat!("voicematch-server/", env!("CARGO_PKG_VERSION"));

/// Begins to report errors, if that is wanted. To be called inside the runtime that outlives all sessions.
pub fn start(config: Option<ReportConfig>, metrics: &Arc<Metrics>) -> Result<Sending, String> {
    let Some(ReportConfig { dsn, environment }) = config else {
        return Ok(Sending::default());
    };
    let fetch = Fetch::new(&dsn.url).map_err(|error| format!("--sentry-dsn-file: {error}"))?;
    let (queue, reports) = mpsc::channel(MAX_WAITING);
    let reporter = Reporter {
        queue,
        limiter: Mutex::new(Limiter::default()),
        metrics: metrics.clone(),
    };
    if !reporter.install() {
        return Err("--sentry-dsn-file: another server of this process has one".to_owned());
    }
    let server = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let origin = Origin {
        environment,
        server: server.map(|name| name.trim_end().to_owned()),
    };
    tracing::info!(host = dsn.url.host(), "errors are reported");
    let (stop, stopped) = oneshot::channel();
    let sender = Sender {
        dsn,
        fetch,
        origin,
        metrics: metrics.clone(),
        quiet_until: None,
        is_down: false,
    };
    let task = tokio::spawn(sender.run(reports, stopped));
    Ok(Sending::new(stop, task))
}

struct Sender {
    dsn: Dsn,
    fetch: Fetch,
    origin: Origin,
    metrics: Arc<Metrics>,
    quiet_until: Option<Instant>,
    /// Whether the last report could not be sent; told once.
    is_down: bool,
}

impl Sender {
    /// Sends what comes, and the rest when it is asked to stop.
    async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        loop {
            let report = tokio::select! {
                Some(report) = reports.recv() => report,
                _ = &mut stopped => break,
            };
            self.take(&report).await;
        }
        while let Ok(report) = reports.try_recv() {
            self.take(&report).await;
        }
    }

    async fn take(&mut self, report: &Report) {
        let result = match self.quiet_until {
            Some(until) if Instant::now() < until => "rate_limited",
            _ => self.send(report).await,
        };
        let reports = &self.metrics.error_reports;
        reports.with_label_values(&[result]).inc();
    }

    async fn send(&mut self, report: &Report) -> &'static str {
        let key = &self.dsn.key;
        let request = Request::post(&self.dsn.url)
            .header(header::CONTENT_TYPE, "application/x-sentry-envelope")
            .header(header::USER_AGENT, CLIENT)
            .header(
                "x-sentry-auth",
                format!("Sentry sentry_version=7, sentry_client={CLIENT}, sentry_key={key}"),
            )
            .body(Full::from(self.origin.envelope(report)));
        let Ok(request) = request else {
            return "failed";
        };
        let answer = self.fetch.ask(request, TIMEOUT).await;
        let result = match &answer {
            Ok(answer) if answer.status.is_success() => "sent",
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => "rate_limited",
            Ok(_) => "refused",
            Err(_) => "failed",
        };
        if let Ok(answer) = &answer {
            let asked = limits(&answer.headers).or_else(|| fetch::retry_after(answer));
            let quiet = asked.or_else(|| (result == "rate_limited").then_some(QUIET));
            self.quiet_until = quiet.map(|quiet| Instant::now() + quiet);
        }
        let is_down = ["refused", "failed"].contains(&result);
        if is_down && !self.is_down {
            // Not an error: it would be reported.
            let status = answer.as_ref().ok().map(|answer| answer.status.as_u16());
            let error = answer.as_ref().err();
            tracing::warn!(status, error, "errors cannot be reported");
        }
        self.is_down = is_down;
        result
    }
}

/// How long the service wants no errors, as in `60:error;default:organization, 2700:attachment`
/// (<https://develop.sentry.dev/sdk/foundations/transport/rate-limiting/>).
fn limits(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("x-sentry-rate-limits")?.to_str().ok()?;
    let seconds = text.split(',').filter_map(|limit| {
        let mut parts = limit.trim().split(':');
        let seconds: u64 = parts.next()?.parse().ok()?;
        let kinds = parts.next().unwrap_or_default();
        let is_ours = kinds.is_empty() || kinds.split(';').any(|kind| kind == "error");
        is_ours.then_some(seconds)
    });
    seconds
        .max()
        .map(|seconds| Duration::from_secs(seconds).min(fetch::MOST_QUIET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_all_kinds_or_of_errors() {
        let quiet = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-sentry-rate-limits", text.parse().expect("a header"));
            limits(&headers).map(|quiet| quiet.as_secs())
        };
        assert_eq!(
            quiet("60:error;default:organization, 2700:attachment"),
            Some(60)
        );
        assert_eq!(quiet("30::organization"), Some(30));
        assert_eq!(quiet("30"), Some(30));
        assert_eq!(quiet("99999"), Some(600));
        assert_eq!(quiet("2700:attachment"), None);
        assert_eq!(quiet("soon"), None);
    }
}
