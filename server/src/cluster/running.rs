//! The thread of the cluster: it joins the others, and does what is to be done as they come, die and forget.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};
use voicematch_cluster::{
    Bus, Changes, Engine, Inbox, Index, Members,
    nodes::{Change, Info},
};
use voicematch_core::{room::ticket::RoomKeys, session::Context};

use super::{
    Joined, Node, foreign, homes,
    joined::{deliver, to_core, told},
    key, seats, strangers,
};
use crate::{admission::bans::Bans, room_key, transport::keeper, workers::every};

/// How often offers to other nodes are looked through for those that nobody has answered: they have a second.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long the engine may take for the last word of this node.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Between two attempts of a node that the engine refuses.
const AGAIN: Duration = Duration::from_secs(1);

/// Between two attempts of a node that was refused: the others may change.
const REFUSED: Duration = Duration::from_secs(10);

/// What is said of a part that has ended by itself.
const BROKEN: &str = "a fault of this program has cut this server off from the others; it drains and ends, and is to be started again";

/// The node and its thread.
pub struct Running {
    /// What the others see.
    pub node: Arc<Node>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    alone: watch::Receiver<Option<Alone>>,
}

/// Why this node is without the others for good.
#[derive(Clone)]
pub(super) enum Alone {
    /// It may not join them.
    Refused(String),
    /// A fault of this program has ended a part of it.
    Broken,
}

impl Running {
    /// Begins to join the others. `key_source`: where this node's own key of room tickets has come from.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        node: Arc<Node>,
        context: &Arc<Context>,
        bans: Arc<Bans>,
        key_source: room_key::Source,
    ) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (refuse, alone) = watch::channel(None);
        let part = Part {
            node: node.clone(),
            context: Arc::downgrade(context),
            bans,
            keys: context.room_keys.clone(),
            key_source,
            refuse,
        };
        let run = move || {
            let work = AssertUnwindSafe(|| runtime.block_on(part.work(stopped)));
            // A panic is in the log already.
            if !catch_unwind(work).unwrap_or(false) {
                part.break_off();
            }
            runtime.block_on(part.leave());
        };
        let thread = thread::Builder::new().name("cluster".into()).spawn(run)?;
        Ok(Self {
            node,
            stop,
            thread,
            alone,
        })
    }

    /// Ready when this process is to end: why. This node may not join the others and is nothing without them; or it is broken. Then
    /// the next process is well, and joins them: a node that went on would be alone for ever.
    pub async fn refused(&mut self) -> String {
        while self.alone.changed().await.is_ok() {
            match self.alone.borrow_and_update().clone() {
                Some(Alone::Refused(why)) if self.node.config.required => return why,
                Some(Alone::Broken) => return BROKEN.to_owned(),
                Some(Alone::Refused(_)) | None => {}
            }
        }
        pending().await
    }

    /// Tells the others that this node is no more.
    pub async fn leave(self) {
        let _ = self.stop.send(());
        // It takes as long as `LAST_WORD` at most.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// What the thread works with.
pub(super) struct Part {
    pub(super) node: Arc<Node>,
    pub(super) context: Weak<Context>,
    pub(super) bans: Arc<Bans>,
    keys: Arc<RoomKeys>,
    key_source: room_key::Source,
    refuse: watch::Sender<Option<Alone>>,
}

impl Part {
    /// Until it is stopped: true. False: a part has ended by itself.
    async fn work(&self, stopped: oneshot::Receiver<()>) -> bool {
        tokio::select! {
            () = self.run() => false,
            () = homes::answer(&self.node, &self.context) => false,
            // A dropped sender means stop too.
            _ = stopped => true,
        }
    }

    /// This node hears the others no more: its users are matched here, and its rooms with them end, until the process has drained.
    fn break_off(&self) {
        tracing::error!("--cluster: {BROKEN}");
        if let Some(engine) = self.node.engine.get() {
            engine.end();
        }
        self.refuse.send_replace(Some(Alone::Broken));
        if let Some(context) = self.context.upgrade() {
            let now = Instant::now();
            context.matchmaker.index_down(now);
            context.matchmaker.bus_lost(now);
            context.named_rooms.bus_lost(now);
        }
    }

    async fn leave(&self) {
        if let Some(joined) = self.node.joined.get() {
            // Else the others see it in a few seconds.
            let _ = timeout(LAST_WORD, joined.members.leave()).await;
        }
    }

    async fn run(&self) {
        let (config, first) = (&self.node.config, self.node.first);
        let (engine, inbox) =
            Engine::start(config.settings.clone(), first, self.node.metrics.clone());
        let _ = self.node.engine.set(engine.clone());
        tokio::select! {
            () = self.join(&engine, inbox) => {}
            () = foreign::refuse(&engine, &self.node, &self.refuse) => {}
            () = engine.ended() => {}
        }
    }

    /// Does not return.
    async fn join(&self, engine: &Engine, inbox: Inbox) {
        let (config, first) = (&self.node.config, self.node.first);
        self.agree(engine).await;
        let info = Info::new(key::short_id(self.keys.signing()));
        let (members, changes) = Members::start(engine, first, info);
        // From the first beat on the engine's time is known, by which nodes judge what is too late.
        let mut beats = members.beats();
        if beats.changed().await.is_err() {
            return;
        }
        if config.required {
            self.refuse_beside_strangers(&members).await;
        }
        let index = Index::start(engine, &members, config.gather, told(&self.context));
        let bus = Bus::start(
            engine,
            &members,
            inbox,
            config.flush,
            deliver(&self.context, &self.node),
        );
        let seats = seats::Keeper::new(self.context.clone());
        let joined = Joined {
            seats,
            engine: engine.clone(),
            members,
            index,
            bus,
        };
        // It is set here and nowhere else.
        let _ = self.node.joined.set(joined);
        tracing::info!(node = %first, engine = %config.settings, "joined the other nodes");
        self.node.names.renew_all();
        if let Some(context) = self.context.upgrade() {
            context.matchmaker.index_joined(Instant::now());
        }
        let forgotten = Notify::new();
        tokio::join!(
            self.follow(changes, &forgotten),
            async {
                loop {
                    forgotten.notified().await;
                    self.agree(engine).await;
                }
            },
            self.watch(engine),
            self.keep_bans(engine),
            self.keep_blocks(engine),
            every(TICK, || {
                if let Some(context) = self.context.upgrade() {
                    let now = Instant::now();
                    context.matchmaker.tick(now);
                    context
                        .named_rooms
                        .tick(context.config.get().resume.window, now);
                    context.tick_takes(now);
                    context.takes.unkept().into_iter().for_each(keeper::keep);
                }
            })
        );
    }

    /// Ends the process if there are others under the prefix with which nothing can be done together.
    async fn refuse_beside_strangers(&self, members: &Members) {
        if let Some(why) = strangers::find(members).await {
            tracing::error!("--cluster: this node cannot join the others: {why}");
            self.node.refuse(Some(why.clone()));
            let _ = timeout(LAST_WORD, members.leave()).await;
            // The process ends.
            self.refuse.send_replace(Some(Alone::Refused(why)));
            pending::<()>().await;
        }
    }

    /// Does not return before the nodes have one key.
    async fn agree(&self, engine: &Engine) {
        loop {
            // Not whether it can be used: a refusal makes that false, and nothing but this would find out that it is over.
            if !engine.is_connected() {
                sleep(TICK).await;
                continue;
            }
            match key::agree(engine, &self.keys, self.key_source).await {
                Ok(()) => {
                    self.node.refuse(None);
                    return;
                }
                // The engine has gone again; the supervisor says so.
                Err(key::Disagreement::Engine) => sleep(TICK).await,
                Err(key::Disagreement::Refused(why)) => {
                    engine.cannot_register(why);
                    sleep(AGAIN).await;
                }
                Err(key::Disagreement::Other(why)) => {
                    tracing::error!("--cluster: this node cannot join the others: {why}");
                    self.node.refuse(Some(why.clone()));
                    self.refuse.send_replace(Some(Alone::Refused(why)));
                    sleep(REFUSED).await;
                }
            }
        }
    }

    /// `forgotten` is told when the engine has lost its data, and the key with them.
    async fn follow(&self, mut changes: Changes, forgotten: &Notify) {
        while let Some(change) = changes.next().await {
            let Some(context) = self.context.upgrade() else {
                return;
            };
            let now = Instant::now();
            match change {
                Change::Died(node) => {
                    self.node.forwards.died(node);
                    context.matchmaker.node_died(to_core(node), now);
                    context.named_rooms.node_died(to_core(node), now);
                }
                Change::NewLife(_) => {
                    self.node.forwards.begin_life();
                    context.matchmaker.begin_life(now);
                    self.node.names.begin_life();
                    context.named_rooms.begin_life(now);
                }
                Change::Generation => {
                    self.node.names.renew_all();
                    self.node.bans.say_again();
                    self.node.blocks.say_again();
                    forgotten.notify_one();
                }
                Change::Clock => {
                    tracing::warn!("the clock of the cluster's engine was set");
                    self.node.names.renew_all();
                    self.node.bans.say_again();
                    self.node.blocks.say_again();
                }
                Change::Joined(_) | Change::Told(_) => {}
            }
        }
    }

    /// Matches users here while the index is away, and ends rooms with other nodes that have not been reached for too long.
    async fn watch(&self, engine: &Engine) {
        let mut state = engine.state();
        let (mut had_index, mut deaf_since) = (true, None);
        loop {
            let now = *state.borrow_and_update();
            if let (true, false, Some(context)) = (had_index, now.index, self.context.upgrade()) {
                tracing::warn!(
                    "the cluster's engine is away: users are matched with those of this node"
                );
                context.matchmaker.index_down(Instant::now());
            }
            if !had_index && now.index {
                tracing::info!("the cluster's engine is back");
                self.node.names.renew_all();
                self.node.blocks.say_again();
            }
            had_index = now.index;
            if deaf_since.is_some() && now.bus {
                // Of what was written meanwhile this node was not told.
                self.node.blocks.read();
            }
            deaf_since = match now.bus {
                true => None,
                false => deaf_since.or_else(|| Some(Instant::now())),
            };
            let over = async {
                match deaf_since {
                    Some(since) => {
                        sleep(self.node.config.hold.saturating_sub(since.elapsed())).await
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = over => {
                    tracing::warn!("no other node has been reached for {:?}: rooms with their users end", self.node.config.hold);
                    if let Some(context) = self.context.upgrade() {
                        context.matchmaker.bus_lost(Instant::now());
                        context.named_rooms.bus_lost(Instant::now());
                    }
                    // Once, until the bus has been back.
                    if state.wait_for(|state| state.bus).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
