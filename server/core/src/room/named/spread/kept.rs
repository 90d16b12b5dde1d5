//! The seats of resumable members whose node has died. They are kept for as long as a session without a connection is, for
//! the room tickets of these members. Each node marks the seats when it hears of the death; the home ends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::{RoomId, SessionId};

use super::{
    super::{
        NamedRoom,
        roster::{Numbered, There},
    },
    Act, Home, LOST,
};
use crate::cluster::{Bus, BusLink, Frame, Full, NodeId};

/// Where no node is any more.
pub(super) struct NoWay;

impl BusLink for NoWay {
    fn push(&self, _: RoomId, _: SessionId, _: SessionId, _: &[u8]) -> Result<(), Full> {
        Err(Full)
    }

    fn push_frame(&self, _: &Frame<'_>) -> Result<(), Full> {
        Err(Full)
    }

    fn reserve(&self, _: usize) -> Result<(), Full> {
        Err(Full)
    }

    fn push_reserved(&self, _: &Frame<'_>) {}

    fn release(&self, _: usize) {}

    fn tell(&self, _: &Frame<'_>) -> Result<(), Full> {
        Err(Full)
    }

    fn set_rooms(&self, _: Option<u64>) {}
}

impl NamedRoom {
    /// Takes the members of some nodes out, but for those whose seats are kept. Returns who is out, and whether any is kept.
    pub(super) fn lose(
        &self,
        fits: impl Fn(NodeId) -> bool,
        keep_until: Option<Instant>,
        bus: &dyn Bus,
    ) -> (Vec<SessionId>, bool) {
        let mut roster = self.roster_mut();
        let (mut gone, mut keeps) = (Vec::new(), false);
        roster.members.retain_mut(|member| {
            let Some(there) = member.there.as_mut().filter(|there| fits(there.node)) else {
                return true;
            };
            if keep_until.is_some() && member.member.is_resumable() {
                there.kept_until = there.kept_until.or(keep_until);
                member.member.set_away(true);
                keeps = true;
                return true;
            }
            gone.push(member.member.id);
            false
        });
        for &id in &gone {
            roster.tell_left(self, id, LOST);
        }
        roster.find_ways(|node| bus.link(node));
        (gone, keeps)
    }
}

impl Act<'_> {
    /// Until when seats are kept of a node whose death this one hears of now. `None`: they are not.
    pub(super) fn keep_until(&self) -> Option<Instant> {
        let window = self.judge.window;
        (window > Duration::ZERO).then(|| self.now + window)
    }

    /// Seats of this name are kept: they are looked at again when their time is over.
    pub(super) fn note_kept(&mut self, name: &str) {
        if let Some(until) = self.keep_until() {
            self.judge.kept.insert((until, name.into()));
        }
    }

    pub(super) fn look_at_kept(&mut self) {
        while let Some((until, name)) = self.judge.kept.pop_first() {
            if until > self.now {
                self.judge.kept.insert((until, name));
                return;
            }
            let entry = self.judge.names.get(&name);
            let home = entry.filter(|entry| entry.home == Home::Here);
            if let Some(room) = home.and_then(|entry| entry.room.clone()) {
                self.end_keeping(&room);
            }
        }
    }

    /// Those whose time is over leave a room whose home is here.
    pub(super) fn end_keeping(&mut self, room: &Arc<NamedRoom>) {
        let is_over = |member: &Numbered| {
            let until = member.there.as_ref().and_then(|there| there.kept_until);
            until.is_some_and(|until| self.now >= until)
        };
        let gone: Vec<_> = {
            let mut roster = room.roster_mut();
            let gone = roster.members.extract_if(.., |member| is_over(member));
            let gone: Vec<_> = gone.map(|member| (member.member.id, LOST)).collect();
            for (id, reason) in &gone {
                roster.tell_left(room, *id, *reason);
            }
            gone
        };
        if !gone.is_empty() {
            self.changed(room, &gone);
        }
    }

    /// Where somebody of another node is, of whom the home says that they are a member. `None`: their node has died, and their
    /// seat is not kept.
    pub(super) fn there(&self, node: NodeId, is_resumable: bool) -> Option<There> {
        let kept_until = match self.spread.cluster.bus.link(node) {
            Some(_) => None,
            None => Some(self.keep_until().filter(|_| is_resumable)?),
        };
        Some(There {
            node,
            since: self.now,
            kept_until,
        })
    }
}
