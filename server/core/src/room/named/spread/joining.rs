//! From the wish to join to being let in: which node is home is asked, and users wait for it.

use serde_json::value::RawValue;
use voicematch_protocol::{LeaveReason, RoomId, ServerMessage, SessionId};

use super::{
    super::{CannotJoin, JOINING},
    Act, Home, Joiner, LOST, Name, Who,
    frames::Why,
};
use crate::{cluster::NodeId, room::Member};

impl Act<'_> {
    /// Lets a user of this node into a room, or lets them wait.
    pub(super) fn join(&mut self, name: &str, joiner: Joiner) -> Result<(), CannotJoin> {
        let is_up = self.spread.cluster.homes.is_up();
        let known = self.judge.names.get(name);
        let home = known.map_or(Home::Unknown, |known| known.home);
        if let (Home::Here, Some(room)) = (home, known.and_then(|known| known.room.clone())) {
            if self.must_ask(&room, &joiner)? {
                self.judge.joining.insert(joiner.seat, name.into());
                self.wait(name, joiner);
                return Ok(());
            }
            return self.admit(&room, &joiner);
        }
        // Users of this node are in the room, and its home cannot be asked.
        if !is_up && matches!(home, Home::There(_)) {
            return Err(CannotJoin::Unavailable);
        }
        if known.is_none() && self.judge.names.len() >= self.rooms.max {
            self.rooms.shared.metrics.limit_hit("max_rooms");
            return Err(CannotJoin::TooManyRooms);
        }
        self.judge.joining.insert(joiner.seat, name.into());
        if let Home::There(node) = home {
            self.say_join(node, name, &joiner);
        }
        self.wait(name, joiner);
        match home {
            Home::Unknown if is_up => self.ask(name),
            Home::Unknown => self.found(name, None),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn wait(&mut self, name: &str, joiner: Joiner) {
        let now = self.now;
        let entry = self.judge.names.entry(name.into()).or_insert(Name {
            room: None,
            home: Home::Unknown,
            was_home: false,
            waiting: Vec::new(),
            asking: false,
            id: RoomId(rand::random()),
            asked: now,
        });
        entry.waiting.push(joiner);
        self.judge.restless.insert(name.into());
    }

    /// Asks which node is home of a name.
    pub(super) fn ask(&mut self, name: &str) {
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        self.judge.restless.insert(name.into());
        if entry.asking {
            return;
        }
        entry.id = entry.own_id();
        (entry.asking, entry.asked) = (true, self.now);
        self.spread.cluster.homes.find(name, entry.id);
    }

    pub(super) fn found(&mut self, name: &str, home: Option<(NodeId, RoomId)>) {
        let me = self.spread.me();
        let Some(entry) = self.judge.names.get_mut(name) else {
            if home.is_some_and(|(home, _)| home == me) {
                self.spread.cluster.homes.give_up(name);
            }
            return;
        };
        entry.asking = false;
        match home {
            None => self.found_nobody(name),
            Some((home, id)) if home == me => {
                if entry.room.is_none() && entry.waiting.is_empty() {
                    self.spread.cluster.homes.give_up(name);
                    self.judge.names.remove(name);
                } else if entry.home != Home::Here {
                    let is_taken_over = entry.id != id;
                    self.become_home(name, id, is_taken_over);
                }
            }
            // The answer is old: it is asked again in a while.
            Some((home, _))
                if home.process == me.process || self.spread.cluster.nodes.is_dead(home) =>
            {
                self.forget(name);
            }
            Some((home, id)) => self.is_elsewhere(name, home, id),
        }
    }

    /// Nobody can say which node is home: users of this node meet here, and others join them when that can be asked.
    fn found_nobody(&mut self, name: &str) {
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        if entry.home != Home::Unknown {
            return;
        }
        let is_here = |joiner: &Joiner| matches!(joiner.who, Who::Here { .. });
        if entry.waiting.iter().any(is_here) {
            let id = entry.own_id();
            self.spread.cluster.homes.keep(name, id);
            self.become_home(name, id, false);
            return;
        }
        for joiner in std::mem::take(&mut entry.waiting) {
            self.refuse(&joiner, Why::Unavailable);
        }
        self.forget(name);
    }

    /// Another node is home.
    pub(super) fn is_elsewhere(&mut self, name: &str, node: NodeId, id: RoomId) {
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        let before = std::mem::replace(&mut entry.home, Home::There(node));
        let room = entry.room.clone();
        let was_home = std::mem::take(&mut entry.was_home);
        if let (Some(room), true) = (&room, was_home || before == Home::Here) {
            // What has ended with the former life is not counted any more.
            self.rooms.shared.metrics.named_rooms.add(was_home.into());
            self.give_way(room, id);
        }
        if let Some(room) = room
            && before != Home::There(node)
        {
            self.say_here(node, &room);
            self.drop_if_strange(&room);
        }
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        entry.asked = self.now;
        let waiting = std::mem::take(&mut entry.waiting);
        for joiner in waiting {
            match joiner.who {
                Who::Here { .. } => {
                    self.say_join(node, name, &joiner);
                    self.wait(name, joiner);
                }
                Who::There { .. } => self.refuse(&joiner, Why::NotHome),
            }
        }
        self.forget(name);
    }

    /// Tells somebody that they are not let in.
    pub(super) fn refuse(&mut self, joiner: &Joiner, why: Why) {
        match &joiner.who {
            Who::Here { member, id, from } => {
                self.judge.joining.remove(&joiner.seat);
                if member.stop_waiting(JOINING | joiner.seat) {
                    match from {
                        Some(room) => member.hear_out(*room, LOST),
                        None => self.tell_refused(member, why, id.as_deref()),
                    }
                }
            }
            Who::There { node, .. } => self.say_refused(*node, RoomId(0), joiner.seat, why),
        }
    }

    pub(super) fn tell_refused(&self, member: &Member, why: Why, id: Option<&RawValue>) {
        let (code, message) = why.cannot_join().error();
        self.rooms.shared.metrics.error(code);
        // A refusal means that the user is leaving.
        let _ = member.outbox.send(&ServerMessage::Error {
            code,
            message,
            temporary: code.temporary(),
            received: None,
            id,
        });
    }

    /// The user of a joining no longer waits.
    pub(super) fn gave_up(&mut self, seat: u64, session: SessionId) {
        let Some(name) = self.judge.joining.remove(&seat) else {
            return;
        };
        if let Some(entry) = self.judge.names.get_mut(&name) {
            entry
                .waiting
                .retain(|joiner| joiner.seat != seat || matches!(joiner.who, Who::There { .. }));
            if let Home::There(node) = entry.home {
                self.say_left(node, RoomId(0), &name, (session, seat), LeaveReason::Left);
            }
        }
        self.forget(&name);
    }

    /// Forgets a name in which nobody of this node is, and for which nobody waits.
    pub(super) fn forget(&mut self, name: &str) {
        let is_over = self.judge.names.get(name).is_some_and(|entry| {
            // Who is asked still answers.
            let is_free = entry.room.is_none() && entry.waiting.is_empty() && !entry.asking;
            is_free && entry.home != Home::Here
        });
        if is_over {
            self.judge.names.remove(name);
        }
    }
}

impl Name {
    /// The id of the room, if this node is its home.
    fn own_id(&self) -> RoomId {
        let of_joiner = |joiner: &Joiner| match joiner.who {
            Who::There { room, .. } => room,
            Who::Here { .. } => None,
        };
        let own = self.room.as_ref().map(|room| room.id);
        let id = own.or_else(|| self.waiting.iter().find_map(of_joiner));
        id.unwrap_or(self.id)
    }
}
