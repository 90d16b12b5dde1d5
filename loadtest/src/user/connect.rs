//! How a user's connection begins and ends.

use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Resume, Stop, User, WorkerContext, inbound};
use crate::{
    measure::{
        nodes::FaultKind,
        reach::NodeId,
        sample::{ErrorKind, Sample},
    },
    plan::{Greeting, Transport},
    user::{
        net::connection::{Connection, Event, Session, Wanted},
        run_state::{RunState, reached},
        tag::room_key,
    },
};

impl User {
    /// Opens a connection and reads the greeting.
    pub(super) async fn connect(&mut self) -> Result<(), Stop> {
        let context = Rc::clone(&self.context);
        self.tell(Sample::Connecting {
            again: self.connections > 0,
        });
        // Connect latency starts at the planned start (or the forced drop), so failed attempts count.
        let from = self
            .dropped_at
            .or(self.due)
            .unwrap_or_else(|| context.now());
        let joined = tokio::select! {
            biased;
            () = reached(&context.state, RunState::Draining) => {
                self.tell(Sample::ConnectingEnded);
                return Err(Stop::Over);
            }
            // Boxed, because it is large: otherwise it would be part of every user's state.
            joined = Box::pin(join(self.start.user, self.node(), self.path.as_deref(), &context)) => joined,
        };
        let Joined {
            connection,
            session_id,
            resume,
        } = joined.map_err(Stop::NotConnected)?;
        self.connection = Some(connection);
        self.session_id = session_id;
        self.resume = resume;
        self.connections += 1;
        self.due = None;
        self.arrive();
        let latency = context.now().saturating_sub(from);
        self.tell(Sample::Connected { latency });
        if self.dropped_at.take().is_some() {
            self.tell(Sample::StormConnected { after: latency });
        }
        Ok(())
    }

    /// Records what ends with the connection.
    pub(super) fn end_talk(&mut self, cut_off: bool) {
        if let Some(stay) = &mut self.room {
            stay.cut_off |= cut_off;
        }
        self.leave_room(false);
        self.leave_named_room(cut_off);
        self.end_echo(cut_off);
        // Open calls are neither answered nor failed.
        self.pending.clear();
        self.end_search();
        self.expecting.forget();
        self.leaving = None;
    }

    /// The connection is lost, and the session with it; the user goes on to another server.
    pub(super) fn break_off(&mut self, error: ErrorKind) {
        let broke = error.is_break();
        let node = self.node();
        if broke && self.may_have_partner() {
            self.tear(Some(node), 0, self.context.now());
        }
        self.drop_connection(broke);
        self.tell_fault_at(node, FaultKind::Dropped, error);
        self.go_on();
    }

    /// The connection is lost, or is dropped without a close frame.
    pub(super) fn drop_connection(&mut self, broke: bool) {
        self.tell(Sample::StoppedSending);
        self.depart(broke);
        self.end_talk(true);
        self.connection = None;
        self.resume = None;
    }

    /// Waits for the echoes of messages under way, then closes with a close frame.
    pub(super) async fn close(&mut self) {
        if let Err(error) = self.await_echoes().await {
            self.depart(error.is_break());
            self.end_talk(true);
            self.connection = None;
            self.resume = None;
            return self.tell_fault(FaultKind::Dropped, error);
        }
        let resumes = self.resume.take().is_some();
        let Some(connection) = self.connection.take() else {
            if resumes {
                // The user gives up a session that has no connection now.
                self.end_talk(true);
                self.tell(Sample::Closed);
            }
            return;
        };
        self.depart(false);
        self.end_talk(false);
        if let Err(error) = connection.close().await {
            self.tell_error(error);
        }
        self.tell(Sample::Closed);
    }

    /// Listens until the server has sent every echo back, but no longer than messages may take.
    async fn await_echoes(&mut self) -> Result<(), ErrorKind> {
        let context = Rc::clone(&self.context);
        let deadline = Instant::now() + context.plan.message_timeout;
        // At the end of the run, all users have waited together already.
        let mut end = pin!(reached(&context.state, RunState::Closing));
        while self.awaits_echo() {
            tokio::select! {
                biased;
                () = &mut end => break,
                () = sleep_until(deadline) => break,
                event = self.next_event() => self.on_event(event?, false)?,
            }
        }
        if let Some(echo) = &mut self.echo {
            echo.stay.settled = true;
        }
        Ok(())
    }

    /// Waits for messages under way, then closes with a close frame.
    pub(super) async fn leave(&mut self) {
        if !self.has_session() {
            return;
        }
        self.tell(Sample::StoppedSending);
        let context = Rc::clone(&self.context);
        if *context.state.borrow() >= RunState::Draining {
            if let Err(error) = self.listen(&context).await {
                self.depart(error.is_break());
                self.end_talk(true);
                self.resume = None;
                return self.tell_fault(FaultKind::Dropped, error);
            }
            if let Some(stay) = &mut self.room {
                stay.settled = true;
            }
            if let Some(named) = &mut self.named {
                named.settle();
            }
            let turn = turn(self.start.user, context.plan.peak_users);
            if let Err(error) = self.listen_until_turn(turn).await {
                return self.was_closed(error);
            }
        }
        self.close().await;
    }

    /// All users close now, this one when so much time has passed: partners who close before are to be heard to leave.
    async fn listen_until_turn(&mut self, turn: Duration) -> Result<(), ErrorKind> {
        /// A server that never stops talking is not listened to for ever.
        const LAST_WORDS: usize = 100;
        self.listen_while(pin!(sleep(turn))).await?;
        // Who wakes up late hears what has come meanwhile: a process that was stopped is told that the time is over before it has
        // looked at its sockets.
        yield_now().await;
        for _ in 0..LAST_WORDS {
            match self.next_event().now_or_never() {
                Some(event) => self.on_event(event?, false)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Listens until all users close.
    pub(super) async fn listen(&mut self, context: &WorkerContext) -> Result<(), ErrorKind> {
        let end = pin!(reached(&context.state, RunState::Closing));
        self.listen_while(end).await
    }

    /// Listens until something else has happened.
    async fn listen_while(
        &mut self,
        mut end: impl Future<Output = ()> + Unpin,
    ) -> Result<(), ErrorKind> {
        loop {
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                event = self.next_event() => self.on_event(event?, false)?,
            }
        }
    }

    /// The server has closed a user who was about to close.
    fn was_closed(&mut self, error: ErrorKind) {
        let broke = error.is_break();
        self.depart(broke);
        self.end_talk(broke);
        (self.connection, self.resume) = (None, None);
        if !matches!(error, ErrorKind::ClosedByServer(_)) {
            self.tell_error(error);
        }
        self.tell(Sample::Closed);
    }
}

/// Between two closes, of all shards together: servers that share two cores with the users close 8,000 a second.
const BETWEEN_CLOSES: Duration = Duration::from_micros(200);

/// In this time all close, however many they are.
const ALL_CLOSE_WITHIN: Duration = Duration::from_secs(15);

/// How long after the first user this one closes, of at most `peak` who are there at the same time.
fn turn(user: u32, peak: u32) -> Duration {
    let peak = peak.max(1);
    let between = BETWEEN_CLOSES.min(ALL_CLOSE_WITHIN / peak);
    between * (user % peak)
}

/// What a user has who has connected.
struct Joined {
    connection: Connection,
    session_id: Option<u64>,
    resume: Option<Box<Resume>>,
}

/// Connects and reads the greeting.
async fn join(
    user: u32,
    node: NodeId,
    path: Option<&str>,
    context: &WorkerContext,
) -> Result<Joined, ErrorKind> {
    let server = context.servers.node(node);
    let connected = Cell::new(false);
    let joining = async {
        let own = context.plan.transport_of(user);
        let now = reachable(own, context).await;
        let resumes = context.plan.resumes();
        let wanted = Wanted {
            user,
            path: path.unwrap_or(&server.path),
            transport: now,
            session: match resumes {
                true => Session::Begin,
                false => Session::Plain,
            },
        };
        let mut connection = Connection::open(server, wanted).await?;
        connected.set(true);
        let (mut session_id, mut resume) = (None, None);
        if let Greeting::Type(greeting) = &context.plan.greeting {
            let text = greeted(&mut connection, greeting).await?;
            let greeting = inbound::greeting(&text);
            session_id = greeting.and_then(|(_, id)| id.as_deref().map(room_key));
            if resumes {
                let begun = Resume::begin(&text, own, now, context.now());
                let mut begun = begun.ok_or(ErrorKind::NotResumable)?;
                connection.show(begun.token());
                begun.settle(now, context.now());
                begun.blocked_at = context.plan.blocked_after(now, context.now());
                resume = Some(Box::new(begun));
            }
        }
        Ok(Joined {
            connection,
            session_id,
            resume,
        })
    };
    let joining = pin!(joining);
    let joined = within(context, context.plan.connect_timeout, joining).await;
    let joined = joined.unwrap_or_else(|| {
        Err(match connected.get() {
            true => ErrorKind::NoSession,
            false => ErrorKind::ConnectTimeout,
        })
    });
    joined.map_err(ErrorKind::of_first_request)
}

/// The first transport that the user's network lets through; a blocked one costs the time until the user gives it up.
async fn reachable(own: Transport, context: &WorkerContext) -> Transport {
    for transport in own.and_fallbacks() {
        if !context.plan.blocks(*transport, context.now()) {
            return *transport;
        }
        sleep(transport.patience()).await;
    }
    own
}

/// The first message of this type.
///
/// # Errors
/// Why the connection has ended before.
pub async fn greeted(connection: &mut Connection, greeting: &str) -> Result<Utf8Bytes, ErrorKind> {
    loop {
        if let Event::Text(text) = connection.next().await?
            && inbound::type_of(&text).is_some_and(|kind| kind == *greeting)
        {
            return Ok(text);
        }
    }
}

/// Waits for at most this time, which pauses of this process are no part of.
pub(super) async fn within<T>(
    context: &WorkerContext,
    mut time: Duration,
    mut waited_for: impl Future<Output = T> + Unpin,
) -> Option<T> {
    while !time.is_zero() {
        let from = context.now();
        if let Ok(done) = timeout(time, &mut waited_for).await {
            return Some(done);
        }
        time = context.pulse.paused(from, context.now());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_close_one_after_the_other_in_whichever_shards_they_are() {
        let turns = |users: std::ops::Range<u32>, peak| {
            let mut turns: Vec<_> = users.map(|user| turn(user, peak)).collect();
            turns.sort_unstable();
            turns
        };
        for (peak, all_within) in [(1, 0), (1_000, 200), (50_000, 10_000), (200_000, 15_000)] {
            let turns = turns(0..peak, peak);
            assert!(turns[turns.len() - 1] <= Duration::from_millis(all_within));
            assert!(turns.windows(2).all(|two| two[0] < two[1]), "{peak}");
        }
        // Of users who come and go those are there whose numbers are the highest.
        assert_eq!(turns(1_000_000..1_001_000, 1_000), turns(0..1_000, 1_000));
        assert_eq!(turn(7, 0), Duration::ZERO);
    }
}
