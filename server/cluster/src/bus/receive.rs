//! The receiving task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::incoming::Gap;
use super::{Deliver, Delivery, Link, Shared};
use crate::engine::{Inbox, Message, lock};
use crate::frames::{self, Header, Packet, Wrong};

/// Between two looks at gaps and silence.
const LOOK: Duration = Duration::from_millis(50);

/// A message may wait until the engine is back, which rooms do for `--cluster-hold`.
const OLDEST: Duration = Duration::from_secs(600);

pub(super) async fn receive(shared: Arc<Shared>, mut inbox: Inbox, mut deliver: Deliver) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = shared.members.beats();
    let mut deaths = shared.members.deaths();
    loop {
        let message = tokio::select! {
            message = inbox.take() => match message {
                Some(message) => Some(message),
                None => return,
            },
            _ = ticks.tick() => None,
            Ok(()) = beats.changed() => {
                shared.bury();
                continue;
            }
        };
        // Cut off, or frozen while it waited for the message, this node may have been buried: what came waits until the engine has
        // answered. What comes meanwhile is in the inbox, which is bounded.
        while !shared.members.lease() {
            if beats.changed().await.is_err() {
                return;
            }
        }
        if beats.has_changed().unwrap_or(false) || deaths.has_changed().unwrap_or(false) {
            beats.mark_unchanged();
            deaths.mark_unchanged();
            shared.bury();
        }
        match message {
            Some(message) => take(&shared, message, &mut deliver),
            None => look(&shared, &mut deliver),
        }
    }
}

fn take(shared: &Shared, message: Message, deliver: &mut Deliver) {
    let packet = match frames::decode(&message.bytes) {
        Ok(packet) => packet,
        Err(Wrong::Version(version)) => {
            shared.members.heard_version(version);
            return shared.dropped("version");
        }
        Err(Wrong::Kind(_)) => return shared.engine.metrics().unknown_frames.inc(),
        Err(Wrong::Length | Wrong::Number) => return shared.dropped("garbage"),
    };
    match packet {
        // The truth is in the engine.
        Packet::News(..) => shared.members.beat_now(),
        Packet::Bans(_) => deliver(Delivery::Bans),
        Packet::Blocks(_) => deliver(Delivery::Blocks),
        Packet::Batch(header, _) => {
            let Some(link) = of(shared, header) else {
                return;
            };
            if !lock(&link.incoming).batch(Instant::now(), header.seq, message.bytes) {
                shared.dropped("twice");
            }
            pass(shared, &link, deliver);
        }
        Packet::KeepAlive {
            header,
            rooms,
            asks,
        } => {
            let Some(link) = of(shared, header) else {
                return;
            };
            if let Some(answer) = asks.then(|| link.answer()).flatten() {
                shared.packet(header.from, answer);
            }
            lock(&link.incoming).named(Instant::now(), header.seq);
            pass(shared, &link, deliver);
            deliver(Delivery::Rooms(header.from, rooms));
        }
        Packet::Again(header, last) => {
            if let Some(link) = of(shared, header) {
                link.again(header.seq, last);
            }
        }
    }
}

/// The link of a packet that counts.
fn of(shared: &Shared, header: Header) -> Option<Arc<Link>> {
    if header.to != shared.members.me() {
        shared.dropped("life");
        return None;
    }
    let link = match shared.link(header.from) {
        Ok(link) => link,
        Err(reason) => {
            shared.dropped(reason);
            return None;
        }
    };
    lock(&link.incoming).hear(Instant::now());
    link.confirm(header.seen);
    shared.members.trust(header.from);
    Some(link)
}

/// Delivers what can be, asks for what is missing.
fn pass(shared: &Shared, link: &Link, deliver: &mut Deliver) {
    let now = Instant::now();
    loop {
        let (bytes, gap, seen) = {
            let mut incoming = lock(&link.incoming);
            let (bytes, gap) = incoming.deliver(now);
            (bytes, gap, incoming.seen())
        };
        link.seen.store(seen, Ordering::Relaxed);
        let gaps = &shared.engine.metrics().gaps;
        match gap {
            Some(Gap::Repaired) => gaps.with_label_values(&["repaired"]).inc(),
            Some(Gap::Lost) => {
                gaps.with_label_values(&["lost"]).inc();
                deliver(Delivery::Gap(link.node()));
            }
            None if bytes.is_none() => break,
            None => {}
        }
        // Decoded when it came, too: then only its number was looked at.
        if let Some(Ok(Packet::Batch(_, frames))) = bytes.as_deref().map(frames::decode) {
            let (since, frames) = frames::split_stamp(frames);
            let age = since.and_then(|since| age(shared, since));
            if let Some(age) = age {
                let seconds = &shared.engine.metrics().message_seconds;
                seconds.observe(age.as_secs_f64());
            }
            let age = age.unwrap_or_default();
            frames.for_each(|frame| deliver(Delivery::Frame(link.node(), frame, age)));
        }
    }
    let missing = lock(&link.incoming).ask(now);
    if let Some((first, last)) = missing {
        shared.packet(link.node(), link.again_packet(first, last));
    }
}

/// How long something has been on its way that was taken at this time of the engine's clock. Both nodes know that clock by their
/// last beats, to some tenths of a millisecond where the engine is near. What is older than anything can be is of a clock
/// that has jumped.
fn age(shared: &Shared, since: i64) -> Option<Duration> {
    let age = shared.members.engine_time()?.checked_sub(since)?;
    let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
    (age <= OLDEST).then_some(age)
}

/// What time alone changes.
fn look(shared: &Shared, deliver: &mut Deliver) {
    let now = Instant::now();
    let up = shared.engine.state().borrow().bus;
    for link in shared.all() {
        pass(shared, &link, deliver);
        // Only who hears others can say that one is silent.
        if up && lock(&link.incoming).silent(now) {
            shared.members.suspect(link.node());
        }
    }
}
