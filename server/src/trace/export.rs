//! Sends spans to a collector, by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>). The crate of
//! OpenTelemetry encodes them, tries again, and reads the standard variables of the environment. Its batching is not used: what
//! it drops is in no metric.

use std::{
    env, fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use http_body_util::Full;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

// The API of OpenTelemetry, as its SDK shows it.
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use voicematch_core::metrics::Metrics;

use super::{MAX_WAITING, Span, TraceConfig, Tracer, Value};
use crate::{
    fetch::{self, Fetch},
    sending::Sending,
};

/// How often spans are sent: who ends one wakes nobody.
const EVERY: Duration = Duration::from_secs(1);

/// Spans of one request, as in OTEL_BSP_MAX_EXPORT_BATCH_SIZE
/// (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).
const MAX_BATCH: usize = 512;

/// How long the collector has to answer, as in OTEL_EXPORTER_OTLP_TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Begins to send spans, if there is a collector. To be called inside the runtime that outlives all sessions.
pub fn start(
    config: Option<&TraceConfig>,
    metrics: &Arc<Metrics>,
) -> Result<(Option<Arc<Tracer>>, Sending), String> {
    let Some(config) = config else {
        return Ok((None, Sending::default()));
    };
    let (queue, spans) = mpsc::channel(MAX_WAITING);
    let exporter = Exporter::new(config, metrics.clone())?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(exporter.run(spans, stopped));
    let tracer = Tracer {
        sample: config.sample,
        sessions: Default::default(),
        queue,
        metrics: metrics.clone(),
    };
    let host = config.endpoint.authority().map(|host| host.host());
    tracing::info!(host, sample = config.sample, "sessions are traced");
    Ok((Some(Arc::new(tracer)), Sending::new(stop, task)))
}

struct Exporter {
    exporter: SpanExporter,
    collector: Arc<Collector>,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
    /// Whether the last spans could not be sent; told once.
    is_down: AtomicBool,
}

impl Exporter {
    fn new(config: &TraceConfig, metrics: Arc<Metrics>) -> Result<Self, String> {
        let wrong = |error: String| format!("--otlp-endpoint: {error}");
        let collector = Arc::new(Collector {
            fetch: Fetch::new(&config.endpoint).map_err(wrong)?,
            answered: AtomicBool::new(false),
            quiet_until: Mutex::new(None),
        });
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Shared(collector.clone()))
            .with_endpoint(traces_below(&config.endpoint.to_string()))
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        exporter.set_resource(&resource());
        let scope = InstrumentationScope::builder("voicematch-server");
        Ok(Self {
            exporter,
            collector,
            scope: scope.with_version(env!("CARGO_PKG_VERSION")).build(),
            metrics,
            is_down: AtomicBool::new(false),
        })
    }

    /// Sends what waits each [`EVERY`], and the rest when it is asked to stop.
    async fn run(self, mut spans: mpsc::Receiver<Span>, mut stopped: oneshot::Receiver<()>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                _ = &mut stopped => true,
            };
            while !self.collector.wants_quiet() {
                let clock = Clock::now();
                let next = std::iter::from_fn(|| spans.try_recv().ok());
                let batch = next.take(MAX_BATCH).map(|span| self.data(span, &clock));
                let batch: Vec<_> = batch.collect();
                if batch.is_empty() {
                    break;
                }
                self.send(batch).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn send(&self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        self.collector.answered.store(false, Ordering::Relaxed);
        let sent = self.exporter.export(batch).await;
        let result = match &sent {
            Ok(()) => "sent",
            Err(_) if self.collector.answered.load(Ordering::Relaxed) => "refused",
            Err(_) => "failed",
        };
        self.metrics
            .spans
            .with_label_values(&[result])
            .inc_by(spans);
        let was_down = self.is_down.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Err(error) if !was_down => {
                tracing::warn!(%error, "spans cannot be sent to --otlp-endpoint; they are dropped");
            }
            Ok(()) if was_down => tracing::info!("spans can be sent again"),
            _ => {}
        }
    }

    fn data(&self, span: Span, clock: &Clock) -> SpanData {
        let context = SpanContext::new(
            TraceId::from_bytes(span.trace.to_be_bytes()),
            SpanId::from_bytes(span.id.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        let attribute = |(name, value)| match value {
            Value::Text(text) => KeyValue::new(name, text),
            Value::Id(id) => KeyValue::new(name, format!("{id:016x}")),
            Value::Yes(yes) => KeyValue::new(name, yes),
            Value::Seconds(seconds) => KeyValue::new(name, seconds),
        };
        let event = |(name, at)| Event::new(name, clock.time(at), Vec::new(), 0);
        let mut events = SpanEvents::default();
        events.events = span.events.into_iter().map(event).collect();
        let parent = span.parent.map(|parent| parent.to_be_bytes());
        SpanData {
            span_context: context,
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.from_client && parent.is_some(),
            span_kind: match span.from_client {
                true => SpanKind::Server,
                false => SpanKind::Internal,
            },
            name: span.name.into(),
            start_time: clock.time(span.begun),
            end_time: clock.time(span.ended),
            attributes: span.attributes.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: match span.is_fault {
                true => Status::error(""),
                false => Status::Unset,
            },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// The URL for spans below that of a collector.
fn traces_below(endpoint: &str) -> String {
    format!("{}/v1/traces", endpoint.trim_end_matches('/'))
}

/// What the spans are of: this program, unless the standard variables say otherwise.
fn resource() -> Resource {
    let own = [
        KeyValue::new("service.name", "voicematch-server"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let resource = Resource::builder_empty().with_attributes(own);
    let resource = resource.with_detector(Box::new(EnvResourceDetector::new()));
    match env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => resource.with_service_name(name).build(),
        _ => resource.build(),
    }
}

/// What the time of day was at an instant.
struct Clock(Instant, SystemTime);

impl Clock {
    /// Of some readings the one that took the shortest: this thread may be stopped between two clocks, and spans of two batches
    /// would be out of order then.
    fn now() -> Self {
        let read = || {
            let clock = Self(Instant::now(), SystemTime::now());
            (clock.0.elapsed(), clock)
        };
        let (mut shortest, mut best) = read();
        for _ in 0..4 {
            let (took, clock) = read();
            if took < shortest {
                (shortest, best) = (took, clock);
            }
        }
        best
    }

    /// Spans that end meanwhile are later.
    fn time(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.0) {
            Some(later) => self.1 + later,
            None => self.1 - self.0.duration_since(at),
        }
    }
}

/// The collector, asked by this program's own client.
struct Collector {
    fetch: Fetch,
    /// Whether there was an answer since this was last set to false.
    answered: AtomicBool,
    /// When it wants to hear more.
    quiet_until: Mutex<Option<Instant>>,
}

impl Collector {
    fn wants_quiet(&self) -> bool {
        let until = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// The same, as the exporter wants it.
#[derive(Clone)]
struct Shared(Arc<Collector>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Shared {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let collector = &self.0;
        let answer = collector.fetch.ask(request.map(Full::new), TIMEOUT).await?;
        collector.answered.store(true, Ordering::Relaxed);
        if let Some(wait) = fetch::retry_after(&answer) {
            let mut quiet_until = collector
                .quiet_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *quiet_until = Some(Instant::now() + wait);
        }
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_instant_lies_as_far_from_now_as_the_instant() {
        let clock = Clock::now();
        let minute = Duration::from_secs(60);
        assert_eq!(clock.time(clock.0), clock.1);
        assert_eq!(clock.time(clock.0 + minute), clock.1 + minute);
        assert_eq!(clock.time(clock.0 - minute), clock.1 - minute);
    }
}
