//! Which node is home of a named room, asked of the engine, and what is this node's is kept registered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::Notify, time::timeout};
use voicematch_cluster::NodeId;
use voicematch_core::{cluster as core, session::Context};
use voicematch_protocol::RoomId;

use super::{Joined, Node, joined::to_core};

/// For how long a name stays registered, and how often that is renewed: two renewals may be lost.
const LIVES: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(20);

/// How soon a name is registered again if the engine has not answered.
const AGAIN: Duration = Duration::from_secs(1);

/// Questions that are on their way together.
const TOGETHER: usize = 64;

/// Former lives of this node whose names it takes over: the others take it for dead no more often than that in a minute.
const FORMER: usize = 16;

/// What the rooms want to know, in order, and the names that are this node's.
#[derive(Default)]
pub(super) struct Names {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    asked: VecDeque<Ask>,
    /// With the time at which they are registered again.
    kept: BTreeMap<Box<str>, (RoomId, Instant)>,
    /// Nothing is to be registered again before; absent: nothing at all.
    due: Option<Instant>,
    me: Option<NodeId>,
    former: VecDeque<NodeId>,
}

struct Ask {
    name: Box<str>,
    /// `None`: the name is given up.
    room: Option<RoomId>,
    /// It is this node's, and is registered again.
    renews: bool,
}

impl State {
    fn keep(&mut self, name: &str, room: RoomId, due: Instant) {
        self.kept.insert(name.into(), (room, due));
        self.due = Some(self.due.map_or(due, |first| first.min(due)));
    }

    /// Asks for the names whose time has come.
    fn ask_due(&mut self, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut left = TOGETHER;
        for (name, (room, due)) in &mut self.kept {
            if *due > now || left == 0 {
                continue;
            }
            left -= 1;
            *due = now + RENEW;
            self.asked.push_back(Ask {
                name: name.clone(),
                room: Some(*room),
                renews: true,
            });
        }
        self.due = self.kept.values().map(|(_, due)| *due).min();
    }
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine has lost what was registered, or has been away.
    pub(super) fn renew_all(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        for (_, due) in state.kept.values_mut() {
            *due = now;
        }
        state.due = Some(now);
        drop(state);
        self.changed.notify_one();
    }

    /// What was the former life's is not this one's before it is asked for.
    pub(super) fn begin_life(&self) {
        self.lock().kept.clear();
    }

    /// The next questions, at most one of a name: the second is asked when the first is answered.
    fn take(&self) -> Vec<Ask> {
        let mut state = self.lock();
        state.ask_due(Instant::now());
        let mut taken: Vec<Ask> = Vec::new();
        while taken.len() < TOGETHER
            && let Some(ask) = state.asked.pop_front()
        {
            if taken.iter().any(|other| other.name == ask.name) {
                state.asked.push_front(ask);
                break;
            }
            taken.push(ask);
        }
        taken
    }

    /// How long nothing is to be registered again.
    fn until_due(&self) -> Duration {
        let due = self.lock().due;
        due.map_or(RENEW, |due| due.saturating_duration_since(Instant::now()))
    }

    /// What has become of a question.
    fn answered(&self, ask: &Ask, me: NodeId, answer: Option<(NodeId, RoomId)>) {
        let mut state = self.lock();
        let is_kept = state.kept.contains_key(&ask.name);
        match (answer, ask.room) {
            // It may have been given up meanwhile: that is the next question then.
            (Some((home, id)), _) if home == me && (is_kept || !ask.renews) => {
                state.keep(&ask.name, id, Instant::now() + RENEW);
            }
            (Some((home, _)), _) if home != me => {
                state.kept.remove(&ask.name);
            }
            (None, Some(room)) if is_kept => state.keep(&ask.name, room, Instant::now() + AGAIN),
            _ => {}
        }
    }

    /// The lives of this node that are over.
    fn former(&self, me: NodeId) -> Vec<NodeId> {
        let mut state = self.lock();
        if let Some(before) = state.me.replace(me).filter(|before| *before != me) {
            state.former.push_back(before);
        }
        while state.former.len() > FORMER {
            state.former.pop_front();
        }
        state.former.iter().copied().collect()
    }
}

impl core::Homes for Node {
    fn find(&self, name: &str, room: RoomId) {
        self.names.lock().asked.push_back(Ask {
            name: name.into(),
            room: Some(room),
            renews: false,
        });
        self.names.changed.notify_one();
    }

    fn keep(&self, name: &str, room: RoomId) {
        self.names.lock().keep(name, room, Instant::now());
        self.names.changed.notify_one();
    }

    fn give_up(&self, name: &str) {
        let mut state = self.names.lock();
        state.kept.remove(name);
        state.asked.push_back(Ask {
            name: name.into(),
            room: None,
            renews: false,
        });
        drop(state);
        self.names.changed.notify_one();
    }

    fn is_up(&self) -> bool {
        (self.joined.get()).is_some_and(|joined| joined.engine.state().borrow().index)
    }
}

/// Puts the questions to the engine and tells the rooms the answers, for ever.
pub(super) async fn answer(node: &Arc<Node>, context: &Weak<Context>) {
    loop {
        let asks = node.names.take();
        if asks.is_empty() {
            // A time-out means that something is to be renewed.
            let _ = timeout(node.names.until_due(), node.names.changed.notified()).await;
            continue;
        }
        let Some(joined) = node.joined.get() else {
            for ask in asks.iter().filter(|ask| ask.room.is_some()) {
                tell(context, ask, None);
            }
            continue;
        };
        join_all(asks.iter().map(|ask| put(node, joined, context, ask))).await;
    }
}

async fn put(node: &Node, joined: &Joined, context: &Weak<Context>, ask: &Ask) {
    let (engine, me) = (&joined.engine, joined.members.me());
    let name = ask.name.as_bytes();
    let Some(room) = ask.room else {
        // It may have been registered since it was given up.
        node.names.lock().kept.remove(&ask.name);
        // Else it is free when it is not renewed.
        let _ = engine.give_up_room(name, me).await;
        return;
    };
    let former = node.names.former(me);
    let dead = [joined.members.dead(), former].concat();
    let fresh = room.0.to_be_bytes();
    // Who asks an engine that stands still waits in vain.
    let is_up = engine.state().borrow().index;
    let answer = match is_up {
        true => engine.room(name, me, fresh, &dead, LIVES).await.ok(),
        false => None,
    };
    let answer = answer.map(|(home, id)| (home, RoomId(u64::from_be_bytes(id))));
    node.names.answered(ask, me, answer);
    let is_news = answer.is_some_and(|(home, _)| home != me);
    if !ask.renews || is_news {
        tell(context, ask, answer);
    }
}

fn tell(context: &Weak<Context>, ask: &Ask, home: Option<(NodeId, RoomId)>) {
    if let Some(context) = context.upgrade() {
        let home = home.map(|(node, room)| (to_core(node), room));
        context.named_rooms.found(&ask.name, home, Instant::now());
    }
}
