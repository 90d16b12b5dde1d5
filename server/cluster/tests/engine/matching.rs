//! `seek` and what belongs to it: what is promised of the order, of pools, and of those who must not meet.

use voicematch_cluster::{Answer, Op, TicketId, Wish};

use crate::support::node;
use crate::table::{ANYONE, Table, anyone, found, person, pool, seek, session, ticket, wish};

#[tokio::test]
async fn the_second_finds_the_first_and_both_are_out() {
    let table = Table::new().await;
    let pools = [pool(0, 1), pool(1, 1), pool(ANYONE, 0)];
    assert_eq!(
        table
            .ops(1, &[], &[], &[seek(wish(1, &pools, &[]), 0)])
            .await,
        [Answer::Posted]
    );
    assert_eq!(table.sizes().await, (1, 3));
    let answers = table.ops(2, &[], &[], &[seek(anyone(2), 0)]).await;
    let [Answer::Found(found)] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(
        (found.ticket, found.node, found.level),
        (ticket(1), node(1), ANYONE)
    );
    assert!(found.since > 1_600_000_000_000_000, "microseconds");
    assert_eq!(table.sizes().await, (0, 0), "nothing is left behind");
    assert_eq!(
        table.finds(seek(anyone(3), 0)).await,
        None,
        "nobody is found twice"
    );
}

#[tokio::test]
async fn pairs_inside_a_call() {
    let table = Table::new().await;
    let ops: Vec<_> = (1..=4).map(|user| seek(anyone(user), 0)).collect();
    let answers: Vec<_> = table
        .ops(1, &[], &[], &ops)
        .await
        .into_iter()
        .map(found)
        .collect();
    assert_eq!(answers, [None, Some(1), None, Some(3)]);
}

#[tokio::test]
async fn the_oldest_first_however_they_come() {
    let table = Table::new().await;
    // They avoid each other, so that all of them wait.
    let all: Vec<_> = (1..=5).map(session).collect();
    for (user, waited) in [(1, 3), (2, 9), (3, 1), (4, 5), (5, 0)] {
        let waits = wish(user, &[pool(ANYONE, 0)], &all);
        assert_eq!(table.finds(seek(waits, waited)).await, None);
    }
    for expected in [2, 4, 1, 3, 5] {
        assert_eq!(table.finds(seek(anyone(9), 0)).await, Some(expected));
    }
}

#[tokio::test]
async fn the_narrowest_level_first_then_the_oldest_of_its_pools() {
    let table = Table::new().await;
    let all: Vec<_> = (1..=4).map(session).collect();
    let post = async |user, waited, pools: &[_]| {
        assert_eq!(
            table.finds(seek(wish(user, pools, &all), waited)).await,
            None
        );
    };
    post(1, 100, &[pool(ANYONE, 0)]).await;
    post(2, 10, &[pool(1, 1), pool(ANYONE, 0)]).await;
    post(3, 20, &[pool(1, 2), pool(ANYONE, 0)]).await;
    post(4, 1, &[pool(0, 7), pool(ANYONE, 0)]).await;
    let look = || {
        wish(
            9,
            &[pool(ANYONE, 0), pool(1, 1), pool(1, 2), pool(0, 7)],
            &[],
        )
    };
    let mut order = Vec::new();
    for _ in 0..4 {
        let answer = table.op(seek(look(), 0)).await;
        let Answer::Found(found) = answer else {
            panic!("{answer:?}")
        };
        order.push((found.ticket.session()[0], found.level));
    }
    assert_eq!(order, [(4, 0), (3, 1), (2, 1), (1, ANYONE)]);
}

#[tokio::test]
async fn who_must_not_meet_does_not() {
    let table = Table::new().await;
    let waits = async |wish| assert_eq!(table.finds(seek(wish, 0)).await, None);
    let everyone = [pool(ANYONE, 0)];
    waits(wish(1, &everyone, &[session(2), person(3)])).await;
    // Avoided by the one who waits: as a session, as a person.
    waits(wish(2, &everyone, &[])).await;
    table.op(Op::Withdraw(ticket(2))).await;
    waits(wish(3, &everyone, &[])).await;
    table.op(Op::Withdraw(ticket(3))).await;
    // Avoiding the one who waits.
    waits(wish(4, &everyone, &[session(1)])).await;
    table.op(Op::Withdraw(ticket(4))).await;
    waits(wish(5, &everyone, &[session(8), person(1)])).await;
    table.op(Op::Withdraw(ticket(5))).await;
    // The same session with another search, the same person with another session.
    let twice = Wish::new(TicketId::new(session(1), 2), person(6), &[], &everyone).expect("a wish");
    waits(twice.clone()).await;
    table.op(Op::Withdraw(twice.ticket)).await;
    let same = Wish::new(ticket(6), person(1), &[], &everyone).expect("a wish");
    waits(same).await;
    table.op(Op::Withdraw(ticket(6))).await;
    assert_eq!(table.finds(seek(anyone(7), 0)).await, Some(1));
}

#[tokio::test]
async fn an_avoided_id_is_one_of_eight_bytes_and_not_a_part_of_two() {
    let table = Table::new().await;
    assert_eq!(table.finds(seek(anyone(5), 0)).await, None);
    // Session 5 is 05 eight times: it stands across the border of these two.
    let (mut left, mut right) = ([1; 8], [2; 8]);
    left[4..].fill(5);
    right[..4].fill(5);
    assert_eq!(
        table
            .finds(seek(wish(9, &[pool(ANYONE, 0)], &[left, right]), 0))
            .await,
        Some(5)
    );
}

#[tokio::test]
async fn seeking_again_replaces_and_widens() {
    let table = Table::new().await;
    let narrow = wish(1, &[pool(0, 1)], &[]);
    assert_eq!(table.finds(seek(narrow, 0)).await, None);
    assert_eq!(
        table
            .finds(seek(wish(1, &[pool(0, 2), pool(ANYONE, 0)], &[]), 7))
            .await,
        None
    );
    assert_eq!(
        table.sizes().await,
        (1, 2),
        "the old pool is empty, hence gone"
    );
    assert_eq!(
        table.finds(seek(anyone(2), 0)).await,
        Some(1),
        "again without having been posted"
    );
}

#[tokio::test]
async fn who_is_put_back_gets_the_old_place() {
    let table = Table::new().await;
    let all: Vec<_> = (1..=2).map(session).collect();
    let waits = |user| wish(user, &[pool(ANYONE, 0)], &all);
    table
        .ops(1, &[], &[], &[seek(waits(1), 20), seek(waits(2), 10)])
        .await;
    assert_eq!(table.finds(seek(anyone(9), 0)).await, Some(1));
    assert_eq!(table.finds(seek(waits(1), 20)).await, None);
    assert_eq!(table.finds(seek(anyone(9), 0)).await, Some(1));
}

#[tokio::test]
async fn withdrawing_and_checking() {
    let table = Table::new().await;
    let (w, c) = (Op::Withdraw(ticket(1)), Op::Check(ticket(1)));
    let ops = [
        c.clone(),
        w.clone(),
        seek(anyone(1), 0),
        c.clone(),
        w.clone(),
        c.clone(),
    ];
    let expected = [
        Answer::Checked(false),
        Answer::Withdrawn(false),
        Answer::Posted,
        Answer::Checked(true),
        Answer::Withdrawn(true),
        Answer::Checked(false),
    ];
    assert_eq!(table.ops(1, &[], &[], &ops).await, expected);
    assert_eq!(table.sizes().await, (0, 0));
    table.op(seek(anyone(1), 0)).await;
    assert_eq!(
        table.ops(2, &[], &[], &[c]).await,
        [Answer::Checked(false)],
        "it is another node's"
    );
}

#[tokio::test]
async fn who_has_gone_on_to_another_node_is_not_withdrawn_by_the_one_before() {
    let table = Table::new().await;
    let post = seek(anyone(1), 0);
    table.ops(1, &[], &[], std::slice::from_ref(&post)).await;
    table.ops(2, &[], &[], &[post]).await;
    let late = Op::Withdraw(ticket(1));
    assert_eq!(
        table.ops(1, &[], &[], &[late]).await,
        [Answer::Withdrawn(false)]
    );
    assert_eq!(
        table.ops(2, &[], &[], &[Op::Check(ticket(1))]).await,
        [Answer::Checked(true)]
    );
    assert_eq!(table.finds(seek(anyone(2), 0)).await, Some(1));
}

#[tokio::test]
async fn the_dead_are_dropped_and_suspects_passed_over() {
    let table = Table::new().await;
    let all: Vec<_> = (1..=3).map(session).collect();
    for (user, waited) in [(1, 30), (2, 20), (3, 10)] {
        let waits = wish(user, &[pool(1, user), pool(ANYONE, 0)], &all);
        table.ops(user, &[], &[], &[seek(waits, waited)]).await;
    }
    let answers = table
        .ops(
            9,
            &[node(8), node(1)],
            &[node(7), node(2)],
            &[seek(anyone(9), 0)],
        )
        .await;
    assert_eq!(found(answers[0]), Some(3));
    assert_eq!(
        table.sizes().await,
        (1, 2),
        "the dead one's is gone from all pools"
    );
    assert_eq!(
        table.finds(seek(anyone(9), 0)).await,
        Some(2),
        "the suspect's is still there"
    );
}

#[tokio::test]
async fn sweeping_takes_out_the_dead_and_nobody_else() {
    let table = Table::new().await;
    let users: Vec<u8> = (0..120).collect();
    let all: Vec<_> = users.iter().copied().map(session).collect();
    for chunk in users.chunks(60) {
        for (owner, odd) in [(1, 1), (2, 0)] {
            let mine = chunk.iter().filter(|user| **user % 2 == odd);
            let ops: Vec<_> = mine
                .map(|user| seek(wish(*user, &[pool(ANYONE, 0)], &all), 0))
                .collect();
            table.ops(owner, &[], &[], &ops).await;
        }
    }
    let (mut cursor, mut calls) = (0, 0);
    loop {
        let answers = table
            .ops(3, &[node(1)], &[], &[Op::Sweep { cursor, count: 20 }])
            .await;
        let [Answer::Swept(next)] = answers[..] else {
            panic!("{answers:?}")
        };
        (cursor, calls) = (next, calls + 1);
        if next == 0 {
            break;
        }
    }
    assert!(calls > 1);
    assert_eq!(table.sizes().await.0, 60);
    assert_eq!(
        found(table.ops(3, &[], &[], &[seek(anyone(200), 0)]).await[0]),
        Some(0)
    );
}

#[tokio::test]
async fn entries_without_a_record_are_dropped_where_they_are_met() {
    let table = Table::new().await;
    table.op(seek(anyone(1), 5)).await;
    // Half of the index is lost.
    table.server.ask("DEL {vm:m}:1:t").await.expect("deleted");
    assert_eq!(table.finds(seek(anyone(2), 0)).await, None);
    assert_eq!(table.finds(seek(anyone(3), 0)).await, Some(2));
    assert_eq!(table.sizes().await, (0, 0));
}

#[tokio::test]
async fn it_writes_to_an_engine_without_memory() {
    let table = Table::new().await;
    table
        .server
        .ask("CONFIG SET maxmemory 1")
        .await
        .expect("set");
    assert_eq!(table.finds(seek(anyone(1), 0)).await, None);
    assert_eq!(table.finds(seek(anyone(2), 0)).await, Some(1));
}

#[tokio::test]
async fn a_full_call_with_wide_wishes() {
    let table = Table::new().await;
    let pools: Vec<_> = (0..30)
        .map(|name| pool(0, name))
        .chain([pool(ANYONE, 0)])
        .collect();
    let all: Vec<_> = (1..=64).map(session).collect();
    let ops: Vec<_> = (1..=64)
        .map(|user| seek(wish(user, &pools, &all), u64::from(user)))
        .collect();
    let answers = table.ops(1, &[], &[], &ops).await;
    assert!(answers.iter().all(|answer| *answer == Answer::Posted));
    assert_eq!(table.finds(seek(anyone(99), 0)).await, Some(64));
}

#[tokio::test]
async fn who_seeks_twice_stands_there_once() {
    let table = Table::new().await;
    let pools = [pool(0, 1), pool(ANYONE, 0)];
    table.op(seek(wish(1, &pools, &[]), 9)).await;
    table.op(seek(anyone(1), 5)).await;
    assert_eq!(table.sizes().await, (1, 1), "the other pool is left");
    assert_eq!(table.finds(seek(anyone(2), 0)).await, Some(1));
    assert_eq!(table.sizes().await, (0, 0));
}

#[tokio::test]
async fn a_check_looks_at_the_pools_too() {
    let table = Table::new().await;
    let pools = [pool(0, 1), pool(1, 2), pool(ANYONE, 0)];
    let all: Vec<_> = (1..=9).map(session).collect();
    let waits = || seek(wish(1, &pools, &all), 9);
    let check = || table.op(Op::Check(ticket(1)));
    table.op(waits()).await;
    table.op(seek(wish(2, &pools, &all), 9)).await;
    assert_eq!(check().await, Answer::Checked(true));
    for lost in pools {
        let mut cmd = redis::cmd("HDEL");
        let cmd = cmd.arg("{vm:m}:1:p").arg(&lost);
        table.server.run_cmd(cmd).await.expect("lost");
        assert_eq!(check().await, Answer::Checked(false));
        table.op(waits()).await;
        assert_eq!(check().await, Answer::Checked(true));
    }
    // The pool is there, but its entry is another one's.
    table.server.ask("DEL {vm:m}:1:p").await.expect("lost");
    table.op(seek(wish(2, &pools, &all), 9)).await;
    assert_eq!(check().await, Answer::Checked(false));
}

#[test]
fn a_wish_has_so_many_pools() {
    let with = |count: u8| {
        let pools: Vec<_> = (0..count).map(|name| pool(0, name)).collect();
        Wish::new(ticket(1), person(1), &[], &pools)
    };
    assert!(with(0).is_none() && with(13).is_some() && with(32).is_some());
    assert!(with(33).is_none());
}
