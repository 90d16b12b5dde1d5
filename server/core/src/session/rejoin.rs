//! A room ticket brings a user back into the room of a server that has died, or into the seat of a session of theirs that
//! could not be carried on.

use std::{sync::Arc, time::Instant};

use serde_json::value::RawValue;
use voicematch_protocol::{
    CloseReason, ErrorCode, LeaveReason, Rejoin, RoomId, ServerMessage, SessionId,
};

use super::{
    Session,
    requests::{MAX_KEPT_ID_BYTES, Refusal, check_drain},
    resume::Carrier,
};
use crate::{
    matchmaker::{Seat, Shown},
    room::{
        Member, Place, Room,
        named::Former,
        pending::{CannotRejoin, Rejoined},
        ticket::{BadTicket, TicketSeat},
    },
};

/// A room of another process that the user wants back.
pub(super) struct Rejoining {
    room: RoomId,
    partner: SessionId,
    pub(super) until: Instant,
}

fn waits_already() -> Refusal {
    Refusal(
        ErrorCode::AlreadyWaiting,
        "you wait already; cancel_match first".to_owned(),
    )
}

fn in_room_already() -> Refusal {
    Refusal(
        ErrorCode::AlreadyInRoom,
        "you are in a room; leave_room first".to_owned(),
    )
}

fn has_ended() -> Refusal {
    Refusal(ErrorCode::RoomClosed, "this room has ended".to_owned())
}

impl Session {
    /// Gives the user the seat back that a room ticket names.
    pub(super) fn rejoin(
        &mut self,
        text: &str,
        id: Option<&RawValue>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let refused = |code, text: &str| Err(Refusal(code, text.to_owned()));
        let Some(resume) = &mut self.resume else {
            let text = "rejoin is for sessions that outlive their connections";
            return refused(ErrorCode::BadMessage, text);
        };
        let shown = serde_json::from_str::<Rejoin<'_>>(text);
        let shown = shown.map_err(|error| Refusal(ErrorCode::BadMessage, error.to_string()))?;
        let context = &self.context;
        let ticket = match context.room_keys.read(&shown.ticket, self.member.user()) {
            Ok(ticket) => ticket,
            Err(BadTicket::Invalid) => {
                if let Some(held) = &resume.held {
                    held.forged(now);
                }
                let text = "this is no room ticket of yours and of this server's; send find_match or join_room";
                return refused(ErrorCode::RoomTicketInvalid, text);
            }
            Err(BadTicket::Expired) => {
                let text = "this room ticket is too old; send find_match or join_room";
                return refused(ErrorCode::RoomTicketExpired, text);
            }
        };
        let has_moved = || context.takes.moved_to(ticket.session).is_some();
        if ticket.process == context.room_keys.process && !has_moved() {
            // This process knows all about its rooms. No session is locked here: this one is, and the ticket may be its
            // own, or that of somebody who shows this one's at the same time.
            let former = context.resumables.get(ticket.session);
            let former = former.map(|former| former.member.clone());
            return match (former, ticket.seat) {
                (Some(former), TicketSeat::Match { seat, .. }) if former.is_vacant() => {
                    self.take_seat_of(&former, ticket.room, seat)
                }
                (Some(former), _) if former.room_id() == Some(ticket.room) => refused(
                    ErrorCode::UseResume,
                    "the session of this ticket is still in the room; it goes on with its resume token",
                ),
                _ => Err(has_ended()),
            };
        }
        // In a drain a room goes on, and none begins.
        check_drain(context)?;
        let shown = match ticket.seat {
            TicketSeat::Match {
                partner,
                process,
                seat,
            } => Shown {
                room: ticket.room,
                session: ticket.session,
                seat,
                partner,
                process,
            },
            TicketSeat::Named { n, name } => {
                let session = ticket.session;
                let id = id.filter(|id| id.get().len() <= MAX_KEPT_ID_BYTES);
                return self.join(&name, Some(Former { n, session }), id);
            }
        };
        self.go_back(&shown, id, now)
    }

    /// Gives the user a seat in a room of another process.
    fn go_back(
        &mut self,
        shown: &Shown,
        id: Option<&RawValue>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let refused = |code, text: &str| Err(Refusal(code, text.to_owned()));
        self.check_idle()?;
        let context = &self.context;
        match context.matchmaker.take_seat(&self.member, shown, now) {
            Seat::Taken => return Ok(()),
            Seat::Ended => return Err(has_ended()),
            Seat::Asked => {}
        }
        let (room, partner) = (shown.room, shown.partner);
        let rejoined = context
            .pending_rooms
            .rejoin(&self.member, room, shown.seat, now);
        match rejoined {
            Ok(Rejoined::Opened) => Ok(()),
            Ok(Rejoined::Left(reason)) => {
                self.tell_partner_left(room, partner, reason);
                Ok(())
            }
            Ok(Rejoined::Waits { until }) => {
                if let Some(resume) = &mut self.resume {
                    let rejoining = Rejoining {
                        room,
                        partner,
                        until,
                    };
                    resume.rejoining = Some(Box::new(rejoining));
                }
                let id = id.filter(|id| id.get().len() <= MAX_KEPT_ID_BYTES);
                let matchmaker = &context.matchmaker;
                matchmaker.ask_for_seat(&self.member, shown, id, now);
                Ok(())
            }
            Err(CannotRejoin::TooMany) => refused(
                ErrorCode::TooManyRooms,
                "too many rooms wait for their members; try again later",
            ),
            Err(CannotRejoin::Opened) => refused(
                ErrorCode::RoomClosed,
                "both members of this room have come back with new tickets",
            ),
            // Nobody is told that they are blocked.
            Err(CannotRejoin::Apart) => Err(has_ended()),
            Err(CannotRejoin::Elsewhere(Place::Waiting)) => Err(waits_already()),
            Err(CannotRejoin::Elsewhere(_)) => Err(in_room_already()),
        }
    }

    fn check_idle(&self) -> Result<(), Refusal> {
        match self.member.place() {
            Place::Idle => Ok(()),
            Place::Waiting => Err(waits_already()),
            Place::InRoom | Place::Gone => Err(in_room_already()),
        }
    }

    /// Takes the seat of the user's former session, which could not be carried on.
    fn take_seat_of(&self, former: &Member, room: RoomId, seat: u8) -> Result<(), Refusal> {
        self.check_idle()?;
        let shared = &self.context.shared;
        let may_meet = |room: &Room| {
            let partner = room.peer_of(former.id);
            !shared.are_apart(&self.member, partner, Instant::now())
        };
        let current = former.room().filter(|current| current.id == room);
        let current = current.filter(|room| may_meet(room));
        if !current.is_some_and(|room| room.hand_over(former, &self.member, seat == 0)) {
            return Err(has_ended());
        }
        // Nobody comes back to it: its keeper ends it.
        former.outbox.close(CloseReason::TooOld);
        Ok(())
    }

    /// Keeps the seat in a room of two for the user's next session, for a while: too much was said to carry this one on.
    /// False: there is no such seat, or the partner could not be told of another session.
    pub(super) fn vacate(&mut self, now: Instant) -> bool {
        let room = self.member.room();
        let may_wait = |room: &Arc<Room>| {
            let peer = room.peer_of(self.member.id);
            // A seat whose other half is on another node cannot be handed over.
            peer.is_resumable() && !peer.is_there()
        };
        let Some(room) = room.filter(may_wait) else {
            return false;
        };
        drop(room);
        if !self.is_detached() {
            if let Some(resume) = &mut self.resume {
                resume.epoch += 1;
            }
            if !self.lose(CloseReason::Lost, now) {
                return false;
            }
        }
        if let Some(resume) = &mut self.resume {
            resume.carrier = Carrier::Nothing { since: now };
            // The user's next session must fit.
            resume.held = None;
        }
        self.context.persons.leave(&self.member);
        self.member.vacate_for_ticket();
        self.member.outbox.vacate();
        true
    }

    /// The user no longer waits for a former partner, who is told why if they come now. False: they did not wait, or the
    /// partner has come.
    pub(super) fn give_up_rejoin(&mut self, why: Option<LeaveReason>) -> bool {
        let rejoining = self
            .resume
            .as_mut()
            .and_then(|resume| resume.rejoining.take());
        rejoining.is_some_and(|rejoining| {
            let pending_rooms = &self.context.pending_rooms;
            pending_rooms.give_up(rejoining.room, self.member.id, why, Instant::now())
        })
    }

    /// The former partner has not come.
    pub(super) fn rejoin_over(&mut self, now: Instant) {
        let rejoining = self
            .resume
            .as_ref()
            .and_then(|resume| resume.rejoining.as_deref());
        let Some(&Rejoining { room, partner, .. }) =
            rejoining.filter(|rejoining| rejoining.until <= now)
        else {
            return;
        };
        let reason = LeaveReason::Ended(CloseReason::Lost);
        if self.give_up_rejoin(Some(reason)) {
            self.tell_partner_left(room, partner, reason);
        }
    }

    fn tell_partner_left(&self, room_id: RoomId, peer_id: SessionId, reason: LeaveReason) {
        // A refusal means that this session is being closed.
        let _ = self.member.outbox.send(&ServerMessage::PeerLeft {
            room_id,
            peer_id,
            reason,
        });
    }
}
