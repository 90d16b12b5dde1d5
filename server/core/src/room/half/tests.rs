//! A user here, and a way to another node that can be full.

use std::{
    io::{self, IoSlice},
    sync::Mutex,
    task::{Context, Poll},
};

use serde_json::{Value, json};
use voicematch_protocol::{CloseReason, LeaveReason, SessionId};

use super::*;
use crate::{
    cluster::{BusLink, Frame, Halves, NodeId},
    memory::Memory,
    metrics::Metrics,
    outbox::{Batch, Link, OutboxLimits, Refused, text_frame},
    process::ProcessId,
    room::{NotRelayed, Place, ticket::RoomKeys},
};

const HERE: SessionId = SessionId(1);
const THERE: SessionId = SessionId(2);
const ROOM: RoomId = RoomId(7);

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Link for Heard {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut heard = self.0.lock().expect("not poisoned");
        parts.iter().for_each(|part| heard.extend_from_slice(part));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, _: CloseReason, _: &mut Vec<u8>) {}
}

impl Heard {
    fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        let mut rest = &bytes[..];
        let messages = std::iter::from_fn(|| {
            let (message, behind) = text_frame(rest)?;
            rest = behind;
            Some(serde_json::from_slice(message).expect("JSON"))
        });
        messages.collect()
    }
}

type Took = (RoomId, SessionId, SessionId, Vec<u8>);

/// The other node: what it was sent, and how much it still takes.
#[derive(Default)]
struct There {
    took: Mutex<Vec<Took>>,
    room: Mutex<usize>,
    left: Mutex<Vec<(RoomId, LeaveReason)>>,
}

impl BusLink for There {
    fn push(
        &self,
        room: RoomId,
        to: SessionId,
        from: SessionId,
        messages: &[u8],
    ) -> Result<(), Full> {
        let mut left = self.room.lock().expect("not poisoned");
        *left = left.checked_sub(messages.len()).ok_or(Full)?;
        let mut took = self.took.lock().expect("not poisoned");
        took.push((room, to, from, messages.to_vec()));
        Ok(())
    }

    fn push_frame(&self, _: &Frame<'_>) -> Result<(), Full> {
        Ok(())
    }

    fn reserve(&self, _: usize) -> Result<(), Full> {
        Ok(())
    }

    fn push_reserved(&self, _: &Frame<'_>) {}

    fn release(&self, _: usize) {}

    fn tell(&self, _: &Frame<'_>) -> Result<(), Full> {
        Ok(())
    }

    fn set_rooms(&self, _: Option<u64>) {}
}

impl Halves for There {
    fn left(&self, room: RoomId, reason: LeaveReason) {
        let mut left = self.left.lock().expect("not poisoned");
        left.push((room, reason));
    }
}

struct Scene {
    here: Arc<Member>,
    heard: Heard,
    there: Arc<There>,
    shared: Arc<Shared>,
}

impl Scene {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new(1, &["anyone"]).expect("names are unique"));
        let keys = Arc::new(RoomKeys::random(ProcessId::random()));
        let shared = Shared::new(metrics.clone(), keys, 10, None, None);
        let heard = Heard::default();
        let limits = OutboxLimits {
            messages: 10,
            bytes: 10_000,
        };
        let memory = Memory::new(1 << 20, metrics.buffered_bytes.clone());
        let outbox = Outbox::new(limits, Some(Box::new(heard.clone())), metrics, memory);
        let here = Arc::new(Member::new(HERE, outbox, false, None));
        let there = Arc::new(There::default());
        *there.room.lock().expect("not poisoned") = 1000;
        here.start_waiting(1).expect("idle");
        Self {
            here,
            heard,
            there,
            shared,
        }
    }

    fn open(&self, offers: bool, told: Result<(), Full>) -> Result<Arc<Room>, NoHalf> {
        let link = Arc::new(RemoteLink {
            link: self.there.clone(),
            halves: self.there.clone(),
            node: NodeId::from_bytes([9; 8]),
            room: ROOM,
            to: THERE,
            from: HERE,
        });
        let mate = Mate {
            user: Some("bob".into()),
            name: Some("Bob".into()),
            resumable: false,
        };
        let half = Half {
            room: ROOM,
            here: Side {
                member: &self.here,
                ticket: 1,
                waited: Duration::from_secs(3),
                request_id: None,
            },
            there: mate.member(link, &self.here),
            there_waited: Duration::ZERO,
            offers,
        };
        Room::open_half(half, &["tea".into()], &self.shared, Instant::now(), || told)
    }

    fn rooms(&self) -> i64 {
        self.shared.metrics.rooms_active.get()
    }

    fn left(&self) -> Vec<(RoomId, LeaveReason)> {
        self.there.left.lock().expect("not poisoned").clone()
    }
}

fn batch(texts: &[&str]) -> Batch {
    let mut batch = Batch::default();
    texts.iter().for_each(|text| batch.push(&[text.as_bytes()]));
    batch
}

#[test]
fn what_is_said_goes_to_the_other_node_until_it_takes_no_more() {
    let scene = Scene::new();
    let room = scene.open(false, Ok(())).expect("waits");
    let told = scene.heard.take();
    assert_eq!(told[0]["type"], "match_found");
    assert_eq!(told[0]["peer_name"], "Bob");
    assert_eq!(
        (&told[0]["initiator"], &told[0]["waited_ms"]),
        (&json!(false), &json!(3000))
    );

    let now = Instant::now();
    let said = batch(&["1", "2"]);
    assert_eq!(scene.here.relay(&room, &said, now), Ok(()));
    let took = scene.there.took.lock().expect("not poisoned").clone();
    let [(id, to, from, bytes)] = &took[..] else {
        panic!("{took:?}")
    };
    assert_eq!((*id, *to, *from), (ROOM, THERE, HERE));
    let mut read = Batch::default();
    assert!(read.push_frames(bytes));
    assert_eq!(read.len(), 2);

    *scene.there.room.lock().expect("not poisoned") = 3;
    let lost = Err(NotRelayed::Refused(Refused::Lost));
    assert_eq!(scene.here.relay(&room, &said, now), lost);
    assert_eq!(scene.here.place(), Place::InRoom, "the room goes on");
    assert_eq!(scene.here.relay(&room, &batch(&["3"]), now), Ok(()));
}

#[test]
fn what_is_heard_is_of_the_partner_and_of_this_room() {
    let scene = Scene::new();
    let room = scene.open(true, Ok(())).expect("waits");
    scene.heard.take();
    let (now, said) = (Instant::now(), batch(&["1"]));
    assert!(
        !scene.here.hear(RoomId(8), THERE, &said, now),
        "another room"
    );
    assert!(
        !scene.here.hear(ROOM, SessionId(3), &said, now),
        "a stranger"
    );
    assert!(scene.here.hear(ROOM, THERE, &said, now));
    assert_eq!(scene.heard.take(), [json!(1)]);
    assert_eq!(scene.rooms(), 1, "it counts where the offer is made");

    let reason = LeaveReason::Next;
    assert!(scene.here.peer_there_left(&room, reason));
    assert!(!scene.here.peer_there_left(&room, reason), "told once");
    let told = scene.heard.take();
    assert_eq!(
        (&told[0]["type"], &told[0]["reason"]),
        (&json!("peer_left"), &json!("next"))
    );
    assert!(!scene.here.hear(ROOM, THERE, &said, now));
    assert_eq!(
        (scene.here.place(), scene.rooms(), told.len()),
        (Place::Idle, 0, 1)
    );
    assert!(scene.left().is_empty(), "who was left does not leave");
    assert!(room.is_closed());
}

#[test]
fn the_other_node_is_told_once_of_who_leaves() {
    let scene = Scene::new();
    let room = scene.open(false, Ok(())).expect("waits");
    assert!(scene.here.leave_room(LeaveReason::Next).is_some());
    assert!(scene.here.leave_room(LeaveReason::Left).is_none());
    assert_eq!(scene.left(), [(ROOM, LeaveReason::Next)]);
    assert!(!scene.here.peer_there_left(&room, LeaveReason::Left));
    assert_eq!(scene.rooms(), 0);

    let scene = Scene::new();
    scene.open(true, Ok(())).expect("waits");
    scene.here.go(CloseReason::Closed);
    assert_eq!(
        scene.left(),
        [(ROOM, LeaveReason::Ended(CloseReason::Closed))]
    );
    assert_eq!(scene.rooms(), 0);
}

#[test]
fn there_is_no_half_if_either_cannot_be_told() {
    let scene = Scene::new();
    assert_eq!(scene.open(true, Err(Full)).err(), Some(NoHalf::Full));
    assert_eq!(
        (scene.here.place(), scene.heard.take()),
        (Place::Waiting, vec![])
    );
    scene.here.stop_waiting(1);
    assert_eq!(scene.open(true, Ok(())).err(), Some(NoHalf::Gone));
    assert_eq!((scene.here.place(), scene.rooms()), (Place::Idle, 0));
}

#[test]
fn what_is_not_framed_is_not_taken() {
    let mut batch = batch(&["1"]);
    let whole = [0x81, 1, b'2'];
    assert!(batch.push_frames(&whole));
    for wrong in [
        &[0x81, 1][..],
        &[0x82, 1, b'2'],
        &[0x81, 1, b'2', 0x81],
        &[0x81, 0x81, 0, 0, 0, 0, 0],
    ] {
        assert!(!batch.push_frames(wrong), "{wrong:?}");
    }
    assert_eq!((batch.len(), batch.byte_len()), (2, 6));
}
