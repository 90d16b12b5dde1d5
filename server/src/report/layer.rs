//! Listens to the log, and hands on what is logged as an error.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Instant, SystemTime},
};

use tokio::sync::mpsc;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};
use voicematch_core::metrics::Metrics;

use super::{
    limiter::{Limiter, Place},
    scrub::scrub,
};

/// The longest text of a report, in bytes.
const MAX_TEXT: usize = 1024;

/// The fields whose values are reported, without what may be secret. Of other fields only the name is reported, as the value may
/// be a user's.
const KNOWN_FIELDS: [&str; 2] = ["error", "fault"];

/// The field of a panic, which the hook of the log sets.
const PANIC: &str = "panic";

static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// Takes errors, and does not wait.
pub(super) struct Reporter {
    pub(super) queue: mpsc::Sender<Report>,
    pub(super) limiter: Mutex<Limiter>,
    pub(super) metrics: Arc<Metrics>,
}

impl Reporter {
    /// Errors of this process are reported from now on. False: they are already.
    pub(super) fn install(self) -> bool {
        REPORTER.set(self).is_ok()
    }

    fn report(&self, report: Report) {
        let place = &report.place;
        let admitted = self
            .limiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(place, Instant::now());
        let dropped = match admitted {
            Ok(()) => self.queue.try_send(report).err().map(|_| "queue_full"),
            Err(reason) => Some(reason),
        };
        if let Some(reason) = dropped {
            let reports = &self.metrics.error_reports;
            reports.with_label_values(&[reason]).inc();
        }
    }
}

/// An error, with nobody's secrets.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) at: SystemTime,
    /// The part of the program that logged it.
    pub(super) part: &'static str,
    pub(super) place: Place,
    pub(super) is_panic: bool,
    /// What the log says, or what the panic says.
    pub(super) message: String,
    /// More that the log says, by name.
    pub(super) fields: Vec<(&'static str, String)>,
}

/// The part of the log that listens.
pub struct ErrorLayer;

impl<S: Subscriber> Layer<S> for ErrorLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        if let Some(reporter) = REPORTER.get() {
            reporter.report(Report::of(event));
        }
    }
}

impl Report {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut said = Said::default();
        event.record(&mut said);
        let place = (
            metadata.file().unwrap_or_default().to_owned(),
            metadata.line().unwrap_or_default(),
        );
        let report = Self {
            at: SystemTime::now(),
            part: metadata.target(),
            place,
            is_panic: false,
            message: said.message,
            fields: said.fields,
        };
        match said.panic {
            None => report,
            Some(panic) => report.panicked(&panic),
        }
    }

    /// `text`: "panicked at FILE:LINE:COLUMN:", and what it says in the next line.
    fn panicked(self, text: &str) -> Self {
        let (head, message) = text.split_once('\n').unwrap_or((text, ""));
        let place = head.strip_prefix("panicked at ").unwrap_or(head);
        let mut parts = place.trim_end_matches(':').rsplitn(3, ':');
        let (_column, line, file) = (parts.next(), parts.next(), parts.next());
        let line = line.and_then(|line| line.parse().ok()).unwrap_or_default();
        Self {
            place: (file.unwrap_or(place).to_owned(), line),
            is_panic: true,
            message: scrub(message),
            ..self
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    panic: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = || {
            let mut text = Bounded::default();
            // It fails when the text is long enough.
            let _ = write!(text, "{value:?}");
            text.0
        };
        match field.name() {
            "message" => self.message = scrub(&text()),
            PANIC => self.panic = Some(text()),
            name if KNOWN_FIELDS.contains(&name) => self.fields.push((name, scrub(&text()))),
            name => self.fields.push((name, "[...]".to_owned())),
        }
    }
}

/// A text of up to [`MAX_TEXT`] bytes.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(MAX_TEXT - self.0.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        if end < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic_report(text: &str) -> Report {
        let report = Report {
            at: SystemTime::UNIX_EPOCH,
            part: "",
            place: ("log.rs".to_owned(), 1),
            is_panic: false,
            message: String::new(),
            fields: Vec::new(),
        };
        report.panicked(text)
    }

    #[test]
    fn a_panic_is_where_it_was_and_not_where_it_was_logged() {
        let report = panic_report("panicked at server/src/http.rs:12:5:\nno such `thing`");
        assert_eq!(report.place, ("server/src/http.rs".to_owned(), 12));
        assert_eq!(report.message, "no such `[...]`");
        assert!(report.is_panic);
        assert_eq!(panic_report("what").place, ("what".to_owned(), 0));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let mut text = Bounded::default();
        assert!(write!(text, "{}é", "a".repeat(MAX_TEXT - 1)).is_err());
        assert_eq!(text.0.len(), MAX_TEXT - 1);
        assert!(write!(text, "more").is_err());
        assert_eq!(text.0.len(), MAX_TEXT);
    }
}
