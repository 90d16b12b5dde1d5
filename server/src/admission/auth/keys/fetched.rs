//! Keys from a URL: fetched in the background, again before they are old, and soon after a token by a key that is not
//! among them.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    HeaderMap, Request, StatusCode, Uri,
    header::{self, HeaderValue},
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep_until, timeout, timeout_at},
};
use voicematch_core::metrics::Metrics;

use super::{Key, key_set};
use crate::{admission::auth::NotAdmitted, fetch::Fetch};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long a server that has just started waits for the first answer before it takes users: without keys they are told to
/// come again.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// How long keys are used before they are fetched again, where the answer does not say; and the bounds of what it may say.
const FRESH_FOR: Duration = Duration::from_secs(600);
const FRESH_BOUNDS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(24 * 3600)];

/// The least time between two fetches, however many tokens are by a key that nobody knows; and after a failure.
const SPACING: Duration = Duration::from_secs(5);

/// The most time between two tries after failures.
const MAX_SPACING: Duration = Duration::from_secs(60);

/// Keys from a URL.
pub(in crate::admission::auth) struct FetchedKeys {
    url: Uri,
    fetch: Fetch,
    /// Empty: there are none yet.
    keys: RwLock<Arc<Vec<Key>>>,
    /// Somebody has shown a token by another key.
    wanted: Notify,
    /// Whether they were fetched, or that has failed.
    tried: watch::Sender<bool>,
    /// When to fetch next, if nobody asks for it.
    next: Mutex<Next>,
    metrics: Arc<Metrics>,
}

struct Next {
    at: Instant,
    failures: u32,
}

impl FetchedKeys {
    pub(in crate::admission::auth) fn new(
        url: &Uri,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let fetch = Fetch::new(url).map_err(|error| format!("--jwks: {error}"))?;
        let (at, failures) = (Instant::now(), 0);
        Ok(Self {
            url: url.clone(),
            fetch,
            keys: RwLock::default(),
            wanted: Notify::new(),
            tried: watch::Sender::new(false),
            next: Mutex::new(Next { at, failures }),
            metrics,
        })
    }

    /// Those of the last answer that had some.
    pub(in crate::admission::auth) fn keys(&self) -> Arc<Vec<Key>> {
        let keys = self.keys.read();
        keys.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches the keys soon; who has shown the token is answered at once.
    pub(in crate::admission::auth) fn unknown_key(&self) -> NotAdmitted {
        self.wanted.notify_one();
        match self.keys().is_empty() {
            true => NotAdmitted::Unavailable,
            false => NotAdmitted::NewKey,
        }
    }

    /// Waits for the end of the first try of [`Self::keep`], but not for long.
    pub(in crate::admission::auth) async fn prepare(&self) {
        let mut tried = self.tried.subscribe();
        // Who has waited in vain goes on without keys.
        let _ = timeout(FIRST_WITHIN, tried.wait_for(|tried| *tried)).await;
    }

    /// Fetches the keys. If that fails it is told of, and the old ones stay.
    async fn fetch(&self) {
        let fetched = self.fetch_once().await;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match fetched {
            Ok((keys, fresh_for)) => {
                tracing::debug!(url = %self.url, keys = keys.len(), "the keys of tokens were fetched");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                (next.at, next.failures) = (Instant::now() + fresh_for, 0);
                "ok"
            }
            Err(error) => {
                let again_in = (SPACING * 2_u32.pow(next.failures.min(5))).min(MAX_SPACING);
                next.failures += 1;
                next.at = Instant::now() + again_in;
                let used = self.keys().len();
                tracing::error!(url = %self.url, %error, ?again_in, old_keys = used, "the keys of tokens cannot be fetched");
                "failed"
            }
        };
        self.metrics.key_fetches.with_label_values(&[result]).inc();
        self.tried.send_replace(true);
    }

    /// Fetches again and again, for ever.
    pub(in crate::admission::auth) async fn keep(&self) {
        loop {
            let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).at;
            // Nobody makes it come sooner than that.
            sleep_until(next.min(Instant::now() + SPACING).into()).await;
            // Timed out or asked for: fetch either way.
            let _ = timeout_at(next.into(), self.wanted.notified()).await;
            self.fetch().await;
        }
    }

    async fn fetch_once(&self) -> Result<(Vec<Key>, Duration), String> {
        let request = Request::get(&self.url)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let answer = self.fetch.ask(request, WITHIN).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("the answer is {}", answer.status));
        }
        Ok((key_set(&answer.body)?, fresh_for(&answer.headers)))
    }
}

/// How long an answer is good (RFC 9111 section 5.2.2.1).
fn fresh_for(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let lines = lines.filter_map(|line: &HeaderValue| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(','));
    let max_age = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        let is_max_age = name.trim().eq_ignore_ascii_case("max-age");
        is_max_age.then_some(seconds.trim())
    });
    let seconds = max_age.and_then(|seconds| seconds.parse().ok());
    let [least, most] = FRESH_BOUNDS;
    seconds.map_or(FRESH_FOR, |seconds| {
        Duration::from_secs(seconds).clamp(least, most)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_for_as_long_as_the_answer_says() {
        let cases = [
            (&[][..], 600),
            (&["max-age=3600"], 3600),
            (&["public, max-age=3600, must-revalidate"], 3600),
            (&["public", "Max-Age = 3600"], 3600),
            // Neither all the time, nor never again.
            (&["max-age=0"], 60),
            (&["max-age=31536000"], 24 * 3600),
            (&["no-store"], 600),
            (&["s-maxage=3600"], 600),
            (&["max-age=soon"], 600),
        ];
        for (lines, seconds) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CACHE_CONTROL, HeaderValue::from_static(line));
            }
            let expected = Duration::from_secs(seconds);
            assert_eq!(fresh_for(&headers), expected, "{lines:?}");
        }
    }
}
