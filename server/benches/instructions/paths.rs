//! The hot paths, each in a function of its name that is counted, and the loops around them that are not.
//!
//! One thread, fixed inputs. Messages are read an hour in the future, so that the latency found is always
//! zero and its histogram's bucket always the first. A counted function holds no closure: counting is
//! switched at whatever begins with its name.

use std::{
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use voicematch_core::{
    matchmaker::{Matchmaker, Wish},
    metrics::Metrics,
    outbox::{Batch, Outbox},
    room::{Member, Place},
};
use voicematch_server::transport::ws::frame::Header;

use voicematch_protocol::{LeaveReason, RelayKind};

use crate::support::{
    Crowd, Door, Mixed, PING, Pair, Sink, ice_candidate, masked_frame, new_matchmaker, new_member,
    new_metrics, wish,
};

/// Every path.
pub(crate) const NAMES: [&str; 10] = [
    "check_token",
    "count_message",
    "find_and_match",
    "message_to_room",
    "ping_pong",
    "queue_and_flush",
    "read_frame",
    "relay_ice_candidate",
    "relay_to_resumable",
    "send_direct",
];

/// How often each path is counted.
pub(crate) const OPERATIONS: u32 = 4000;

/// How often each path runs before: until buffers have grown and caches of the allocator are filled.
const WARM_UP: u32 = 500;

/// Messages that wait in an outbox before it is flushed.
const QUEUED: usize = 16;

/// Bytes of a message, as of an ICE candidate.
const MESSAGE: usize = 120;

/// Runs one path. Instructions before [`measure_from_here`] do not count.
pub(crate) fn run(path: &str) {
    let later = Instant::now() + Duration::from_secs(3600);
    let text = ice_candidate(MESSAGE);
    let (metrics, sink) = (new_metrics(), Sink::default());
    let member = |id| new_member(id, &sink, &metrics);
    match path {
        "check_token" => {
            let door = Door::new();
            repeat(|| assert!(check_token(&door)));
        }
        "count_message" => repeat(|| count_message(&metrics)),
        "find_and_match" => {
            let matchmaker = new_matchmaker(&metrics);
            let (waiter, newcomer) = (member(1), member(2));
            let wishes = [
                wish("en", "eu", &["music", "chess"]),
                wish("en", "us", &["films", "chess"]),
            ];
            repeat(|| {
                find_and_match(&matchmaker, [&waiter, &newcomer], wishes.clone(), later);
                assert_eq!(waiter.place(), Place::InRoom);
                newcomer.leave_room(LeaveReason::Left);
            });
        }
        "message_to_room" => {
            let mut crowd = Crowd::joined();
            let text = text.replace("ice_candidate", "message");
            repeat(|| message_to_room(&mut crowd, &text, later));
        }
        "ping_pong" => {
            let mut pair = Pair::idle();
            repeat(|| ping_pong(&mut pair, later));
        }
        "queue_and_flush" => {
            let (member, batch) = (member(1), batch(&text));
            repeat(|| queue_and_flush(&member.outbox, &batch, &sink, later));
        }
        "read_frame" => {
            let mut frame = masked_frame(text.as_bytes());
            repeat(|| {
                assert!(read_frame(&mut frame));
                // Unmasking masks what is not masked.
                unmask(&mut frame);
            });
        }
        "relay_ice_candidate" => {
            let mut pair = Pair::matched();
            repeat(|| relay_ice_candidate(&mut pair, &text, later));
        }
        "relay_to_resumable" => {
            let mut pair = Mixed::matched();
            repeat(|| relay_to_resumable(&mut pair, &text, later));
        }
        "send_direct" => {
            let (member, batch) = (member(1), batch(&text));
            repeat(|| send_direct(&member.outbox, &batch, later));
        }
        unknown => panic!("no path is called {unknown}"),
    }
}

fn repeat(mut operation: impl FnMut()) {
    (0..WARM_UP).for_each(|_| operation());
    measure_from_here();
    (0..OPERATIONS).for_each(|_| operation());
}

/// Counting begins here. It must do something, or the compiler would remove it.
#[inline(never)]
fn measure_from_here() {
    black_box(Instant::now());
}

/// What a token by HS256 adds to a handshake.
#[inline(never)]
fn check_token(door: &Door) -> bool {
    door.admits()
}

/// All that is counted of one relayed message.
#[inline(never)]
fn count_message(metrics: &Metrics) {
    metrics.received_bytes(MESSAGE);
    metrics.sent_bytes(MESSAGE);
    metrics.relayed(RelayKind::IceCandidate, 1);
    metrics.relayed_bytes(MESSAGE);
    metrics.relay_latency(Duration::from_micros(7), 1);
}

/// One user posts a ticket, another finds it: both are in a room and have been told.
#[inline(never)]
fn find_and_match(
    matchmaker: &Matchmaker,
    [waiter, newcomer]: [&Arc<Member>; 2],
    [first, second]: [Wish; 2],
    now: Instant,
) {
    drop(matchmaker.find(waiter, first, Vec::new(), None, now));
    drop(matchmaker.find(newcomer, second, Vec::new(), None, now));
}

/// A message is parsed, rewritten once, and handed to nineteen sockets.
#[inline(never)]
fn message_to_room(crowd: &mut Crowd, text: &str, now: Instant) {
    crowd.say(text, now);
}

/// A ping is parsed and answered.
#[inline(never)]
fn ping_pong(pair: &mut Pair, now: Instant) {
    pair.say(PING, now);
}

/// Messages are queued behind a socket that takes nothing, and written when it takes all.
#[inline(never)]
fn queue_and_flush(outbox: &Outbox, batch: &Batch, sink: &Sink, now: Instant) {
    sink.set_full(true);
    for _ in 0..QUEUED {
        outbox.send_batch(batch, Some(now)).unwrap();
    }
    sink.set_full(false);
    let mut context = Context::from_waker(Waker::noop());
    let flushed = outbox.poll_flush(&mut context);
    assert!(matches!(flushed, Poll::Ready(Ok(()))));
}

/// A frame's header is read, its payload unmasked and checked to be UTF-8.
#[inline(never)]
fn read_frame(frame: &mut [u8]) -> bool {
    let header = Header::read(frame).unwrap().unwrap();
    std::str::from_utf8(header.payload(frame)).is_ok()
}

/// A message is parsed, rewritten for the partner and handed to the partner's socket.
#[inline(never)]
fn relay_ice_candidate(pair: &mut Pair, text: &str, now: Instant) {
    pair.say(text, now);
}

/// The same to a partner whose session outlives its connections: the message is numbered, kept and framed anew.
#[inline(never)]
fn relay_to_resumable(pair: &mut Mixed, text: &str, now: Instant) {
    pair.say(text, now);
}

/// A framed message goes straight into a socket.
#[inline(never)]
fn send_direct(outbox: &Outbox, batch: &Batch, now: Instant) {
    outbox.send_batch(batch, Some(now)).unwrap();
}

fn batch(text: &str) -> Batch {
    let mut batch = Batch::default();
    batch.push(&[text.as_bytes()]);
    batch
}

/// Turns a frame that has been read back into what a client sent.
fn unmask(frame: &mut [u8]) {
    let header = Header::read(frame).unwrap().unwrap();
    header.payload(frame);
}
