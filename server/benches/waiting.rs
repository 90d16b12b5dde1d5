//! Matching among many who wait: what a new ticket, a match, a cancel and a widening step cost with 1,000
//! to 1,000,000 others in the pools, and how much memory each of those takes.
//!
//! `cargo bench -p voicematch-server --bench waiting`; a filter such as `/1000$` keeps it short.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "benchmarks: their names say what they are, and they may fail"
)]

mod support;

use std::{
    cell::OnceCell,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use support::{Sink, WIDEN_AFTER, new_matchmaker, new_member, new_metrics, wish};
use tikv_jemalloc_ctl::thread;
use voicematch_core::{
    matchmaker::{Matchmaker, Ticket, Wish},
    metrics::Metrics,
    room::{Member, Place},
};
use voicematch_protocol::LeaveReason;

const CROWDS: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];
/// Each crowd is a multiple of it.
const LANGUAGES: usize = 200;
const REGIONS: usize = 50;
const INTERESTS: usize = 3;
/// Operations that are timed together; not more than there are languages.
const GROUP: usize = 50;

/// Tickets that wait. No two fit each other: each pair of a language and an interest occurs once, as it
/// must be where so many wait.
struct Crowd {
    matchmaker: Matchmaker,
    metrics: Arc<Metrics>,
    members: Vec<Arc<Member>>,
    tickets: Vec<Arc<Ticket>>,
    newcomers: Vec<Arc<Member>>,
    start: Instant,
    /// How many have been picked so far.
    picked: usize,
}

/// What the i-th of the crowd wants.
fn wish_of(i: usize) -> Wish {
    let words: [String; INTERESTS] = std::array::from_fn(|k| interest(i, k));
    criteria(i, &words)
}

/// What somebody wants who shares one interest, and only that, with the i-th.
fn wish_like(i: usize) -> Wish {
    criteria(
        i,
        &["nobody's".into(), "nobody's too".into(), interest(i, 1)],
    )
}

fn interest(i: usize, k: usize) -> String {
    format!("topic {:06}", i / LANGUAGES * INTERESTS + k)
}

fn criteria(i: usize, words: &[String; INTERESTS]) -> Wish {
    let (language, region) = (i % LANGUAGES, i % REGIONS);
    wish(
        &format!("l{language:03}"),
        &format!("region {region:02}"),
        &words.each_ref().map(String::as_str),
    )
}

/// Bytes that this thread holds, with what the allocator rounds them up to.
fn held() -> u64 {
    let allocated = thread::allocatedp::read().unwrap().get();
    allocated - thread::deallocatedp::read().unwrap().get()
}

impl Crowd {
    /// Puts `count` tickets into a matchmaker, and measures the memory.
    fn gather(count: usize) -> Self {
        let (metrics, sink) = (new_metrics(), Sink::default());
        let member = |i: usize| new_member(i as u64, &sink, &metrics);
        let mut crowd = Self {
            matchmaker: new_matchmaker(&metrics),
            members: (0..count).map(member).collect(),
            tickets: Vec::with_capacity(count),
            newcomers: (count..count + GROUP).map(member).collect(),
            metrics: metrics.clone(),
            start: Instant::now(),
            picked: 0,
        };
        let (before, mut slowest) = (held(), Duration::ZERO);
        for i in 0..count {
            let wish = wish_of(i);
            let begun = Instant::now();
            crowd.tickets.push(crowd.find(&crowd.members[i], wish));
            slowest = slowest.max(begun.elapsed());
        }
        assert_eq!(metrics.waiting_users(), i64::try_from(count).unwrap());
        println!(
            "\n{count} wait in {} pools: {:.0} bytes for each; the slowest of them found its place in {slowest:.2?}",
            crowd.matchmaker.pool_count(),
            (held() - before) as f64 / count as f64,
        );
        crowd
    }

    fn find(&self, member: &Arc<Member>, wish: Wish) -> Arc<Ticket> {
        let found = self
            .matchmaker
            .find(member, wish, Vec::new(), None, self.start);
        found.expect("was idle")
    }

    /// Some who wait, from all over the memory, no two with the same language.
    fn pick(&mut self, count: usize) -> Vec<usize> {
        // One more than a multiple of all that the crowd's size is a multiple of: everyone's turn comes.
        let stride = self.tickets.len() / LANGUAGES * 618 / 1000 * LANGUAGES + 1;
        let turns = self.picked..self.picked + count;
        self.picked = turns.end;
        turns
            .map(|turn| turn * stride % self.tickets.len())
            .collect()
    }

    /// Makes somebody who no longer waits wait again.
    fn restore(&mut self, i: usize) {
        self.tickets[i] = self.find(&self.members[i], wish_of(i));
        assert!(self.tickets[i].is_waiting());
    }

    fn match_newcomers(&mut self, picked: &[usize]) -> Duration {
        let wishes: Vec<Wish> = picked.iter().map(|&i| wish_like(i)).collect();
        let begun = Instant::now();
        for (newcomer, wish) in self.newcomers.iter().zip(wishes) {
            self.find(newcomer, wish);
        }
        let time = begun.elapsed();
        for (j, &i) in picked.iter().enumerate() {
            assert_eq!(self.members[i].place(), Place::InRoom);
            self.newcomers[j].leave_room(LeaveReason::Left);
            self.restore(i);
        }
        time
    }

    fn cancel(&mut self, picked: &[usize]) -> Duration {
        let begun = Instant::now();
        for &i in picked {
            assert!(self.matchmaker.cancel(&self.tickets[i]));
        }
        let time = begun.elapsed();
        picked.iter().for_each(|&i| self.restore(i));
        time
    }

    /// Who looks, finds nobody, and waits.
    fn wait(&mut self, picked: &[usize]) -> Duration {
        let wishes: Vec<Wish> = picked.iter().map(|&i| wish_of(i)).collect();
        for &i in picked {
            self.matchmaker.cancel(&self.tickets[i]);
        }
        let begun = Instant::now();
        for (&i, wish) in picked.iter().zip(wishes) {
            self.tickets[i] = self.find(&self.members[i], wish);
        }
        begun.elapsed()
    }

    /// Who joins the pool of their language, and finds nobody there.
    fn widen(&mut self, picked: &[usize]) -> Duration {
        let due = self.start + WIDEN_AFTER;
        let begun = Instant::now();
        for &i in picked {
            self.matchmaker.advance(&self.tickets[i], due);
        }
        let time = begun.elapsed();
        for &i in picked {
            assert!(self.matchmaker.cancel(&self.tickets[i]), "still waits");
            self.restore(i);
        }
        time
    }
}

/// One of the operations on some of the crowd, and how long it took.
type Operation = fn(&mut Crowd, &[usize]) -> Duration;

fn waiting(c: &mut Criterion) {
    let operations: [(&str, Operation); 4] = [
        ("match", Crowd::match_newcomers),
        ("wait", Crowd::wait),
        ("cancel", Crowd::cancel),
        ("widen", Crowd::widen),
    ];
    for count in CROWDS {
        let mut group = c.benchmark_group("waiting");
        // Gathered only if one of its benchmarks is asked for.
        let mut crowd = OnceCell::new();
        for (name, operation) in operations {
            group.bench_function(format!("{name}/{count}"), |b| {
                crowd.get_or_init(|| Crowd::gather(count));
                let crowd = crowd.get_mut().unwrap();
                b.iter_custom(|rounds| {
                    let mut left = usize::try_from(rounds).unwrap();
                    let mut time = Duration::ZERO;
                    while left > 0 {
                        let picked = crowd.pick(left.min(GROUP));
                        time += operation(crowd, &picked);
                        left -= picked.len();
                    }
                    time
                });
            });
        }
        if let Some(crowd) = crowd.get() {
            assert_eq!(crowd.metrics.waiting_users(), i64::try_from(count).unwrap());
        }
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
}

criterion_group! {
    name = among_many;
    config = settings();
    targets = waiting
}
criterion_main!(among_many);
