//! Asks the app whether a user may come in.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use voicematch_core::{identity::Identity, metrics::Metrics, session::RateLimit};

use super::{Claims, NotAdmitted, Shown};
use crate::{admission::limits::counted_address, fetch::Fetch};

/// Requests to the app at the same time; more users are told to come again.
const MAX_ASKED: usize = 256;

/// The same about users of one address, so that others are asked about too.
const MAX_ASKED_OF_ADDRESS: usize = MAX_ASKED / 8;

/// How often answers that are too old are looked for, once there are as many as may be.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Between two lines in the log that the app fails.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Answers that are remembered at the same time.
const MAX_REMEMBERED: usize = 10_000;

/// How the app is asked.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Where.
    pub url: Uri,
    /// How long it has to answer.
    pub timeout: Duration,
    /// How long an answer is remembered; zero: not at all.
    pub remember: Duration,
}

/// Asks the app.
pub(super) struct Webhook {
    config: WebhookConfig,
    fetch: Fetch,
    places: Semaphore,
    /// How many are taken by users of each address.
    of_address: DashMap<IpAddr, usize>,
    /// By a hash of what was asked, so that no token is kept.
    answers: DashMap<[u8; 32], Remembered>,
    swept: Mutex<Instant>,
    told: Mutex<Told>,
    metrics: Arc<Metrics>,
}

/// What the log says of the app.
#[derive(Default)]
struct Told {
    /// That it fails.
    is_down: bool,
    /// When it said so last.
    at: Option<Instant>,
}

#[derive(Clone)]
struct Remembered {
    /// `None`: the app has said no.
    claims: Option<Arc<Claims>>,
    until: Instant,
}

/// What the app is told.
#[derive(Serialize)]
struct Asked<'a> {
    token: Option<&'a str>,
    cookie: Option<&'a str>,
    origin: Option<&'a str>,
    address: Option<IpAddr>,
}

impl Webhook {
    pub(super) fn new(config: WebhookConfig, metrics: Arc<Metrics>) -> Result<Self, String> {
        let fetch = Fetch::new(&config.url).map_err(|error| format!("--auth-webhook: {error}"))?;
        Ok(Self {
            config,
            fetch,
            places: Semaphore::new(MAX_ASKED),
            of_address: DashMap::new(),
            answers: DashMap::new(),
            swept: Mutex::new(Instant::now()),
            told: Mutex::default(),
            metrics,
        })
    }

    /// The user, as the app says; `rate` is their limit, if it names none. Without an answer nobody comes in.
    pub(super) async fn ask(
        &self,
        shown: Shown<'_>,
        rate: &RateLimit,
    ) -> Result<Identity, NotAdmitted> {
        let Shown {
            token,
            cookie,
            origin,
            address,
        } = shown;
        if token.is_none() && cookie.is_none() {
            return Err(NotAdmitted::Missing);
        }
        let asked = Asked {
            token,
            cookie,
            origin,
            address,
        };
        let body = serde_json::to_vec(&asked).map_err(|_| NotAdmitted::Unavailable)?;
        let key = Sha256::digest(&body).into();
        let claims = match self.remembered(&key) {
            Some(claims) => {
                self.count("remembered");
                claims
            }
            None => {
                let Some(mut place) = self.place(address) else {
                    self.count("busy");
                    return Err(NotAdmitted::Unavailable);
                };
                let claims = self.ask_app(body, key).await;
                place.answered = true;
                claims?
            }
        };
        let claims = claims.ok_or(NotAdmitted::Refused)?;
        let identity = Claims::clone(&claims).identity(rate, Duration::ZERO);
        let identity = identity.map_err(NotAdmitted::Invalid)?;
        match identity.expires() > Instant::now() {
            true => Ok(identity),
            false => Err(NotAdmitted::Expired),
        }
    }

    /// What the app says of a user; `None`: they may not come in.
    async fn ask_app(
        &self,
        body: Vec<u8>,
        key: [u8; 32],
    ) -> Result<Option<Arc<Claims>>, NotAdmitted> {
        let request = Request::post(&self.config.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|_| NotAdmitted::Unavailable)?;
        let begun = Instant::now();
        let answer = self.fetch.ask(request, self.config.timeout).await;
        let answer = answer.map_err(|error| self.wrong_answer(&error))?;
        self.metrics
            .webhook_seconds
            .observe(begun.elapsed().as_secs_f64());
        let claims = match answer.status {
            StatusCode::OK => {
                let claims = read(&answer.body).map_err(|error| self.wrong_answer(&error))?;
                if let Err(why) = claims.check() {
                    self.count("refused");
                    return Err(NotAdmitted::Invalid(why));
                }
                self.count("admitted");
                Some(Arc::new(claims))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.count("refused");
                None
            }
            status => return Err(self.wrong_answer(&format!("the answer is {status}"))),
        };
        if std::mem::take(&mut self.told().is_down) {
            tracing::info!(url = %self.config.url, "the app says again who may come in");
        }
        self.remember(key, claims.clone());
        Ok(claims)
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Option<Arc<Claims>>> {
        let found = self.answers.get(key)?;
        (found.until > Instant::now()).then(|| found.claims.clone())
    }

    fn remember(&self, key: [u8; 32], claims: Option<Arc<Claims>>) {
        if self.config.remember.is_zero() {
            return;
        }
        let now = Instant::now();
        if self.answers.len() >= MAX_REMEMBERED {
            self.sweep(now);
        }
        if self.answers.len() < MAX_REMEMBERED {
            let until = now + self.config.remember;
            self.answers.insert(key, Remembered { claims, until });
        }
    }

    /// Forgets old answers and all refusals, so that made-up tokens do not fill the memory.
    fn sweep(&self, now: Instant) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(*swept) >= SWEEP_EVERY {
            *swept = now;
            self.answers
                .retain(|_, answer| answer.until > now && answer.claims.is_some());
        }
    }

    /// A place among those who are asked about; `None`: there is none.
    fn place(&self, address: Option<IpAddr>) -> Option<Place<'_>> {
        let permit = self.places.try_acquire().ok()?;
        let address = address.and_then(|address| counted_address(address, true));
        if let Some(address) = address {
            let mut taken = self.of_address.entry(address).or_insert(0);
            if *taken >= MAX_ASKED_OF_ADDRESS {
                return None;
            }
            *taken += 1;
        }
        Some(Place {
            webhook: self,
            address,
            answered: false,
            _permit: permit,
        })
    }

    fn wrong_answer(&self, error: &str) -> NotAdmitted {
        self.count("failed");
        let (mut told, now) = (self.told(), Instant::now());
        let is_due = |at: Instant| now.saturating_duration_since(at) >= TELL_EVERY;
        // An app that fails with some users only does not fill the log.
        if !told.is_down && told.at.is_none_or(is_due) {
            *told = Told {
                is_down: true,
                at: Some(now),
            };
            let url = &self.config.url;
            tracing::error!(%url, %error, "the app does not say whether a user may come in, who does not until it answers");
        }
        NotAdmitted::Unavailable
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, result: &'static str) {
        self.metrics.webhook.with_label_values(&[result]).inc();
    }
}

/// A place among those about whom the app is asked.
struct Place<'a> {
    webhook: &'a Webhook,
    address: Option<IpAddr>,
    answered: bool,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(address) = self.address
            && let Entry::Occupied(mut taken) = self.webhook.of_address.entry(address)
        {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
        if !self.answered {
            self.webhook.count("abandoned");
        }
    }
}

/// Claims as a token has them; `exp` may be left out.
fn read(body: &[u8]) -> Result<Claims, String> {
    let wrong = |error: serde_json::Error| format!("the answer has no claims: {error}");
    let mut claims: Value = serde_json::from_slice(body).map_err(wrong)?;
    if let Some(claims) = claims.as_object_mut() {
        claims
            .entry("exp")
            .or_insert_with(|| f64::from(u32::MAX).into());
    }
    serde_json::from_value(claims).map_err(wrong)
}
