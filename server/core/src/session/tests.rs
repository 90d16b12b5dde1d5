//! A session whose partner is on another node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{
    Arrival, Pending, Session,
    model::{Wire, new_context},
};
use crate::{
    cluster::{BusLink, Frame, Full, Halves, NodeId, RemoteLink},
    outbox::text_frame,
    process::ProcessId,
    room::{Half, Mate, Room, Side, ticket::RoomKeys},
};

/// The other node.
#[derive(Default)]
struct There {
    is_full: AtomicBool,
}

impl BusLink for There {
    fn push(&self, _: RoomId, _: SessionId, _: SessionId, _: &[u8]) -> Result<(), Full> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(Full),
            false => Ok(()),
        }
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
    fn left(&self, _: RoomId, _: LeaveReason) {}
}

struct User {
    session: Session,
    wire: Wire,
    pending: Pending,
}

impl User {
    fn with_partner_there(there: &Arc<There>) -> Self {
        let context = new_context(RoomKeys::random(ProcessId::random()));
        let wire = Wire::default();
        wire.0.lock().expect("not poisoned").room = usize::MAX;
        let (link, now) = (Box::new(wire.clone()), Instant::now());
        let session = Session::open(context.clone(), link, &[], Arrival::default(), now);
        let member = session.member().clone();
        member.start_waiting(1).expect("idle");
        let room = RoomId(7);
        let link = Arc::new(RemoteLink {
            link: there.clone(),
            halves: there.clone(),
            node: NodeId::from_bytes([9; 8]),
            room,
            to: SessionId(2),
            from: member.id,
        });
        let mate = Mate {
            user: None,
            name: None,
            resumable: true,
        };
        let half = Half {
            room,
            here: Side {
                member: &member,
                ticket: 1,
                waited: Duration::ZERO,
                request_id: None,
            },
            there: mate.member(link, &member),
            there_waited: Duration::ZERO,
            offers: true,
        };
        Room::open_half(half, &[], &context.shared, now, || Ok(())).expect("waits");
        let mut user = Self {
            session,
            wire,
            pending: Pending::default(),
        };
        user.told();
        user
    }

    /// Says this in one read, and returns the answers.
    fn say(&mut self, messages: &[Value]) -> Vec<Value> {
        let now = Instant::now();
        for message in messages {
            let done = self
                .session
                .receive(&message.to_string(), now, &mut self.pending);
            assert_eq!(done, Ok(()));
        }
        self.session.flush(now, &mut self.pending);
        self.told()
    }

    fn told(&mut self) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.wire.0.lock().expect("not poisoned").bytes);
        let mut rest = &bytes[..];
        let messages = std::iter::from_fn(|| {
            let (message, behind) = text_frame(rest)?;
            rest = behind;
            Some(serde_json::from_slice(message).expect("JSON"))
        });
        messages.collect()
    }
}

#[test]
fn who_says_more_than_the_way_there_takes_is_told_in_place_of_an_ack() {
    let there = Arc::new(There::default());
    let mut user = User::with_partner_there(&there);
    let message = json!({"type": "message", "payload": 1, "id": "a"});
    let candidate = json!({"type": "ice_candidate", "payload": 1});
    let ack = json!({"type": "ack", "id": "a"});
    let told = user.say(&[candidate.clone(), message.clone()]);
    assert_eq!(told, std::slice::from_ref(&ack));

    there.is_full.store(true, Ordering::Relaxed);
    for said in [message.clone(), candidate] {
        let id = said["id"].clone();
        let told = user.say(&[said]);
        let [error] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!("relay_lost"), &json!(true))
        );
        assert_eq!(error["id"], id);
    }
    let context = user.session.context.clone();
    assert_eq!(context.metrics.rooms_active.get(), 1, "the room goes on");

    there.is_full.store(false, Ordering::Relaxed);
    assert_eq!(user.say(&[message]), [ack]);
    assert_eq!(
        user.say(&[json!({"type": "leave_room", "id": 2})]),
        [json!({"type": "ack", "id": 2})]
    );
    assert_eq!(context.metrics.rooms_active.get(), 0);
}
