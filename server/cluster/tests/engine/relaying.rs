//! The bus between whole nodes.

use std::time::{Duration, Instant};

use voicematch_cluster::NotTaken;

use crate::cluster::{Node, frame};
use crate::proxy::{Network, Proxy};
use crate::server::{Server, settings_at};
use crate::support::eventually;

#[tokio::test]
async fn everything_comes_in_order() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let (to_b, to_a) = (a.link(&b), b.link(&a));
    for number in 1..=2_000 {
        to_b.push(&frame(number, b"there")).expect("taken");
        to_a.push(&frame(number, b"back")).expect("taken");
        if number % 500 == 0 {
            tokio::task::yield_now().await;
            eventually("it comes", async || b.frames(a.me()).len() as u64 == number).await;
        }
    }
    eventually("it comes", async || a.frames(b.me()).len() == 2_000).await;
    for (at, from) in [(&b, a.me()), (&a, b.me())] {
        assert_eq!(at.frames(from), (1..=2_000).collect::<Vec<_>>());
        assert!(at.bus.heard(from).is_some());
    }
    assert_eq!(
        a.count("bus_gaps_total", "lost") + b.count("bus_gaps_total", "lost"),
        0.0
    );
}

#[tokio::test]
async fn a_link_takes_so_much_and_not_more() {
    let mut server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let link = a.link(&b);
    server.kill();
    eventually("down", async || {
        !a.engine.state().borrow().bus && !b.engine.state().borrow().bus
    })
    .await;
    let body = vec![0; 1_000];
    let mut taken = 0;
    while link.push(&frame(taken + 1, &body)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, (1 << 20) / 1_029);
    assert_eq!(link.push(&frame(0, &body)), Err(NotTaken::Full));
    let forwards = (0..)
        .take_while(|_| link.push_forward(&frame(0, &body)).is_ok())
        .count();
    assert_eq!(
        forwards,
        (512 << 10) / 1_029,
        "requests of clients have, too"
    );
    link.push_urgent(&frame(taken + 1, &body))
        .expect("claims have room of their own");
    assert_eq!(a.count("bus_dropped_total", "full"), 3.0);
    // Room that is kept is for nobody else, whatever goes out meanwhile, and is given back.
    let small = b.link(&a);
    small.reserve(0).expect("room");
    small.reserve(0).expect("room");
    let count = (0..)
        .take_while(|_| small.push(&frame(1, b"")).is_ok())
        .count();
    assert_eq!(count, 4_094);
    small.push_reserved(&frame(2, b""));
    assert_eq!(small.push(&frame(1, b"")), Err(NotTaken::Full));
    small.release(0);
    small.push(&frame(3, b"")).expect("given back");
    assert_eq!(small.reserve(0), Err(NotTaken::Full));
    server.run().await;
    eventually("what was taken comes", async || {
        b.frames(a.me()).len() as u64 == taken + 1 + forwards as u64
    })
    .await;
    let mut messages = b.frames(a.me());
    messages.retain(|number| *number > 0);
    assert_eq!(messages, (1..=taken + 1).collect::<Vec<_>>());
    eventually("what room was kept for comes", async || {
        a.frames(b.me()).ends_with(&[2, 3])
    })
    .await;
    assert_eq!(a.frames(b.me()).len(), 4_096);
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let link = a.link(&b);
    link.set_rooms(Some(7));
    let mut number = 0;
    for cut in 1..=4 {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            number += 1;
            link.push(&frame(number, b"x")).expect("taken");
            // The load that is cut: 1,000 messages a second, which go in several batches.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if number % 100 == 50 {
                let kind = if cut % 2 == 0 {
                    "normal SKIPME yes"
                } else {
                    "pubsub"
                };
                server
                    .ask(&format!("CLIENT KILL TYPE {kind}"))
                    .await
                    .expect("cut");
            }
        }
        eventually("up", async || {
            a.engine.state().borrow().bus && b.engine.state().borrow().bus
        })
        .await;
    }
    eventually("all of it comes", async || {
        b.frames(a.me()).last() == Some(&number)
    })
    .await;
    let frames = b.frames(a.me());
    let lost = b.count("bus_gaps_total", "lost");
    assert_eq!(frames, (1..=number).collect::<Vec<_>>(), "{lost} gaps");
}

#[tokio::test]
async fn a_hole_in_the_receivers_network_is_mended_or_told() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let a = Node::new(server.settings(), 1);
    let b = Node::new(settings_at(proxy.port), 2);
    a.knows(1).await;
    b.knows(1).await;
    let link = a.link(&b);
    link.set_rooms(Some(7));
    link.push(&frame(1, b"x")).expect("taken");
    eventually("it comes", async || b.frames(a.me()) == [1]).await;
    // Messages fall into it, and so do beats; shorter than a death.
    proxy.becomes(Network::Hole);
    for number in 2..=20 {
        link.push(&frame(number, b"x")).expect("taken");
        // The time is what is tested: the hole lasts for several batches and a keep-alive, and nothing comes out of it.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.becomes(Network::Good);
    eventually("it comes, or is told", async || {
        link.push(&frame(21, b"x")).is_err() || b.frames(a.me()).contains(&21)
    })
    .await;
    let mut frames = b.frames(a.me());
    // It is sent until it is there, or there is nobody to send it to; one of them may be lost, too.
    let last = frames.iter().position(|number| *number == 21);
    if let Some(last) = last {
        let again = frames.split_off(last + 1);
        assert!(
            again.iter().all(|number| [0, 21].contains(number)),
            "{again:?}"
        );
    }
    let honest = frames
        .windows(2)
        .all(|pair| pair[1] == pair[0] + 1 || pair.contains(&0));
    assert!(honest, "{frames:?}");
}

#[tokio::test]
async fn keep_alives_tell_rooms_and_silence() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let a = Node::new(server.settings(), 1);
    let b = Node::new(settings_at(proxy.port), 2);
    a.knows(1).await;
    b.knows(1).await;
    a.link(&b).set_rooms(Some(0xAB));
    b.link(&a).set_rooms(Some(0xCD));
    eventually("both say it", async || {
        a.rooms(b.me()) == Some(0xCD) && b.rooms(a.me()) == Some(0xAB)
    })
    .await;
    proxy.becomes(Network::Hole);
    eventually("it is suspected", async || a.members.suspects() == [b.me()]).await;
    proxy.becomes(Network::Good);
    eventually("it is trusted, or dead", async || {
        a.members.suspects().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_relay_through_a_slow_network_comes_late_and_whole() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let [a, b] = Node::some(&settings_at(proxy.port)).await;
    let link = a.link(&b);
    proxy.becomes(Network::Slow(Duration::from_millis(500)));
    eventually("slow", async || !a.index.is_up() && !b.index.is_up()).await;
    for number in 1..=100 {
        link.push(&frame(number, b"x")).expect("taken");
    }
    eventually("it comes", async || b.frames(a.me()).len() >= 100).await;
    // Longer than the lease, as each of them takes a second: they are slow, but good.
    a.beats(4).await;
    b.beats(4).await;
    link.push(&frame(101, b"x")).expect("taken");
    let sent = Instant::now();
    eventually("it comes", async || b.frames(a.me()).len() >= 101).await;
    assert!(
        sent.elapsed() >= Duration::from_millis(1_000),
        "is the network slow at all?"
    );
    // Both nodes know the engine's clock, though their beats are as slow.
    let age = Duration::from_millis(700)..Duration::from_secs(10);
    assert!(age.contains(&b.age()), "{:?}", b.age());
    assert_eq!(b.frames(a.me()), (1..=101).collect::<Vec<_>>());
    assert!(!a.index.is_up() && a.members.dead().is_empty() && b.members.dead().is_empty());
}
