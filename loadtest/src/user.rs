//! One simulated user: plays the steps of a flow, and listens all the time.

mod back_off;
mod carry;
pub mod clock;
pub mod connect;
mod inbound;
mod moving;
mod named_room;
pub mod net;
mod place;
pub mod resume;
pub mod run_state;
mod steps;
pub mod tag;
pub mod talk;

use std::{collections::VecDeque, pin::pin, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    measure::{
        ledger::Stay,
        nodes::{FaultKind, Torn},
        reach::NodeId,
        sample::{ErrorKind, FlowId, Sample, Sink, Unmatched},
    },
    plan::{ResolvedPlan, Start},
    user::{
        clock::{pacer::Pacer, stall::Pulse},
        named_room::NamedRoom,
        net::{connection::Connection, servers::Servers},
        place::Place,
        resume::{Heard, Resume},
        run_state::{RunState, reached},
        steps::{call::Pending, echo::Echo, expect::Expecting, send::Sending},
        talk::Talks,
    },
};
use back_off::back_off;

/// The pause between two flows of a user, so that a flow whose steps take no time does not use all of the
/// generator's CPU.
const BETWEEN_VISITS: Duration = Duration::from_millis(10);

/// What all users of a worker share.
pub struct WorkerContext {
    pub plan: Arc<ResolvedPlan>,
    pub servers: Arc<Servers>,
    /// The start of the run.
    pub epoch: Instant,
    /// The number of this run in its messages.
    pub run: u32,
    pub state: watch::Receiver<RunState>,
    pub sink: Sink,
    pub pacer: Rc<Pacer>,
    pub pulse: Pulse,
    pub talks: Arc<Talks>,
}

impl WorkerContext {
    fn tell_error(&self, error: ErrorKind) {
        (self.sink)(Sample::Error { error });
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The time that the server had to answer: pauses of this process are not the server's.
    fn waited(&self, from: Duration, now: Duration) -> Duration {
        let paused = self.pulse.paused(from, now);
        now.saturating_sub(from).saturating_sub(paused)
    }
}

/// Why a user stops the steps.
#[derive(Debug)]
enum Stop {
    /// The run, or the user's part in it, has ended.
    Over,
    /// The connection is lost.
    Broken(ErrorKind),
    /// A connection could not be opened.
    NotConnected(ErrorKind),
    /// A step failed.
    Failed,
    /// The plan drops the connection.
    Storm,
}

/// How long a user listens before the next step. Times are since the start of the run.
enum Until<'a, 'b> {
    /// Until the run, or the user's part in it, ends.
    Stopped,
    Time(Duration),
    Holds(fn(&User) -> bool),
    HoldsOrTime(fn(&User) -> bool, Duration),
    /// Until every message is sent.
    Sent(&'a mut Sending<'b>),
}

/// A user's wait for a partner.
#[derive(Clone, Copy)]
struct PartnerSearch {
    from: Duration,
    timed_out: bool,
    /// The server drains, and makes no match: the next one is asked.
    refused: bool,
}

/// A user.
struct User {
    start: Start,
    context: Rc<WorkerContext>,
    connection: Option<Connection>,
    /// What outlives a connection, where the session does.
    resume: Option<Box<Resume>>,
    /// The path of the connection, unless it is that of the server's URL.
    path: Option<Box<str>>,
    /// When the user should start, until the first step is done.
    due: Option<Duration>,
    /// Values saved from answers over HTTP, for later steps.
    saved: Vec<(Box<str>, Box<str>)>,
    /// Connections so far.
    connections: u32,
    had_partner: bool,
    /// A hash of the room's id: servers may choose long ids.
    session_id: Option<u64>,
    search: Option<PartnerSearch>,
    room: Option<Stay>,
    /// The room of several that the user is in, or wants to be in.
    named: Option<Box<NamedRoom>>,
    echo: Option<Echo>,
    /// Requests without an answer yet, in the order of sending.
    pending: VecDeque<Pending>,
    /// Requests so far.
    requests: u32,
    /// Messages so far.
    messages: u32,
    expecting: Expecting,
    /// The room that the user has left by choice, until the server confirms it.
    leaving: Option<u64>,
    /// When the plan dropped the connection; `None` once there is a new one.
    dropped_at: Option<Duration>,
    /// When the plan interrupted a call or a search; `None` once the user has a partner again.
    torn_at: Option<Duration>,
    /// When the plan drops the connection next.
    drop_at: Option<Duration>,
    /// Which of several servers the user goes to, and whether they are connected to it.
    place: Place,
    here: bool,
    /// The one that the user was connected to last.
    last_node: Option<NodeId>,
    /// How the user lost the partner with a server; `None` once they have one again.
    torn: Option<Box<Torn>>,
}

/// Plays one user until the plan removes the user or the run ends. A user of an arrival phase ends with the flow.
pub async fn play(start: Start, context: Rc<WorkerContext>) {
    let flow = context.plan.flow_of(start.user);
    // Behind a load balancer, a client connects to another server.
    let reconnects = context.plan.flows[flow].reconnect || context.servers.count() > 1;
    let mut user = User::new(start, Rc::clone(&context));
    let mut failures = 0;
    while !user.is_over() {
        let connections = user.connections;
        let played = user.play_flow(flow).await;
        if user.connections > connections {
            failures = 0;
        }
        match played {
            Err(Stop::Over) => break,
            Ok(()) | Err(Stop::Failed) if start.arrived => break,
            // A user who has left comes back, so that the number of users stays as planned.
            Ok(()) => {
                failures = 0;
                sleep(BETWEEN_VISITS).await;
                continue;
            }
            Err(Stop::Storm) => {
                user.torn_away();
                // Users of a storm reconnect at once, as real clients do.
                continue;
            }
            Err(Stop::Failed) => {
                if user.has_session() {
                    user.tell(Sample::StoppedSending);
                }
                Box::pin(user.close()).await;
            }
            Err(Stop::Broken(error)) => {
                user.break_off(error);
                if !reconnects {
                    return;
                }
            }
            Err(Stop::NotConnected(error)) => {
                user.tell_fault(FaultKind::NotConnected, error);
                user.go_on();
                if !reconnects && user.dropped_at.is_none() {
                    return;
                }
            }
        }
        tokio::select! {
            () = sleep(back_off(start.user, failures)) => failures += 1,
            () = reached(&context.state, RunState::Draining) => {}
        }
    }
    Box::pin(user.leave()).await;
}

impl User {
    fn new(start: Start, context: Rc<WorkerContext>) -> Self {
        let drop_at = context.plan.dropped_after(start.user, start.at);
        let kinds = Arc::clone(&context.plan.expected[context.plan.flow_of(start.user)]);
        Self {
            start,
            context,
            connection: None,
            resume: None,
            path: None,
            due: Some(start.at),
            saved: Vec::new(),
            connections: 0,
            had_partner: false,
            session_id: None,
            search: None,
            room: None,
            named: None,
            echo: None,
            pending: VecDeque::new(),
            requests: 0,
            messages: 0,
            expecting: Expecting::new(kinds),
            leaving: None,
            dropped_at: None,
            torn_at: None,
            drop_at,
            place: Place::default(),
            here: false,
            last_node: None,
            torn: None,
        }
    }

    /// Plays a flow to its end. A user who is then still connected listens until there is a reason to stop; a user of
    /// an arrival phase does not.
    async fn play_flow(&mut self, flow: usize) -> Result<(), Stop> {
        let context = Rc::clone(&self.context);
        let played = self.steps(&context.plan.flows[flow].steps).await;
        if let Ok(()) | Err(Stop::Failed) = played {
            self.tell(Sample::FlowEnded {
                flow: FlowId(u16::try_from(flow).unwrap_or(u16::MAX)),
                completed: played.is_ok(),
            });
        }
        if played.is_ok() && !self.start.arrived && self.has_session() {
            self.listen_until(Until::Stopped).await?;
        }
        played
    }

    /// The run, or the user's part in it, has ended.
    fn is_over(&self) -> bool {
        let until = self.start.until;
        *self.context.state.borrow() >= RunState::Draining
            || until.is_some_and(|until| self.context.now() >= until)
    }

    /// The plan drops the connection, and the session with it.
    fn torn_away(&mut self) {
        let now = self.context.now();
        let paired = self.room.is_some() || self.search.is_some();
        let resumes = false;
        self.drop_connection(false);
        self.tell(Sample::StormDropped { paired, resumes });
        self.go_on();
        self.note_drop(now, paired);
    }

    fn note_drop(&mut self, now: Duration, paired: bool) {
        (self.dropped_at, self.torn_at) = (Some(now), paired.then_some(now));
        self.drop_at = self.context.plan.dropped_after(self.start.user, now);
    }

    /// Has a connection, or a session that waits for one.
    fn has_session(&self) -> bool {
        self.connection.is_some() || self.resume.is_some()
    }

    /// Somebody is there to hear the user.
    fn has_partner(&self) -> bool {
        let named = self.named.as_ref();
        self.room.is_some() || named.is_some_and(|named| named.has_peers())
    }

    fn may_have_partner(&self) -> bool {
        self.room.is_some() || self.search.is_some() || self.named.is_some()
    }

    fn tell(&self, sample: Sample) {
        (self.context.sink)(sample);
    }

    fn tell_error(&self, error: ErrorKind) {
        self.tell_fault(FaultKind::Error, error);
    }

    /// Listens, and sends what is due, until the run or the user's part in it ends.
    async fn listen_until(&mut self, mut until: Until<'_, '_>) -> Result<(), Stop> {
        let context = Rc::clone(&self.context);
        let mut end = pin!(reached(&context.state, RunState::Draining));
        let mut timer = pin!(context.pacer.until(context.epoch));
        loop {
            let now = context.now();
            let over = match &mut until {
                Until::Stopped => false,
                Until::Time(moment) => now >= *moment,
                Until::Holds(holds) => holds(self),
                Until::HoldsOrTime(holds, moment) => holds(self) || now >= *moment,
                Until::Sent(sending) => {
                    if sending.needs_partner() && !self.may_have_partner() {
                        return Err(Stop::Failed);
                    }
                    self.send_due(sending, now).map_err(Stop::Broken)?;
                    sending.is_done(now)
                }
            };
            if over {
                return Ok(());
            }
            // Who stays without end has no moment to wake at.
            let wake = self.next_wake(&until);
            let wake = wake.and_then(|wake| context.epoch.checked_add(wake));
            if let Some(moment) = wake
                && timer.moment() != moment
            {
                timer.set(context.pacer.until(moment));
            }
            tokio::select! {
                biased;
                () = &mut end => return Err(Stop::Over),
                event = self.next_event() => {
                    self.on_event(event.map_err(Stop::Broken)?, true).map_err(Stop::Broken)?;
                }
                () = &mut timer, if wake.is_some() => self.on_time()?,
            }
        }
    }

    /// The next moment at which there is something to do even if the server sends nothing.
    fn next_wake(&self, until: &Until<'_, '_>) -> Option<Duration> {
        let searching = self.search.filter(|search| !search.timed_out);
        let moments = [
            match until {
                Until::Stopped | Until::Holds(_) => None,
                Until::Time(moment) | Until::HoldsOrTime(_, moment) => Some(*moment),
                Until::Sent(sending) => sending.next_wake(self.has_partner()),
            },
            self.next_time_out(),
            searching.map(|search| {
                let paused = self.context.pulse.paused(search.from, self.context.now());
                search.from + self.context.plan.match_timeout + paused
            }),
            self.start.until,
            self.drop_at.filter(|_| self.has_session()),
            self.resume.as_ref().and_then(|resume| {
                let paused = self
                    .context
                    .pulse
                    .paused(resume.heard(), self.context.now());
                resume.next_wake(paused)
            }),
        ];
        moments.into_iter().flatten().min()
    }

    fn on_time(&mut self) -> Result<(), Stop> {
        let now = self.context.now();
        if self.start.until.is_some_and(|until| now >= until) {
            return Err(Stop::Over);
        }
        if self.has_session() && self.drop_at.is_some_and(|at| now >= at) {
            if self.resume.is_none() {
                return Err(Stop::Storm);
            }
            self.cut_in_storm(now);
        }
        self.mind_connection(now);
        self.mind_move(now).map_err(Stop::Broken)?;
        self.time_out_calls(now);
        let timeout = self.context.plan.match_timeout;
        if let Some(search) = &mut self.search {
            // The user stays in the queue: the server may still match them.
            search.timed_out |= self.context.waited(search.from, now) >= timeout;
        }
        Ok(())
    }

    /// The search has timed out without a match.
    fn end_search(&mut self) {
        let Some(search) = self.search.take() else {
            return;
        };
        let to = self.context.now();
        let waited = to
            .saturating_sub(search.from)
            .min(self.context.plan.match_timeout);
        self.tell(Sample::Unmatched(Unmatched {
            from: search.from,
            to,
            waited,
        }));
    }

    fn leave_room(&mut self, partner_left: bool) {
        let Some(mut stay) = self.room.take() else {
            return;
        };
        stay.partner_left |= partner_left;
        stay.left = self.context.now();
        self.tell(Sample::RoomLeft(Box::new(stay)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::net::websocket;

    /// The bytes of the future that a function returns.
    fn size_of_future<A, B, F: Future>(_of: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_user_is_small() {
        // There are ten thousand of them: large and rare parts are boxed.
        let (user, connection) = (size_of_future(play), size_of::<websocket::Connection>());
        assert!(user <= 1504 && connection <= 384, "{user}, {connection}");
    }
}
