//! Keeps a session that outlives its connections going: notices losses, and takes new connections.

use std::{rc::Rc, time::Duration};

use voicematch_protocol::CloseReason;

use super::{Heard, User, resume};
use crate::{
    measure::{
        nodes::FaultKind,
        sample::{ErrorKind, Sample},
    },
    user::{
        moving::Move,
        net::connection::{Connection, Event},
        resume::{Back, Way},
    },
};

/// The code with which the server closes a connection when a later one carries its session.
const REPLACED: Option<u16> = CloseReason::Replaced.close_code();

/// What happened next.
enum Next {
    Event(Result<Event, ErrorKind>),
    /// An attempt to come back, or to go back to the preferred transport, has ended.
    Back(Result<Back, ErrorKind>),
}

/// The next message from the server. Without a connection, none ever comes.
async fn next_of(connection: &mut Option<Connection>) -> Result<Event, ErrorKind> {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}

impl User {
    /// The next event. Cancel-safe. A session that can go on over another connection does.
    pub(super) async fn next_event(&mut self) -> Result<Event, ErrorKind> {
        loop {
            let next = tokio::select! {
                biased;
                event = next_of(&mut self.connection) => Next::Event(event),
                back = resume::next_back(&mut self.resume) => Next::Back(back),
            };
            let now = self.context.now();
            match next {
                Next::Event(Ok(event)) => return Ok(event),
                Next::Event(Err(error)) => self.lose(error, now)?,
                Next::Back(Ok(back)) => self.take(back, now)?,
                Next::Back(Err(error)) => self.not_back(error, now)?,
            }
        }
    }

    /// Sends a message with a number. Without a connection now, it goes out with the next one.
    pub(super) fn send_numbered(&mut self, text: &str) -> Result<(), ErrorKind> {
        match &mut self.resume {
            Some(resume) if resume.moving.holds_back() => resume.hold_back(text),
            Some(_) => self.send_next(text),
            None => Ok(()),
        }
    }

    /// Sends the next message, whatever is held back.
    pub(super) fn send_next(&mut self, text: &str) -> Result<(), ErrorKind> {
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        let (number, text) = resume.number(text)?;
        let sent = match &mut self.connection {
            Some(connection) => connection.send(Some(number), text),
            None => Ok(()),
        };
        sent.or_else(|error| self.lose(error, self.context.now()))
    }

    /// Takes a message as part of the session. Answers pings.
    pub(super) fn hear(&mut self, text: &str, now: Duration) -> Result<Heard, ErrorKind> {
        let Some(resume) = &mut self.resume else {
            return Ok(Heard::New);
        };
        let heard = resume.hear(text, now)?;
        if heard == Heard::Own
            && let Some(connection) = &mut self.connection
        {
            connection.show(resume.token());
        }
        if heard == Heard::Ping || resume.should_confirm() {
            let pong = resume.pong();
            let sent = match &mut self.connection {
                Some(connection) => connection.send(None, pong),
                None => Ok(()),
            };
            sent.or_else(|error| self.lose(error, now))?;
        }
        Ok(heard)
    }

    /// The connection is lost. Fails if the session is, too.
    fn lose(&mut self, error: ErrorKind, now: Duration) -> Result<(), ErrorKind> {
        let Some(resume) = &self.resume else {
            return Err(error);
        };
        if self.is_passed_on(&error) {
            return self.follow(now);
        }
        if self.moves_after(&error) {
            return self.move_on(now);
        }
        if matches!(error, ErrorKind::ClosedByServer(code) if Some(code) == REPLACED)
            && resume.returns()
        {
            // By the user's own next connection, whose first message is on its way.
            self.connection = None;
            return Ok(());
        }
        if error.ends_session() {
            self.depart(false);
            return self.give_up(error);
        }
        // What a server says before that it will do is no loss of the server.
        let told = (self.resume.as_ref()).is_some_and(|resume| resume.moving != Move::None);
        self.depart(error.is_break() && !told);
        self.cut(now, false);
        Ok(())
    }

    /// Drops the connection without a word, and sets out to come back.
    fn cut(&mut self, now: Duration, planned: bool) {
        let in_room = self.has_partner();
        self.depart(!planned);
        if self.resume.as_ref().is_some_and(|it| it.lost.is_none()) {
            self.go_on();
        }
        let Some(way) = self.way() else { return };
        self.connection = None;
        if let Some(resume) = &mut self.resume
            && resume.lost.is_none()
        {
            resume.come_back(way, now, in_room);
            if self.context.servers.count() > 1 {
                resume.leaves_drained(now);
            }
            if in_room {
                resume.unheard_since.get_or_insert(now);
            }
            self.tell(Sample::ConnectionLost { planned });
        }
    }

    /// The plan drops the connection, among those of many users.
    pub(super) fn cut_in_storm(&mut self, now: Duration) {
        let lost = self.resume.as_ref().is_some_and(|it| it.lost.is_some());
        let paired = self.may_have_partner();
        if !lost {
            let resumes = true;
            self.tell(Sample::StormDropped { paired, resumes });
            self.cut(now, true);
        }
        self.note_drop(now, paired);
    }

    /// Does what is due for the connection: the network blocks it, it is silent, or a better one may be had.
    pub(super) fn mind_connection(&mut self, now: Duration) {
        let Some(resume) = &self.resume else { return };
        if resume.lost.is_some() {
            return;
        }
        let due = |at: Option<Duration>| at.is_some_and(|at| now >= at);
        let returns = due(resume.return_at);
        let silent = resume.silent_at();
        if due(resume.blocked_at) {
            self.cut(now, true);
        } else if let Some(at) = silent
            && self.context.waited(resume.heard(), now) >= at.saturating_sub(resume.heard())
        {
            self.tell_error(ErrorKind::Silent);
            self.cut(now, false);
        } else if returns
            && let Some(way) = self.way()
            && let Some(resume) = &mut self.resume
        {
            resume.try_return(way);
        }
    }

    pub(super) fn way(&self) -> Option<Way> {
        let resume = self.resume.as_ref()?;
        let (context, path) = (Rc::clone(&self.context), self.path.as_deref());
        Some(resume.way(&context, self.start.user, path, self.place))
    }

    /// The session goes on over this connection.
    fn take(&mut self, back: Back, now: Duration) -> Result<(), ErrorKind> {
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        if matches!(resume.moving, Move::Begins { .. }) {
            return self.begun_anew(back, now);
        }
        let Back {
            mut connection,
            transport,
            place,
            first,
        } = back;
        if let Some(first) = first
            && let Err(error) = resume.hear(&first, now)
        {
            return self.give_up(error);
        }
        connection.show(resume.token());
        let missing = resume.missing();
        let sent = missing.into_iter().try_for_each(|(number, text)| {
            // A connection that breaks at once is found to be lost when it is read.
            connection.send(Some(number), text)
        });
        let lost = resume.lost.take();
        let moving = resume.moving;
        resume.settle(transport, now);
        resume.blocked_at = self.context.plan.blocked_after(transport, now);
        self.connection = Some(connection);
        self.place = place;
        self.arrive();
        if let Move::Follows { since } = moving {
            sent.or_else(|error| self.lose(error, now))?;
            return self.followed(since, now);
        }
        match lost {
            Some(lost) => {
                let after = now.saturating_sub(lost);
                let via = transport;
                self.tell(Sample::Resumed { via, after });
                self.storm_over(after);
            }
            None => self.tell(Sample::MovedBack),
        }
        sent.or_else(|error| self.lose(error, now))?;
        self.ask_again()
    }

    /// A user whom a storm dropped is connected again, and in the same room as before.
    fn storm_over(&mut self, after: Duration) {
        if self.dropped_at.take().is_some() {
            self.tell(Sample::StormConnected { after });
        }
        if self.has_partner() && self.torn_at.take().is_some() {
            self.tell(Sample::StormMatched { after });
        }
    }

    /// An attempt has failed: to come back, or to use the preferred transport again.
    fn not_back(&mut self, error: ErrorKind, now: Duration) -> Result<(), ErrorKind> {
        let moving = self.resume.as_ref().map(|resume| resume.moving);
        if matches!(moving, Some(Move::Begins { .. })) {
            return self.not_moved(error);
        }
        if self.moves_after(&error) {
            return self.move_on(now);
        }
        if self.begins_after_loss(&error) {
            return self.begin_after_loss(error, now);
        }
        match &mut self.resume {
            Some(resume) if resume.lost.is_none() => {
                resume.plan_return(now);
                if self.connection.is_none() {
                    self.cut(now, false);
                }
                Ok(())
            }
            _ => self.give_up(error),
        }
    }

    fn give_up(&mut self, error: ErrorKind) -> Result<(), ErrorKind> {
        self.resume = None;
        self.connection = None;
        self.tell_fault_at(self.last_node(), FaultKind::NotResumed, error.clone());
        Err(error)
    }

    /// The partner is heard; after a loss, that is told.
    pub(super) fn heard_partner(&mut self, now: Duration) {
        let Some(resume) = &mut self.resume else {
            return;
        };
        if let Some(since) = resume.unheard_since.take() {
            let after = now.saturating_sub(since);
            self.tell(Sample::HeardAgain { after });
        }
    }
}
