//! What is asked of the index: gathered for 2 ms into calls of up to 64, one in flight.
//!
//! - A ticket has one look at a time. What changes meanwhile (wider pools, a block) makes it look again afterwards.
//! - Each call carries the number of the node's last beat, and the engine does nothing if it has seen two later ones, or has
//!   buried the node. The node counts a call as failed after 500 ms; what is carried out later, from a connection
//!   that was given up, would post tickets that are gone, or take out partners for nobody.
//! - Who waits is checked each 5 s, and who is missing looks again with the old wait: the one answer to lost replies, lost
//!   proposals, lost data and bugs. The check looks at the pools too, not only at the record: an engine that evicts keys
//!   loses one without the other.
//! - The index is down when a call or a beat is not answered for 500 ms, or the connection breaks; and up after three probes
//!   in a row, each answered within 250 ms, and a beat.
//! - While the index is down, those who wait here are searched, oldest first. When it is up again everybody is posted, and
//!   what has left the index during the last 10 s is withdrawn again: the engine may have gone back to an older state.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use voicematch_protocol::SessionId;

use super::{Action, ClaimProtocol, Fate, Look, NodeId, Now, Rule, Seeker, Ticket, TicketId};

const GATHER: Duration = Duration::from_millis(2);
const CALL_OPERATIONS: usize = 64;
const CALL_WITHIN: Duration = Duration::from_millis(500);
const CHECK_EACH: Duration = Duration::from_secs(5);
const PROBE_EACH: Duration = Duration::from_millis(250);
/// How many probes in a row must be answered in time before the index is used again.
const GOOD_PROBES: u8 = 3;
/// Between the pages of a sweep.
const SWEEP_EACH: Duration = Duration::from_millis(50);
/// Two: calls of the dead may still be on their way during the first.
const SWEEPS: u8 = 2;
const REMEMBER_GONE: Duration = Duration::from_secs(10);
const MAX_GONE: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum OperationKind {
    /// Look for a partner, or be posted. Always as one who may stand there: an engine that has gone back to an older state
    /// knows tickets that it had given away.
    Seek,
    Withdraw,
    /// Still posted, as this node's, in all its pools?
    Check,
    /// Drop what dead nodes have posted, a page from `ticket` on.
    Sweep,
}

#[derive(Debug, Clone)]
pub(in super::super) struct Operation {
    pub(in super::super) kind: OperationKind,
    pub(in super::super) ticket: TicketId,
    pub(in super::super) waited: Duration,
    /// None for those who are withdrawn.
    pub(in super::super) seeker: Option<Seeker>,
}

#[derive(Debug, Clone)]
pub(in super::super) struct Call {
    pub(in super::super) number: u64,
    pub(in super::super) me: NodeId,
    pub(in super::super) dead: Vec<NodeId>,
    pub(in super::super) suspects: Vec<NodeId>,
    /// The last beat before it. None, without that rule: it is always carried out.
    pub(in super::super) beat: Option<u64>,
    pub(in super::super) operations: Vec<Operation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Answer {
    Posted,
    /// A partner, who has been taken out.
    Found {
        ticket: TicketId,
        node: NodeId,
    },
    Known(bool),
    /// Where the next page begins; none: that was the last one.
    Swept(Option<TicketId>),
}

struct InFlight {
    number: u64,
    sent: Now,
    operations: Vec<(OperationKind, TicketId)>,
}

enum State {
    Up,
    Down {
        since: Now,
        good: u8,
        next_probe: Now,
        /// Not answered yet.
        probe: Option<(u64, Now)>,
    },
}

/// A node that meets a ticket of the dead drops it; the smallest node goes through all, to give the memory back.
struct Sweep {
    /// How often to go through all yet.
    passes: u8,
    from: TicketId,
    next: Now,
}

const FIRST_TICKET: TicketId = TicketId {
    session: SessionId(0),
    search: 0,
};

pub(super) struct Index {
    state: State,
    queue: VecDeque<(OperationKind, TicketId)>,
    flush_at: Now,
    in_flight: Option<InFlight>,
    numbers: u64,
    sweep: Sweep,
    /// Tickets that have left the index, and when.
    gone: BTreeMap<TicketId, Now>,
}

impl Index {
    pub(super) fn new(now: Now) -> Self {
        Self {
            state: State::Down {
                since: now,
                good: 0,
                next_probe: now,
                probe: None,
            },
            queue: VecDeque::new(),
            flush_at: now,
            in_flight: None,
            numbers: 0,
            sweep: Sweep {
                passes: 0,
                from: FIRST_TICKET,
                next: now,
            },
            gone: BTreeMap::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    fn push(&mut self, kind: OperationKind, ticket: TicketId, now: Now) {
        if self.is_up() {
            if self.queue.is_empty() {
                self.flush_at = now + GATHER;
            }
            self.queue.push_back((kind, ticket));
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl ClaimProtocol {
    pub(super) fn next_of_index(&self) -> Vec<Now> {
        let mut times = match &self.index.state {
            State::Down {
                next_probe, probe, ..
            } => vec![probe.map_or(*next_probe, |(_, sent)| sent + PROBE_EACH)],
            State::Up if self.index.in_flight.is_some() || self.index.queue.is_empty() => vec![],
            State::Up => vec![self.index.flush_at],
        };
        times.extend(
            self.index
                .in_flight
                .iter()
                .map(|call| call.sent + CALL_WITHIN),
        );
        if self.index.sweep.passes > 0 && self.index.is_up() && self.membership.is_smallest() {
            times.push(self.index.sweep.next);
        }
        if self.index.is_up() && self.holds(Rule::CheckPosted) {
            times.extend(
                self.tickets
                    .values()
                    .filter(|t| t.is_checked())
                    .map(|t| t.check_at),
            );
        }
        times
    }

    pub(super) fn tick_index(&mut self) {
        let call = self.index.in_flight.as_ref();
        let is_late = call.is_some_and(|call| self.now >= call.sent + CALL_WITHIN);
        if is_late || self.index.is_up() && self.membership.misses_a_beat(self.now) {
            self.index_down();
        }
        self.probe();
        if self.index.is_up() {
            self.check();
            self.sweep();
            self.flush();
        }
    }

    fn probe(&mut self) {
        let State::Down {
            good,
            next_probe,
            probe,
            ..
        } = &mut self.index.state
        else {
            return;
        };
        if probe.is_some_and(|(_, sent)| self.now >= sent + PROBE_EACH) {
            *good = 0;
            *probe = None;
        }
        if probe.is_none() && self.now >= *next_probe {
            *next_probe = self.now + PROBE_EACH;
            self.index.numbers += 1;
            let number = self.index.numbers;
            *probe = Some((number, self.now));
            self.actions.push(Action::Probe(number));
        }
    }

    /// An answer that comes too late is none.
    pub(in super::super) fn probe_answered(&mut self, number: u64, now: Now) {
        self.now = now;
        let State::Down {
            since, good, probe, ..
        } = &mut self.index.state
        else {
            return;
        };
        if probe.is_some_and(|(asked, sent)| asked == number && now < sent + PROBE_EACH) {
            *probe = None;
            *good += 1;
            // A beat after it went down makes the calls before that too old to be carried out.
            if *good >= GOOD_PROBES && self.membership.has_beaten_since(*since) {
                self.index.state = State::Up;
                self.post_all();
                self.withdraw_again();
                self.begin_sweep();
            }
        }
    }

    /// Posts all who wait, with their old wait.
    pub(super) fn post_all(&mut self) {
        for ticket in self.waiting_tickets() {
            self.look(ticket);
        }
    }

    fn withdraw_again(&mut self) {
        if self.holds(Rule::WithdrawAgain) {
            for ticket in self.index.gone.keys().copied().collect::<Vec<_>>() {
                self.index.gone.insert(ticket, self.now);
                self.index.push(OperationKind::Withdraw, ticket, self.now);
            }
        }
    }

    /// Those who wait, by how long.
    pub(super) fn waiting_tickets(&self) -> Vec<TicketId> {
        let waiting = self.tickets.iter();
        let waiting = waiting.filter(|(_, ticket)| ticket.fate == Fate::Waiting);
        let mut waiting: Vec<_> = waiting.map(|(id, ticket)| (ticket.since, *id)).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, id)| id).collect()
    }

    /// The connection to the engine has broken: the next one may be to another engine, with an older state.
    pub(in super::super) fn disconnected(&mut self, now: Now) {
        self.now = now;
        self.index_down();
    }

    fn index_down(&mut self) {
        self.index.in_flight = None;
        self.index.queue.clear();
        self.index.state = State::Down {
            since: self.now,
            good: 0,
            next_probe: self.now,
            probe: None,
        };
        for ticket in self.tickets.values_mut() {
            ticket.look = Look::None;
        }
        for ticket in self.waiting_tickets() {
            self.search_here(ticket);
        }
    }

    /// Looks for a partner in the index, or here while it is down.
    pub(super) fn look(&mut self, id: TicketId) {
        if !self.index.is_up() {
            return self.search_here(id);
        }
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        match &mut ticket.look {
            Look::None => {
                ticket.look = Look::Queued;
                self.index.push(OperationKind::Seek, id, self.now);
            }
            Look::Queued => {}
            Look::Asked { again } => *again = true,
        }
    }

    /// Takes a ticket that no longer waits out of the index, if it may stand there. `taken`: a seek has just taken it out.
    pub(super) fn withdraw(&mut self, id: TicketId, ticket: &Ticket, taken: bool) {
        if ticket.was_asked {
            if self.index.gone.len() == MAX_GONE {
                self.index.gone.pop_first();
            }
            self.index.gone.insert(id, self.now);
        }
        if ticket.posts > u32::from(taken) {
            self.index.push(OperationKind::Withdraw, id, self.now);
        }
    }

    fn check(&mut self) {
        let now = self.now;
        self.index.gone.retain(|_, at| now < *at + REMEMBER_GONE);
        if !self.holds(Rule::CheckPosted) {
            return;
        }
        let tickets = self.tickets.iter_mut();
        let due = tickets.filter(|(_, ticket)| ticket.is_checked() && now >= ticket.check_at);
        for (id, ticket) in due {
            ticket.check_at = now + CHECK_EACH;
            self.index.push(OperationKind::Check, *id, now);
        }
    }

    /// Somebody has died, or what the dead had posted may be there again.
    pub(super) fn begin_sweep(&mut self) {
        self.index.sweep.passes = SWEEPS;
        self.index.sweep.from = FIRST_TICKET;
    }

    fn sweep(&mut self) {
        let sweep = &mut self.index.sweep;
        if sweep.passes > 0 && self.now >= sweep.next && self.membership.is_smallest() {
            sweep.next = self.now + SWEEP_EACH;
            let from = sweep.from;
            self.index.push(OperationKind::Sweep, from, self.now);
        }
    }

    fn swept(&mut self, next: Option<TicketId>) {
        let sweep = &mut self.index.sweep;
        sweep.from = next.unwrap_or(FIRST_TICKET);
        if next.is_none() {
            sweep.passes = sweep.passes.saturating_sub(1);
        }
    }

    fn flush(&mut self) {
        let is_due = self.now >= self.index.flush_at || self.index.queue.len() >= CALL_OPERATIONS;
        if self.index.in_flight.is_some() || self.index.queue.is_empty() || !is_due {
            return;
        }
        let mut operations = Vec::new();
        while operations.len() < CALL_OPERATIONS
            && let Some((kind, id)) = self.index.queue.pop_front()
        {
            operations.extend(self.operation(kind, id));
        }
        if operations.is_empty() {
            return;
        }
        let number = self.index.number();
        self.index.in_flight = Some(InFlight {
            number,
            sent: self.now,
            operations: operations.iter().map(|o| (o.kind, o.ticket)).collect(),
        });
        let beats = self.membership.beats();
        let beat = self.holds(Rule::CallDeadline).then_some(beats);
        self.actions.push(Action::Call(Call {
            number,
            me: self.membership.me(),
            dead: self.membership.dead(),
            suspects: self.membership.suspects(),
            beat,
            operations,
        }));
    }

    /// What is asked, as things are now; nothing if there is no need any more.
    fn operation(&mut self, kind: OperationKind, id: TicketId) -> Option<Operation> {
        let withdraw = Operation {
            kind,
            ticket: id,
            waited: Duration::ZERO,
            seeker: None,
        };
        if matches!(kind, OperationKind::Withdraw | OperationKind::Sweep) {
            return Some(withdraw);
        }
        let now = self.now;
        let ticket = self.tickets.get_mut(&id)?;
        let is_waiting = ticket.fate == Fate::Waiting;
        if kind == OperationKind::Check {
            let is_asked = is_waiting && ticket.look == Look::None;
            return is_asked.then_some(withdraw);
        }
        ticket.look = Look::None;
        if !is_waiting {
            return None;
        }
        ticket.look = Look::Asked { again: false };
        ticket.posts += 1;
        ticket.was_asked = true;
        ticket.posted_at = now;
        ticket.check_at = now + CHECK_EACH;
        Some(Operation {
            kind,
            ticket: id,
            waited: now.saturating_sub(ticket.since),
            seeker: Some(ticket.seeker.clone()),
        })
    }

    /// The answers to a call, in order; none: it was not carried out.
    pub(in super::super) fn call_answered(
        &mut self,
        number: u64,
        answers: Option<Vec<Answer>>,
        now: Now,
    ) {
        self.now = now;
        if self
            .index
            .in_flight
            .as_ref()
            .is_none_or(|call| call.number != number)
        {
            return;
        }
        let Some(call) = self.index.in_flight.take() else {
            return;
        };
        let Some(answers) = answers else {
            return self.index_down();
        };
        self.index.flush_at = now;
        for ((kind, id), answer) in call.operations.into_iter().zip(answers) {
            match (kind, answer) {
                (OperationKind::Check, Answer::Known(false)) => self.missing(id),
                (_, Answer::Known(_)) => {}
                (_, Answer::Swept(next)) => self.swept(next),
                (_, Answer::Posted) => self.posted(id),
                (_, Answer::Found { ticket, node }) => self.found(id, ticket, node),
            }
        }
    }

    /// A check did not find it.
    fn missing(&mut self, id: TicketId) {
        let ticket = self.tickets.get(&id);
        if ticket.is_some_and(|ticket| ticket.is_checked()) {
            self.counts.put_back += 1;
            self.look(id);
        }
    }

    fn posted(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        let look = std::mem::replace(&mut ticket.look, Look::None);
        if look == (Look::Asked { again: true }) {
            self.look(id);
        }
    }

    fn found(&mut self, id: TicketId, partner: TicketId, node: NodeId) {
        if let Some(ticket) = self.tickets.get_mut(&id)
            && ticket.fate == Fate::Waiting
        {
            ticket.look = Look::None;
            ticket.posts = 0;
        }
        let room = self.new_room();
        self.claims(|claims, host| claims.found(host, id, (partner, node), room));
    }
}

impl Ticket {
    /// Whether it is expected in the index.
    fn is_checked(&self) -> bool {
        self.fate == Fate::Waiting && self.look == Look::None && self.posts > 0
    }
}
