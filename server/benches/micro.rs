//! Times of the hot paths, each alone: relays, control messages, frames, outboxes, claims and matches; and of the check of a
//! user's token.
//!
//! `cargo bench -p voicematch-server --bench micro`; see `waiting.rs` for matching among many.

#![allow(
    clippy::unwrap_used,
    reason = "benchmarks: their names say what they are, and they may fail"
)]

mod support;

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ring::hmac;
use support::{
    Door, LEAVE_ROOM, PING, Pair, SECRET, Sink, ice_candidate, masked_frame, new_matchmaker,
    new_member, new_metrics, wish,
};
use voicematch_core::{
    matchmaker::{Claim, Matchmaker, Wish},
    outbox::Batch,
    room::Member,
};
use voicematch_protocol::LeaveReason;
use voicematch_server::transport::ws::frame::Header;

/// Messages that wait in an outbox before it is flushed, and messages of one read.
const MANY: u64 = 16;

/// One read with one message, from the text to the partner's socket; the clock is read as a transport
/// reads it.
fn relay(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay");
    for bytes in [120, 1500] {
        let text = ice_candidate(bytes);
        let mut pair = Pair::matched();
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("ice_candidate/{bytes}"), |b| {
            b.iter(|| pair.say(&text, Instant::now()));
        });
        group.throughput(Throughput::Elements(MANY));
        group.bench_function(format!("ice_candidate/{bytes}/{MANY}_in_one_read"), |b| {
            b.iter(|| pair.say_often(&text, MANY, Instant::now()));
        });
        assert!(pair.sink.taken() > 0);
    }
}

fn control(c: &mut Criterion) {
    let mut group = c.benchmark_group("control");
    let mut pair = Pair::idle();
    group.bench_function("ping_pong", |b| b.iter(|| pair.say(PING, Instant::now())));
    // Two requests, a match, and one who leaves: what a short visit costs besides its relays.
    group.bench_function("find_match_and_leave", |b| {
        b.iter(|| {
            let now = Instant::now();
            pair.meet(now);
            pair.say(LEAVE_ROOM, now);
        });
    });
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for bytes in [120, 1500, 65_536] {
        let mut frame = masked_frame(&vec![b'x'; bytes]);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("read_and_unmask/{bytes}"), |b| {
            b.iter(|| {
                let header = Header::read(black_box(&frame)).unwrap().unwrap();
                header.payload(&mut frame).len()
            });
        });
    }
}

fn outbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox");
    let (metrics, sink) = (new_metrics(), Sink::default());
    let member = new_member(1, &sink, &metrics);
    let mut batch = Batch::default();
    batch.push(&[ice_candidate(120).as_bytes()]);
    group.throughput(Throughput::Elements(1));
    group.bench_function("send_direct", |b| {
        b.iter(|| member.outbox.send_batch(&batch, Some(Instant::now())));
    });
    group.throughput(Throughput::Elements(MANY));
    group.bench_function(format!("queue_and_flush/{MANY}"), |b| {
        let mut context = Context::from_waker(Waker::noop());
        b.iter(|| {
            let now = Instant::now();
            sink.set_full(true);
            for _ in 0..MANY {
                member.outbox.send_batch(&batch, Some(now)).unwrap();
            }
            sink.set_full(false);
            let flushed = member.outbox.poll_flush(&mut context);
            assert!(matches!(flushed, Poll::Ready(Ok(()))));
        });
    });
}

fn claim(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    let (mine, theirs) = (Claim::new(2), Claim::new(1));
    group.bench_function("claim", |b| {
        b.iter(|| {
            Claim::pair(&mine, &theirs, || false).unwrap();
            mine.reopen();
            theirs.reopen();
        });
    });
    let alone = wish("en", "eu", &["music", "chess"]);
    group.bench_function("find_and_match/alone", |b| {
        b.iter_custom(|rounds| on_threads(std::slice::from_ref(&alone), rounds));
    });
    let other = wish("de", "us", &["films", "go"]);
    group.bench_function("find_and_match/two_threads_apart", |b| {
        b.iter_custom(|rounds| on_threads(&[alone.clone(), other.clone()], rounds));
    });
    group.bench_function("find_and_match/two_threads_in_the_same_pools", |b| {
        b.iter_custom(|rounds| on_threads(&[alone.clone(), alone.clone()], rounds));
    });
}

/// The time that the slowest of some threads needs for its rounds. In a round the thread's two users ask
/// for a match, and leave it again.
fn on_threads(wishes: &[Wish], rounds: u64) -> Duration {
    let metrics = new_metrics();
    let matchmaker = new_matchmaker(&metrics);
    let barrier = Barrier::new(wishes.len());
    let sink = Sink::default();
    let (matchmaker, barrier) = (&matchmaker, &barrier);
    thread::scope(|scope| {
        let threads: Vec<_> = wishes
            .iter()
            .zip(0..)
            .map(|(wish, thread)| {
                let users = [0, 1].map(|i| new_member(2 * thread + i, &sink, &metrics));
                scope.spawn(move || {
                    voicematch_core::metrics::enter_worker(usize::try_from(thread).unwrap());
                    barrier.wait();
                    let begun = Instant::now();
                    (0..rounds).for_each(|_| round(matchmaker, &users, wish, begun));
                    begun.elapsed()
                })
            })
            .collect();
        let times = threads.into_iter().map(|thread| thread.join().unwrap());
        times.max().unwrap_or_default()
    })
}

fn round(matchmaker: &Matchmaker, users: &[Arc<Member>; 2], wish: &Wish, now: Instant) {
    let tickets = users.each_ref().map(|user| {
        // Another thread's user may have met this one, and not have left yet.
        matchmaker
            .find(user, wish.clone(), Vec::new(), None, now)
            .ok()
    });
    for (user, ticket) in users.iter().zip(&tickets) {
        if !ticket
            .as_ref()
            .is_some_and(|ticket| matchmaker.cancel(ticket))
        {
            user.leave_room(LeaveReason::Left);
        }
    }
}

/// What a token adds to a connect: all of its check, and the signature's share of that.
fn token(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    let door = Door::new();
    group.bench_function("hs256", |b| {
        b.iter(|| assert!(black_box(&door).admits()));
    });
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let (signed, _) = door.token.rsplit_once('.').unwrap();
    let tag = hmac::sign(&key, signed.as_bytes());
    group.bench_function("hs256_signature", |b| {
        b.iter(|| hmac::verify(&key, black_box(signed.as_bytes()), tag.as_ref()).unwrap());
    });
}

fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
}

criterion_group! {
    name = hot_paths;
    config = settings();
    targets = relay, control, frame, outbox, claim, token
}
criterion_main!(hot_paths);
