//! The sending task: one write for all links, paced.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Link, Shared};
use crate::engine::{Engine, Publication, lock};

/// Between two keep-alives of a link.
const KEEP_ALIVE: Duration = Duration::from_millis(250);

/// Writes whose answers are outstanding. With more the links wait, which their bounds allow for.
const OUTSTANDING: usize = 64;

/// Between two looks at the engine's role because nobody took a packet.
const ROLE: Duration = Duration::from_secs(1);

/// Whether anybody took a packet, by channel.
type Takers = Vec<(Vec<u8>, bool)>;

pub(super) async fn send(shared: Arc<Shared>) {
    let mut ticks = interval(KEEP_ALIVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = shared.engine.state();
    let mut answers: JoinSet<Option<Takers>> = JoinSet::new();
    let (mut looked, mut written) = (None, None::<Instant>);
    loop {
        let mut packets = Vec::new();
        tokio::select! {
            () = shared.outbox.wake.notified() => {}
            _ = ticks.tick() => packets = keep_alives(&shared),
            Some(answer) = answers.join_next() => {
                if let Ok(Some(takers)) = answer {
                    heed(&shared, &takers, &mut looked);
                }
                continue;
            }
        }
        if !state.borrow_and_update().bus {
            // Links hold what they have, and their rings' time stands still. Afterwards the others may come back later.
            let down = Instant::now();
            if state.wait_for(|state| state.bus).await.is_err() {
                return;
            }
            shared
                .all()
                .iter()
                .for_each(|link| link.held(down.elapsed()));
            packets = keep_alives(&shared);
        }
        pace(&shared, written).await;
        take(&shared, &mut packets);
        if packets.is_empty() {
            continue;
        }
        written = Some(Instant::now());
        write(&shared.engine, packets, &mut answers).await;
        while answers.len() >= OUTSTANDING {
            answers.join_next().await;
        }
    }
}

fn keep_alives(shared: &Shared) -> Vec<Publication> {
    let now = Instant::now();
    let suspects = shared.members.suspects();
    for node in &suspects {
        // Without one there is no place for it: it stays suspected.
        let _ = shared.link(*node);
    }
    let one = |link: Arc<Link>| {
        link.age(now);
        if link.has_rooms() {
            shared.members.meet(link.node());
        }
        link.keep_alive(now, suspects.contains(&link.node()))
    };
    shared.all().into_iter().filter_map(one).collect()
}

/// Whom it reached, and whom not: those links hold what they have until a keep-alive is taken.
fn heed(shared: &Shared, takers: &[(Vec<u8>, bool)], looked: &mut Option<Instant>) {
    for (channel, taken) in takers {
        for link in shared.all().iter().filter(|link| link.channel() == channel) {
            link.taken(*taken);
        }
    }
    if takers.iter().any(|(_, taken)| !taken) {
        look_at_role(&shared.engine, looked);
    }
}

/// At once after a pause, else when it is time, or when a batch is full.
async fn pace(shared: &Shared, written: Option<Instant>) {
    let wait = written.and_then(|written| shared.flush.checked_sub(written.elapsed()));
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        tokio::select! {
            () = sleep(wait) => {}
            () = shared.outbox.full.notified() => {}
        }
    }
}

/// New batches after what is wanted once more; keep-alives, which name the newest, come last.
fn take(shared: &Shared, packets: &mut Vec<Publication>) {
    let keep_alives = std::mem::take(packets);
    *packets = std::mem::take(&mut *lock(&shared.outbox.packets));
    let ready = std::mem::take(&mut *lock(&shared.outbox.ready));
    let (now, time) = (Instant::now(), shared.members.engine_time());
    for link in ready {
        link.take(now, time, packets);
    }
    packets.extend(keep_alives);
}

/// Writes now, so that the order is that of the writes, and waits for the answer beside: by channel, whether anybody took it.
async fn write(engine: &Engine, packets: Vec<Publication>, answers: &mut JoinSet<Option<Takers>>) {
    let engine = engine.clone();
    let mut writing = Box::pin(async move {
        let takers = engine.publish(&packets).await.ok()?;
        let taken = |((channel, _), takers): ((Vec<u8>, _), u64)| (channel, takers > 0);
        Some(
            packets
                .into_iter()
                .zip(takers)
                .map(taken)
                .collect::<Takers>(),
        )
    });
    let first = poll_fn(|context| Poll::Ready(pin!(&mut writing).poll(context))).await;
    if first.is_pending() {
        answers.spawn(writing);
    }
}

/// Nobody took a packet: its node has gone, or the engine is no primary any more and does not say so.
fn look_at_role(engine: &Engine, looked: &mut Option<Instant>) {
    if looked.is_some_and(|looked| looked.elapsed() < ROLE) {
        return;
    }
    *looked = Some(Instant::now());
    let engine = engine.clone();
    tokio::spawn(async move { engine.look_at_role().await });
}
