//! A report as it is sent: an envelope with one event (<https://develop.sentry.dev/sdk/foundations/transport/envelopes/>,
//! <https://develop.sentry.dev/sdk/foundations/transport/event-payloads/>).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::layer::Report;

/// What all reports of this process say.
pub(super) struct Origin {
    /// Where it runs, as in `production`.
    pub(super) environment: String,
    /// The name of the machine.
    pub(super) server: Option<String>,
}

impl Origin {
    /// The bytes of the body.
    pub(super) fn envelope(&self, report: &Report) -> Vec<u8> {
        let id = format!("{:032x}", rand::random::<u128>());
        let event = self.event(&id, report).to_string();
        let sent_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let head = json!({ "event_id": id, "sent_at": sent_at });
        let item = json!({ "type": "event", "length": event.len() });
        format!("{head}\n{item}\n{event}\n").into_bytes()
    }

    fn event(&self, id: &str, report: &Report) -> Value {
        let at = report.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (file, line) = &report.place;
        let mut event = json!({
            "event_id": id,
            "timestamp": at.as_secs_f64(),
            "platform": "other",
            "level": if report.is_panic { "fatal" } else { "error" },
            "logger": report.part,
            "release": concat!("voicematch-server@", env!("CARGO_PKG_VERSION")),
            "environment": self.environment,
            "server_name": self.server,
            "fingerprint": [file, line.to_string()],
        });
        let fields = report.fields.iter();
        let mut extra: Map<_, _> = fields
            .map(|(name, text)| ((*name).to_owned(), json!(text)))
            .collect();
        if report.is_panic {
            event["exception"] = json!({ "values": [{
                "type": "panic",
                "value": report.message,
                "mechanism": { "type": "panic", "handled": false },
                "stacktrace": { "frames": [{ "filename": file, "lineno": line, "in_app": true }] },
            }] });
        } else {
            event["logentry"] = json!({ "formatted": report.message });
            extra.insert("place".to_owned(), json!(format!("{file}:{line}")));
        }
        event["extra"] = extra.into();
        event
    }
}
