//! Blocks of users in the engine.

use std::time::Duration;

use voicematch_cluster::{BlocksRead, KeptApart, MostBlocks};

use crate::cluster::{Came, Node};
use crate::server::Server;
use crate::support::{Connected, eventually};

const DAY: Duration = Duration::from_secs(24 * 3600);

const MOST: MostBlocks = MostBlocks {
    of_all: 1_000,
    of_one: 3,
};

fn block(by: u64, of: u64) -> KeptApart {
    KeptApart {
        by: by.to_be_bytes(),
        of: of.to_be_bytes(),
        left: 30 * DAY,
        again: false,
    }
}

fn again(by: u64, of: u64) -> KeptApart {
    KeptApart {
        again: true,
        ..block(by, of)
    }
}

async fn write(one: &Connected, blocks: &[KeptApart], most: MostBlocks) -> usize {
    let written = one.engine.write_blocks(blocks, most, [7; 8]).await;
    written.expect("answered")
}

/// What has been written since then: who has blocked whom. Whether it begins anew.
async fn news(one: &Connected, read: &mut BlocksRead) -> (Vec<(u64, u64)>, bool) {
    let (mut all, mut anew) = (Vec::new(), false);
    loop {
        let some = one.engine.read_blocks(read).await.expect("answered");
        for block in some.blocks {
            assert!(block.left <= 40 * DAY && !block.left.is_zero());
            all.push((u64::from_be_bytes(block.by), u64::from_be_bytes(block.of)));
        }
        anew |= some.anew;
        *read = some.read;
        if !some.more {
            return (all, anew);
        }
    }
}

async fn all(one: &Connected) -> Vec<(u64, u64)> {
    news(one, &mut BlocksRead::default()).await.0
}

#[tokio::test]
async fn each_reader_gets_what_is_new_in_order() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let mut read = BlocksRead::default();
    assert_eq!(news(&one, &mut read).await, (vec![], false));
    assert_eq!(write(&one, &[block(1, 2), block(2, 1)], MOST).await, 2);
    assert_eq!(news(&one, &mut read).await, (vec![(1, 2), (2, 1)], false));
    assert_eq!(news(&one, &mut read).await, (vec![], false));
    // Who does it again a moment later writes nothing.
    assert_eq!(write(&one, &[block(1, 2), again(2, 1)], MOST).await, 0);
    assert_eq!(write(&one, &[again(3, 1)], MOST).await, 1);
    assert_eq!(news(&one, &mut read).await, (vec![(3, 1)], false));
    // After a day it is written once more, and is the newest.
    let later = KeptApart {
        left: 32 * DAY,
        ..block(1, 2)
    };
    assert_eq!(write(&one, &[later], MOST).await, 1);
    assert_eq!(news(&one, &mut read).await, (vec![(1, 2)], false));
    assert_eq!(all(&one).await, [(2, 1), (3, 1), (1, 2)]);
    // More than fit into one answer.
    let many: Vec<_> = (0..900).map(|number| block(100 + number, 1)).collect();
    assert_eq!(write(&one, &many, MOST).await, 900);
    assert_eq!(news(&one, &mut read).await.0.len(), 900);
    assert_eq!(all(&one).await.len(), 903);
}

#[tokio::test]
async fn the_oldest_of_one_and_of_all_are_forgotten() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    for of in 2..=5 {
        write(&one, &[block(1, of)], MOST).await;
    }
    assert_eq!(all(&one).await, [(1, 3), (1, 4), (1, 5)]);
    // What is only said again pushes out nothing.
    assert_eq!(write(&one, &[again(1, 6)], MOST).await, 0);
    let few = MostBlocks { of_all: 4, ..MOST };
    assert_eq!(write(&one, &[block(2, 9), block(3, 9)], few).await, 2);
    assert_eq!(all(&one).await, [(1, 4), (1, 5), (2, 9), (3, 9)]);
    assert_eq!(write(&one, &[again(4, 9)], few).await, 0);
    // Time is over for one.
    let short = KeptApart {
        left: Duration::from_millis(1),
        ..block(4, 9)
    };
    write(&one, &[short], few).await;
    eventually("it is over", async || {
        all(&one).await == [(1, 5), (2, 9), (3, 9)]
    })
    .await;
    // Nothing is left of what was forgotten.
    let none = MostBlocks { of_all: 0, ..MOST };
    write(&one, &[block(5, 9)], none).await;
    let fields = server.ask("HLEN {vm:m}:1:w").await.expect("answered");
    assert_eq!(
        fields,
        redis::Value::Int(4),
        "gen, last, first, count alone"
    );
}

#[tokio::test]
async fn a_reader_sees_that_the_engine_has_lost_them_or_some() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let mut read = BlocksRead::default();
    write(&one, &[block(1, 2), block(1, 3)], MOST).await;
    news(&one, &mut read).await;
    server.ask("FLUSHALL").await.expect("done");
    one.engine
        .write_blocks(&[block(1, 4)], MOST, [8; 8])
        .await
        .expect("answered");
    assert_eq!(news(&one, &mut read).await, (vec![(1, 4)], true));
    // An older state of the same data.
    write(&one, &[block(1, 5)], MOST).await;
    news(&one, &mut read).await;
    server
        .ask("HSET {vm:m}:1:w last 1")
        .await
        .expect("answered");
    assert_eq!(news(&one, &mut read).await, (vec![(1, 4)], true));
}

#[tokio::test]
async fn what_is_no_block_is_passed_over() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    for field in ["last abc", "first -", "count z", "l1 short", "gen x"] {
        let command = format!("HSET {{vm:m}}:1:w {field}");
        server.ask(&command).await.expect("answered");
    }
    assert_eq!(write(&one, &[block(1, 2)], MOST).await, 1);
    assert_eq!(all(&one).await, [(1, 2)]);
}

#[tokio::test]
async fn all_nodes_are_told_that_there_are_new_ones() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    a.bus.tell_blocks();
    eventually("they hear it", async || {
        a.hears(&Came::Blocks) && b.hears(&Came::Blocks)
    })
    .await;
}
