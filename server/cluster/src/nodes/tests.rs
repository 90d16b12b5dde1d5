//! An engine in miniature: what `beat` and `bury` do with a hash.

mod slow;

use std::collections::BTreeMap;

use super::*;

fn id(number: u8) -> NodeId {
    NodeId::first([number; 6])
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct World {
    start: Instant,
    now: Instant,
    /// The engine's clock, which runs as it likes.
    time: i64,
    generation: u8,
    hash: BTreeMap<NodeId, Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            time: 1_000_000_000_000,
            generation: 1,
            hash: BTreeMap::new(),
        }
    }

    fn at(&self) -> Duration {
        self.now - self.start
    }

    fn beat(&mut self, nodes: &mut Nodes) -> Vec<Change> {
        let info = Info::new([1; 4]);
        let (me, number) = (nodes.me(), nodes.next_beat());
        let reply = if self.hash.get(&me).is_some_and(|value| value[0] == b'x') {
            BeatReply::Fenced
        } else {
            self.hash
                .insert(me, format!("a{number} {info}").into_bytes());
            let all = self.hash.iter().map(|(node, value)| (*node, value.clone()));
            BeatReply::Ok {
                time: self.time,
                generation: vec![self.generation],
                nodes: all.collect(),
            }
        };
        let outcome = nodes.answered(self.now, self.now, reply);
        let mut changes = outcome.changes;
        for verdict in outcome.bury {
            let is = self.hash.get(&verdict.node).cloned().unwrap_or_default();
            if self.generation == verdict.generation[0] && is == verdict.value {
                self.hash.insert(verdict.node, verdict.mark.into_bytes());
                changes.extend(nodes.buried(verdict.node).changes);
            }
        }
        for node in outcome.forget {
            self.hash.remove(&node);
        }
        changes
    }

    fn lose_data(&mut self) {
        self.generation += 1;
        self.hash.clear();
    }

    /// Beats of all, each half second.
    fn run(&mut self, time: Duration, all: &mut [&mut Nodes]) -> Vec<(NodeId, Change)> {
        let until = self.now + time;
        let mut out = Vec::new();
        while self.now < until {
            self.now += BEAT;
            self.time += 500_000;
            for nodes in &mut *all {
                let me = nodes.me();
                out.extend(self.beat(nodes).into_iter().map(|change| (me, change)));
            }
        }
        out
    }
}

fn three() -> [Nodes; 3] {
    [1, 2, 3].map(|number| Nodes::new(id(number)))
}

#[test]
fn a_silent_node_dies_once_for_each_and_is_fenced() {
    let mut world = World::new();
    let [mut a, mut b, mut c] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.others().count(), 2);
    let stopped = world.at();
    let changes = world.run(ms(2_500), &mut [&mut a, &mut b]);
    assert_eq!(changes, [], "a pause of 2.9 s is no death");
    let changes = world.run(ms(1_500), &mut [&mut a, &mut b]);
    assert_eq!(
        changes,
        [(id(1), Change::Died(id(3))), (id(2), Change::Died(id(3)))]
    );
    assert!(world.at() - stopped <= ms(4_000));
    // It wakes up: another life, which the others see.
    assert_eq!(world.beat(&mut c), [Change::NewLife(id(3).next_life())]);
    assert!(!c.lease(world.now), "not before its first beat");
    let changes = world.run(ms(500), &mut [&mut c, &mut a]);
    assert!(changes.contains(&(id(1), Change::Joined(id(3).next_life()))));
    assert!(c.lease(world.now));
    assert_eq!(c.dead().iter().copied().collect::<Vec<_>>(), [id(3)]);
}

#[test]
fn a_witness_that_was_away_has_seen_nothing() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    world.beat(&mut a);
    // Both froze, or the engine was away: a comes back first.
    world.now += ms(20_000);
    world.time += 20_000_000;
    assert_eq!(world.run(ms(2_500), &mut [&mut a]), []);
    assert_eq!(world.run(ms(5_000), &mut [&mut a, &mut b]), []);
}

#[test]
fn a_witness_that_stood_still_before_it_read_an_answer_has_seen_nothing() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    // All stand still; a has asked before, and reads the answers afterwards.
    let sent = world.now;
    let value = world.hash[&id(2)].clone();
    for stood in [ms(2_100), ms(4_200), ms(6_300), ms(8_400)] {
        let nodes = vec![(id(2), value.clone())];
        let reply = BeatReply::Ok {
            time: world.time + i64::try_from(stood.as_micros()).expect("a time"),
            generation: vec![1],
            nodes,
        };
        let outcome = a.answered(sent + stood - ms(2_001), sent + stood, reply);
        assert_eq!(outcome, Outcome::default(), "{stood:?}");
    }
}

#[test]
fn the_engines_clock_may_jump() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    for jump in [86_400_000_000, -172_800_000_000] {
        world.time += jump;
        let told = world.run(ms(5_000), &mut [&mut a, &mut b]);
        assert_eq!(told, [(id(1), Change::Clock), (id(2), Change::Clock)]);
        assert_eq!(a.engine_time(world.now + ms(3)), Some(world.time + 3_000));
    }
}

#[test]
fn the_engines_time_is_told_rather_late_than_early() {
    let start = Instant::now();
    let mut a = Nodes::new(id(1));
    let reply = |time| BeatReply::Ok {
        time,
        generation: vec![1],
        nodes: Vec::new(),
    };
    // The engine looked at its clock at once, and this node stood still before it read the answer.
    a.answered(start, start + ms(1_900), reply(1_000_000));
    assert_eq!(a.engine_time(start + ms(1_900)), Some(2_900_000));
    // What a former beat has brought, over a connection that was given up, is older.
    a.answered(start + ms(2_000), start + ms(2_001), reply(3_000_000));
    a.answered(start + ms(500), start + ms(2_002), reply(1_500_000));
    assert_eq!(a.engine_time(start + ms(2_500)), Some(3_500_000));
}

#[test]
fn lost_data_are_no_death() {
    let mut world = World::new();
    let [mut a, mut b, mut c] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b, &mut c]);
    world.lose_data();
    let changes = world.run(ms(2_500), &mut [&mut a, &mut b]);
    assert_eq!(
        changes,
        [(id(1), Change::Generation), (id(2), Change::Generation)]
    );
    // It was slow, and comes back.
    assert_eq!(
        world.run(ms(8_000), &mut [&mut c, &mut a, &mut b]),
        [(id(3), Change::Generation)]
    );
}

#[test]
fn who_does_not_come_back_after_lost_data_is_dead() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    world.lose_data();
    let changes = world.run(ms(3_500), &mut [&mut a]);
    assert_eq!(
        changes,
        [(id(1), Change::Generation), (id(1), Change::Died(id(2)))]
    );
    assert_eq!(
        world.hash[&id(2)][0],
        b'x',
        "there was no entry to be marked"
    );
    // Without the mark it would not know, having slept all the time.
    assert_eq!(world.beat(&mut b), [Change::NewLife(id(2).next_life())]);
}

#[test]
fn data_that_are_lost_again_and_again_put_no_death_off() {
    let mut world = World::new();
    let [mut a, mut b, mut c] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b, &mut c]);
    let mut changes = Vec::new();
    for _ in 0..4 {
        world.lose_data();
        changes.extend(world.run(ms(1_000), &mut [&mut a, &mut b]));
    }
    changes.retain(|(_, change)| *change != Change::Generation);
    assert_eq!(
        changes,
        [(id(1), Change::Died(id(3))), (id(2), Change::Died(id(3)))]
    );
}

#[test]
fn an_engine_that_fails_again_and_again_puts_no_death_off() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    let mut seen = 0;
    // One of three seconds is seen by the witness, and half a second more at its begin.
    while !a.dead().contains(&id(2)) {
        world.now += ms(2_000);
        world.run(ms(1_500), &mut [&mut a]);
        seen += 1;
        assert!(seen < 10, "never");
    }
    assert_eq!(seen, 3);
}

#[test]
fn who_was_met_and_never_had_an_entry_is_missed() {
    let mut world = World::new();
    let [mut a, mut b, mut c] = three();
    world.run(ms(1_000), &mut [&mut b]);
    b.meet(id(1));
    b.meet(id(3));
    b.meet(id(2));
    assert!(b.knows(id(1)) && !b.knows(id(2)));
    assert_eq!(b.others().count(), 0, "nothing is known of them");
    assert!(b.smallest(), "who has no entry does nothing");
    // One of them was only not seen yet.
    let changes = world.run(ms(4_000), &mut [&mut c, &mut b]);
    assert_eq!(
        changes,
        [
            (id(3), Change::Joined(id(2))),
            (id(2), Change::Joined(id(3))),
            (id(2), Change::Died(id(1))),
            (id(3), Change::Died(id(1))),
        ]
    );
    assert_eq!(world.beat(&mut a), [Change::NewLife(id(1).next_life())]);
    b.meet(id(1));
    assert!(!b.knows(id(1)), "the dead are not met");
}

#[test]
fn the_dead_are_buried_again_when_their_mark_is_lost() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    world.run(ms(4_000), &mut [&mut a]);
    world.lose_data();
    // It had slept all the time, and beats as if nothing had been.
    world.run(ms(500), &mut [&mut b, &mut a]);
    let changes = world.run(ms(500), &mut [&mut b, &mut a]);
    assert!(
        changes.contains(&(id(2), Change::NewLife(id(2).next_life()))),
        "{changes:?}"
    );
}

#[test]
fn marks_go_after_ten_minutes_and_the_dead_stay_dead() {
    let mut world = World::new();
    let [mut a, mut b, mut c] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b, &mut c]);
    world.run(ms(4_000), &mut [&mut a, &mut b]);
    assert!(world.hash.contains_key(&id(3)));
    world.time += 601_000_000;
    world.run(ms(500), &mut [&mut b]);
    assert!(world.hash.contains_key(&id(3)), "the smallest node does it");
    world.run(ms(500), &mut [&mut a]);
    assert!(!world.hash.contains_key(&id(3)));
    world.run(ms(1_000), &mut [&mut c, &mut a]);
    assert_ne!(c.me(), id(3), "buried again");
}

#[test]
fn the_lease_lasts_for_two_and_a_half_seconds() {
    let mut world = World::new();
    let mut a = Nodes::new(id(1));
    assert!(!a.lease(world.now));
    world.beat(&mut a);
    assert!(a.lease(world.now + LEASE - ms(1)));
    assert!(!a.lease(world.now + LEASE));
    // It begins when the beat was sent: buried meanwhile, this node would not know.
    let reply = BeatReply::Ok {
        time: 1,
        generation: vec![1],
        nodes: Vec::new(),
    };
    a.answered(world.now, world.now + ms(2_000), reply);
    assert!(!a.lease(world.now + LEASE));
}

#[test]
fn a_node_that_ends_buries_itself() {
    let mut world = World::new();
    let [mut a, mut b, _] = three();
    world.run(ms(1_000), &mut [&mut a, &mut b]);
    let will = b
        .last_will(world.now, &Info::new([1; 4]).to_string())
        .expect("a will");
    assert_eq!(world.hash.get(&id(2)), Some(&will.value));
    world.hash.insert(id(2), will.mark.into_bytes());
    assert_eq!(
        world.run(ms(500), &mut [&mut a]),
        [(id(1), Change::Died(id(2)))]
    );
}

#[test]
fn what_a_node_says_of_itself() {
    let mut info = Info::new([0xAB, 0, 1, 2]);
    let value = |info: &Info| format!("a7 {info}").into_bytes();
    assert_eq!(Info::of_value(&value(&info)), Some(info.clone()));
    info.draining = true;
    assert_eq!(Info::of_value(&value(&info)), Some(info.clone()));
    assert_eq!(
        Info::of_value(format!("a7 {info} more").as_bytes()),
        Some(info)
    );
    for strange in [
        "",
        "a",
        "x7",
        "a7 other 1 0.1 00 run",
        "a voicematch 1 0.1 00 run",
        "a7 voicematch 1",
        "a7 voicematch x 0.1 00 run",
    ] {
        assert_eq!(Info::of_value(strange.as_bytes()), None, "{strange}");
    }
    let mut nodes = Nodes::new(id(1));
    let reply = BeatReply::Ok {
        time: 1,
        generation: vec![1],
        nodes: vec![(id(2), b"a7 something".to_vec())],
    };
    nodes.answered(Instant::now(), Instant::now(), reply);
    assert_eq!(
        nodes.others().collect::<Vec<_>>(),
        [(id(2), None)],
        "another program's"
    );
}
