//! What all topics need: a server process, users, hand-made bytes, and waits that end.

pub(crate) mod app;
#[cfg(feature = "postgres")]
pub(crate) mod asked;
pub(crate) mod client;
#[cfg(feature = "cluster")]
pub(crate) mod clock;
#[cfg(feature = "cluster")]
pub(crate) mod engine;
pub(crate) mod gate;
#[cfg(feature = "transcribe")]
pub(crate) mod hearing;
pub(crate) mod http;
pub(crate) mod jwt;
#[cfg(feature = "cluster")]
pub(crate) mod machine;
pub(crate) mod matched;
#[cfg(feature = "cluster")]
#[path = "../../server/cluster/tests/engine/proxy.rs"]
pub(crate) mod network;
pub(crate) mod place;
pub(crate) mod ports;
pub(crate) mod processes;
#[cfg(feature = "transcribe")]
pub(crate) mod providers;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod server;
#[cfg(feature = "postgres")]
pub(crate) mod sqlite;
#[cfg(feature = "transcribe")]
pub(crate) mod talk;
pub(crate) mod tunnel;
pub(crate) mod user;

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

pub(crate) use client::{Client, End, Via};
pub(crate) use raw::{Frame, RawSocket, client_frame};
pub(crate) use server::{Process, TestServer, binary};
pub(crate) use user::{User, pair};

/// How long anything may take that is expected to happen. Long, for a busy machine: a test that passes
/// does not wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How much longer than promised something may take here.
const BUSY: u32 = 3;

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(10);

/// Waits for `future`, but not for ever.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: {what} did not happen within {PATIENCE:?}"),
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        while !condition().await {
            assert!(
                begun.elapsed() < PATIENCE,
                "{caller}: not within {PATIENCE:?}: {what}"
            );
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Waits until `read` gives `expected`.
#[track_caller]
pub(crate) fn becomes<T: PartialEq + Debug>(
    expected: T,
    what: impl std::fmt::Display,
    mut read: impl AsyncFnMut() -> T,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        loop {
            let found = read().await;
            if found == expected {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{caller}: {what} is {found:?} after {PATIENCE:?}, not {expected:?}"
            );
            tokio::time::sleep(TICK).await;
        }
    }
}

/// A promise of the documents holds: `what` came within `bound`, or within three times that, as the machine of the tests does other
/// things, too. Far more than that is a fault, and not the machine.
#[track_caller]
pub(crate) fn assert_within(bound: Duration, what: &str, began: Instant) {
    let took = began.elapsed();
    println!("{what} after {took:?}; promised are {bound:?}");
    assert!(
        took <= bound * BUSY,
        "{what} after {took:?}; promised are {bound:?}"
    );
}

/// Runs the program to its end; returns its exit code and what it wrote on stderr.
pub(crate) async fn run(args: &[&str]) -> (Option<i32>, String) {
    let mut command = binary();
    command.args(args);
    let mut process = Process::spawn(command);
    let code = process.exit_code().await;
    (code, process.stderr().join("\n"))
}
