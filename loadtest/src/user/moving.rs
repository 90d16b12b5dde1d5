//! A user whose server drains moves to another one: when it is time they say no more, hear which of their messages the old
//! server has taken, begin a new session, show the ticket of their room, and say the rest there.

use std::time::Duration;

use voicematch_protocol::{ClientType, CloseReason, ServerView};

use super::{Resume, User, inbound};
use crate::{
    measure::sample::{ErrorKind, Sample},
    user::{resume::Back, tag::room_key},
};

/// The code with which a server that drains closes.
pub(super) const DRAINING: Option<u16> = CloseReason::Draining.close_code();

/// How long after the announced moment the server may still close: it gives its clients a second to confirm.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);

/// How long a user tries to begin a new session.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

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
    /// The old session ended then, and there is no new one yet.
    Begins { since: Duration },
    /// The new session has shown the ticket; the old one ended then.
    Rejoins { since: Duration },
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
            Self::None | Self::Begins { .. } | Self::Rejoins { .. } => None,
        }
    }
}

impl User {
    /// The server says that it drains. False: the user has no session that could be followed by another.
    pub(super) fn is_to_move(&mut self, now: Duration, view: &ServerView<'_>) -> bool {
        // In a room of several the others would have to be known again.
        let Some(resume) = self.resume.as_mut().filter(|_| self.named.is_none()) else {
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
            _ => Ok(()),
        }
    }

    /// Whether this end of the session means that the user is to begin another.
    pub(super) fn moves_after(&self, error: &ErrorKind) -> bool {
        let Some(resume) = &self.resume else {
            return false;
        };
        let told = resume.moving != Move::None;
        let drained = matches!(error, ErrorKind::ClosedByServer(code) if Some(*code) == DRAINING);
        self.named.is_none() && (drained || told && error.ends_session())
    }

    /// The old session is over: sets out to begin a new one.
    pub(super) fn move_on(&mut self, now: Duration) -> Result<(), ErrorKind> {
        self.connection = None;
        let way = self.way();
        let (Some(way), Some(resume)) = (way, &mut self.resume) else {
            return Ok(());
        };
        let since = match resume.moving {
            // The new one has ended, too: the server before it may have come back instead.
            Move::Begins { since } | Move::Rejoins { since } => since,
            Move::None | Move::At(_) | Move::EndsBy(_) => now,
        };
        if now.saturating_sub(since) > BEGINS_WITHIN {
            return self.not_moved(ErrorKind::ConnectTimeout);
        }
        resume.moving = Move::Begins { since };
        resume.begin_anew(way, now, since + BEGINS_WITHIN);
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
        let since = match old.moving {
            Move::Begins { since } => since,
            _ => now,
        };
        new.moving = Move::Rejoins { since };
        let ticket = old.ticket.clone();
        new.held_back = old.for_the_next();
        self.resume = Some(Box::new(new));
        self.leaving = None;
        match (&self.room, ticket) {
            (None, _) => self.moved(now),
            (Some(_), Some(ticket)) => {
                let rejoin = format!(
                    r#"{{"type":"{}","ticket":"{ticket}"}}"#,
                    ClientType::Rejoin.as_str()
                );
                self.send_next(&rejoin)
            }
            (Some(_), None) => {
                self.tell(Sample::NotMoved);
                self.leave_room(true);
                self.moved(now)
            }
        }
    }

    /// Both are in the room again.
    pub(super) fn on_rejoined(
        &mut self,
        now: Duration,
        view: &ServerView<'_>,
    ) -> Result<(), ErrorKind> {
        let room = view.room_id.as_deref().map(room_key);
        let Some(stay) = self.room.as_mut().filter(|stay| Some(stay.room) == room) else {
            self.tell_error(ErrorKind::WrongRoom);
            return Ok(());
        };
        stay.session = self.session_id;
        stay.peer = view.peer_id.as_deref().map(room_key);
        self.moved(now)
    }

    /// The user could not be put into the room again.
    pub(super) fn on_not_rejoined(&mut self, now: Duration) -> Result<(), ErrorKind> {
        self.tell(Sample::NotMoved);
        self.leave_room(true);
        self.moved(now)
    }

    /// Whether the user waits to be put into the room again.
    pub(super) fn is_rejoining(&self) -> bool {
        let moving = self.resume.as_ref().map(|resume| resume.moving);
        self.room.is_some() && matches!(moving, Some(Move::Rejoins { .. }))
    }

    /// Everything is as before: says what was held back.
    fn moved(&mut self, now: Duration) -> Result<(), ErrorKind> {
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        if let Move::Rejoins { since } = std::mem::take(&mut resume.moving) {
            let after = now.saturating_sub(since);
            self.tell(Sample::Moved { after });
        }
        if self.search.is_some() {
            self.say(ClientType::FindMatch)?;
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

    /// No new session could be begun.
    pub(super) fn not_moved(&mut self, error: ErrorKind) -> Result<(), ErrorKind> {
        self.resume = None;
        self.connection = None;
        self.tell(Sample::NotMoved);
        Err(error)
    }
}
