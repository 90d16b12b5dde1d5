//! Half a room of two: one user is here, the other on another node, which has the other half.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use voicematch_protocol::{RoomId, ServerMessage};

use super::{Member, NO_TICKET, Room, Shared, Side, member::Seat, millis, ticket};
use crate::{
    cluster::{Full, RemoteLink},
    identity::Identity,
    outbox::Outbox,
};

/// What a node tells another one of its user, who is to be in a room with one of the other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mate {
    /// The app's id of the user, if it has named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// What other users may call this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// Whether the session outlives its connections.
    #[serde(default)]
    pub resumable: bool,
}

impl Mate {
    /// A user who is here.
    pub fn of(member: &Member) -> Self {
        Self {
            user: member.user().map(Into::into),
            name: member.name().map(Into::into),
            resumable: member.is_resumable(),
        }
    }

    /// The member that stands for the user, as long as the room with `here` lasts.
    pub fn member(&self, link: Arc<RemoteLink>, here: &Member) -> Member {
        let outbox = here.outbox.there(link.clone());
        self.member_with(link, outbox)
    }

    /// The same, with an outbox of its own.
    pub(super) fn member_with(&self, link: Arc<RemoteLink>, outbox: Outbox) -> Member {
        let identity = self.user.clone().map(|user| {
            // Their own node sees to when their token ends.
            let mut identity = Identity::new(user, Instant::now());
            identity.name = self.name.clone();
            Box::new(identity)
        });
        Member::there(link, self.resumable, identity, outbox)
    }
}

/// What makes half a room.
pub struct Half<'a> {
    pub room: RoomId,
    pub here: Side<'a>,
    pub there: Member,
    /// How long the user who is there has waited.
    pub there_waited: Duration,
    /// Whether the user who is here makes the offer.
    pub offers: bool,
}

/// Why there is no half.
#[derive(Debug, PartialEq, Eq)]
pub enum NoHalf {
    /// The user had gone before they could be told.
    Gone,
    /// The other node could not be told.
    Full,
}

impl Room {
    /// Puts the user who is here into their half of a room and tells them. The seat is held meanwhile, and `tell` is called
    /// before they can say anything: what it sends to the other node comes first there.
    pub fn open_half(
        half: Half<'_>,
        shared_interests: &[String],
        shared: &Arc<Shared>,
        now: Instant,
        tell: impl FnOnce() -> Result<(), Full>,
    ) -> Result<Arc<Self>, NoHalf> {
        let Half { room, here, .. } = half;
        let there = Arc::new(half.there);
        let mut members = [there.clone(), here.member.clone()];
        let mut waited = [half.there_waited, here.waited];
        if !half.offers {
            members.reverse();
            waited.reverse();
        }
        let room = Arc::new(Self::new(room, members, shared, now));
        let mut seat = here.member.lock();
        if !seat.waits_with(here.ticket) {
            return Err(NoHalf::Gone);
        }
        tell().map_err(|Full| NoHalf::Full)?;
        let ticket = ticket(&shared.keys, room.id, here.member, &there, half.offers);
        let found = ServerMessage::MatchFound {
            room_id: room.id,
            peer_id: there.id,
            peer_name: there.name(),
            batch: here.member.is_resumable().then_some(there.is_resumable()),
            initiator: half.offers,
            waited_ms: millis(here.waited),
            shared_interests,
            room_ticket: ticket.as_deref(),
            id: here.request_id,
        };
        // A refusal means that the user's task is closing the connection; the partner then gets peer_left.
        let _ = here.member.outbox.send(&found);
        *seat = Seat::InRoom(room.clone());
        room.begins(waited, false);
        Ok(room)
    }
}

/// What makes half of a room again that its two users had before.
pub struct Again<'a> {
    pub room: RoomId,
    pub here: &'a Arc<Member>,
    pub there: Member,
    /// Whether the user who is here makes the offer.
    pub offers: bool,
    /// The room in which the user who is here is; `None`: they wait for their former partner.
    pub before: Option<&'a Arc<Room>>,
}

impl Room {
    /// The same as [`Self::open_half`] for two who were in this room before; who is here is told that the other is back.
    pub fn reopen_half(
        again: Again<'_>,
        shared: &Arc<Shared>,
        now: Instant,
        tell: impl FnOnce() -> Result<(), Full>,
    ) -> Result<Arc<Self>, NoHalf> {
        let Again {
            here,
            offers,
            before,
            ..
        } = again;
        let there = Arc::new(again.there);
        let mut members = [there.clone(), here.clone()];
        if !offers {
            members.reverse();
        }
        let mut room = Self::new(again.room, members, shared, now);
        if let Some(before) = before {
            room.opened_ms = before.opened_ms;
        }
        let room = Arc::new(room);
        let mut seat = here.lock();
        let is_there = match (&*seat, before) {
            (Seat::InRoom(current), Some(before)) => Arc::ptr_eq(current, before),
            (seat, None) => seat.waits_with(NO_TICKET),
            _ => false,
        };
        if !is_there {
            return Err(NoHalf::Gone);
        }
        tell().map_err(|Full| NoHalf::Full)?;
        if let Some(before) = before {
            // It goes on under the same id, and counts as one.
            before.ended_ms.store(shared.ms(now), Ordering::Release);
        }
        here.tell_rejoined(room.id, &there, offers, &shared.keys);
        *seat = Seat::InRoom(room.clone());
        room.follows(before.map(|before| &**before));
        Ok(room)
    }
}

#[cfg(test)]
mod tests;
