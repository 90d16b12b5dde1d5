//! Who waits, in one order for all nodes. It may forget, and never decides.
//!
//! - What is asked within 2 ms goes to the engine in one call of at most 64 operations, and one call is under way at a
//!   time, so that the order of a node's own operations is that in which they were asked.
//! - A call carries the number of the node's last beat: the engine does nothing if it has seen two later ones. So the
//!   index is up only after a beat that was sent since it went down: what was asked before is too old by then.
//! - Who waits is checked each 5 s, and posted again if missing. When the index is up again everybody is posted, and what has
//!   left it during the last 10 s is withdrawn again: the engine may have gone back to an older state.

mod keeper;
mod standing;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::engine::{CallError, Engine, lock};
use crate::id::TicketId;
use crate::members::Members;
use crate::scripts::{Answer, Found, OPERATIONS, Op, Wish};
use standing::Standing;

/// Operations that wait for a call. Beyond it a search is answered with `Unknown`, as if the engine were away.
const QUEUE: usize = 262_144;

/// After a call that failed though the engine answers.
const PAUSE: Duration = Duration::from_millis(250);

/// What became of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// This one was found, and waits no more: its node decides.
    Found(Found),
    /// Nobody fits: it waits.
    Posted,
    /// The engine did not answer. It may be posted; it is posted anew when the engine is back.
    Unknown,
}

/// Is told what became of each search, from the index's task, and must not block. Searches that the index makes by
/// itself, to put right what was lost, are told too: a partner may be found for who was only posted again.
pub type Told = Box<dyn Fn(TicketId, Sought) + Send + Sync>;

/// Who waits. Clones are the same.
#[derive(Clone, Debug)]
pub struct Index {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

struct Shared {
    engine: Engine,
    members: Members,
    gather: Duration,
    told: Told,
    queue: Mutex<VecDeque<Asked>>,
    standing: Mutex<Standing>,
    wake: Notify,
    /// What the dead have left may be there again.
    sweep: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Index")
    }
}

/// An operation that waits for a call.
#[derive(Debug)]
enum Asked {
    Seek(TicketId),
    Withdraw(TicketId),
    Check(TicketId),
    Sweep(u64),
}

impl Index {
    /// Begins to ask. `gather` is how long the first operation waits for others: 2 ms save two of three calls and keep
    /// the order; 0 asks at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(engine: &Engine, members: &Members, gather: Duration, told: Told) -> Self {
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            members: members.clone(),
            gather,
            told,
            queue: Mutex::default(),
            standing: Mutex::default(),
            wake: Notify::new(),
            sweep: Notify::new(),
        });
        let tasks = vec![
            engine.spawn("ask", ask(Arc::clone(&shared))),
            engine.spawn("keep", keeper::keep(Arc::clone(&shared))),
            engine.spawn("sweep", keeper::sweep(Arc::clone(&shared))),
        ];
        Self {
            shared,
            _tasks: Arc::new(Tasks(tasks)),
        }
    }

    /// Looks for a partner, or waits. `waited` is how long the user has waited already. It may stand there already, with
    /// other pools, whatever the last argument says. The answer is told; from then on until `withdraw`, or until somebody is found for
    /// it, the index sees to it that the ticket stays posted. Who was told of as found by another node is to be withdrawn, too.
    pub fn seek(&self, wish: Wish, waited: Duration, _again: bool) {
        let ticket = wish.ticket;
        let since = Instant::now()
            .checked_sub(waited)
            .unwrap_or_else(Instant::now);
        let size = {
            let mut standing = lock(&self.shared.standing);
            standing.insert(wish, since);
            standing.len()
        };
        self.shared.count(size);
        if !self.shared.look(ticket) {
            (self.shared.told)(ticket, Sought::Unknown);
        }
    }

    /// Waits no more.
    pub fn withdraw(&self, ticket: TicketId) {
        let told;
        let size = {
            let mut standing = lock(&self.shared.standing);
            told = standing.withdraw(ticket, Instant::now());
            standing.len()
        };
        self.shared.count(size);
        if told {
            // Full: a node that finds it in the index is told that it is gone.
            self.shared.push(Asked::Withdraw(ticket));
        }
    }

    /// Whether searches are answered; else the local pools are to be searched.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// Tickets that are to be posted.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.shared.standing).len()
    }
}

impl Shared {
    fn is_up(&self) -> bool {
        self.engine.state().borrow().index && self.members.beaten_since(self.engine.turns().down)
    }

    /// Waits until searches are answered.
    async fn up(&self) {
        let (mut state, mut beats) = (self.engine.state(), self.members.beats());
        while !self.is_up() {
            tokio::select! {
                Ok(()) = state.changed() => {}
                Ok(()) = beats.changed() => {}
            }
        }
    }

    fn count(&self, size: usize) {
        self.engine
            .metrics()
            .waiting
            .set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    fn push(&self, asked: Asked) -> bool {
        {
            let mut queue = lock(&self.queue);
            if queue.len() >= QUEUE {
                return false;
            }
            queue.push_back(asked);
        }
        self.wake.notify_one();
        true
    }

    /// One look of a ticket at a time. False: the queue is full.
    fn look(&self, ticket: TicketId) -> bool {
        if !lock(&self.standing).look(ticket) {
            return true;
        }
        let queued = self.push(Asked::Seek(ticket));
        if !queued {
            lock(&self.standing).dropped(ticket);
        }
        queued
    }

    /// Posts a ticket again, because of this.
    fn put_back(&self, ticket: TicketId, reason: &str) {
        self.engine
            .metrics()
            .put_back
            .with_label_values(&[reason])
            .inc();
        // Full: it is due again later.
        self.look(ticket);
    }

    /// Up to 64 operations that are still wanted.
    fn next_call(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut queue = lock(&self.queue);
        let mut standing = lock(&self.standing);
        while ops.len() < OPERATIONS {
            let Some(asked) = queue.pop_front() else {
                break;
            };
            ops.extend(match asked {
                // Withdrawn meanwhile: the withdrawal comes behind it.
                Asked::Seek(ticket) => standing.ask(ticket).map(|(wish, since)| Op::Seek {
                    wish,
                    waited: since.elapsed(),
                }),
                Asked::Check(ticket) => standing.rests(ticket).then_some(Op::Check(ticket)),
                Asked::Withdraw(ticket) => {
                    (standing.is_withdrawn(ticket)).then_some(Op::Withdraw(ticket))
                }
                Asked::Sweep(cursor) => Some(Op::Sweep {
                    cursor,
                    count: keeper::SWEEP,
                }),
            });
        }
        ops
    }
}

/// Gathers, asks, tells.
async fn ask(shared: Arc<Shared>) {
    loop {
        shared.wake.notified().await;
        while !lock(&shared.queue).is_empty() {
            // Withdrawals wait for the engine; searches are told at once that it is away.
            if !shared.is_up() {
                shed(&shared);
                shared.up().await;
                continue;
            }
            if !shared.gather.is_zero() && lock(&shared.queue).len() < OPERATIONS {
                sleep(shared.gather).await;
            }
            let ops = shared.next_call();
            if !ops.is_empty() {
                call(&shared, &ops).await;
            }
        }
    }
}

/// Takes out what makes no sense without the engine.
fn shed(shared: &Shared) {
    let mut unknown = Vec::new();
    lock(&shared.queue).retain(|asked| match asked {
        Asked::Seek(ticket) => {
            unknown.push(*ticket);
            false
        }
        Asked::Withdraw(_) => true,
        Asked::Check(_) | Asked::Sweep(_) => false,
    });
    for ticket in unknown {
        lock(&shared.standing).dropped(ticket);
        (shared.told)(ticket, Sought::Unknown);
    }
}

async fn call(shared: &Shared, ops: &[Op]) {
    let members = &shared.members;
    let (me, beat) = members.me_and_beat();
    let (dead, suspects) = (members.dead(), members.passed_over());
    let answers = shared.engine.seek(me, beat, &dead, &suspects, ops).await;
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => return unanswered(shared, ops, &error).await,
    };
    for (op, answer) in ops.iter().zip(answers) {
        match (op, answer) {
            (Op::Seek { wish, .. }, Answer::Found(found)) => {
                let size = {
                    let mut standing = lock(&shared.standing);
                    standing.found(wish.ticket, Instant::now());
                    standing.len()
                };
                shared.count(size);
                members.meet(found.node);
                (shared.told)(wish.ticket, Sought::Found(found));
            }
            (Op::Seek { wish, .. }, Answer::Posted) => {
                let again = lock(&shared.standing).posted(wish.ticket, Instant::now());
                (shared.told)(wish.ticket, Sought::Posted);
                if again {
                    shared.look(wish.ticket);
                }
            }
            (Op::Check(ticket), Answer::Checked(false)) => shared.put_back(*ticket, "missing"),
            (Op::Sweep { .. }, Answer::Swept(cursor)) => lock(&shared.standing).swept(cursor),
            _ => {}
        }
    }
}

/// Whether it was done is not known, or it was not.
async fn unanswered(shared: &Shared, ops: &[Op], error: &CallError) {
    for op in ops {
        match op {
            Op::Seek { wish, .. } => {
                lock(&shared.standing).unanswered(wish.ticket);
                (shared.told)(wish.ticket, Sought::Unknown);
            }
            Op::Withdraw(ticket) => {
                shared.push(Asked::Withdraw(*ticket));
            }
            // Asked again with the next round.
            Op::Check(_) | Op::Sweep { .. } => {}
        }
    }
    let mut beats = shared.members.beats();
    match error {
        // The next beat has a new number, or says that a new life begins.
        CallError::Stale => {
            shared.members.beat_now();
            let _ = timeout(PAUSE, beats.changed()).await;
        }
        // It would be refused again at once.
        CallError::Refused(_) | CallError::Strange => sleep(PAUSE).await,
        // The index is down.
        CallError::Down | CallError::Silent | CallError::Broken(_) => {}
    }
}
