//! Beats, marks of the dead, named rooms, kept values.

use std::time::Duration;

use voicematch_cluster::{Answer, BeatReply, CallError, Op};

use crate::server::Server;
use crate::support::{Connected, PATIENCE, eventually, node};
use crate::table::{anyone, seek, ticket};

type Nodes = Vec<(voicematch_cluster::NodeId, Vec<u8>)>;

async fn beat(connected: &Connected, number: u8, count: u64) -> Option<(Vec<u8>, Nodes)> {
    match connected
        .engine
        .beat(node(number), count, "info", [number; 8])
        .await
        .expect("answered")
    {
        BeatReply::Fenced => None,
        BeatReply::Ok {
            generation,
            mut nodes,
            time,
        } => {
            assert!(time > 1_600_000_000_000_000, "microseconds");
            nodes.sort_unstable();
            Some((generation, nodes))
        }
    }
}

#[tokio::test]
async fn who_beats_is_seen_by_the_others() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let (generation, _) = beat(&one, 1, 1).await.expect("alive");
    let (same, nodes) = beat(&one, 2, 5).await.expect("alive");
    assert_eq!(generation, same, "the first one's");
    assert_eq!(
        nodes,
        [
            (node(1), b"a1 info".to_vec()),
            (node(2), b"a5 info".to_vec())
        ]
    );
}

#[tokio::test]
async fn burying_needs_the_very_beat_and_generation() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let (generation, _) = beat(&one, 1, 1).await.expect("alive");
    beat(&one, 2, 5).await.expect("alive");
    let bury = async |value: &[u8], generation: &[u8]| {
        one.engine
            .bury(node(2), value, generation, "x9")
            .await
            .expect("answered")
    };
    assert!(!bury(b"a4 info", &generation).await, "it has beaten since");
    assert!(!bury(b"a5 info", b"other").await, "the data were lost");
    assert!(bury(b"a5 info", &generation).await);
    assert!(!bury(b"a5 info", &generation).await, "once");
    assert!(beat(&one, 2, 6).await.is_none(), "fenced");
    assert!(
        beat(&one, 1, 2)
            .await
            .expect("alive")
            .1
            .contains(&(node(2), b"x9".to_vec()))
    );
    one.engine.forget(node(2)).await.expect("forgotten");
    assert_eq!(beat(&one, 1, 3).await.expect("alive").1.len(), 1);
}

#[tokio::test]
async fn data_that_are_lost_change_the_generation() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let (generation, _) = beat(&one, 1, 1).await.expect("alive");
    server.ask("FLUSHALL").await.expect("flushed");
    let (other, nodes) = beat(&one, 2, 1).await.expect("alive");
    assert_ne!(generation, other);
    assert_eq!(nodes.len(), 1);
}

#[tokio::test]
async fn a_named_room_has_one_home() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let room = async |number: u8, id: u8, dead: &[_], lives| {
        let got = one
            .engine
            .room(b"a}{b\0", node(number), [id; 8], dead, lives)
            .await
            .expect("answered");
        (got.0 == node(number), got.1[0])
    };
    assert_eq!(room(1, 11, &[], PATIENCE).await, (true, 11));
    assert_eq!(room(2, 22, &[], PATIENCE).await, (false, 11));
    assert_eq!(
        room(1, 12, &[], PATIENCE).await,
        (true, 11),
        "it keeps its id"
    );
    assert_eq!(
        room(2, 22, &[node(9), node(1)], PATIENCE).await,
        (true, 11),
        "the home is dead: taken over"
    );
    assert_eq!(room(1, 11, &[], PATIENCE).await, (false, 11));
    assert_eq!(room(2, 22, &[], Duration::from_millis(1)).await, (true, 11));
    eventually("a name that is not renewed is free", async || {
        room(3, 33, &[], PATIENCE).await == (true, 33)
    })
    .await;
    one.engine
        .give_up_room(b"a}{b\0", node(1))
        .await
        .expect("answered");
    assert_eq!(
        room(2, 22, &[], PATIENCE).await,
        (false, 33),
        "it is not that node's"
    );
    one.engine
        .give_up_room(b"a}{b\0", node(3))
        .await
        .expect("answered");
    assert_eq!(
        room(4, 44, &[], PATIENCE).await,
        (true, 44),
        "a name that is given up is free"
    );
    let other = one
        .engine
        .room(b"b", node(3), [44; 8], &[], PATIENCE)
        .await
        .expect("answered");
    assert_eq!(other, (node(3), [44; 8]));
}

#[tokio::test]
async fn kept_values() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let kept = async |name: &[u8]| one.engine.kept('s', name).await.expect("read");
    assert_eq!(kept(b"a").await, None);
    one.engine
        .keep('s', b"a", b"1", PATIENCE)
        .await
        .expect("kept");
    one.engine
        .keep('s', b"a", b"2", PATIENCE)
        .await
        .expect("kept");
    assert_eq!(kept(b"a").await.as_deref(), Some(&b"2"[..]));
    one.engine
        .keep('s', b"a", b"3", Duration::from_millis(1))
        .await
        .expect("kept");
    eventually("it runs out", async || kept(b"a").await.is_none()).await;
    // The key that all share: the first one's.
    assert_eq!(
        one.engine
            .keep_first('k', b"", b"mine", None)
            .await
            .expect("kept"),
        b"mine"
    );
    assert_eq!(
        one.engine
            .keep_first('k', b"", b"theirs", None)
            .await
            .expect("kept"),
        b"mine"
    );
}

#[tokio::test]
async fn a_beat_does_not_go_back() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    for (count, is) in [(9, "a9 info"), (8, "a9 info"), (10, "a10 info")] {
        let (_, nodes) = beat(&one, 1, count).await.expect("alive");
        assert_eq!(nodes, [(node(1), is.as_bytes().to_vec())]);
    }
}

#[tokio::test]
async fn who_has_no_entry_can_be_buried() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let (generation, _) = beat(&one, 1, 1).await.expect("alive");
    let bury = async |number, value: &[u8], generation: &[u8]| {
        let done = one.engine.bury(node(number), value, generation, "x1").await;
        done.expect("answered")
    };
    assert!(!bury(1, b"", &generation).await, "it has one");
    assert!(!bury(2, b"a1 info", &generation).await, "it has none");
    assert!(!bury(2, b"", b"another").await);
    assert!(bury(2, b"", &generation).await);
    assert_eq!(beat(&one, 2, 1).await, None);
}

#[tokio::test]
async fn what_comes_two_beats_late_is_not_done() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let call = async |beat, op| one.engine.seek(node(1), beat, &[], &[], &[op]).await;
    let post = async |beat| call(beat, seek(anyone(1), 0)).await;
    let stale = |answers| matches!(answers, Err(CallError::Stale));
    let stands = async || {
        let answers = call(9, Op::Check(ticket(1))).await.expect("done");
        answers == [Answer::Checked(true)]
    };
    assert!(post(7).await.is_ok(), "it has not beaten yet");
    beat(&one, 1, 9).await.expect("alive");
    assert!(stale(call(7, Op::Withdraw(ticket(1))).await) && stands().await);
    assert!(
        call(8, Op::Withdraw(ticket(1))).await.is_ok(),
        "one beat may overtake it"
    );
    assert!(stale(post(7).await) && !stands().await);
    assert_eq!(one.count("cluster_calls_total", "stale"), 2.0);
    let (generation, _) = beat(&one, 1, 10).await.expect("alive");
    let buried = one
        .engine
        .bury(node(1), b"a10 info", &generation, "x1")
        .await;
    assert!(buried.expect("answered"));
    assert!(stale(post(10).await), "it is buried");
}
