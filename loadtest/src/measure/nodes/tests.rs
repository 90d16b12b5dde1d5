use super::*;
use crate::measure::{
    message::Direction,
    nodes::FaultKind::{AfterLoss, Dropped, Error, NotConnected},
};

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn fault(node: NodeId, at: u64, kind: FaultKind, error: ErrorKind) -> Fault {
    let at = ms(at);
    Fault {
        node,
        at,
        kind,
        error,
    }
}

/// So many users come to each of two servers.
fn with_users(users: u64) -> Nodes {
    let mut nodes = Nodes::new(2);
    let counts = NodeCounts {
        arrived: users,
        ..NodeCounts::default()
    };
    nodes.add(ms(1_000), &[counts, counts], vec![], vec![]);
    nodes
}

/// The connections of B that break between two moments, in a second of their own.
fn broke(from: u64, at: u64, number: u64) -> [NodeCounts; 2] {
    let counts = NodeCounts {
        arrived: 0,
        changed: 0,
        departed: number,
        broke: number,
        broke_at: Some([ms(from), ms(at)]),
    };
    [NodeCounts::default(), counts]
}

#[test]
fn a_server_is_lost_when_all_of_its_connections_broke() {
    let mut nodes = with_users(10);
    nodes.add(ms(3_000), &broke(2_950, 2_990, 4), vec![], vec![]);
    assert_eq!(nodes.losses.len(), 0, "six are still there");
    nodes.add(ms(4_000), &broke(3_010, 3_020, 6), vec![], vec![]);
    let lost: Vec<_> = nodes
        .losses
        .iter()
        .map(|loss| (loss.node, loss.from, loss.at))
        .collect();
    assert_eq!(lost, [(B, ms(2_950), ms(3_020))]);
    assert_eq!((nodes.losses[0].connections, nodes.all[1].peak), (10, 10));
    nodes.add(ms(5_000), &[], vec![], vec![]);
    assert_eq!(nodes.losses.len(), 1, "it is lost once");
    let back = NodeCounts {
        arrived: 1,
        ..NodeCounts::default()
    };
    nodes.add(ms(9_000), &[NodeCounts::default(), back], vec![], vec![]);
    assert_eq!(nodes.losses[0].back, Some(ms(9_000)));
}

#[test]
fn a_server_that_closes_its_connections_or_has_one_is_not_lost() {
    let mut drained = with_users(10);
    let closed = NodeCounts {
        departed: 9,
        ..NodeCounts::default()
    };
    drained.add(ms(2_000), &[closed, closed], vec![], vec![]);
    drained.add(ms(3_000), &broke(2_100, 2_100, 1), vec![], vec![]);
    assert_eq!(drained.losses.len(), 0);
    let mut single = with_users(1);
    single.add(ms(2_000), &broke(1_500, 1_500, 1), vec![], vec![]);
    assert_eq!(single.losses.len(), 0);
    // An old break is another matter.
    let mut apart = with_users(10);
    apart.add(ms(2_000), &broke(1_500, 1_500, 1), vec![], vec![]);
    apart.add(ms(8_000), &broke(7_500, 7_600, 9), vec![], vec![]);
    assert_eq!(
        (apart.losses[0].from, apart.losses[0].connections),
        (ms(7_500), 9)
    );
}

#[test]
fn what_broke_with_its_server_is_excused_and_the_rest_counts_later() {
    let mut nodes = with_users(10);
    let at_a = fault(A, 2_980, Dropped, ErrorKind::Reset);
    let told = fault(B, 2_980, Error, ErrorKind::BadMessage);
    let faults = vec![
        fault(B, 2_960, Dropped, ErrorKind::Ended),
        at_a.clone(),
        told.clone(),
    ];
    nodes.add(ms(3_000), &broke(2_950, 2_990, 4), faults, vec![]);
    let first = nodes.decide(ms(3_000), false);
    assert_eq!(first.faults, [told], "nothing that a lost server has");
    assert_eq!(nodes.undecided().dropped, 2);
    let faults = vec![
        fault(B, 3_010, Dropped, ErrorKind::Reset),
        fault(B, 3_500, NotConnected, ErrorKind::ConnectRefused),
        fault(B, 3_600, AfterLoss, ErrorKind::WrongRoom),
    ];
    nodes.add(ms(4_000), &broke(3_010, 3_020, 6), faults, vec![]);
    assert_eq!(nodes.decide(ms(4_000), false).faults, []);
    let excused = FaultCounts {
        dropped: 2,
        not_connected: 1,
        ..FaultCounts::default()
    };
    assert_eq!((nodes.excused, nodes.undecided().dropped), (excused, 1));
    assert_eq!(nodes.decide(ms(14_000), false).faults, [at_a]);
    assert_eq!(nodes.all[0].errors.total(), 1);
    assert_eq!(
        (nodes.all[1].errors.total(), nodes.all[1].with_it.total()),
        (1, 4)
    );
}

#[test]
fn a_stay_is_kept_until_it_is_known_why_it_broke() {
    let stay = |node, at| {
        let direction = Direction::OffererToAnswerer;
        let mut stay = Stay::new(7, 1, direction, ms(1_000), ms(100));
        stay.breaks.push((node, ms(at)));
        stay
    };
    let mut nodes = with_users(10);
    nodes.hold(stay(A, 2_980));
    nodes.hold(stay(B, 2_980));
    nodes.add(ms(3_000), &broke(2_950, 2_990, 4), vec![], vec![]);
    assert_eq!(nodes.decide(ms(3_000), false).stays.len(), 0);
    nodes.add(ms(4_000), &broke(3_010, 3_020, 6), vec![], vec![]);
    let known = nodes.decide(ms(4_000), false).stays;
    assert_eq!(
        known.iter().map(|stay| stay.node_lost).collect::<Vec<_>>(),
        [true]
    );
    let rest = nodes.decide(ms(4_000), true).stays;
    assert_eq!(
        rest.iter().map(|stay| stay.node_lost).collect::<Vec<_>>(),
        [false]
    );
}

#[test]
fn who_lost_a_partner_is_counted_until_all_are_matched_again() {
    let torn = |node, at, matched: Option<u64>| Torn {
        node,
        room: 7,
        at: ms(at),
        matched: matched.map(ms),
    };
    let mut nodes = with_users(10);
    let early = vec![torn(Some(B), 2_960, None), torn(None, 1_500, None)];
    nodes.add(ms(3_000), &broke(2_950, 2_990, 4), vec![], early);
    nodes.decide(ms(3_000), false);
    nodes.add(
        ms(4_000),
        &broke(3_010, 3_020, 6),
        vec![],
        vec![torn(None, 3_950, None)],
    );
    nodes.decide(ms(4_000), false);
    let loss = |nodes: &Nodes| {
        let loss = &nodes.losses[0];
        (
            loss.torn,
            loss.told.count(),
            loss.matched.count(),
            loss.not_matched(),
        )
    };
    assert_eq!(loss(&nodes), (2, 1, 0, 2));
    let later = vec![
        torn(Some(B), 2_960, Some(5_950)),
        torn(None, 3_950, Some(4_950)),
    ];
    nodes.add(ms(6_000), &[], vec![], later);
    nodes.decide(ms(6_000), false);
    assert_eq!(loss(&nodes), (2, 1, 2, 0));
    let longest = nodes.losses[0].matched.max_ms().expect("two");
    assert!((longest - 3_000.0).abs() < 3.0, "{longest}");
    nodes.decide(ms(20_000), false);
    assert_eq!(nodes.loose.len(), 1, "a partner who left for other reasons");
}

#[test]
fn shards_tell_of_one_loss_together() {
    let one = |from, at, number| {
        let mut nodes = with_users(number);
        nodes.add(ms(3_000), &broke(from, at, number), vec![], vec![]);
        nodes
    };
    let mut all = Nodes::default();
    all.join(&one(2_950, 2_990, 10));
    all.join(&one(2_940, 2_960, 5));
    let mut witness = Nodes::new(2);
    let torn = Torn {
        node: None,
        room: 7,
        at: ms(4_000),
        matched: None,
    };
    witness.add(ms(5_000), &[], vec![], vec![torn]);
    witness.decide(ms(5_000), true);
    all.join(&witness);
    all.explain();
    let losses: Vec<_> = all.losses.iter().collect();
    assert_eq!(losses.len(), 1);
    let loss = losses[0];
    assert_eq!(
        (loss.from, loss.at, loss.connections),
        (ms(2_940), ms(2_990), 15)
    );
    assert_eq!((loss.torn, loss.told.count()), (1, 1));
}

#[test]
fn who_is_told_late_counts_and_so_does_when_they_are_matched_again() {
    let mut nodes = with_users(10);
    nodes.add(ms(3_000), &broke(2_950, 2_990, 10), vec![], vec![]);
    let torn = |room, at, matched: Option<u64>| Torn {
        node: None,
        room,
        at: ms(at),
        matched: matched.map(ms),
    };
    let news = |room, told| LateNews {
        room,
        node: B,
        broke: ms(2_980),
        told: ms(told),
    };
    // Of another reason, and told in the time in which it is known by that.
    let others = vec![torn(1, 40_000, None), torn(2, 12_985, None)];
    nodes.add(ms(40_000), &[], vec![], others);
    nodes.add(ms(41_000), &[], vec![], vec![torn(3, 40_500, None)]);
    nodes.learn(vec![news(2, 12_985), news(3, 40_500)]);
    nodes.decide(ms(41_000), false);
    nodes.add(ms(50_000), &[], vec![], vec![torn(3, 40_500, Some(49_950))]);
    nodes.decide(ms(50_000), true);
    let loss = &nodes.losses[0];
    assert_eq!(
        (loss.torn, loss.told.count(), loss.matched.count()),
        (2, 2, 1)
    );
    let longest = [&loss.told, &loss.matched].map(|times| times.max_ms().expect("some"));
    assert!((longest[0] - 37_550.0).abs() < 40.0, "{longest:?}");
    assert!((longest[1] - 47_000.0).abs() < 50.0, "{longest:?}");
    assert_eq!(nodes.loose.len(), 1);
}

#[test]
fn what_only_all_shards_together_know_is_explained_then() {
    let mut all = with_users(10);
    all.add(ms(3_000), &broke(2_950, 2_990, 10), vec![], vec![]);
    let mut witness = Nodes::new(2);
    let torn = [None, Some(ms(41_000))].map(|matched| Torn {
        node: None,
        room: 3,
        at: ms(40_500),
        matched,
    });
    witness.add(ms(41_000), &[], vec![], torn.to_vec());
    witness.decide(ms(41_000), true);
    witness.explain();
    all.join(&witness);
    all.learn(vec![LateNews {
        room: 3,
        node: B,
        broke: ms(2_980),
        told: ms(40_500),
    }]);
    all.explain();
    let loss = &all.losses[0];
    assert_eq!(
        (loss.torn, loss.told.count(), loss.matched.count()),
        (1, 1, 1)
    );
    assert_eq!(all.loose, []);
}
