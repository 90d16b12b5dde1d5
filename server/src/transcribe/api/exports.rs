//! Files that are made in memory: how many at a time, and which part of what there is.

use std::time::Duration;

use hyper::body::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use voicematch_protocol::transcribe::TranscribeError;
use voicematch_transcribe::sessions::Refusal;

use crate::transcribe::Transcribe;

/// How long a request waits for others before it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place in memory for one file.
pub(super) struct Place(
    #[expect(dead_code, reason = "it is given back when this is dropped")] OwnedSemaphorePermit,
);

/// A file, and its place until it has been sent.
struct Held(String, #[expect(dead_code, reason = "the same")] Place);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Place {
    /// Waits for one.
    pub(super) async fn wait_for(transcribe: &Transcribe) -> Result<Self, Refusal> {
        let place = timeout(PATIENCE, transcribe.exports.clone().acquire_owned()).await;
        place.ok().and_then(Result::ok).map(Self).ok_or_else(|| {
            Refusal::new(
                TranscribeError::RateLimited,
                "as many files as this server makes at once are on their way to others; try again in a minute",
            )
        })
    }

    /// The body of an answer that has the file.
    pub(super) fn filled_with(self, file: String) -> Bytes {
        Bytes::from_owner(Held(file, self))
    }
}

/// The number behind which the file begins; 0: all of it.
pub(super) fn after(query: &str) -> Result<i64, Refusal> {
    let mut pairs = query.split('&');
    let after = pairs.find_map(|pair| pair.strip_prefix("after="));
    let after = after.map(str::parse).transpose().map_err(|_| {
        let message =
            "after is a number, as in after=41: that of a segment, or the id of an interview";
        Refusal::new(TranscribeError::BadMessage, message)
    })?;
    Ok(after.unwrap_or(0))
}

/// Where the rest is, as a header `Link` says it.
pub(super) fn rest(path: &str, after: i64) -> String {
    format!("<{path}?after={after}>; rel=\"next\"")
}
