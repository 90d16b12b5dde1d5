//! Who has come back into a room of which both nodes are gone: each node writes down its own user, and finds the other one.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use voicematch_cluster::{CallError, Engine, NodeId};
use voicematch_core::{cluster::Seats, room::pending::WAIT, session::Context};
use voicematch_protocol::{RoomId, SessionId};

use super::{Node, joined::to_core};

/// The letter of the layout.
const SEAT: char = 'j';

/// How long the engine may take; the user is written down again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who is where: a node (8 bytes), a session (8) and a seat (1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: NodeId,
    session: SessionId,
    seat: u8,
}

impl Place {
    fn to_bytes(self) -> Vec<u8> {
        let session = self.session.0.to_be_bytes();
        [&self.node.0[..], &session, &[self.seat]].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (node, rest) = bytes.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let &[seat] = rest else { return None };
        Some(Self {
            node: NodeId(*node),
            session: SessionId(u64::from_be_bytes(*session)),
            seat,
        })
    }
}

/// Asks the engine on the thread of the cluster.
pub(super) struct Keeper {
    thread: Handle,
    context: Weak<Context>,
}

impl Keeper {
    /// To be called on that thread.
    pub(super) fn new(context: Weak<Context>) -> Self {
        let thread = Handle::current();
        Self { thread, context }
    }
}

impl Seats for Node {
    fn offer(&self, room: RoomId, seat: u8, who: SessionId) {
        let Some(joined) = self.joined.get() else {
            return;
        };
        let own = Place {
            node: joined.members.me(),
            session: who,
            seat,
        };
        let (engine, context) = (joined.engine.clone(), joined.seats.context.clone());
        joined.seats.thread.spawn(async move {
            let other = tokio::time::timeout(PATIENCE, write_down(&engine, room, own)).await;
            if let (Ok(Ok(Some(other))), Some(context)) = (other, context.upgrade()) {
                let node = to_core(other.node);
                let now = Instant::now();
                context
                    .matchmaker
                    .seat_found(room, node, other.session, now);
            }
        });
    }
}

/// Returns who was written down for the other seat. The latest of one seat counts.
async fn write_down(engine: &Engine, room: RoomId, own: Place) -> Result<Option<Place>, CallError> {
    let (name, value) = (room.0.to_be_bytes(), own.to_bytes());
    let first = engine.keep_first(SEAT, &name, &value, Some(WAIT)).await?;
    let first = Place::from_bytes(&first).filter(|first| *first != own);
    if first.is_some_and(|first| first.seat == own.seat) {
        engine.keep(SEAT, &name, &value, WAIT).await?;
        return Ok(None);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_nothing_else_does() {
        let place = Place {
            node: NodeId::first([1, 2, 3, 4, 5, 6]),
            session: SessionId(7),
            seat: 1,
        };
        let bytes = place.to_bytes();
        assert_eq!(Place::from_bytes(&bytes), Some(place));
        for length in 0..bytes.len() {
            assert_eq!(Place::from_bytes(&bytes[..length]), None);
        }
    }
}
