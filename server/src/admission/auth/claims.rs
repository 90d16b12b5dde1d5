//! What a token says of its user.

use std::{
    borrow::Cow,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize};
use voicematch_core::{
    identity::{Identity, Rights},
    matchmaker::Wish,
    room::named::is_name,
    session::RateLimit,
};
use voicematch_protocol::Criteria;

/// The longest that a token is good for; one without end would never be checked again.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

const MAX_USER_BYTES: usize = 128;
const MAX_NAME_CHARS: usize = 64;
const MAX_WORDS: usize = 64;

/// The claims that are read (RFC 7519 section 4).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The app's id of the user.
    pub sub: String,
    /// When the token ends, in seconds since 1970.
    pub exp: f64,
    /// Who has made it, for tokens that are made here; `jsonwebtoken` compares that of others.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it is for. `jsonwebtoken` compares it, and ignores a value that is neither a text nor a list: that is refused here.
    #[serde(default, deserialize_with = "audience", skip_serializing)]
    pub aud: (),
    /// What other users see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Grant::is_default")]
    pub voicematch: Grant,
}

/// What a user may do here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grant {
    /// What the user is to the app.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Named rooms that the user may join, by name or beginning (`team-*`); absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<String>>,
    /// Whether the user may ask for a match; absent: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub find_match: Option<bool>,
    /// What counts in place of the user's own criteria.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub criteria: Option<GrantedCriteria>,
    /// In place of `--max-messages-per-second`; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages_per_second: Option<u32>,
    /// In place of `--message-burst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_burst: Option<u32>,
    /// What a program of the app may do for all users: `sessions` (of transcription), `surveys`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rights: Vec<Right>,
}

/// What a program of the app may do for all users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Create, see, end and delete transcription sessions.
    Sessions,
    /// Begin interviews, and see their answers.
    Surveys,
}

/// Criteria that the app has chosen; what is absent is the user's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantedCriteria {
    /// As in `find_match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// As in `find_match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// As in `find_match`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interests: Vec<String>,
}

fn audience<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "aud is a text, or a list of texts")]
    enum Audience {
        One(#[allow(dead_code, reason = "only its kind counts")] String),
        Many(#[allow(dead_code, reason = "only their kind counts")] Vec<String>),
    }
    Audience::deserialize(deserializer).map(|_| ())
}

impl Grant {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Claims {
    /// Whether a token with these would be accepted; the error says which is wrong.
    pub fn check(&self) -> Result<(), String> {
        let anything = RateLimit::new(0, 1);
        self.clone().identity(&anything, Duration::ZERO).map(|_| ())
    }

    /// The user, whose own limits replace those of `rate`, for `leeway` longer than the token says; the error says which
    /// claim is wrong.
    pub(super) fn identity(self, rate: &RateLimit, leeway: Duration) -> Result<Identity, String> {
        let Self { sub, exp, name, .. } = self;
        let grant = self.voicematch;
        if sub.is_empty() || sub.len() > MAX_USER_BYTES {
            return Err(format!(
                "sub is the user's id, of 1 to {MAX_USER_BYTES} bytes"
            ));
        }
        if name
            .as_deref()
            .is_some_and(|name| name.chars().count() > MAX_NAME_CHARS)
        {
            return Err(format!("name has {MAX_NAME_CHARS} characters at the most"));
        }
        let end = match Duration::try_from_secs_f64(exp) {
            Ok(end) => end,
            Err(_) if exp > 0.0 => Duration::MAX,
            Err(_) => Duration::ZERO,
        };
        let end = end.saturating_add(leeway);
        let today = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let left = end.saturating_sub(today).min(LONGEST);
        let mut identity = Identity::new(sub.into(), Instant::now() + left);
        identity.name = name.filter(|name| !name.is_empty()).map(Into::into);
        identity.roles = words("roles", grant.roles)?;
        identity.may_match = grant.find_match.unwrap_or(true);
        identity.rooms = grant.rooms.map(|rooms| words("rooms", rooms)).transpose()?;
        if let Some(rooms) = &identity.rooms
            && let Some(wrong) = rooms.iter().find(|room| !is_pattern(room))
        {
            return Err(format!(
                "rooms: {wrong:?} is neither a room's name nor a beginning with *"
            ));
        }
        identity.rights = Rights {
            sessions: grant.rights.contains(&Right::Sessions),
            surveys: grant.rights.contains(&Right::Surveys),
        };
        if let Some(criteria) = grant.criteria {
            let criteria = Criteria {
                language: criteria.language.map(Cow::Owned),
                region: criteria.region.map(Cow::Owned),
                interests: criteria.interests.into_iter().map(Cow::Owned).collect(),
            };
            Wish::new(&criteria)?;
            identity.criteria = criteria;
        }
        if grant.max_messages_per_second.is_some() || grant.message_burst.is_some() {
            identity.rate = Some(RateLimit::new(
                grant.max_messages_per_second.unwrap_or(rate.per_second),
                grant.message_burst.unwrap_or(rate.burst),
            ));
        }
        Ok(identity)
    }
}

fn is_pattern(room: &str) -> bool {
    match room.strip_suffix('*') {
        Some("") => true,
        Some(start) => is_name(start),
        None => is_name(room),
    }
}

fn words(claim: &str, words: Vec<String>) -> Result<Box<[Box<str>]>, String> {
    if words.len() > MAX_WORDS || words.iter().any(|word| word.len() > MAX_USER_BYTES) {
        return Err(format!(
            "{claim} has {MAX_WORDS} words at the most, of {MAX_USER_BYTES} bytes"
        ));
    }
    Ok(words.into_iter().map(Into::into).collect())
}
