//! What the rules of claims ask of the model's node.

use voicematch_protocol::{RoomId, SessionId};

use super::{
    super::claims::{ClaimRule, Host, NotCompleted, Offer},
    Action, ClaimProtocol, Fate, Frame, Look, NodeId, Now, Refusal, Rule, Seeker, Ticket, TicketId,
};

impl ClaimProtocol {
    /// A user begins to wait.
    pub(in super::super) fn find(&mut self, id: TicketId, seeker: Seeker, now: Now) {
        self.now = now;
        let ticket = Ticket {
            seeker,
            since: now,
            fate: Fate::Waiting,
            look: Look::None,
            posts: 0,
            was_asked: false,
            posted_at: now,
            check_at: now,
        };
        self.tickets.insert(id, ticket);
        self.look(id);
    }

    /// The pools have widened, or whom they may meet has changed.
    pub(in super::super) fn look_again(&mut self, id: TicketId, seeker: Seeker, now: Now) {
        self.now = now;
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.seeker = seeker;
            if ticket.fate == Fate::Waiting {
                self.look(id);
            }
        }
    }

    /// [`Action::Cancelled`] follows, unless they were matched first.
    pub(in super::super) fn cancel(&mut self, id: TicketId, now: Now) {
        if self.tickets.contains_key(&id) {
            self.gone(id, now);
            self.actions.push(Action::Cancelled(id));
        }
    }

    /// The session of a ticket has ended.
    pub(in super::super) fn gone(&mut self, id: TicketId, now: Now) {
        self.now = now;
        self.claims(|claims, host| {
            let room = claims.withdrawn(host, id);
            host.withdrawn.extend(room);
        });
        self.retire(id, false);
    }

    /// Forgets a ticket. `taken`: a seek has just taken it out of the index.
    fn retire(&mut self, id: TicketId, taken: bool) -> Option<Ticket> {
        let ticket = self.tickets.remove(&id)?;
        self.withdraw(id, &ticket, taken);
        Some(ticket)
    }

    pub(super) fn new_room(&mut self) -> RoomId {
        self.next_room += 1;
        RoomId(self.next_room)
    }

    fn is_waiting(&self, id: TicketId) -> bool {
        let ticket = self.tickets.get(&id);
        ticket.is_some_and(|ticket| ticket.fate == Fate::Waiting)
    }

    fn matched_here(&mut self, mine: TicketId, theirs: TicketId, taken: bool) {
        let room = self.new_room();
        let tickets = (self.retire(mine, false), self.retire(theirs, taken));
        let (Some(a), Some(b)) = tickets else {
            return;
        };
        let sides = [(mine, &b.seeker, true), (theirs, &a.seeker, false)];
        for (ticket, peer, initiator) in sides {
            self.actions.push(Action::Matched {
                ticket,
                room,
                peer: peer.session,
                peer_person: peer.person,
                peer_node: None,
                initiator,
            });
        }
    }

    /// While the index is down: the oldest who fits, of the narrowest level that has anybody.
    pub(super) fn search_here(&mut self, id: TicketId) {
        let Some(me) = self.tickets.get(&id).filter(|me| me.fate == Fate::Waiting) else {
            return;
        };
        let others = self.tickets.iter();
        let others = others.filter(|(_, other)| other.fate == Fate::Waiting);
        let fitting = others.filter(|(_, other)| me.seeker.fits(&other.seeker));
        let ranked = fitting.filter_map(|(other_id, other)| {
            let level = me.seeker.shared_level(&other.seeker)?;
            Some((level, other.since, *other_id))
        });
        if let Some((_, _, other)) = ranked.min() {
            self.matched_here(id, other, false);
        }
    }

    pub(super) fn put_back(&mut self, id: TicketId) {
        if self.is_waiting(id) {
            self.counts.put_back += 1;
            self.look(id);
        }
    }
}

impl Host for ClaimProtocol {
    type Who = (SessionId, u64);

    fn me(&self) -> NodeId {
        self.membership.me()
    }

    fn now(&self) -> Now {
        self.now
    }

    fn engine_time(&self) -> Option<u64> {
        self.membership.engine_time(self.now)
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.membership.is_dead(node)
    }

    fn unanswered(&mut self, node: NodeId) {
        self.counts.given_up += 1;
        self.membership.suspect(node, self.now);
    }

    fn holds(&self, rule: ClaimRule) -> bool {
        self.holds(match rule {
            ClaimRule::Until => Rule::Until,
            ClaimRule::Revoke => Rule::Revoke,
            ClaimRule::Tombstone => Rule::Tombstone,
        })
    }

    fn pair(&mut self, mine: TicketId, theirs: TicketId) -> bool {
        let [a, b] = [mine, theirs].map(|id| self.tickets.get(&id));
        let waits = |ticket: &&Ticket| ticket.fate == Fate::Waiting;
        let both = a.filter(waits).zip(b.filter(waits));
        let fits = both.is_some_and(|(a, b)| a.seeker.fits(&b.seeker));
        if fits {
            self.matched_here(mine, theirs, true);
        }
        fits
    }

    fn look(&mut self, ticket: TicketId) {
        self.look(ticket);
    }

    fn put_back(&mut self, ticket: TicketId) {
        self.put_back(ticket);
    }

    fn hand_back(&mut self, node: NodeId, ticket: TicketId) {
        self.send(node, Frame::PutBack { ticket });
    }

    fn offer(&mut self, mine: TicketId) -> bool {
        let waits = self.is_waiting(mine);
        if let Some(ticket) = self.tickets.get_mut(&mine).filter(|_| waits) {
            ticket.fate = Fate::Offered;
        }
        waits
    }

    fn reopen(&mut self, mine: TicketId) {
        if let Some(ticket) = self.tickets.get_mut(&mine) {
            ticket.fate = Fate::Waiting;
            self.look(mine);
        }
    }

    fn propose(&mut self, room: RoomId, offer: &Offer, until: u64) {
        let Some(ticket) = self.tickets.get(&offer.mine) else {
            return;
        };
        let propose = Frame::Propose {
            room,
            from: ticket.seeker.session,
            person: ticket.seeker.person,
            to: offer.partner,
            until,
        };
        self.membership.meet(offer.to);
        self.counts.proposed += 1;
        self.send(offer.to, propose);
    }

    fn accept(
        &mut self,
        node: NodeId,
        room: RoomId,
        &who: &Self::Who,
        to: TicketId,
    ) -> Result<(), Refusal> {
        let swaps = self.holds(Rule::Swap);
        let ticket = self.tickets.get(&to).ok_or(Refusal::Gone)?;
        if swaps && ticket.fate != Fate::Waiting {
            return Err(Refusal::Busy);
        }
        if self.holds(Rule::RecheckApart) && ticket.seeker.avoids(who.0, who.1) {
            return Err(Refusal::Gone);
        }
        let person = ticket.seeker.person;
        if swaps {
            self.retire(to, true);
        }
        self.counts.accepted += 1;
        self.open_half(room, to, who, node, false);
        let from = to.session;
        self.send(node, Frame::Accept { room, from, person });
        Ok(())
    }

    fn refuse(&mut self, node: NodeId, room: RoomId, _: TicketId, why: Refusal) {
        self.counts.refused += 1;
        self.send(node, Frame::Refuse { room, why });
    }

    fn complete(
        &mut self,
        room: RoomId,
        offer: &Offer,
        &(peer, person): &Self::Who,
    ) -> Result<(), NotCompleted> {
        let ticket = self.tickets.get(&offer.mine);
        let is_apart = ticket.is_some_and(|ticket| ticket.seeker.avoids(peer, person));
        if is_apart && self.holds(Rule::RecheckApart) {
            return Err(NotCompleted);
        }
        self.retire(offer.mine, false);
        self.open_half(room, offer.mine, (peer, person), offer.to, true);
        Ok(())
    }

    fn came_late(&mut self, room: RoomId) {
        if !self.withdrawn.remove(&room) {
            self.counts.late_accepts += 1;
        }
    }

    fn revoke(&mut self, node: NodeId, room: RoomId, ticket: Option<TicketId>) {
        self.send(node, Frame::Revoke { room, ticket });
    }

    fn end_half(&mut self, node: NodeId, room: RoomId) {
        if let Some(half) = self.halves.end_with(node, room) {
            self.half_ended(room, half.here);
        }
    }
}
