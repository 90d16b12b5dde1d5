//! A session as one node describes it to another, as JSON.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use voicematch_protocol::{Criteria, RoomId, SessionId};

use super::super::{Session, millis, token::Tokens};
use crate::{
    cluster::NodeId,
    identity::{Identity, Rights},
    matchmaker::{Arrived, Avoid},
    metrics::Transport,
    outbox::{Kept, KeptLog},
    rate::RateLimit,
    room::{Mate, Room},
};

#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) epoch: u32,
    /// The number of the client's last message.
    pub(super) received: u64,
    pub(super) tokens: Tokens,
    /// The index of the latest transport.
    pub(super) transport: u8,
    pub(super) reported: Option<std::num::NonZero<u64>>,
    pub(super) who: Option<Who>,
    pub(super) avoid: Vec<Avoided>,
    /// Whom the user has blocked, and by whom they were: persons, and for how many milliseconds that holds.
    pub(super) blocks: [Vec<(u64, u64)>; 2],
    pub(super) place: AtPlace,
    pub(super) log: KeptLog,
}

/// What has come to the session since then.
#[derive(Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) entries: Vec<Kept>,
    /// Whether the user is still in the room of the state.
    pub(super) in_room: bool,
    /// Where the partner is now.
    pub(super) partner_at: Option<[u8; 8]>,
    /// Why the session is to be closed, if it is.
    pub(super) closing: Option<String>,
}

/// An [`Identity`].
#[derive(Serialize, Deserialize)]
pub(super) struct Who {
    user: Box<str>,
    name: Option<Box<str>>,
    roles: Box<[Box<str>]>,
    may_match: bool,
    rooms: Option<Box<[Box<str>]>>,
    criteria: Wanted,
    /// Messages a second, and at once.
    rate: Option<(u32, u32)>,
    sessions: bool,
    surveys: bool,
    expires_ms: u64,
    announced: bool,
}

/// Criteria, owned.
#[derive(Serialize, Deserialize)]
pub(super) struct Wanted {
    language: Option<String>,
    region: Option<String>,
    interests: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Avoided {
    partner: SessionId,
    left_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AtPlace {
    Idle,
    Waiting {
        wanted: Wanted,
        waited_us: u64,
        /// Microseconds of the engine's clock when that was said, so that the way there counts, too.
        at: Option<u64>,
        id: Option<Box<RawValue>>,
    },
    Room(InRoom),
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct InRoom {
    pub(super) room: RoomId,
    pub(super) partner: SessionId,
    /// Where the partner is.
    node: [u8; 8],
    mate: Mate,
    offers: bool,
    age_ms: u64,
}

impl Who {
    fn of(identity: &Identity, now: Instant) -> Self {
        let Rights { sessions, surveys } = identity.rights;
        let left = identity.expires().saturating_duration_since(now);
        Self {
            user: identity.user.clone(),
            name: identity.name.clone(),
            roles: identity.roles.clone(),
            may_match: identity.may_match,
            rooms: identity.rooms.clone(),
            criteria: Wanted::of(&identity.criteria),
            rate: identity.rate.map(|rate| (rate.per_second, rate.burst)),
            sessions,
            surveys,
            expires_ms: millis(left),
            announced: identity.is_announced(),
        }
    }

    pub(super) fn identity(self, now: Instant) -> Identity {
        let expires = later(now, self.expires_ms);
        let mut identity = Identity::new(self.user, expires);
        identity.name = self.name;
        identity.roles = self.roles;
        identity.may_match = self.may_match;
        identity.rooms = self.rooms;
        identity.criteria = self.criteria.criteria();
        identity.rate = (self.rate).map(|(per_second, burst)| RateLimit::new(per_second, burst));
        identity.rights = Rights {
            sessions: self.sessions,
            surveys: self.surveys,
        };
        if self.announced {
            identity.set_announced();
        }
        identity
    }
}

impl Wanted {
    fn of(criteria: &Criteria<'_>) -> Self {
        let text = |word: &std::borrow::Cow<'_, str>| word.clone().into_owned();
        Self {
            language: criteria.language.as_ref().map(text),
            region: criteria.region.as_ref().map(text),
            interests: criteria.interests.iter().map(text).collect(),
        }
    }

    pub(super) fn criteria(self) -> Criteria<'static> {
        Criteria {
            language: self.language.map(Into::into),
            region: self.region.map(Into::into),
            interests: self.interests.into_iter().map(Into::into).collect(),
        }
    }
}

impl InRoom {
    pub(super) fn of(room: &Arc<Room>, session: SessionId, node: NodeId) -> Self {
        let partner = room.peer_of(session);
        Self {
            room: room.id,
            partner: partner.id,
            node: node.to_bytes(),
            mate: Mate::of(partner),
            offers: room.offers(session),
            age_ms: millis(room.age()),
        }
    }

    pub(super) fn node(&self) -> NodeId {
        NodeId::from_bytes(self.node)
    }

    pub(super) fn arrived(&self) -> Arrived<'_> {
        Arrived {
            room: self.room,
            partner: self.partner,
            mate: &self.mate,
            offers: self.offers,
            age: Duration::from_millis(self.age_ms),
        }
    }
}

impl State {
    /// Of a frozen session, with its log.
    pub(super) fn of(session: &Session, room: Option<InRoom>, now: Instant) -> Option<Self> {
        let resume = session.resume.as_deref()?;
        let waiting = session.ticket.as_ref().filter(|ticket| ticket.is_parked());
        let place = match (room, waiting) {
            (Some(room), _) => AtPlace::Room(room),
            (None, Some(ticket)) => AtPlace::Waiting {
                wanted: Wanted::of(&ticket.wish().criteria()),
                waited_us: micros(now.saturating_duration_since(ticket.since())),
                at: (session.context.matchmaker.nodes()).and_then(|nodes| nodes.engine_time()),
                id: ticket.request_id().map(RawValue::to_owned),
            },
            (None, None) => AtPlace::Idle,
        };
        let avoid = session.avoid.iter().filter(|avoid| now < avoid.until);
        let member = &session.member;
        let blocks = session.context.shared.blocks_of(member, now);
        Some(Self {
            epoch: resume.epoch,
            received: resume.received,
            tokens: resume.tokens,
            transport: resume.transport as u8,
            reported: resume.reported,
            who: (member.identity.as_deref()).map(|identity| Who::of(identity, now)),
            avoid: avoid
                .map(|avoid| Avoided {
                    partner: avoid.partner,
                    left_ms: millis(avoid.until - now),
                })
                .collect(),
            blocks: blocks.map(|blocks| {
                let blocks = blocks.into_iter();
                blocks
                    .map(|(person, left)| (person, millis(left)))
                    .collect()
            }),
            place,
            log: member.outbox.copy_log(None, now)?,
        })
    }

    pub(super) fn avoid(&self, now: Instant) -> Vec<Avoid> {
        let avoid = self.avoid.iter().map(|avoided| Avoid {
            partner: avoided.partner,
            until: later(now, avoided.left_ms),
        });
        avoid.collect()
    }

    pub(super) fn blocks(&self) -> [Vec<(u64, Duration)>; 2] {
        self.blocks.each_ref().map(|blocks| {
            let blocks = blocks.iter();
            blocks
                .map(|&(person, left)| (person, Duration::from_millis(left)))
                .collect()
        })
    }

    pub(super) fn transport(&self) -> Transport {
        let transport = Transport::ALL.get(usize::from(self.transport));
        transport.copied().unwrap_or(Transport::WebSocket)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A moment that other nodes have named by how far away it is.
fn later(now: Instant, left_ms: u64) -> Instant {
    // A year, should it be more than the clock can count.
    let most = Duration::from_secs(365 * 24 * 3600);
    let left = Duration::from_millis(left_ms).min(most);
    now + left
}
