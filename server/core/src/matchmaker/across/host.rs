//! One event of the cluster, and how this node carries it out.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use voicematch_protocol::{CloseReason, LeaveReason, RoomId, SessionId};

use super::{
    super::{
        ClaimState, Matchmaker, PoolKind, Ticket, Unclaimed,
        claims::{Host, NotCompleted, Now, Offer, Refusal},
        halves::HalfRooms,
    },
    Across,
    frames::{About, Ask, Who, frame},
    here,
    rejoin::Rejoins,
};
use crate::{
    cluster::{Frame, FrameKind, Full, NodeId, RemoteLink, TicketId},
    metrics::Reach,
    room::{Half, Mate, NoHalf, Room},
};

/// One event of the cluster, as it is carried out here.
pub(super) struct Here<'a> {
    pub(super) matchmaker: &'a Matchmaker,
    pub(super) across: &'a Arc<Across>,
    pub(super) halves: &'a mut HalfRooms<Arc<Room>>,
    pub(super) rejoins: &'a mut Rejoins,
    /// The kind of pool in which a partner was found.
    pub(super) kind: PoolKind,
    /// Why halves end.
    pub(super) reason: LeaveReason,
    pub(super) now: Instant,
}

impl Here<'_> {
    pub(super) fn link(
        &self,
        node: NodeId,
        room: RoomId,
        to: SessionId,
        from: SessionId,
    ) -> Option<RemoteLink> {
        Some(RemoteLink {
            link: self.across.cluster.bus.link(node)?,
            halves: self.across.clone(),
            node,
            room,
            to,
            from,
        })
    }

    fn about(&self, ticket: &Ticket, kind: PoolKind, interests: Vec<String>) -> About {
        let waited = self.now.saturating_duration_since(ticket.since);
        About {
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            pool: kind as u8,
            mate: Mate::of(&ticket.member),
            interests,
        }
    }

    /// Claims a ticket that is in the state `from`, and makes its half of the room.
    fn open(
        &mut self,
        (node, room): (NodeId, RoomId),
        ticket: &Arc<Ticket>,
        who: &Who,
        from: ClaimState,
        tell: impl FnOnce(&RemoteLink) -> Result<(), Full>,
    ) -> Result<(), Refusal> {
        let link = self.link(node, room, who.session, ticket.member.id);
        let link = Arc::new(link.ok_or(Refusal::Gone)?);
        let there = who.about.mate.member(link.clone(), &ticket.member);
        let shared = &self.matchmaker.shared;
        let may_not = || !ticket.may_meet(&there, shared, self.now);
        ticket.claim.claim(from, may_not).map_err(|why| match why {
            Unclaimed::Not(ClaimState::Offered) => Refusal::Busy,
            Unclaimed::Not(_) | Unclaimed::Apart => Refusal::Gone,
        })?;
        self.matchmaker.withdraw(ticket);
        let offers = from == ClaimState::Offered;
        let interests = match offers {
            true => who.about.interests.clone(),
            false => ticket.wish.shared_words(&who.about.interests),
        };
        let half = Half {
            room,
            here: ticket.side(self.now),
            there,
            there_waited: who.about.waited(),
            offers,
        };
        let tell = || {
            tell(&link)?;
            self.matched(room, ticket, who, offers);
            Ok(())
        };
        let opened = Room::open_half(half, &interests, shared, self.now, tell);
        let opened = opened.map_err(|why| {
            if why == NoHalf::Full {
                self.matchmaker.reopen(ticket, true);
            }
            Refusal::Gone
        })?;
        self.halves.open(room, node, opened, self.elapsed());
        self.across.show_rooms(node, self.halves);
        Ok(())
    }

    /// Counts and traces the match, while the user who is here cannot leave.
    fn matched(&self, room: RoomId, ticket: &Ticket, who: &Who, offers: bool) {
        let waited = self.now.saturating_duration_since(ticket.since);
        let kind = who.about.kind();
        if offers {
            let waits = [who.about.waited(), waited];
            let metrics = &self.matchmaker.shared.metrics;
            metrics.matched(kind.index(), Reach::Remote, waits);
        }
        if let Some(trace) = &self.matchmaker.trace {
            let users = [
                (who.session, who.about.waited()),
                (ticket.member.id, waited),
            ];
            trace.matched(room, PoolKind::LABELS[kind.index()], users);
        }
    }

    fn claimed(&self, result: &str) {
        let claims = &self.matchmaker.shared.metrics.claims;
        claims.with_label_values(&[result]).inc();
    }

    pub(super) fn elapsed(&self) -> Now {
        self.now.saturating_duration_since(self.across.started)
    }

    pub(super) fn end(&self, room: &Arc<Room>) {
        here(room).peer_there_left(room, self.reason);
    }

    pub(super) fn end_all(&mut self) {
        let halves = self.halves.end_all(|_| true);
        for (room, half) in &halves {
            self.end(&half.here);
            // It may keep the seat of the user who is here.
            let reason = self.reason.as_str().as_bytes();
            self.across
                .say(half.node, &frame(FrameKind::Leave, *room, reason));
        }
        for node in halves
            .iter()
            .map(|(_, half)| half.node)
            .collect::<BTreeSet<_>>()
        {
            self.across.show_rooms(node, self.halves);
        }
    }
}

impl Host for Here<'_> {
    type Who = Who;

    fn me(&self) -> NodeId {
        self.across.cluster.nodes.me()
    }

    fn now(&self) -> Now {
        self.elapsed()
    }

    fn engine_time(&self) -> Option<u64> {
        self.across.cluster.nodes.engine_time()
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.across.cluster.nodes.is_dead(node)
    }

    fn unanswered(&mut self, node: NodeId) {
        self.claimed("timeout");
        self.across.cluster.nodes.suspect(node);
    }

    fn pair(&mut self, mine: TicketId, theirs: TicketId) -> bool {
        let [mine, theirs] = [mine, theirs].map(|id| self.across.ticket(id));
        let both = mine.zip(theirs).filter(|_| !self.across.drains());
        both.is_some_and(|(mine, theirs)| {
            self.matchmaker
                .pair_found(&mine, &theirs, self.kind, self.now)
        })
    }

    fn look(&mut self, ticket: TicketId) {
        if let Some(ticket) = self.across.ticket(ticket) {
            self.matchmaker.look(&ticket, self.now);
        }
    }

    fn put_back(&mut self, ticket: TicketId) {
        self.look(ticket);
    }

    fn hand_back(&mut self, node: NodeId, ticket: TicketId) {
        let body = ticket.search.to_be_bytes();
        let back = Frame {
            to: ticket.session,
            ..frame(FrameKind::PutBack, RoomId(0), &body)
        };
        self.across.say(node, &back);
    }

    fn offer(&mut self, mine: TicketId) -> bool {
        let ticket = self.across.ticket(mine);
        !self.across.drains() && ticket.is_some_and(|ticket| ticket.claim.offer())
    }

    fn reopen(&mut self, mine: TicketId) {
        if let Some(ticket) = self.across.ticket(mine)
            && ticket.claim.take_offer_back()
        {
            self.matchmaker.post(&ticket, ticket.pool_kinds());
            self.matchmaker.look(&ticket, self.now);
        }
    }

    fn propose(&mut self, room: RoomId, offer: &Offer, until: u64) {
        let Some(ticket) = self.across.ticket(offer.mine) else {
            return;
        };
        let interests = ticket.wish.interests().map(str::to_owned).collect();
        let ask = Ask {
            search: offer.partner.search,
            until,
            about: self.about(&ticket, self.kind, interests),
        };
        let body = serde_json::to_vec(&ask).unwrap_or_default();
        let propose = Frame {
            to: offer.partner.session,
            from: ticket.member.id,
            ..frame(FrameKind::Propose, room, &body)
        };
        self.across.say(offer.to, &propose);
    }

    fn accept(
        &mut self,
        node: NodeId,
        room: RoomId,
        who: &Who,
        to: TicketId,
    ) -> Result<(), Refusal> {
        let ticket = self.across.ticket(to).filter(|_| !self.across.drains());
        let ticket = ticket.ok_or(Refusal::Gone)?;
        let interests = ticket.wish.shared_words(&who.about.interests);
        let about = self.about(&ticket, who.about.kind(), interests);
        let body = serde_json::to_vec(&about).unwrap_or_default();
        let accept = Frame {
            to: who.session,
            from: ticket.member.id,
            ..frame(FrameKind::Accept, room, &body)
        };
        let at = (node, room);
        self.open(at, &ticket, who, ClaimState::Waiting, |link| {
            link.link.tell(&accept)
        })?;
        self.claimed("accepted");
        Ok(())
    }

    fn refuse(&mut self, node: NodeId, room: RoomId, _: TicketId, why: Refusal) {
        self.claimed(why.as_str());
        let body = [why as u8];
        self.across
            .say(node, &frame(FrameKind::Refuse, room, &body));
    }

    fn complete(&mut self, room: RoomId, offer: &Offer, who: &Who) -> Result<(), NotCompleted> {
        let ticket = self.across.ticket(offer.mine).ok_or(NotCompleted)?;
        if who.session != offer.partner.session {
            return Err(NotCompleted);
        }
        let at = (offer.to, room);
        self.open(at, &ticket, who, ClaimState::Offered, |_| Ok(()))
            .map_err(|_| NotCompleted)
    }

    fn came_late(&mut self, _: RoomId) {}

    fn revoke(&mut self, node: NodeId, room: RoomId, ticket: Option<TicketId>) {
        let search = ticket.map(|ticket| ticket.search.to_be_bytes());
        let body = search.as_ref().map_or(&[][..], |search| search);
        let revoke = Frame {
            to: ticket.map_or(SessionId(0), |ticket| ticket.session),
            ..frame(FrameKind::Revoke, room, body)
        };
        self.across.say(node, &revoke);
    }

    fn end_half(&mut self, node: NodeId, room: RoomId) {
        if let Some(half) = self.halves.end_with(node, room) {
            match self.reason {
                // They come to another node with their ticket.
                LeaveReason::Ended(CloseReason::Draining) => self.lose(room, half),
                _ => self.end(&half.here),
            }
            self.across.show_rooms(node, self.halves);
        } else if let Some(room) = self.rejoins.orphan_of(node.process, room) {
            self.end(&room);
        } else {
            self.across.leave_held(room, self.reason);
        }
    }
}
