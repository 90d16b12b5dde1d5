//! Servers succeed each other: closes are spread.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::{User, place::Place};

/// How many users were told each 100 ms of the drain to come back.
async fn told_per_tick(users: &mut [User]) -> Vec<usize> {
    let mut ticks = vec![0; 100];
    for user in users {
        let told = user.expect("draining").await;
        let moment = told["reconnect_in_ms"].as_u64().unwrap();
        ticks[usize::try_from(moment / 100).unwrap()] += 1;
    }
    ticks
}

#[tokio::test]
async fn closes_are_spread_over_the_drain() {
    const USERS: usize = 100;
    for has_successor in [false, true] {
        let place = Place::new("8s");
        let old = place.start().await;
        let mut users = Vec::new();
        for _ in 0..USERS {
            users.push(User::connect(&old).await);
        }
        let begun = Instant::now();
        let _new = match has_successor {
            true => Some(place.start().await),
            false => {
                old.process.signal(Signal::TERM);
                None
            }
        };
        let ticks = told_per_tick(&mut users).await;
        let most = ticks.iter().max().unwrap();
        assert!(most * 100 <= USERS * 5, "{ticks:?}");
        let mut closes = JoinSet::new();
        for mut user in users {
            closes.spawn(async move {
                assert_eq!(user.expect_close().await, 4000);
                begun.elapsed()
            });
        }
        let mut closes = closes.join_all().await;
        closes.sort();
        // What they were told is what was done. A busy machine may do it late.
        let took = *closes.last().unwrap() - closes[0];
        assert!(took > Duration::from_secs(3), "{took:?}");
    }
}
