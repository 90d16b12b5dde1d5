//! The task that beats, each 500 ms, whether the last beat has been answered or not: a slow engine hears of a node as often as a quick one, and
//! what it says of the others comes as often.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::{Shared, count_nodes};
use crate::engine::{Call, CallError, lock};
use crate::frames;
use crate::id::NodeId;
use crate::nodes::{BEAT, Change, Outcome, Verdict};
use crate::scripts::BeatReply;

/// Between two lines in the log about an answer that is none of ours.
const LOG: Duration = Duration::from_secs(30);

/// Between two beats because of news: who floods this node with them does not flood the engine.
const NEWS: Duration = Duration::from_millis(50);

/// Beats without an answer yet: an answer has 2 s. With more an engine that is stopped would be flooded by news.
const BEATS: usize = 8;

/// Verdicts and marks that are written at once. What is more comes with the next beat again.
const WRITTEN: usize = 64;

type Asked<'a, T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send + 'a>>>;

/// The answer to a beat of a life.
struct Answered {
    me: NodeId,
    sent: Instant,
    reply: Call<BeatReply>,
}

/// What has been written of a node. `died`: that it is dead.
struct Written {
    node: NodeId,
    died: bool,
}

/// What is done with the answers.
struct Follower<'a> {
    shared: &'a Shared,
    tell: mpsc::Sender<Change>,
    writing: Asked<'a, Written>,
    /// Of whom.
    of: HashSet<NodeId>,
    said: Option<Instant>,
}

pub(super) async fn beat(shared: Arc<Shared>, tell: mpsc::Sender<Change>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = shared.engine.state();
    let mut beaten: Option<Instant> = None;
    let mut beats = Asked::new();
    let mut follower = Follower {
        shared: &shared,
        tell,
        writing: Asked::new(),
        of: HashSet::new(),
        said: None,
    };
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.now.notified() => {
                let wait = beaten.and_then(|beaten| NEWS.checked_sub(beaten.elapsed()));
                sleep(wait.unwrap_or_default()).await;
            }
            // As soon as there is a connection: everything waits for this.
            Ok(()) = state.changed() => {}
            Some(answered) = beats.next() => {
                follower.answered(answered);
                continue;
            }
            Some(written) = follower.writing.next() => {
                follower.written(&written);
                continue;
            }
        }
        if beats.len() < BEATS {
            beaten = Some(Instant::now());
            beats.push(Box::pin(ask(&shared)));
        }
    }
}

/// Sends the next beat.
fn ask(shared: &Shared) -> impl Future<Output = Answered> + Send + '_ {
    let (me, number) = {
        let mut nodes = lock(&shared.nodes);
        (nodes.me(), nodes.next_beat())
    };
    let info = lock(&shared.info).to_string();
    let sent = Instant::now();
    async move {
        let reply = shared.engine.beat(me, number, &info, rand::random()).await;
        Answered { me, sent, reply }
    }
}

impl<'a> Follower<'a> {
    fn answered(&mut self, Answered { me, sent, reply }: Answered) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error @ CallError::Strange) => {
                // Something else stands there: the prefix is another program's.
                if self.said.is_none_or(|said| said.elapsed() >= LOG) {
                    self.said = Some(Instant::now());
                    warn!("this node cannot register: {error}");
                }
                return;
            }
            // The engine's connection says so.
            Err(_) => return,
        };
        let outcome = {
            let mut nodes = lock(&self.shared.nodes);
            // That life is over already.
            if nodes.me() != me {
                return;
            }
            nodes.answered(sent, Instant::now(), reply)
        };
        self.follow(outcome);
        self.shared.beats.send_modify(|count| *count += 1);
    }

    /// Does what an answer asks for.
    fn follow(&mut self, outcome: Outcome) {
        let new_life = |change: &Change| match change {
            Change::NewLife(node) => Some(*node),
            _ => None,
        };
        if let Some(node) = outcome.changes.iter().find_map(new_life) {
            let lives = &self.shared.engine.metrics().lives;
            lives.with_label_values(&["fenced"]).inc();
            warn!("this node was declared dead, and begins a new life as {node}");
            self.shared.engine.begin_life(node);
        }
        let shared = self.shared;
        for verdict in outcome.bury {
            self.write(verdict.node, async move {
                let died = bury(shared, &verdict).await.unwrap_or(false);
                let node = verdict.node;
                Written { node, died }
            });
        }
        for node in outcome.forget {
            self.write(node, async move {
                // The next beat tries again.
                let _ = shared.engine.forget(node).await;
                Written { node, died: false }
            });
        }
        self.tell(outcome.changes);
    }

    fn write(&mut self, node: NodeId, writing: impl Future<Output = Written> + Send + 'a) {
        if self.of.len() < WRITTEN && self.of.insert(node) {
            self.writing.push(Box::pin(writing));
        }
    }

    fn written(&mut self, written: &Written) {
        self.of.remove(&written.node);
        if written.died {
            let outcome = lock(&self.shared.nodes).buried(written.node);
            self.tell(outcome.changes);
        }
    }

    fn tell(&self, changes: Vec<Change>) {
        let shared = self.shared;
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            match change {
                Change::Died(node) => {
                    lock(&shared.suspects).remove(node);
                    shared.deaths.send_modify(|count| *count += 1);
                }
                Change::Generation | Change::Clock | Change::NewLife(_) => {
                    shared.look_again(shared.began);
                }
                Change::Joined(node) | Change::Told(node) => shared.look_at_version(*node),
            }
        }
        count_nodes(shared);
        for change in changes {
            info!("nodes: {change:?}");
            if self.tell.try_send(change).is_err() {
                let dropped = &shared.engine.metrics().dropped;
                dropped.with_label_values(&["changes"]).inc();
            }
        }
    }
}

/// Writes the mark, and tells the others, who beat at once then.
pub(super) async fn bury(shared: &Shared, verdict: &Verdict) -> Call<bool> {
    let buried = shared
        .engine
        .bury(
            verdict.node,
            &verdict.value,
            &verdict.generation,
            &verdict.mark,
        )
        .await?;
    if buried {
        let me = lock(&shared.nodes).me();
        let news: Arc<[u8]> = frames::encode_news(me, verdict.node).into();
        let control = shared.engine.scripts().control.clone();
        // Lost: they see it with their next beat.
        let _ = shared.engine.publish(&[(control, news)]).await;
    }
    Ok(buried)
}
