//! What users do at their nodes, and what they are told.

use rand::RngExt;
use voicematch_protocol::SessionId;

use super::super::claim_protocol::{ClaimProtocol, Now, RoomId, TicketId};
use super::{
    MS, NODES, USERS,
    users::{Act, Place, View, choose, pause},
    world::{Event, World},
};

impl World {
    pub(super) fn act(&mut self, slot: usize) {
        let pause = pause(&mut self.rng);
        self.after(pause, Event::Act(slot));
        let user = &self.users[slot];
        let there = user.place == Place::Gone || self.nodes[user.node].runs(self.now);
        if !there || self.now >= self.profile.users_stop_at {
            return;
        }
        match choose(
            user.place,
            slot.is_multiple_of(2),
            &self.profile,
            &mut self.rng,
        ) {
            Act::Nothing => {}
            Act::Connect => self.connect(slot),
            Act::Find => self.find(slot),
            Act::Cancel => self.ticket(slot, |protocol, ticket, now| protocol.cancel(ticket, now)),
            Act::Next => {
                if let Place::Room(view) = self.users[slot].place {
                    let now = self.now;
                    self.users[slot].avoid(view.peer, now);
                }
                self.leave(slot);
                self.find(slot);
            }
            Act::Leave => self.leave(slot),
            Act::Block => self.block(slot),
            Act::Vanish => self.vanish(slot),
        }
    }

    fn connect(&mut self, slot: usize) {
        let node = self.rng.random_range(0..NODES);
        if self.nodes[node].runs(self.now) {
            let session = self.number();
            self.users[slot].connect(session, node);
        }
    }

    fn find(&mut self, slot: usize) {
        let now = self.now;
        let user = &mut self.users[slot];
        user.choose_wish(&mut self.rng);
        user.searches += 1;
        user.since = now;
        let ticket = TicketId {
            session: user.session,
            search: user.searches,
        };
        user.place = Place::Waiting(ticket);
        let (node, seeker) = (user.node, user.seeker(now));
        for time in user.looks_after(now) {
            self.after(time, Event::Look(slot, ticket));
        }
        self.step(node, |protocol, now| protocol.find(ticket, seeker, now));
    }

    fn ticket(&mut self, slot: usize, event: impl FnOnce(&mut ClaimProtocol, TicketId, Now)) {
        let user = &self.users[slot];
        if let Place::Waiting(ticket) = user.place {
            self.step(user.node, |protocol, now| event(protocol, ticket, now));
        }
    }

    /// A timer that was due while the node was frozen comes later.
    pub(super) fn look(&mut self, slot: usize, ticket: TicketId) {
        let user = &self.users[slot];
        if user.place != Place::Waiting(ticket) {
            return;
        }
        if !self.nodes[user.node].runs(self.now) {
            return self.after(50 * MS, Event::Look(slot, ticket));
        }
        let seeker = user.seeker(self.now);
        self.ticket(slot, |protocol, ticket, now| {
            protocol.look_again(ticket, seeker, now)
        });
    }

    pub(super) fn leave(&mut self, slot: usize) {
        let user = &mut self.users[slot];
        let Place::Room(view) = user.place else {
            return;
        };
        user.place = Place::Idle;
        let node = user.node;
        if view.peer_node.is_some() {
            return self.step(node, |protocol, now| protocol.leave(view.room, now));
        }
        if let Some(peer) = self.slot_of(view.peer)
            && matches!(self.users[peer].place, Place::Room(theirs) if theirs.room == view.room)
        {
            self.users[peer].place = Place::Idle;
        }
    }

    /// In a room: the partner, and leaves. Else: anybody.
    fn block(&mut self, slot: usize) {
        let user = &self.users[slot];
        let peer = match user.place {
            Place::Room(view) => self.slot_of(view.peer),
            _ => Some(self.rng.random_range(0..USERS)),
        };
        let person = peer.map(|peer| self.users[peer].person);
        if let Some(person) = person.filter(|person| *person != self.users[slot].person) {
            self.users[slot].block(person);
        }
        if matches!(self.users[slot].place, Place::Room(_)) {
            return self.leave(slot);
        }
        let seeker = self.users[slot].seeker(self.now);
        self.ticket(slot, |protocol, ticket, now| {
            protocol.look_again(ticket, seeker, now)
        });
    }

    fn vanish(&mut self, slot: usize) {
        self.ticket(slot, |protocol, ticket, now| protocol.gone(ticket, now));
        self.leave(slot);
        self.users[slot].place = Place::Gone;
    }

    pub(super) fn matched(&mut self, node: usize, ticket: TicketId, view: View, person: u64) {
        let process = self.nodes[node].process;
        if self.checks.is_revoked(process, view.room) {
            self.checks
                .fail(format!("{:?} was opened after it was revoked", view.room));
        }
        let Some(slot) = self.slot_of(ticket.session) else {
            return self
                .checks
                .fail(format!("{ticket:?} was matched and is gone"));
        };
        let now = self.now;
        let user = &mut self.users[slot];
        if user.place != Place::Waiting(ticket) {
            let place = user.place;
            return self
                .checks
                .fail(format!("{ticket:?} was matched in {place:?}"));
        }
        if let Some(why) = user.refuses(view.peer, person, now) {
            return self.checks.fail(format!("{ticket:?} was matched {why}"));
        }
        user.place = Place::Room(view);
        (user.alone, user.alone_well) = (0, 0);
        user.was_whole = view.peer_node.is_none();
        self.checks.opened(view.peer_node.is_some());
    }

    pub(super) fn cancelled(&mut self, ticket: TicketId) {
        if let Some(slot) = self.slot_of(ticket.session)
            && self.users[slot].place == Place::Waiting(ticket)
        {
            self.users[slot].place = Place::Idle;
        }
    }

    /// `lost`: the two nodes have compared their rooms.
    pub(super) fn ended(&mut self, room: RoomId, session: SessionId, lost: bool) {
        if let Some(slot) = self.slot_of(session)
            && let Place::Room(view) = self.users[slot].place
            && view.room == room
        {
            if lost && self.is_whole(session, view) {
                self.checks.figures.needless_ends += 1;
            }
            self.checks.half_ended(&self.users[slot]);
            self.users[slot].place = Place::Idle;
        }
    }
}
