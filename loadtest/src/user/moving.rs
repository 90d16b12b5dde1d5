//! A user whose server drains moves to another one: when it is time they say no more, and hear which of their messages the old
//! server has taken. If it says so another one takes the session over. Else they begin a new session, show the ticket of their
//! room, and say the rest there.

use std::time::Duration;

use voicematch_protocol::{ClientType, CloseReason, ServerView};

use super::{Resume, User, inbound};
use crate::{
    measure::{
        nodes::FaultKind,
        sample::{ErrorKind, Sample},
    },
    user::{resume::Back, tag::room_key},
};

/// The code with which a server that drains closes.
pub(super) const DRAINING: Option<u16> = CloseReason::Draining.close_code();
/// The code if another one takes the session over.
const MOVED: Option<u16> = CloseReason::Moved.close_code();

/// How long after the announced moment the server may still close: it gives its clients a second to confirm, and waits for the
/// next poll of those who have more to hear.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

/// How long a user tries to begin a new session.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// How long the first member of a named room waits for the last one: their old sessions do not end at the same moment.
const GATHERS_WITHIN: Duration = Duration::from_secs(45);

/// Where a user stands who moves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nobody has said that it is necessary.
    #[default]
    None,
    /// It is, at this moment.
    At(Duration),
    /// The user says no more, and waits for the old session's end, but no longer than this.
    EndsBy(Duration),
    /// The server closed the connection then, and another one takes the session over.
    Follows { since: Duration },
    /// The old session ended then, and there is no new one yet.
    Begins { since: Duration },
    /// The new session has shown the ticket; the old one ended then.
    Rejoins { since: Duration },
    /// The user is in the named room again, and waits for the others.
    Gathers { since: Duration },
}

impl Move {
    /// What the user says now is for the next session, or for the room that is not there yet.
    pub fn holds_back(self) -> bool {
        !matches!(self, Self::None | Self::At(_))
    }

    /// When there is something to do.
    pub fn next_wake(self) -> Option<Duration> {
        match self {
            Self::At(moment) | Self::EndsBy(moment) => Some(moment),
            Self::Gathers { since } => Some(since + GATHERS_WITHIN),
            Self::None | Self::Follows { .. } | Self::Begins { .. } | Self::Rejoins { .. } => None,
        }
    }
}

impl Resume {
    /// The connection is lost, and the next one is to another server: if this one drains the user has left it.
    pub(super) fn leaves_drained(&mut self, now: Duration) {
        if matches!(self.moving, Move::At(_) | Move::EndsBy(_)) {
            self.moving = Move::Follows { since: now };
        }
    }
}

impl User {
    /// The server says that it drains. False: the user has no session that could be followed by another.
    pub(super) fn is_to_move(&mut self, now: Duration, view: &ServerView<'_>) -> bool {
        let Some(resume) = &mut self.resume else {
            return false;
        };
        let after = Duration::from_millis(view.reconnect_in_ms.unwrap_or(0));
        if resume.moving == Move::None {
            resume.moving = Move::At(now + after);
        }
        true
    }

    /// Does what is due.
    pub(super) fn mind_move(&mut self, now: Duration) -> Result<(), ErrorKind> {
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        match resume.moving {
            Move::At(moment) if now >= moment => {
                resume.moving = Move::EndsBy(now + CLOSES_WITHIN);
                Ok(())
            }
            Move::EndsBy(moment) if now >= moment => self.move_on(now),
            Move::Gathers { since } if now >= since + GATHERS_WITHIN => {
                self.part_from_away(now);
                self.moved(now)
            }
            _ => Ok(()),
        }
    }

    /// Whether this end of the connection means that the server drains.
    pub(super) fn is_drained(&self, error: &ErrorKind) -> bool {
        self.resume.is_some()
            && matches!(error, ErrorKind::ClosedByServer(code) if Some(*code) == DRAINING)
    }

    /// Whether this end of the connection means that another server takes the session over.
    pub(super) fn is_passed_on(&self, error: &ErrorKind) -> bool {
        self.resume.is_some()
            && matches!(error, ErrorKind::ClosedByServer(code) if Some(*code) == MOVED)
    }

    /// Whether this end of the session means that the user is to begin another.
    pub(super) fn moves_after(&self, error: &ErrorKind) -> bool {
        let Some(resume) = &self.resume else {
            return false;
        };
        match resume.moving {
            Move::Follows { .. } => true,
            Move::None => self.is_drained(error),
            _ => self.is_drained(error) || error.ends_session(),
        }
    }

    /// Another server takes the session over: sets out to show it the token.
    pub(super) fn follow(&mut self, now: Duration) -> Result<(), ErrorKind> {
        self.connection = None;
        self.depart(false);
        self.go_on();
        let way = self.way();
        if let (Some(way), Some(resume)) = (way, &mut self.resume) {
            resume.moving = Move::Follows { since: now };
            resume.come_back(way, now, true);
        }
        Ok(())
    }

    /// Another server has taken the session over: says what was held back.
    pub(super) fn followed(&mut self, since: Duration, now: Duration) -> Result<(), ErrorKind> {
        let after = now.saturating_sub(since);
        self.tell(Sample::Moved { after });
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        resume.moving = Move::None;
        let held_back = std::mem::take(&mut resume.held_back);
        self.ask_again()?;
        for text in held_back {
            self.send_numbered(&text)?;
        }
        Ok(())
    }

    /// The old session is over: sets out to begin a new one.
    pub(super) fn move_on(&mut self, now: Duration) -> Result<(), ErrorKind> {
        self.connection = None;
        self.depart(false);
        if self.resume.as_ref().is_some_and(|it| it.lost.is_none()) {
            self.go_on();
        }
        let way = self.way();
        let (Some(way), Some(resume)) = (way, &mut self.resume) else {
            return Ok(());
        };
        let since = match resume.moving {
            // The new one has ended, too: the server before it may have come back instead.
            Move::Follows { since }
            | Move::Begins { since }
            | Move::Rejoins { since }
            | Move::Gathers { since } => since,
            Move::None | Move::At(_) | Move::EndsBy(_) => now,
        };
        if now.saturating_sub(since) > BEGINS_WITHIN {
            return self.not_moved(ErrorKind::ConnectTimeout);
        }
        resume.moving = Move::Begins { since };
        resume.begin_anew(way, now, since + BEGINS_WITHIN);
        Ok(())
    }

    /// Whether the session is gone with its server, so that another may begin at one that is left.
    pub(super) fn begins_after_loss(&self, error: &ErrorKind) -> bool {
        let lost = self
            .resume
            .as_ref()
            .is_some_and(|resume| resume.lost.is_some());
        lost && self.context.servers.count() > 1 && error.refuses_resume()
    }

    /// No server has the session any more: sets out to begin a new one, which shows the ticket.
    pub(super) fn begin_after_loss(
        &mut self,
        error: ErrorKind,
        now: Duration,
    ) -> Result<(), ErrorKind> {
        let node = self.last_node();
        self.tell_fault_at(node, FaultKind::NotResumed, error);
        let since = self
            .resume
            .as_ref()
            .and_then(|resume| resume.lost)
            .unwrap_or(now);
        if self.may_have_partner() {
            self.tear(Some(node), 0, since);
        }
        let (Some(way), Some(resume)) = (self.way(), &mut self.resume) else {
            return Ok(());
        };
        resume.moving = Move::Begins { since };
        resume.begin_anew(way, since, now + BEGINS_WITHIN);
        Ok(())
    }

    /// A new session has begun.
    pub(super) fn begun_anew(&mut self, back: Back, now: Duration) -> Result<(), ErrorKind> {
        let Some(old) = self.resume.take() else {
            return Ok(());
        };
        let Back {
            mut connection,
            transport,
            place,
            first,
        } = back;
        let greeting = first.as_deref().unwrap_or_default();
        let Some(mut new) = Resume::begin(greeting, old.own, transport, now) else {
            self.resume = Some(old);
            return self.not_moved(ErrorKind::NotResumable);
        };
        connection.show(new.token());
        new.settle(transport, now);
        new.blocked_at = self.context.plan.blocked_after(transport, now);
        let session = inbound::greeting(greeting).and_then(|(_, id)| id);
        self.session_id = session.as_deref().map(room_key);
        self.connection = Some(connection);
        self.place = place;
        self.arrive();
        let since = match old.moving {
            Move::Begins { since } => since,
            _ => now,
        };
        new.moving = Move::Rejoins { since };
        new.unheard_since = old.unheard_since;
        let ticket = old.ticket.clone();
        new.ticket.clone_from(&ticket);
        let room = self.room.as_ref().map(|stay| stay.room);
        let room = room.or(self.named.as_ref().and_then(|named| named.room()));
        let leaves_anew = !self.is_in_room() && ticket.is_some() && old.has_untaken_leave();
        if !leaves_anew {
            self.leaving = None;
        }
        new.held_back = old.for_the_next(room, leaves_anew);
        let rejoins = self.is_in_room() || leaves_anew;
        self.resume = Some(Box::new(new));
        if let Some(named) = &mut self.named {
            named.moves();
        }
        match (rejoins, ticket) {
            (false, _) => self.moved(now),
            (true, Some(ticket)) => {
                let rejoin = format!(
                    r#"{{"type":"{}","ticket":"{ticket}"}}"#,
                    ClientType::Rejoin.as_str()
                );
                self.send_next(&rejoin)
            }
            (true, None) => self.on_not_rejoined(now),
        }
    }

    /// Both are in the room again.
    pub(super) fn on_rejoined(
        &mut self,
        now: Duration,
        view: &ServerView<'_>,
    ) -> Result<(), ErrorKind> {
        let room = view.room_id.as_deref().map(room_key);
        if self.leaves_anew() && self.room.is_none() && room == self.leaving {
            return self.moved(now);
        }
        if self
            .room
            .as_ref()
            .is_none_or(|stay| Some(stay.room) != room)
        {
            self.tell_error(ErrorKind::WrongRoom);
            return Ok(());
        }
        let peer = view.peer_id.as_deref().map(room_key);
        if let Some(resume) = &mut self.resume {
            resume.moved_peer = peer;
        }
        self.moved(now)
    }

    /// The user is in the named room again, if they were in it before.
    pub(super) fn on_room_rejoined(&mut self, now: Duration) -> Result<(), ErrorKind> {
        if let Some(resume) = &mut self.resume
            && let Move::Rejoins { since } = resume.moving
        {
            resume.moving = Move::Gathers { since };
        }
        self.go_on_if_gathered(now)
    }

    /// A named room is there again once all who were in it are back: what is said before would not reach them.
    pub(super) fn go_on_if_gathered(&mut self, now: Duration) -> Result<(), ErrorKind> {
        let moving = self.resume.as_ref().map(|resume| resume.moving);
        let waits = (self.named.as_ref()).is_some_and(|named| !named.is_gathered());
        match moving {
            Some(Move::Gathers { .. }) if !waits => self.moved(now),
            _ => Ok(()),
        }
    }

    /// The user could not be put into the room again.
    pub(super) fn on_not_rejoined(&mut self, now: Duration) -> Result<(), ErrorKind> {
        let searches = self.room.is_some() && self.torn.is_some() && self.rematches();
        self.tell_not_moved(ErrorKind::WrongRoom);
        self.leaving = None;
        if let Some(resume) = &mut self.resume
            && resume.leaves_anew()
        {
            resume.held_back.clear();
        }
        self.leave_room(true);
        self.leave_named_room(true);
        self.moved(now)?;
        match searches {
            true => self.ask_for_partner(ClientType::FindMatch),
            false => Ok(()),
        }
    }

    /// A user whose partner leaves searches again.
    pub(super) fn rematches(&self) -> bool {
        let plan = &self.context.plan;
        plan.flows[plan.flow_of(self.start.user)].rematch
    }

    /// Whether the user waits to be put into the room again.
    pub(super) fn is_rejoining(&self) -> bool {
        let moving = self.resume.as_ref().map(|resume| resume.moving);
        let rejoins = self.is_in_room() || self.leaves_anew();
        rejoins && matches!(moving, Some(Move::Rejoins { .. }))
    }

    /// The partner's session, as the server named it last.
    pub(super) fn known_peer(&self) -> Option<u64> {
        let moved = self.resume.as_ref().and_then(|resume| resume.moved_peer);
        moved.or(self.room.as_ref()?.peer)
    }

    /// Whether the user goes back into a room in order to leave it.
    fn leaves_anew(&self) -> bool {
        self.resume
            .as_ref()
            .is_some_and(|resume| resume.leaves_anew())
    }

    /// The partner has left, too: nobody waits in the room that the user leaves.
    pub(super) fn forget_left_room(&mut self) {
        if let Some(resume) = &mut self.resume {
            resume.ticket = None;
        }
    }

    /// The server drains, and makes no match. False: this user asks no other one.
    pub(super) fn is_refused_in_drain(&mut self) -> bool {
        let search = self.search.as_mut().filter(|_| self.resume.is_some());
        search.map(|search| search.refused = true).is_some()
    }

    /// Asks for the match that the server before did not make.
    pub(super) fn ask_again(&mut self) -> Result<(), ErrorKind> {
        let refused = (self.search.as_mut()).map(|search| std::mem::take(&mut search.refused));
        match refused {
            Some(true) => self.say(ClientType::FindMatch),
            _ => Ok(()),
        }
    }

    /// Whether the user is in a room, of two or named.
    fn is_in_room(&self) -> bool {
        let named = self.named.as_ref();
        self.room.is_some() || named.is_some_and(|named| named.is_joined())
    }

    /// Everything is as before: says what was held back.
    fn moved(&mut self, now: Duration) -> Result<(), ErrorKind> {
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        let moving = std::mem::take(&mut resume.moving);
        let leaves_anew = resume.leaves_anew();
        if let Move::Rejoins { since } | Move::Gathers { since } = moving {
            let after = now.saturating_sub(since);
            self.tell(Sample::Moved { after });
        }
        if self.is_in_room() {
            self.together_again(now);
        }
        if leaves_anew {
            // The wish for another partner is among what was held back.
        } else if let Some(search) = &mut self.search {
            search.refused = true;
            self.ask_again()?;
        } else if !self.is_in_room() {
            self.ask_to_join()?;
        }
        let held_back = match &mut self.resume {
            Some(resume) => std::mem::take(&mut resume.held_back),
            None => return Ok(()),
        };
        for text in held_back {
            self.send_numbered(&text)?;
        }
        Ok(())
    }

    fn tell_not_moved(&self, error: ErrorKind) {
        self.tell_fault_at(self.last_node(), FaultKind::NotMoved, error);
    }

    /// No new session could be begun.
    pub(super) fn not_moved(&mut self, error: ErrorKind) -> Result<(), ErrorKind> {
        self.resume = None;
        self.connection = None;
        self.tell_not_moved(error.clone());
        Err(error)
    }
}
