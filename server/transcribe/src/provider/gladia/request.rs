//! What is asked of Gladia over HTTP, and what its statuses mean.

use std::time::Duration;

use hyper::{HeaderMap, StatusCode, Uri, header::RETRY_AFTER};
use serde_json::json;

use crate::provider::{OpenError, pcm};

/// What is asked for. Partial transcripts are off by default.
pub(super) fn configuration(language: Option<&str>) -> serde_json::Value {
    let languages: Vec<String> = language.and_then(primary).into_iter().collect();
    json!({
        "encoding": "wav/pcm",
        "bit_depth": 16,
        "sample_rate": pcm::SAMPLE_RATE,
        "channels": 1,
        "model": "solaria-1",
        "endpointing": 0.3,
        "maximum_duration_without_endpointing": 30,
        "language_config": { "languages": languages, "code_switching": false },
        "messages_config": {
            "receive_partial_transcripts": true,
            "receive_final_transcripts": true,
            "receive_acknowledgments": true,
            "receive_errors": true,
            "receive_lifecycle_events": true,
            "receive_speech_events": false,
            "receive_pre_processing_events": false,
            "receive_realtime_processing_events": false,
            "receive_post_processing_events": false,
        },
    })
}

/// `de` of `de-AT`.
fn primary(language: &str) -> Option<String> {
    let primary = language.split(['-', '_']).next()?.to_ascii_lowercase();
    let is_code =
        (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    is_code.then_some(primary)
}

/// What a status says, unless it is good.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap) -> Result<(), OpenError> {
    match status.as_u16() {
        200..=299 => Ok(()),
        429 => {
            let seconds = headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(OpenError::Busy(seconds.map(Duration::from_secs)))
        }
        // Its SDK tries again after these.
        408 | 413 | 500.. => Err(OpenError::Unreachable),
        status @ (400 | 422) => Err(OpenError::BadConfig(format!("status {status}"))),
        status => Err(OpenError::Refused(status)),
    }
}

/// The path of the API, if the URL has none.
pub(super) fn with_path(url: Uri) -> Option<Uri> {
    let mut parts = url.into_parts();
    let path = parts
        .path_and_query
        .as_ref()
        .map_or("/", |path| path.as_str());
    if let Some(query) = path
        .strip_prefix('/')
        .filter(|rest| rest.is_empty() || rest.starts_with('?'))
    {
        parts.path_and_query = Some(format!("/v2/live{query}").parse().ok()?);
    }
    Uri::from_parts(parts).ok()
}

/// An id that may stand in a path.
pub(super) fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=128).contains(&id.len()) && id.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn languages_are_two_letters() {
        assert_eq!(primary("de-AT").as_deref(), Some("de"));
        assert_eq!(primary("EN_us").as_deref(), Some("en"));
        for wrong in ["", "english", "e1", "-"] {
            assert_eq!(primary(wrong), None, "{wrong}");
        }
        assert_eq!(
            configuration(None)["language_config"]["languages"],
            json!([])
        );
        assert_eq!(
            configuration(Some("en"))["language_config"]["languages"],
            json!(["en"])
        );
    }

    #[test]
    fn each_status_says_what_to_do() {
        let said = |status: u16| {
            refusal(
                StatusCode::from_u16(status).expect("it is one"),
                &HeaderMap::new(),
            )
        };
        assert_eq!(said(201), Ok(()));
        assert_eq!(said(401), Err(OpenError::Refused(401)));
        assert_eq!(said(402), Err(OpenError::Refused(402)));
        assert_eq!(said(429), Err(OpenError::Busy(None)));
        assert_eq!(said(503), Err(OpenError::Unreachable));
        assert_eq!(said(408), Err(OpenError::Unreachable));
        assert!(matches!(said(422), Err(OpenError::BadConfig(_))));
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let busy = refusal(StatusCode::TOO_MANY_REQUESTS, &headers);
        assert_eq!(busy, Err(OpenError::Busy(Some(Duration::from_secs(7)))));
    }
}
