//! Who a user is and what they may do, as the app has said before the session began.

use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use voicematch_protocol::Criteria;

use crate::rate::RateLimit;

/// How long before its end a user is told of it, if it is good for long enough.
const ANNOUNCED_FOR: Duration = Duration::from_secs(60);

/// How long after a token that could not be checked the user is asked for another one, at the most.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// One user of the app, in one session.
pub struct Identity {
    /// The app's id of the user. Other users never see it.
    pub user: Box<str>,
    /// What other users see.
    pub name: Option<Box<str>>,
    /// What the user is to the app.
    pub roles: Box<[Box<str>]>,
    /// Whether the user may ask for a match.
    pub may_match: bool,
    /// The named rooms that the user may join; a `*` at the end stands for anything. `None`: all.
    pub rooms: Option<Box<[Box<str>]>>,
    /// What the app has said in place of the user's own criteria.
    pub criteria: Criteria<'static>,
    /// The user's own limit.
    pub rate: Option<RateLimit>,
    /// What the app's own programs may do.
    pub rights: Rights,
    expiry: Mutex<Expiry>,
    /// A new token is being looked at.
    renewing: AtomicBool,
}

/// What a program of the app may do for all users; a user may do none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// Create, see, end and delete transcription sessions.
    pub sessions: bool,
    /// Begin interviews, and see their answers.
    pub surveys: bool,
}

#[derive(Clone, Copy)]
struct Expiry {
    at: Instant,
    /// `None`: the user was told.
    announce_at: Option<Instant>,
}

impl Expiry {
    fn new(at: Instant) -> Self {
        let left = at.saturating_duration_since(Instant::now());
        let announce_at = Some(at - ANNOUNCED_FOR.min(left / 2));
        Self { at, announce_at }
    }
}

/// What is due for the time that an identity is good for.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before then.
    Nothing,
    /// To tell the user that it ends in this time.
    Announce(Duration),
    /// To end the session.
    End,
}

impl Identity {
    /// A user who may do everything until `expires`.
    pub fn new(user: Box<str>, expires: Instant) -> Self {
        Self {
            user,
            name: None,
            roles: Box::default(),
            may_match: true,
            rooms: None,
            criteria: Criteria::default(),
            rate: None,
            rights: Rights::default(),
            expiry: Mutex::new(Expiry::new(expires)),
            renewing: AtomicBool::new(false),
        }
    }

    /// Whether the user may join the room of this name.
    pub fn may_join(&self, room: &str) -> bool {
        let allows = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => room.starts_with(start),
            None => room == pattern,
        };
        let rooms = self.rooms.as_deref();
        rooms.is_none_or(|rooms| rooms.iter().any(|pattern| allows(pattern)))
    }

    /// The criteria that count: those of the app, and the user's own where it has said nothing.
    pub fn criteria<'a>(&'a self, asked: &Criteria<'a>) -> Criteria<'a> {
        let Criteria {
            language,
            region,
            interests,
        } = &self.criteria;
        Criteria {
            language: language.clone().or_else(|| asked.language.clone()),
            region: region.clone().or_else(|| asked.region.clone()),
            interests: match interests.is_empty() {
                true => asked.interests.clone(),
                false => interests.clone(),
            },
        }
    }

    /// Until when it is good.
    pub fn expires(&self) -> Instant {
        self.lock().at
    }

    /// Whether its user was told that it ends soon.
    pub(crate) fn is_announced(&self) -> bool {
        self.lock().announce_at.is_none()
    }

    /// Its user was told that it ends soon.
    pub(crate) fn set_announced(&self) {
        self.lock().announce_at = None;
    }

    /// When [`Self::due`] has something to say.
    pub fn due_at(&self) -> Instant {
        let expiry = *self.lock();
        expiry.announce_at.unwrap_or(expiry.at)
    }

    /// What is due now. That it ends is announced once.
    pub fn due(&self, now: Instant) -> Due {
        let mut expiry = self.lock();
        let left = expiry.at.saturating_duration_since(now);
        if left.is_zero() {
            return Due::End;
        }
        match expiry.announce_at {
            Some(at) if at <= now => {
                expiry.announce_at = None;
                Due::Announce(left)
            }
            _ => Due::Nothing,
        }
    }

    /// Whether a new token may be looked at: one at a time. To be followed by [`Self::end_renewal`].
    pub fn begin_renewal(&self) -> bool {
        !self.renewing.swap(true, Ordering::Relaxed)
    }

    /// The token was looked at.
    pub fn end_renewal(&self) {
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// Its user was told, and has shown a token that could not be checked: they are told again.
    pub fn announce_again(&self, now: Instant) {
        let mut expiry = self.lock();
        let left = expiry.at.saturating_duration_since(now);
        let again = now + AGAIN_AFTER.min(left / 2);
        expiry.announce_at.get_or_insert(again);
    }

    /// It is good as long as `other` from now on.
    pub fn renew(&self, other: &Self) {
        *self.lock() = Expiry::new(other.expires());
    }

    fn lock(&self) -> MutexGuard<'_, Expiry> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a token names no user.
pub struct Unidentified {
    /// For people: what is wrong with it.
    pub message: String,
    /// Whether the same token may be good later.
    pub temporary: bool,
}

/// What is to be done with the user of a token.
pub type Identified = Box<dyn FnOnce(Result<Identity, Unidentified>) + Send>;

/// Knows users by what the app has given them.
pub trait Identify: Send + Sync {
    /// Looks for the user of a token, which was shown from this address, and calls `then`: at once, or later, on this thread
    /// or another.
    fn identify(&self, token: &str, address: Option<IpAddr>, then: Identified);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_end_is_announced_once_and_again_after_it_was_renewed() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let identity = Identity::new("ann".into(), start + 600 * second);
        assert_eq!(identity.due(start + 530 * second), Due::Nothing);
        assert!(
            matches!(identity.due(start + 545 * second), Due::Announce(left) if left <= 60 * second)
        );
        assert_eq!(identity.due(start + 546 * second), Due::Nothing);
        identity.renew(&Identity::new("ann".into(), start + 1200 * second));
        assert_eq!(identity.due(start + 700 * second), Due::Nothing);
        assert!(matches!(
            identity.due(start + 1145 * second),
            Due::Announce(_)
        ));
        // Who could not be checked is asked again, who was not told yet is told when it is time.
        identity.announce_again(start + 1150 * second);
        assert_eq!(identity.due(start + 1154 * second), Due::Nothing);
        assert!(matches!(
            identity.due(start + 1155 * second),
            Due::Announce(_)
        ));
        identity.renew(&Identity::new("ann".into(), start + 1800 * second));
        identity.announce_again(start + 1160 * second);
        assert_eq!(identity.due(start + 1170 * second), Due::Nothing);
        assert_eq!(identity.due(start + 1800 * second), Due::End);
        // Of a short one half of the time is left.
        let short = Identity::new("ann".into(), Instant::now() + 10 * second);
        assert!(short.due_at() <= Instant::now() + 5 * second);
    }

    #[test]
    fn rooms_are_allowed_by_name_or_beginning() {
        let mut identity = Identity::new("ann".into(), Instant::now());
        assert!(identity.may_join("anything"));
        identity.rooms = Some(["tea".into(), "team-*".into()].into());
        for (room, may) in [
            ("tea", true),
            ("teas", false),
            ("team-1", true),
            ("team", false),
        ] {
            assert_eq!(identity.may_join(room), may, "{room}");
        }
        identity.rooms = Some(Box::default());
        assert!(!identity.may_join("tea"));
    }

    #[test]
    fn what_the_app_says_of_criteria_wins() {
        let mut identity = Identity::new("ann".into(), Instant::now());
        identity.criteria.language = Some("en".into());
        let asked = Criteria {
            language: Some("de".into()),
            region: Some("eu".into()),
            interests: vec!["chess".into()],
        };
        let counted = identity.criteria(&asked);
        assert_eq!(counted.language.as_deref(), Some("en"));
        assert_eq!(counted.region.as_deref(), Some("eu"));
        assert_eq!(counted.interests, ["chess"]);
    }
}
