use std::time::Duration;

use super::*;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn inbox(partner: u32, seqs: &[u32]) -> Inbox {
    let mut inbox = Inbox::default();
    for &seq in seqs {
        inbox.receive(partner, seq, Kind::MESSAGE, seq);
    }
    inbox
}

/// The last of `sent` messages at 8 s, each half a second after the one before.
fn latest(sent: u32) -> Latest {
    let mut latest = Latest::default();
    let before = |n| secs(8).saturating_sub(Duration::from_millis(500) * n);
    (0..sent).rev().for_each(|n| latest.sent(before(n)));
    latest
}

fn stay(user: u32, sent: u32, inbox: Inbox) -> Stay {
    let mut counts = [0; Kind::MAX];
    counts[Kind::MESSAGE.index()] = sent;
    Stay {
        room: 7,
        user,
        node: NodeId::default(),
        searched: None,
        breaks: Vec::new(),
        node_lost: false,
        session: None,
        peer: None,
        joined: secs(1),
        left: secs(9),
        direction: Direction::of_sender(user == 1),
        sent: counts,
        refused: 0,
        relays_lost: 0,
        latest: latest(sent),
        settled: false,
        partner_left: false,
        cut_off: false,
        foreign: false,
        some_come_back: false,
        inbox,
    }
}

fn settle(stays: impl IntoIterator<Item = Stay>) -> Ledger {
    let mut ledger = Ledger::default();
    for stay in stays {
        ledger.add(stay);
    }
    ledger.close(true);
    ledger
}

#[test]
fn everything_received_is_delivered() {
    let got = settle([
        stay(1, 3, inbox(2, &[0, 1])),
        stay(2, 2, inbox(1, &[0, 1, 2])),
    ]);
    let all = Settled {
        delivered: 5,
        ..Settled::default()
    };
    assert_eq!(got.total(), all);
    let [there, back, _] = got.settled[Kind::MESSAGE.index()];
    assert_eq!((there.delivered, back.delivered), (3, 2));
}

#[test]
fn what_the_partner_did_not_get_is_lost() {
    let got = settle([
        stay(1, 4, Inbox::default()),
        stay(2, 0, inbox(1, &[0, 2, 2, 2])),
    ]);
    let Settled {
        delivered,
        lost,
        undeliverable,
        ..
    } = got.total();
    assert_eq!((delivered, lost, undeliverable), (2, 2, 0));
}

#[test]
fn types_are_told_apart() {
    let mut sender = stay(1, 2, Inbox::default());
    sender.sent[Kind::OFFER.index()] = 1;
    let mut receiver = stay(2, 0, Inbox::default());
    receiver.inbox.receive(1, 1, Kind::MESSAGE, 0);
    receiver.inbox.receive(1, 2, Kind::MESSAGE, 1);
    let got = settle([sender, receiver]);
    assert_eq!(got.settled[Kind::OFFER.index()][0].lost, 1);
    assert_eq!(got.settled[Kind::MESSAGE.index()][0].delivered, 2);
}

#[test]
fn after_the_partner_left_only_gaps_are_lost() {
    let mut alone = stay(1, 6, Inbox::default());
    (alone.partner_left, alone.refused) = (true, 1);
    alone.left = Duration::from_millis(8500);
    let gone = stay(2, 0, inbox(1, &[0, 2, 3]));
    let got = settle([alone, gone]);
    let Settled {
        delivered,
        lost,
        undeliverable,
        ..
    } = got.total();
    assert_eq!((delivered, lost, undeliverable), (3, 1, 2));
    assert_eq!(got.wrongly_refused, 0);
}

#[test]
fn what_was_under_way_when_the_sender_was_cut_off_is_pending() {
    let mut cut = stay(1, 6, Inbox::default());
    cut.cut_off = true;
    let Settled {
        delivered,
        lost,
        pending,
        ..
    } = settle([cut, stay(2, 0, inbox(1, &[0, 2, 3]))]).total();
    assert_eq!((delivered, lost, pending), (3, 1, 2));
}

#[test]
fn a_refusal_while_the_partner_is_there_is_a_loss() {
    let mut refused = stay(1, 2, Inbox::default());
    refused.refused = 2;
    let got = settle([refused.clone(), stay(2, 0, Inbox::default())]);
    assert_eq!((got.total().lost, got.wrongly_refused), (2, 2));
    // The partner was the first to leave when the run was over.
    (refused.settled, refused.partner_left) = (true, true);
    let got = settle([refused, stay(2, 0, Inbox::default())]);
    assert_eq!((got.total().lost, got.wrongly_refused), (2, 2));
}

#[test]
fn what_was_refused_at_the_end_is_not_awaited() {
    let mut refused = stay(1, 3, Inbox::default());
    (refused.refused, refused.settled) = (1, true);
    let left = Duration::from_millis(8100);
    let receiver = Stay {
        settled: true,
        left,
        ..stay(2, 0, Inbox::default())
    };
    let total = settle([refused, receiver]).total();
    assert_eq!((total.lost, total.pending), (1, 2));
}

#[test]
fn rooms_of_one_and_of_three_are_seen() {
    let alone = Stay {
        room: 1,
        ..stay(1, 0, Inbox::default())
    };
    let three = [2, 3, 4].map(|user| stay(user, 0, Inbox::default()));
    let got = settle([alone].into_iter().chain(three));
    assert_eq!((got.one_sided_rooms, got.crowded_users), (1, 3));
}

#[test]
fn what_was_sent_to_a_partner_who_had_just_left_is_not_lost() {
    let fate = |left| {
        let mut receiver = stay(2, 0, inbox(1, &[0]));
        receiver.left = left;
        let total = settle([stay(1, 2, Inbox::default()), receiver]).total();
        (total.lost, total.undeliverable)
    };
    // The last message was sent at 8 s.
    assert_eq!(fate(Duration::from_millis(7990)), (0, 1));
    assert_eq!(fate(Duration::from_millis(8010)), (0, 1));
    assert_eq!(fate(secs(9)), (1, 0), "it had a second to come");
    let settled = Stay {
        settled: true,
        ..stay(2, 0, inbox(1, &[0]))
    };
    let at_the_end = settle([stay(1, 2, Inbox::default()), settled]).total();
    assert_eq!((at_the_end.lost, at_the_end.undeliverable), (1, 0));
}

#[test]
fn what_still_had_time_to_come_when_the_run_ended_is_pending() {
    // Ten a second for 20 s, of which the first came.
    let fate = |timeout, end| {
        let mut sender = stay(1, 200, Inbox::default());
        sender.latest = Latest::new(timeout);
        (0..200).for_each(|n| sender.latest.sent(Duration::from_millis(100) * n));
        let receiver = Stay {
            left: end,
            settled: true,
            ..stay(2, 0, inbox(1, &[0, 2]))
        };
        let total = settle([sender, receiver]).total();
        assert_eq!((total.delivered, total.undeliverable), (2, 0));
        (total.lost, total.pending)
    };
    let slow = secs(12);
    assert_eq!(fate(slow, secs(32)), (198, 0), "it was waited for in full");
    // What was sent from 12 s on could still come in time; messages are counted separately for 3 s.
    let (lost, pending) = fate(slow, secs(24));
    assert_eq!(lost + pending, 198);
    assert!((80..=110).contains(&pending), "{pending}");
    assert_eq!(fate(secs(300), secs(24)), (1, 197), "a gap is lost at once");
    assert_eq!(fate(Duration::from_millis(200), secs(21)), (198, 0));
}

#[test]
fn a_partner_who_left_may_have_missed_what_was_on_a_long_way() {
    let mut sender = stay(1, 20, Inbox::default());
    sender.latest = Latest::new(secs(4));
    (0..20).for_each(|n| sender.latest.sent(Duration::from_millis(500) * n));
    let total = settle([sender, stay(2, 0, inbox(1, &[0, 1, 2, 3, 4, 5]))]).total();
    // The receiver left at 9 s: what was sent before 5 s had its time, except in the present second.
    assert_eq!(total.lost + total.undeliverable, 14);
    assert!((10..=12).contains(&total.undeliverable), "{total:?}");
}

#[test]
fn a_partner_who_gave_up_while_being_paired_makes_no_one_sided_room() {
    let one_sided = |left| {
        let mut alone = stay(1, 0, Inbox::default());
        alone.partner_left = true;
        alone.left = alone.joined + left;
        settle([alone]).one_sided_rooms
    };
    assert_eq!(one_sided(Duration::from_millis(20)), 0);
    assert_eq!(one_sided(secs(5)), 1, "a partner who stayed was never told");
}

#[test]
fn a_room_made_anew_under_an_old_name_is_another_room() {
    let later = |user| Stay {
        joined: secs(10),
        left: secs(11),
        ..stay(user, 0, Inbox::default())
    };
    let first = [1, 2].map(|user| stay(user, 0, Inbox::default()));
    let got = settle(first.into_iter().chain([3, 4].map(later)));
    assert_eq!((got.one_sided_rooms, got.crowded_users), (0, 0));
}

#[test]
fn a_partner_of_another_run_proves_nothing() {
    let mut foreign = stay(1, 9, Inbox::default());
    foreign.foreign = true;
    let all = Settled {
        unknown: 9,
        ..Settled::default()
    };
    assert_eq!(settle([foreign]).total(), all);
}

#[test]
fn rooms_come_and_go_in_the_same_memory() {
    let mut ledger = Ledger::default();
    for room in 0..300_000 {
        for user in [1, 2] {
            ledger.add(Stay {
                room,
                ..stay(user, 0, Inbox::default())
            });
        }
    }
    assert_eq!(ledger.open.len(), 0);
    // A server that tells of rooms that nobody else is told of does not fill the memory either.
    for room in 300_000..600_000 {
        ledger.add(Stay {
            room,
            ..stay(1, 0, Inbox::default())
        });
    }
    assert!(ledger.open.len() <= 200_000);
}

#[test]
fn an_echo_is_settled_by_its_sender_alone() {
    let mut echo = stay(1, 3, inbox(1, &[0, 2]));
    echo.direction = Direction::ToServer;
    let Settled {
        delivered, lost, ..
    } = settle([echo]).total();
    assert_eq!((delivered, lost), (2, 1));
}

fn shared(stays: impl IntoIterator<Item = Stay>) -> LedgerShard {
    let mut ledger = Ledger::new(Scope::Shard);
    stays.into_iter().for_each(|stay| ledger.add(stay));
    let saved = serde_json::to_string(&ledger.shard()).expect("JSON");
    serde_json::from_str(&saved).expect("a shard")
}

#[test]
fn partners_in_different_shards_are_joined_afterwards() {
    let there = shared([stay(1, 3, inbox(2, &[0]))]);
    let back = shared([stay(2, 1, inbox(1, &[0, 2]))]);
    let mut all = Ledger::of_shards([there, back]);
    all.close(true);
    let Settled {
        delivered, lost, ..
    } = all.total();
    assert_eq!((delivered, lost, all.one_sided_rooms), (3, 1, 0));
}

#[test]
fn without_the_partners_shard_nothing_is_known() {
    let mut all = Ledger::of_shards([shared([stay(1, 3, inbox(2, &[0]))])]);
    all.close(false);
    let unknown = Settled {
        unknown: 3,
        ..Settled::default()
    };
    assert_eq!((all.total(), all.one_sided_rooms), (unknown, 0));
    assert_eq!(all.unknown_stays, 1);
}

#[test]
fn crowded_rooms_are_seen_across_shards() {
    let user = |user| stay(user, 0, Inbox::default());
    for parts in [
        vec![vec![1], vec![2], vec![3]],
        vec![vec![1, 2], vec![3]],
        vec![vec![3], vec![1, 2]],
        vec![vec![1, 2, 3], vec![]],
    ] {
        let shards = parts
            .iter()
            .map(|part| shared(part.iter().map(|&n| user(n))));
        let mut all = Ledger::of_shards(shards);
        all.close(true);
        assert_eq!(
            (all.crowded_users, all.one_sided_rooms),
            (3, 0),
            "{parts:?}"
        );
    }
    let mut four = Ledger::of_shards([shared([user(1), user(2)]), shared([user(3), user(4)])]);
    four.close(true);
    assert_eq!(four.crowded_users, 4);
    let pairs = [[1, 2], [3, 4], [5, 6]].map(|pair| shared(pair.map(user)));
    assert_eq!(Ledger::of_shards(pairs).crowded_users, 6);
}

#[test]
fn rooms_of_other_servers_are_other_rooms_unless_they_lack_a_partner() {
    let user = |user| stay(user, 0, Inbox::default());
    let servers = [[1, 2], [3, 4]].map(|users| Ledger::of_shards([shared(users.map(user))]));
    let mut all = Ledger::of_servers(servers);
    all.close(true);
    assert_eq!((all.crowded_users, all.one_sided_rooms), (0, 0));
    let addresses = [1, 2].map(|one| Ledger::of_shards([shared([user(one)])]));
    let mut all = Ledger::of_servers(addresses);
    all.close(true);
    assert_eq!(all.one_sided_rooms, 0, "one server with two addresses");
}

#[test]
fn what_a_shard_forgets_is_unknown_and_said() {
    let mut ledger = Ledger::new(Scope::Shard);
    for room in 0..200_001 {
        ledger.add(Stay {
            room,
            ..stay(1, 1, Inbox::default())
        });
    }
    assert!(ledger.forgotten && ledger.open.len() == 200_000);
    assert_eq!((ledger.total().unknown, ledger.one_sided_rooms), (1, 0));
}

/// A room of two, of which both were told all, and each changed in its way.
fn contradictions(change: impl FnOnce(&mut Stay, &mut Stay)) -> Contradictions {
    let (mut a, mut b) = (stay(1, 0, Inbox::default()), stay(2, 0, Inbox::default()));
    (a.session, a.peer, b.session, b.peer) = (Some(10), Some(20), Some(20), Some(10));
    change(&mut a, &mut b);
    settle([a, b]).contradictions
}

#[test]
fn what_two_users_were_told_of_one_room_is_compared() {
    let none = Contradictions::default();
    let there = |partner_was_there| Contradictions {
        partner_was_there,
        ..none
    };
    let untold = Contradictions {
        untold_leaves: 1,
        ..none
    };
    assert_eq!(contradictions(|_, _| ()), none);
    // The first left and the second was told, soon or, since the news was on its way, later.
    for left in [9, 15] {
        let told = contradictions(|_, b| (b.left, b.partner_left) = (secs(left), true));
        assert_eq!(told, none);
    }
    let both = contradictions(|a, b| (a.partner_left, b.partner_left) = (true, true));
    assert_eq!(both, there(2));
    let stayed =
        contradictions(|a, b| (a.left, b.left, b.partner_left) = (secs(12), secs(9), true));
    assert_eq!(stayed, there(1));
    // When the server noticed that a connection was cut is not known.
    let cut = contradictions(|a, b| {
        (a.left, b.left, b.partner_left, a.cut_off) = (secs(12), secs(9), true, true);
    });
    assert_eq!(cut, none);
    assert_eq!(contradictions(|_, b| b.left = secs(12)), untold);
    assert_eq!(contradictions(|_, b| b.left = secs(10)), none);
    let cut = contradictions(|a, b| (a.cut_off, b.left) = (true, secs(12)));
    assert_eq!(cut, none);
    let same_roles = contradictions(|a, b| a.direction = b.direction).same_roles;
    let wrong_peers = contradictions(|a, _| a.peer = Some(30)).wrong_peers;
    assert_eq!((same_roles, wrong_peers), (2, 1));
    assert_eq!(contradictions(|a, _| a.peer = None), none);
}

#[test]
fn after_a_message_that_took_long_the_next_ones_may_be_under_way() {
    let sender = stay(1, 6, Inbox::default());
    let pending = |slow| {
        let mut receiver = stay(2, 0, inbox(1, &[0, 2]));
        (receiver.settled, receiver.left, receiver.inbox.slow) = (true, secs(30), slow);
        let total = settle([sender.clone(), receiver]).total();
        (total.lost, total.pending)
    };
    assert_eq!((pending(false), pending(true)), ((4, 0), (1, 3)));
}

#[test]
fn a_message_that_cannot_be_read_is_delivered() {
    let mut receiver = stay(2, 0, inbox(1, &[0, 2]));
    receiver.inbox.receive_unreadable(Kind::MESSAGE);
    let total = settle([stay(1, 3, Inbox::default()), receiver]).total();
    assert_eq!((total.delivered, total.lost), (3, 0));
}

/// Two users of two nodes; the second one's node is lost, and some of what each sent did not come.
fn with_lost_node(change: impl FnOnce(&mut Stay, &mut Stay)) -> Ledger {
    let mut stays = [stay(1, 4, inbox(2, &[0, 1])), stay(2, 4, inbox(1, &[0, 2]))];
    stays[1].node = NodeId(1);
    (stays[1].cut_off, stays[1].node_lost, stays[1].left) = (true, true, secs(7));
    stays[0].partner_left = true;
    let [survivor, dead] = &mut stays;
    change(survivor, dead);
    settle(stays)
}

#[test]
fn what_is_lost_with_a_node_is_no_loss_of_the_others() {
    let ledger = with_lost_node(|_, _| {});
    let all = ledger.total();
    assert_eq!((all.lost, all.delivered), (0, 4));
    assert!(all.with_node > 0, "{all:?}");
    assert_eq!(ledger.contradictions, Contradictions::default());
    let alive = with_lost_node(|_, dead| dead.node_lost = false).total();
    let not_delivered = alive.lost + alive.undeliverable + alive.pending;
    assert_eq!((not_delivered, alive.with_node), (all.with_node, 0));
    assert!(alive.lost > 0);
}

#[test]
fn what_a_server_says_it_cannot_relay_is_an_error_unless_the_partners_node_is_lost() {
    let lost = with_lost_node(|survivor, _| survivor.relays_lost = 1);
    assert_eq!(lost.wrongly_lost, 0);
    let alive = with_lost_node(|survivor, dead| {
        (survivor.relays_lost, dead.node_lost) = (1, false);
    });
    assert_eq!(alive.wrongly_lost, 1);
}

#[test]
fn who_is_not_told_that_the_partners_node_is_lost_is_wronged() {
    let ledger = with_lost_node(|survivor, dead| {
        (survivor.partner_left, survivor.left) = (false, secs(60));
        dead.left = secs(7);
    });
    assert_eq!(ledger.contradictions.untold_leaves, 1);
    let in_time = with_lost_node(|survivor, _| {
        (survivor.partner_left, survivor.left) = (false, secs(12));
    });
    assert_eq!(in_time.contradictions.untold_leaves, 0);
}

#[test]
fn who_is_told_late_that_the_partners_node_is_lost_is_noted() {
    let told = |left, change: fn(&mut Stay)| {
        let ledger = with_lost_node(|survivor, dead| {
            dead.breaks.push((NodeId(1), secs(7)));
            survivor.left = left;
            change(survivor);
        });
        ledger.late_news
    };
    assert_eq!(told(secs(17), |_| ()), [], "that is known by the time");
    let late = LateNews {
        room: 7,
        node: NodeId(1),
        broke: secs(7),
        told: secs(18),
    };
    assert_eq!(told(secs(18), |_| ()), [late]);
    assert_eq!(told(secs(18), |survivor| survivor.partner_left = false), []);
    assert_eq!(told(secs(18), |survivor| survivor.cut_off = true), []);
}

#[test]
fn a_room_of_one_near_the_loss_of_a_node_was_of_two() {
    for (losses, expected) in [
        (vec![], 1),
        (vec![[secs(2), secs(2)]], 0),
        (vec![[secs(60), secs(60)]], 1),
    ] {
        let mut ledger = Ledger::new(Scope::Whole);
        ledger.losses = losses;
        ledger.add(Stay {
            partner_left: true,
            ..stay(1, 3, Inbox::default())
        });
        ledger.close(true);
        assert_eq!(ledger.one_sided_rooms, expected, "{:?}", ledger.losses);
        assert_eq!(ledger.total().lost > 0, expected == 1);
    }
}

#[test]
fn what_is_said_again_after_a_loss_is_no_duplicate() {
    let again = with_lost_node(|survivor, _| _ = survivor.inbox.receive(2, 1, Kind::MESSAGE, 1));
    assert_eq!(again.said_again, 1);
    let alive = with_lost_node(|survivor, dead| {
        survivor.inbox.receive(2, 1, Kind::MESSAGE, 1);
        dead.node_lost = false;
    });
    assert_eq!(alive.said_again, 0);
}

#[test]
fn pairs_are_local_or_remote_by_where_they_met() {
    let mut stays = [
        stay(1, 3, Inbox::default()),
        stay(2, 0, inbox(1, &[0, 1, 2])),
    ];
    let of = |stays: &[Stay; 2]| {
        let ledger = settle(stays.clone());
        ledger
            .pairs
            .map(|pairs| (pairs.rooms, pairs.settled.delivered, pairs.matching.count()))
    };
    stays[0].searched = Some(secs(1));
    assert_eq!(of(&stays), [(1, 3, 1), (0, 0, 0)]);
    stays[1].node = NodeId(3);
    assert_eq!(of(&stays), [(0, 0, 0), (1, 3, 1)]);
}
