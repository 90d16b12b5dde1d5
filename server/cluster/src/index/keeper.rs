//! Puts right what the engine has lost, and takes out what the dead have left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{interval, sleep};

use super::{Asked, Shared};
use crate::engine::lock;

/// Records that one bite of a sweep looks at, and the time between two: 0.6 ms of the engine each.
pub(super) const SWEEP: u16 = 200;
const BITE: Duration = Duration::from_millis(50);

/// So long an answer to a bite is waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(50);

/// Checks in one look: 20,000 a second, of 1.1 us of the engine each.
const CHECKS: usize = 1_000;

/// After an outage, all nodes' tickets do not come at once.
const SPREAD: Duration = Duration::from_millis(500);

/// Two: calls of the dead may still be on their way during the first.
const SWEEPS: u8 = 2;

/// Checks each ticket every five seconds, and posts all of them again when the engine is back, has lost its data, or
/// knows this node by another life, or when others may be found again.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut looks = interval(LOOK);
    let mut up = 0;
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let ups = shared.engine.turns().ups;
                if ups != up && shared.is_up() {
                    up = ups;
                    withdraw_again(&shared);
                    shared.sweep.notify_one();
                    sleep(SPREAD.mul_f64(rand::random())).await;
                    all_again(&shared, None, "engine");
                }
                check(&shared);
            }
            since = shared.members.look_again() => all_again(&shared, Some(since), "nodes"),
        }
    }
}

fn check(shared: &Shared) {
    if !shared.is_up() {
        return;
    }
    let due = lock(&shared.standing).due(Instant::now(), CHECKS);
    for (ticket, unsure) in due {
        if unsure {
            shared.put_back(ticket, "unknown");
        } else {
            shared.push(Asked::Check(ticket));
        }
    }
}

/// The engine may be another one, or have an older state.
fn withdraw_again(shared: &Shared) {
    let gone = lock(&shared.standing).withdraw_again(Instant::now());
    for ticket in gone {
        // Full: who finds it is told that it is gone.
        shared.push(Asked::Withdraw(ticket));
    }
}

/// Those that were posted since then, or all.
fn all_again(shared: &Shared, since: Option<Instant>, reason: &str) {
    if !shared.is_up() {
        return;
    }
    let all = lock(&shared.standing).posted_since(since);
    for ticket in all {
        shared.put_back(ticket, reason);
    }
}

/// After a death, and when the index is up again, the smallest node gives the memory of dead ones' tickets back: they are not
/// found anyway.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let mut deaths = shared.members.deaths();
    loop {
        tokio::select! {
            changed = deaths.changed() => if changed.is_err() {
                return;
            },
            () = shared.sweep.notified() => {}
        }
        for _ in 0..SWEEPS {
            sweep_once(&shared).await;
        }
    }
}

async fn sweep_once(shared: &Shared) {
    let mut cursor = 0;
    while shared.members.smallest() && !shared.members.dead().is_empty() {
        shared.up().await;
        lock(&shared.standing).take_cursor();
        shared.push(Asked::Sweep(cursor));
        let asked = Instant::now();
        let answer = loop {
            sleep(BITE).await;
            let answer = lock(&shared.standing).take_cursor();
            if answer.is_some() || asked.elapsed() > ANSWER {
                break answer;
            }
        };
        match answer {
            Some(0) => return,
            Some(next) => cursor = next,
            // Lost: the same bite again.
            None => {}
        }
    }
}
