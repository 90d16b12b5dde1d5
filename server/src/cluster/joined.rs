//! What the core asks of the other nodes, put to the crate that talks to them, and what comes back. Before the node has
//! joined there is nobody to ask.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use voicematch_cluster::{
    Deliver, Delivery, Link, NodeId, POOL_BYTES, Sought, TicketId, Told, Wish, frames::Frame,
};
use voicematch_core::{
    cluster::{self as core, Full},
    matchmaker::{Find, Index, PoolKey, PoolKind, Seeker},
    process::ProcessId,
    session::Context,
};
use voicematch_protocol::{RoomId, SessionId};

use super::{Node, forward};

/// What is hashed for the name of a pool begins with this.
const POOL: &[u8] = b"voicematch pool 1";

pub(super) fn to_core(node: NodeId) -> core::NodeId {
    core::NodeId::from_bytes(node.0)
}

pub(super) fn from_core(node: core::NodeId) -> NodeId {
    NodeId(node.to_bytes())
}

fn ticket_from_core(ticket: core::TicketId) -> TicketId {
    TicketId::new(ticket.session.0.to_be_bytes(), ticket.search)
}

pub(super) fn ticket_to_core(ticket: TicketId) -> core::TicketId {
    let [_, _, _, _, _, _, _, _, search @ ..] = ticket.0;
    core::TicketId {
        session: SessionId(u64::from_be_bytes(ticket.session())),
        search: u32::from_be_bytes(search),
    }
}

/// The name of a pool on all nodes: its kind, and 16 bytes of a hash. Users choose the words, and cannot choose two that have
/// one hash.
pub(super) fn pool((kind, key): &(PoolKind, PoolKey)) -> [u8; POOL_BYTES] {
    let level = *kind as u8;
    let mut hash = Sha256::new().chain_update(POOL).chain_update([level]);
    let mut word = |word: &str| {
        // The length first: no two words run into each other.
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word);
    };
    match key {
        PoolKey::Interest { language, interest } => {
            word(language.as_deref().unwrap_or_default());
            word(interest);
        }
        PoolKey::Language(name) | PoolKey::Region(name) => word(name),
        PoolKey::Anyone => {}
    }
    let mut name = [level; POOL_BYTES];
    name[1..].copy_from_slice(&hash.finalize()[..POOL_BYTES - 1]);
    name
}

fn wish(seeker: &Seeker) -> Option<Wish> {
    let pools: Vec<_> = seeker.pools.iter().map(pool).collect();
    let bytes = |ids: &[u64]| -> Vec<_> { ids.iter().map(|id| id.to_be_bytes()).collect() };
    let ticket = ticket_from_core(seeker.ticket);
    let person = seeker.person.to_be_bytes();
    let wish = Wish::new(ticket, person, &bytes(&seeker.avoided), &pools)?;
    Some(wish.apart_from(&bytes(&seeker.apart)))
}

impl Index for Node {
    fn seek(&self, seeker: Seeker, waited: Duration, again: bool) {
        if let (Some(joined), Some(wish)) = (self.joined.get(), wish(&seeker)) {
            joined.index.seek(wish, waited, again);
        }
    }

    fn withdraw(&self, ticket: core::TicketId) {
        if let Some(joined) = self.joined.get() {
            joined.index.withdraw(ticket_from_core(ticket));
        }
    }

    fn is_up(&self) -> bool {
        (self.joined.get()).is_some_and(|joined| joined.index.is_up())
    }
}

impl core::Bus for Node {
    fn link(&self, node: core::NodeId) -> Option<Arc<dyn core::BusLink>> {
        let link = self.joined.get()?.bus.link(from_core(node))?;
        Some(Arc::new(Way(link)))
    }

    fn is_up(&self) -> bool {
        (self.joined.get()).is_some_and(|joined| joined.engine.state().borrow().bus)
    }
}

fn frame_from_core<'a>(frame: &core::Frame<'a>) -> Frame<'a> {
    Frame {
        kind: frame.kind,
        room: frame.room.0,
        to: frame.to.0,
        from: frame.from.0,
        body: frame.body,
    }
}

/// The way to one life of a node.
struct Way(Arc<Link>);

impl core::BusLink for Way {
    fn push(
        &self,
        room: RoomId,
        to: SessionId,
        from: SessionId,
        messages: &[u8],
    ) -> Result<(), Full> {
        self.push_frame(&core::Frame {
            kind: core::FrameKind::Relay as u8,
            room,
            to,
            from,
            body: messages,
            age: Duration::ZERO,
        })
    }

    fn push_frame(&self, frame: &core::Frame<'_>) -> Result<(), Full> {
        self.0.push(&frame_from_core(frame)).map_err(|_| Full)
    }

    fn reserve(&self, bytes: usize) -> Result<(), Full> {
        self.0.reserve(bytes).map_err(|_| Full)
    }

    fn push_reserved(&self, frame: &core::Frame<'_>) {
        self.0.push_reserved(&frame_from_core(frame));
    }

    fn release(&self, bytes: usize) {
        self.0.release(bytes);
    }

    fn tell(&self, frame: &core::Frame<'_>) -> Result<(), Full> {
        self.0
            .push_urgent(&frame_from_core(frame))
            .map_err(|_| Full)
    }

    fn set_rooms(&self, rooms: Option<u64>) {
        self.0.set_rooms(rooms);
    }
}

impl core::Nodes for Node {
    fn me(&self) -> core::NodeId {
        to_core((self.joined.get()).map_or(self.first, |joined| joined.members.me()))
    }

    fn engine_time(&self) -> Option<u64> {
        let time = self.joined.get()?.members.engine_time()?;
        u64::try_from(time).ok()
    }

    fn is_dead(&self, node: core::NodeId) -> bool {
        let node = from_core(node);
        (self.joined.get()).is_some_and(|joined| joined.members.is_dead(node))
    }

    fn living(&self, process: ProcessId) -> Option<core::Living> {
        let members = &self.joined.get()?.members;
        let me = members.me();
        if me.process() == process.0 {
            // This node has just let the user in: for them it is not draining.
            let (node, draining) = (to_core(me), false);
            return Some(core::Living { node, draining });
        }
        let others = members.others().into_iter();
        let ours = others.filter_map(|(node, info)| Some((node, info?)));
        let ours = ours.filter(|(_, info)| info.is_of_this_bus());
        let mut living = ours.map(|(node, info)| (node, info.draining));
        let (node, draining) = living.find(|(node, _)| node.process() == process.0)?;
        let node = to_core(node);
        Some(core::Living { node, draining })
    }

    fn are_others(&self) -> bool {
        let joined = self.joined.get();
        joined.is_some_and(|joined| {
            let mut others = joined.members.others().into_iter();
            others.any(|(_, info)| info.is_some_and(|info| !info.draining))
        })
    }

    fn suspect(&self, node: core::NodeId) {
        if let Some(joined) = self.joined.get() {
            joined.members.suspect(from_core(node));
        }
    }
}

/// Tells the matchmaker what has become of searches.
pub(super) fn told(context: &Weak<Context>) -> Told {
    let context = context.clone();
    Box::new(move |ticket, sought| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let find = match sought {
            Sought::Posted => Find::Posted,
            Sought::Unknown => Find::Unknown,
            Sought::Found(found) => Find::Found {
                ticket: ticket_to_core(found.ticket),
                node: to_core(found.node),
                kind: kind(found.level),
            },
        };
        context
            .matchmaker
            .found(ticket_to_core(ticket), find, Instant::now());
    })
}

fn kind(level: u8) -> PoolKind {
    let kind = PoolKind::ALL.get(usize::from(level));
    kind.copied().unwrap_or(PoolKind::Anyone)
}

/// Tells the matchmaker what other nodes say; what clients ask there goes to this node's own handlers.
pub(super) fn deliver(context: &Weak<Context>, own: &Arc<Node>) -> Deliver {
    let (context, own) = (context.clone(), Arc::downgrade(own));
    Box::new(move |delivery| {
        let Some((context, own)) = context.upgrade().zip(own.upgrade()) else {
            return;
        };
        let (matchmaker, now) = (&context.matchmaker, Instant::now());
        match delivery {
            Delivery::Frame(node, frame, _) if forward::KINDS.contains(&frame.kind) => {
                if (own.take_forward(to_core(node), frame.kind, frame.body)).is_none() {
                    context.metrics.dropped("bad_frame", 1);
                }
            }
            Delivery::Frame(node, frame, age) => {
                let frame = core::Frame {
                    kind: frame.kind,
                    room: RoomId(frame.room),
                    to: SessionId(frame.to),
                    from: SessionId(frame.from),
                    body: frame.body,
                    age,
                };
                context.frame(to_core(node), &frame, now);
            }
            Delivery::Rooms(node, rooms) => matchmaker.rooms_of(to_core(node), rooms, now),
            Delivery::Gap(node) => {
                matchmaker.gap(to_core(node), now);
                context.named_rooms.gap(to_core(node), now);
            }
            Delivery::Bans => own.bans.read(),
            Delivery::Blocks => own.blocks.read(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_have_names_of_their_own() {
        let interest = |language: Option<&str>, interest: &str| {
            let language = language.map(Into::into);
            let interest = interest.into();
            (PoolKind::Interest, PoolKey::Interest { language, interest })
        };
        let keys = [
            interest(None, "ab"),
            interest(Some("a"), "b"),
            interest(Some("ab"), ""),
            (PoolKind::Language, PoolKey::Language("ab".into())),
            (PoolKind::Region, PoolKey::Region("ab".into())),
            (PoolKind::Anyone, PoolKey::Anyone),
        ];
        let names: std::collections::BTreeSet<_> = keys.iter().map(pool).collect();
        assert_eq!(names.len(), keys.len());
        assert_eq!(pool(&keys[1]), pool(&interest(Some("a"), "b")));
        assert_eq!(kind(pool(&keys[4])[0]), PoolKind::Region);
    }

    #[test]
    fn tickets_and_nodes_read_back() {
        let ticket = core::TicketId {
            session: SessionId(0x0102_0304_0506_0708),
            search: 0x0a0b_0c0d,
        };
        assert_eq!(ticket_to_core(ticket_from_core(ticket)), ticket);
        let node = NodeId::first([1, 2, 3, 4, 5, 6]);
        assert_eq!(from_core(to_core(node)), node);
        assert_eq!(from_core(to_core(node.next_life())), node.next_life());
    }
}
