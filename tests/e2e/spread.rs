//! A drain sends its users away one after the other, at the moments that it has named: the servers that they come to see no
//! wave.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::{Client, End, TestServer, User, Via, client::pair, place::Place};

/// Users outside rooms, and rooms of two whose members can come back.
const ALONE: usize = 60;
const ROOMS: usize = 20;
const USERS: usize = ALONE + 2 * ROOMS;

/// Half of it, and at most 10 s, is what early users are spread over, and late ones.
const DRAIN: &str = "20s";

/// How much later than named a close may come: a resumable session has a second to confirm what it was sent, and a busy
/// machine does all things late.
const LATE: Duration = Duration::from_secs(3);

/// What became of a user.
#[derive(Debug, Clone, Copy)]
struct Gone {
    in_room: bool,
    /// When the server said that it drains.
    told: Instant,
    /// When the user is to be closed, from then on.
    named: Duration,
    closed: Instant,
}

async fn alone(mut user: User) -> Gone {
    let draining = user.expect("draining").await;
    let told = Instant::now();
    assert_eq!(user.expect_close().await, 4000);
    Gone {
        in_room: false,
        told,
        named: Duration::from_millis(draining["reconnect_in_ms"].as_u64().unwrap()),
        closed: Instant::now(),
    }
}

async fn in_room(mut client: Client) -> Gone {
    let draining = client.expect("draining").await;
    let told = Instant::now();
    assert_eq!(client.end().await, End::Closed(Some(4000)));
    Gone {
        in_room: true,
        told,
        named: Duration::from_millis(draining["reconnect_in_ms"].as_u64().unwrap()),
        closed: Instant::now(),
    }
}

/// What becomes of all users once `end` has told the server to drain; and when that was.
async fn drained<T>(server: &TestServer, end: impl Future<Output = T>) -> (Instant, Vec<Gone>) {
    let mut users = JoinSet::new();
    for _ in 0..ALONE {
        users.spawn(alone(User::connect(server).await));
    }
    for _ in 0..ROOMS {
        let (one, other) = pair(server, Via::WebSocket, Via::EventStream).await;
        users.spawn(in_room(one));
        users.spawn(in_room(other));
    }
    let begun = Instant::now();
    let _next = end.await;
    (begun, users.join_all().await)
}

/// The most that happens within 100 ms.
fn most_at_once(moments: impl Iterator<Item = Instant>) -> usize {
    let mut moments: Vec<_> = moments.collect();
    moments.sort();
    let within = |from: &Instant| {
        let near = |moment: &&Instant| (**moment - *from) < Duration::from_millis(100);
        let from_here = moments.iter().skip_while(|moment| *moment < from);
        from_here.take_while(near).count()
    };
    moments.iter().map(within).max().unwrap()
}

/// Nobody is closed before the moment that was named, nor long after it, and at no time are there many.
fn are_spread(begun: Instant, users: &[Gone]) {
    assert_eq!(users.len(), USERS);
    let told = users.iter().map(|user| user.told).min().unwrap();
    for user in users {
        assert!(begun + user.named <= user.closed, "too early: {user:?}");
        assert!(
            user.closed <= told + user.named + LATE,
            "too late: {user:?}"
        );
    }
    let named = most_at_once(users.iter().map(|user| told + user.named));
    let closed = most_at_once(users.iter().map(|user| user.closed));
    // Evenly spread it is one or two at a time: a machine that stands still for a moment has some reserve.
    assert!(named * 100 <= USERS * 5, "{named} are told the same moment");
    assert!(closed * 100 <= USERS * 5, "{closed} are closed at once");
}

/// The moments that are named to users in rooms, or outside: the first and the last.
fn named(users: &[Gone], in_room: bool) -> (Duration, Duration) {
    let users = users.iter().filter(|user| user.in_room == in_room);
    let moments: Vec<_> = users.map(|user| user.named).collect();
    (
        *moments.iter().min().unwrap(),
        *moments.iter().max().unwrap(),
    )
}

#[tokio::test]
async fn closes_are_spread_over_the_first_half_when_there_is_a_successor() {
    let place = Place::new(DRAIN);
    let old = place.start().await;
    let (begun, users) = drained(&old, place.start()).await;
    are_spread(begun, &users);
    let (alone, in_room) = (named(&users, false), named(&users, true));
    assert!(alone.1 < in_room.0, "{alone:?}, {in_room:?}");
    assert!(in_room.1 < Duration::from_secs(10), "{in_room:?}");
}

#[tokio::test]
async fn closes_are_spread_over_both_halves_when_there_is_none() {
    let server = TestServer::start(&["--drain-timeout", DRAIN]).await;
    let (begun, users) = drained(&server, async {
        server.process.signal(Signal::TERM);
    })
    .await;
    are_spread(begun, &users);
    let (alone, in_room) = (named(&users, false), named(&users, true));
    assert!(alone.1 < Duration::from_secs(10), "{alone:?}");
    assert!(in_room.0 >= Duration::from_secs(10), "{in_room:?}");
    assert!(in_room.1 > Duration::from_secs(18), "{in_room:?}");
}
