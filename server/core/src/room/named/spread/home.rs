//! What the home of a room does.

use std::{sync::Arc, time::Duration};

use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{
    super::{MAX_MEMBERS, NamedRoom, roster::Numbered},
    Act, Home, Joiner, LOST, Name, Who,
    frames::Why,
    seats::Named,
};
use crate::cluster::NodeId;

/// Numbers of a room whose home has died and whose roster this node does not know begin somewhere above this, so that none is
/// given twice: a room that has had a million members is a rare one.
const UNSEEN: u32 = 1 << 20;

/// A member whom their own node does not name is lost after this time: they may have just come.
const UNNAMED: Duration = Duration::from_secs(3);

impl Act<'_> {
    /// This node is home of a name from now on, and lets all in who wait. `is_taken_over`: another one was before.
    pub(super) fn become_home(&mut self, name: &str, id: RoomId, is_taken_over: bool) {
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        (entry.home, entry.was_home) = (Home::Here, false);
        let waiting = std::mem::take(&mut entry.waiting);
        let room = match entry.room.clone() {
            Some(room) => {
                self.rooms.shared.metrics.named_rooms.inc();
                room
            }
            None => {
                let room = NamedRoom::new(id, name, self.now);
                if is_taken_over {
                    room.roster_mut().next = UNSEEN + rand::random::<u32>() % UNSEEN;
                }
                self.keep(&room);
                self.rooms.opened(&room);
                room
            }
        };
        // Members who stay keep their numbers. Only then a newcomer gets one.
        let (stay, come): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|joiner| matches!(joiner.who, Who::There { room: Some(_), .. }));
        self.say_roster(&room, None, &[]);
        for joiner in stay.into_iter().chain(come) {
            self.take_in(&room, joiner);
        }
        self.end_keeping(&room);
        self.close_if_empty(&room);
    }

    /// Keeps a room under its name and its id.
    pub(super) fn keep(&mut self, room: &Arc<NamedRoom>) {
        if let Some(entry) = self.judge.names.get_mut(&room.name) {
            entry.room = Some(room.clone());
        }
        self.spread.rooms.insert(room.id, room.clone());
        self.rooms.rooms.insert(room.name.clone(), room.clone());
    }

    /// Somebody has left a room whose home is here.
    pub(super) fn changed(&mut self, room: &Arc<NamedRoom>, left: &[(SessionId, LeaveReason)]) {
        room.roster_mut()
            .find_ways(|node| self.spread.cluster.bus.link(node));
        self.say_roster(room, None, left);
        self.close_if_empty(room);
    }

    pub(super) fn close_if_empty(&mut self, room: &Arc<NamedRoom>) {
        if !room.roster().members.is_empty() {
            return;
        }
        let entry = self.judge.names.get(&room.name);
        // It has been closed already, or somebody is about to come back.
        if entry.is_none_or(|entry| entry.home != Home::Here || !entry.waiting.is_empty()) {
            return;
        }
        self.judge.names.remove(&room.name);
        self.spread.rooms.remove(&room.id);
        self.rooms.rooms.remove(&room.name);
        self.spread.cluster.homes.give_up(&room.name);
        self.rooms.closed(room);
    }

    /// Another node was registered first: its room is the one of this name.
    pub(super) fn give_way(&mut self, room: &Arc<NamedRoom>, id: RoomId) {
        match room.id == id {
            true => self.rooms.shared.metrics.named_rooms.dec(),
            false => {
                self.rooms.shared.metrics.room_conflicts.inc();
                self.rooms.closed(room);
            }
        }
        let nodes: Vec<_> = room.roster().nodes.iter().map(|way| way.node).collect();
        for node in nodes {
            self.say_not_home(node, room.id);
        }
    }

    /// A user of another node wants to join.
    pub(super) fn join_came(&mut self, name: &str, joiner: Joiner) {
        let known = self.judge.names.get(name);
        match known {
            Some(Name {
                home: Home::Here,
                room: Some(room),
                ..
            }) => {
                let room = room.clone();
                self.take_in(&room, joiner);
            }
            Some(Name {
                home: Home::There(_),
                ..
            }) => self.refuse(&joiner, Why::NotHome),
            _ => self.wait_for_home(name, vec![joiner]),
        }
    }

    /// This node may be home and not know it yet.
    fn wait_for_home(&mut self, name: &str, joiners: Vec<Joiner>) {
        if !self.judge.names.contains_key(name) && self.judge.names.len() >= self.rooms.max {
            self.rooms.shared.metrics.limit_hit("max_rooms");
            for joiner in &joiners {
                self.refuse(joiner, Why::TooMany);
            }
            return;
        }
        for joiner in joiners {
            let waiting = self.judge.names.get(name).map(|entry| &entry.waiting);
            let waiting = waiting.into_iter().flatten().filter_map(Joiner::there);
            let waiting: Vec<_> = waiting.collect();
            let own = joiner.there();
            if waiting.len() >= MAX_MEMBERS {
                self.refuse(&joiner, Why::Full);
            } else if own.is_some_and(|own| !waiting.contains(&own)) {
                self.wait(name, joiner);
            }
        }
        self.ask(name);
    }

    /// A user of another node has left, or no longer waits.
    pub(super) fn left_came(
        &mut self,
        node: NodeId,
        name: &str,
        (session, seat): (SessionId, u64),
        reason: LeaveReason,
    ) {
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        entry
            .waiting
            .retain(|joiner| joiner.there() != Some((node, session, seat)));
        if let (Home::Here, Some(room)) = (entry.home, entry.room.clone()) {
            let is_member = |member: &Numbered| {
                let there = member.there.as_ref();
                let is_of_node = there.is_some_and(|there| there.node == node);
                is_of_node && member.member.id == session && member.seat == seat
            };
            let left = {
                let mut roster = room.roster_mut();
                let at = roster.members.iter().position(is_member);
                at.map(|at| roster.members.remove(at)).map(|_| {
                    roster.tell_left(&room, session, reason);
                })
            };
            if left.is_some() {
                self.changed(&room, &[(session, reason)]);
            }
        }
        self.forget(name);
    }

    /// All members of another node, as it says.
    pub(super) fn here_came(&mut self, node: NodeId, id: RoomId, name: &str, joiners: Vec<Joiner>) {
        let known = self.spread.rooms.get(&id).map(|room| room.name.clone());
        let name = known.unwrap_or_else(|| name.into());
        let entry = self.judge.names.get(&name);
        let (home, room) = match entry {
            Some(entry) => (entry.home, entry.room.clone()),
            None => (Home::Unknown, None),
        };
        match (home, room) {
            (Home::Here, Some(room)) => {
                let named: Vec<_> = joiners.iter().filter_map(Joiner::there).collect();
                self.end_asking(&name, Some((node, &named)));
                self.lose_unnamed(&room, node, &named);
                for joiner in &joiners {
                    if self.is_replaced(&room, joiner) {
                        self.say_roster(&room, Some(node), &[]);
                    } else {
                        self.admit_or_refuse(&room, joiner);
                    }
                }
                self.close_if_empty(&room);
            }
            (Home::There(_), _) => self.say_not_home(node, id),
            _ if joiners.is_empty() || !super::super::is_name(&name) => {}
            _ => self.wait_for_home(&name, joiners),
        }
    }

    fn lose_unnamed(&mut self, room: &Arc<NamedRoom>, node: NodeId, named: &[Named]) {
        let lost: Vec<_> = {
            let mut roster = room.roster_mut();
            let is_lost = |member: &Numbered| {
                let there = member.there.as_ref().filter(|there| there.node == node);
                there.is_some_and(|there| {
                    let is_named = named.contains(&(node, member.member.id, member.seat));
                    !is_named && self.now >= there.since + UNNAMED
                })
            };
            let lost = roster.members.iter().filter(|member| is_lost(member));
            let lost: Vec<_> = lost.map(|member| (member.member.id, LOST)).collect();
            roster.members.retain(|member| !is_lost(member));
            for (id, reason) in &lost {
                roster.tell_left(room, *id, *reason);
            }
            lost
        };
        if !lost.is_empty() {
            room.roster_mut()
                .find_ways(|node| self.spread.cluster.bus.link(node));
            self.say_roster(room, None, &lost);
        }
    }
}

impl Joiner {
    /// Who it is, if they are of another node.
    pub(super) fn there(&self) -> Option<Named> {
        match &self.who {
            Who::There { node, session, .. } => Some((*node, *session, self.seat)),
            Who::Here { .. } => None,
        }
    }
}
