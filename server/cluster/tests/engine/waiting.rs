//! The index over whole nodes: it forgets nobody for long.

use std::time::Duration;

use redis::Value;
use rustix::process::Signal;
use voicematch_cluster::{Sought, State, TicketId, Wish};

use crate::cluster::Node;
use crate::server::Server;
use crate::support::eventually;

async fn records(server: &Server) -> i64 {
    match server.ask("HLEN {vm:m}:1:t").await {
        Ok(Value::Int(length)) => length,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn users_of_two_nodes_find_each_other() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.patient()).await;
    let waits = a.seek(1, &[], Duration::ZERO);
    a.posted(waits).await;
    let seeks = b.seek(2, &[], Duration::ZERO);
    assert_eq!(b.found(seeks).await, (waits, a.me()));
    // The claim is the core's; it withdraws who was found.
    a.index.withdraw(waits);
    assert_eq!((a.index.waiting(), b.index.waiting()), (0, 0));
}

#[tokio::test]
async fn many_are_gathered_into_few_calls() {
    let server = Server::start().await;
    let [a] = Node::some(&server.patient()).await;
    let before = a.count("cluster_calls_total", "seek");
    let all: Vec<u8> = (1..=200).collect();
    let tickets: Vec<_> = all
        .iter()
        .map(|user| a.seek(*user, &all, Duration::ZERO))
        .collect();
    for ticket in &tickets {
        a.posted(*ticket).await;
    }
    let calls = a.count("cluster_calls_total", "seek") - before;
    assert!(
        (4.0..=8.0).contains(&calls),
        "200 in calls of 64 at most: {calls}"
    );
    tickets.iter().for_each(|ticket| a.index.withdraw(*ticket));
    eventually("all are out", async || records(&server).await == 0).await;
}

#[tokio::test]
async fn who_was_cancelled_on_the_way_does_not_stay() {
    let server = Server::start().await;
    let [a] = Node::some(&server.patient()).await;
    for user in 1..=50 {
        let ticket = a.seek(user, &[], Duration::ZERO);
        a.index.withdraw(ticket);
    }
    let last = a.seek(99, &[], Duration::ZERO);
    a.posted(last).await;
    assert_eq!(records(&server).await, 1);
}

#[tokio::test]
async fn who_is_missing_in_the_engine_is_put_back() {
    let server = Server::start().await;
    let [a] = Node::some(&server.patient()).await;
    let ticket = a.seek(1, &[], Duration::from_secs(60));
    a.posted(ticket).await;
    // The first time it may be put back because the engine has just come up.
    while a.count("match_put_back_total", "missing") < 1.0 {
        server.ask("DEL {vm:m}:1:t {vm:m}:1:p").await.expect("lost");
        eventually("it is back", async || records(&server).await == 1).await;
    }
}

#[tokio::test]
async fn an_outage_is_told_and_all_are_posted_again() {
    let mut server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let ticket = a.seek(1, &[], Duration::from_secs(60));
    a.posted(ticket).await;
    server.kill();
    eventually("it is down", async || !a.index.is_up()).await;
    let meanwhile = a.seek(2, &[1], Duration::ZERO);
    eventually("it is told", async || {
        a.told(meanwhile).last() == Some(&Sought::Unknown)
    })
    .await;
    server.run().await;
    eventually("both are posted", async || records(&server).await == 2).await;
    let seeks = b.seek(3, &[], Duration::ZERO);
    assert_eq!(b.found(seeks).await.0, ticket, "at its old place");
}

/// As users do who are matched here meanwhile: of them the engine has never heard.
#[tokio::test]
async fn who_came_and_went_during_an_outage_costs_nothing_afterwards() {
    let mut server = Server::start().await;
    let [a] = Node::some(&server.settings()).await;
    let posted = a.seek(1, &[], Duration::from_secs(60));
    a.posted(posted).await;
    server.kill();
    eventually("it is down", async || !a.index.is_up()).await;
    a.index.withdraw(posted);
    for number in 0..1_000 {
        let ticket = TicketId::new([2; 8], number);
        let wish = Wish::new(ticket, [2; 8], &[], &[[3; 17]]).expect("a wish");
        a.index.seek(wish, Duration::ZERO, false);
        a.index.withdraw(ticket);
    }
    let calls = || a.count("cluster_calls_total", "seek");
    let before = calls();
    server.run().await;
    let last = a.seek(3, &[], Duration::ZERO);
    a.posted(last).await;
    a.beats(2).await;
    let calls = calls() - before;
    assert!(calls <= 8.0, "{calls} calls");
    assert_eq!(records(&server).await, 1);
}

#[tokio::test]
async fn a_call_without_an_answer_loses_nobody() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    server.signal(Signal::STOP);
    let ticket = a.seek(1, &[], Duration::from_secs(60));
    eventually("it is told", async || {
        a.told(ticket).last() == Some(&Sought::Unknown)
    })
    .await;
    server.signal(Signal::CONT);
    a.posted(ticket).await;
    eventually("up", async || b.index.is_up()).await;
    let seeks = b.seek(3, &[], Duration::ZERO);
    assert_eq!(b.found(seeks).await.0, ticket);
}

#[tokio::test]
async fn what_the_dead_have_left_is_swept() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let all: Vec<u8> = (1..=100).collect();
    let tickets: Vec<_> = all
        .iter()
        .map(|user| b.seek(*user, &all, Duration::ZERO))
        .collect();
    for ticket in &tickets {
        b.posted(*ticket).await;
    }
    let mine = a.seek(200, &all, Duration::ZERO);
    a.posted(mine).await;
    assert_eq!(records(&server).await, 101);
    drop(b);
    eventually("only mine is left", async || records(&server).await == 1).await;
}

#[tokio::test]
async fn nobody_of_a_draining_node_is_found() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.patient()).await;
    let theirs = b.seek(1, &[], Duration::ZERO);
    b.posted(theirs).await;
    b.members.drain();
    eventually("it is known", async || {
        let others = a.members.others();
        others[0].1.as_ref().is_some_and(|info| info.draining)
    })
    .await;
    let mine = a.seek(2, &[], Duration::ZERO);
    a.posted(mine).await;
    // Who waits there is still seen by the others.
    assert_eq!(records(&server).await, 2);
}

#[tokio::test]
async fn who_was_posted_beside_a_suspect_looks_again() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.patient()).await;
    let theirs = b.seek(1, &[], Duration::ZERO);
    b.posted(theirs).await;
    a.members.suspect(b.me());
    let mine = a.seek(2, &[], Duration::ZERO);
    a.posted(mine).await;
    a.members.trust(b.me());
    assert_eq!(a.found(mine).await, (theirs, b.me()));
}

/// The engine goes back to what it was when `keep_state` was called, as after a failover, and connections break.
async fn state_comes_back(server: &Server) {
    for key in ["t", "p"] {
        let copy = format!("COPY {{vm:m}}:old:{key} {{vm:m}}:1:{key} REPLACE");
        server.ask(&copy).await.expect("copied");
    }
    server
        .ask("CLIENT KILL TYPE normal SKIPME yes")
        .await
        .expect("cut");
    server.ask("CLIENT KILL TYPE pubsub").await.expect("cut");
}

async fn keep_state(server: &Server) {
    for key in ["t", "p"] {
        let copy = format!("COPY {{vm:m}}:1:{key} {{vm:m}}:old:{key}");
        server.ask(&copy).await.expect("copied");
    }
}

#[tokio::test]
async fn who_has_left_is_withdrawn_again_from_an_older_state() {
    let server = Server::start().await;
    let [a] = Node::some(&server.settings()).await;
    let ticket = a.seek(1, &[], Duration::ZERO);
    a.posted(ticket).await;
    keep_state(&server).await;
    a.index.withdraw(ticket);
    eventually("it is out", async || records(&server).await == 0).await;
    state_comes_back(&server).await;
    eventually("it is out again", async || records(&server).await == 0).await;
}

#[tokio::test]
async fn what_the_dead_have_left_is_swept_again_from_an_older_state() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let theirs = b.seek(1, &[], Duration::ZERO);
    b.posted(theirs).await;
    keep_state(&server).await;
    drop(b);
    eventually("it is swept", async || records(&server).await == 0).await;
    // All passes are over: nothing is asked for half a second and more.
    let calls = || a.count("cluster_calls_total", "seek");
    let mut before = -1.0;
    while before != calls() {
        before = calls();
        a.beats(2).await;
    }
    state_comes_back(&server).await;
    eventually("it is swept again", async || records(&server).await == 0).await;
    drop(a);
}

#[tokio::test]
async fn a_node_that_is_buried_seeks_in_its_next_life() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let mut last = None;
    for user in 1..=u8::MAX {
        if a.count("cluster_calls_total", "stale") >= 1.0 {
            break;
        }
        let mut cmd = redis::cmd("HSET");
        let cmd = cmd.arg("{vm:m}:1:n").arg(&a.me().0).arg("x1");
        server.run_cmd(cmd).await.expect("marked");
        let (old, ticket) = (
            a.me(),
            a.seek(user, &[], Duration::from_secs(u64::from(user))),
        );
        // Its beat may have told it first.
        eventually("a new life", async || a.me() != old).await;
        a.posted(ticket).await;
        if let Some(before) = last.replace(ticket) {
            a.index.withdraw(before);
        }
    }
    let ticket = last.expect("one");
    assert!(
        a.told(ticket).contains(&Sought::Unknown),
        "{:?}",
        a.told(ticket)
    );
    let seeks = b.seek(0, &[], Duration::ZERO);
    assert_eq!(b.found(seeks).await, (ticket, a.me()));
}

#[tokio::test]
async fn the_index_is_up_only_after_a_good_beat() {
    let server = Server::start().await;
    server.ask("SET {vm:m}:1:n another").await.expect("set");
    let a = Node::new(server.settings(), 1);
    eventually("beats are refused", async || {
        a.count("cluster_calls_total", "refused") >= 2.0
    })
    .await;
    assert!(!a.index.is_up() && *a.engine.state().borrow() == State::default());
    server.ask("DEL {vm:m}:1:n").await.expect("deleted");
    a.knows(0).await;
    assert!(a.index.is_up());
}

/// What was asked before it stood still may be done when it goes on, by a connection that was given up.
#[tokio::test]
async fn who_gives_up_while_the_engine_stands_still_is_not_left_there() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    server.signal(Signal::STOP);
    let ticket = a.seek(1, &[], Duration::ZERO);
    eventually("the connection is given up", async || {
        a.count("cluster_reconnects_total", "silent") >= 1.0
    })
    .await;
    a.index.withdraw(ticket);
    server.signal(Signal::CONT);
    eventually("up", async || a.index.is_up() && b.index.is_up()).await;
    let last = a.seek(2, &[1], Duration::ZERO);
    a.posted(last).await;
    eventually("only the last one stands there", async || {
        records(&server).await == 1
    })
    .await;
    let seeks = b.seek(3, &[], Duration::ZERO);
    assert_eq!(b.found(seeks).await, (last, a.me()));
}
