//! An engine that takes its time: beats are on their way there and back, in order for each node, and all nodes see it as slow.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{id, ms};
use crate::nodes::*;

const NODES: u8 = 3;

/// A death may be told so late: the last beat has to come, and to be seen first; of up to 2.5 s between two answers one counts, and three
/// are needed; the verdict goes there and back.
const TOLD_WITHIN: u64 = 3_500 + 3 * 2_500 + 2_000 + 500;

/// What is on its way.
enum Way {
    Send(u8),
    Beat(u8, u64, u64),
    Answer(u8, u64, BeatReply),
    Bury(u8, Verdict),
    Buried(u8, NodeId),
}

/// How slow the engine is: how long a command is on its way there, and an answer on its way back, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Slow {
    there: u64,
    back: u64,
}

struct Slowly {
    start: Instant,
    now: u64,
    events: BTreeMap<(u64, u64), Way>,
    count: u64,
    slow: Box<dyn Fn(u64) -> Slow>,
    /// When the last command, or answer, of each node is there: one connection each.
    last: BTreeMap<(u8, bool), u64>,
    nodes: Vec<Nodes>,
    hash: BTreeMap<NodeId, Vec<u8>>,
    /// When each beat last moved.
    moved: BTreeMap<NodeId, u64>,
    dies: (u8, u64),
    /// Who took whom for dead, and when.
    deaths: Vec<(u8, NodeId, u64)>,
}

impl Slowly {
    fn new(slow: impl Fn(u64) -> Slow + 'static, dies: (u8, u64)) -> Self {
        let mut world = Self {
            start: Instant::now(),
            now: 0,
            events: BTreeMap::new(),
            count: 0,
            slow: Box::new(slow),
            last: BTreeMap::new(),
            nodes: (0..NODES).map(|node| Nodes::new(id(node))).collect(),
            hash: BTreeMap::new(),
            moved: BTreeMap::new(),
            dies,
            deaths: Vec::new(),
        };
        for node in 0..NODES {
            world.at(u64::from(node) * 137, Way::Send(node));
        }
        world
    }

    fn at(&mut self, time: u64, way: Way) {
        self.count += 1;
        self.events.insert((time, self.count), way);
    }

    fn there(&mut self, node: u8, way: Way) {
        let slow = (self.slow)(self.now);
        self.pass(node, false, slow.there, way);
    }

    fn back(&mut self, node: u8, way: Way) {
        let slow = (self.slow)(self.now);
        self.pass(node, true, slow.back, way);
    }

    fn pass(&mut self, node: u8, back: bool, takes: u64, way: Way) {
        let last = self.last.entry((node, back)).or_default();
        *last = (*last).max(self.now + takes);
        let time = *last;
        self.at(time, way);
    }

    fn instant(&self, time: u64) -> Instant {
        self.start + ms(time)
    }

    fn lives(&self, node: u8) -> bool {
        self.dies.0 != node || self.now < self.dies.1
    }

    fn run(&mut self, until: u64) {
        while let Some(((time, _), way)) = self.events.pop_first() {
            self.now = time;
            if time > until {
                return;
            }
            self.happens(way);
        }
    }

    fn happens(&mut self, way: Way) {
        let now = self.now;
        match way {
            Way::Send(node) if self.lives(node) => {
                let number = self.nodes[usize::from(node)].next_beat();
                self.there(node, Way::Beat(node, number, now));
                self.at(now + 500, Way::Send(node));
            }
            Way::Beat(node, number, sent) => {
                let me = id(node);
                let is_dead = self.hash.get(&me).is_some_and(|value| value[0] == b'x');
                assert!(!is_dead, "{me} lives, and was declared dead");
                let value = format!("a{number} {}", Info::new([1; 4]));
                self.hash.insert(me, value.into_bytes());
                self.moved.insert(me, now);
                let all = self.hash.iter().map(|(node, value)| (*node, value.clone()));
                let reply = BeatReply::Ok {
                    time: i64::try_from(now * 1_000).expect("a time"),
                    generation: vec![1],
                    nodes: all.collect(),
                };
                self.back(node, Way::Answer(node, sent, reply));
            }
            Way::Answer(node, sent, reply) if self.lives(node) => {
                // One that takes longer is none.
                if now - sent > 2_000 {
                    return;
                }
                let (sent, at) = (self.instant(sent), self.instant(now));
                let outcome = self.nodes[usize::from(node)].answered(sent, at, reply);
                self.note(node, &outcome.changes);
                for verdict in outcome.bury {
                    self.there(node, Way::Bury(node, verdict));
                }
            }
            Way::Bury(node, verdict) => {
                let is = self.hash.get(&verdict.node).cloned().unwrap_or_default();
                if is == verdict.value {
                    let stood = now - self.moved[&verdict.node];
                    assert!(stood >= 3_000, "a beat that stood for {stood} ms");
                    self.hash.insert(verdict.node, verdict.mark.into_bytes());
                    self.back(node, Way::Buried(node, verdict.node));
                }
            }
            Way::Buried(node, dead) if self.lives(node) => {
                let outcome = self.nodes[usize::from(node)].buried(dead);
                self.note(node, &outcome.changes);
            }
            Way::Send(_) | Way::Answer(..) | Way::Buried(..) => {}
        }
    }

    fn note(&mut self, node: u8, changes: &[Change]) {
        for change in changes {
            assert_ne!(*change, Change::Clock, "it is only slow");
            if let Change::Died(dead) = change {
                self.deaths.push((node, *dead, self.now));
            }
        }
    }

    /// The one that has died is dead for the others in time, and nobody else is.
    fn assert_only_the_dead_are_dead(&self) {
        let (dies, at) = self.dies;
        let mut who: Vec<_> = self
            .deaths
            .iter()
            .map(|(node, dead, _)| (*node, *dead))
            .collect();
        who.sort_unstable();
        let others = (0..NODES).filter(|node| *node != dies);
        let expected: Vec<_> = others.map(|node| (node, id(dies))).collect();
        assert_eq!(who, expected);
        for (node, _, told) in &self.deaths {
            assert!(*told >= at, "{node} was told {told}");
            assert!(
                told - at <= TOLD_WITHIN,
                "{node} was told after {} ms",
                told - at
            );
        }
    }
}

/// At each speed below the two seconds after which an engine counts as away.
#[test]
fn a_slow_engine_sees_deaths_late() {
    for (there, back) in [
        (1, 1),
        (300, 300),
        (500, 600),
        (950, 950),
        (1, 1_990),
        (1_990, 1),
    ] {
        let mut world = Slowly::new(move |_| Slow { there, back }, (1, 10_000));
        world.run(40_000);
        world.assert_only_the_dead_are_dead();
        let told = world.deaths.iter().map(|(_, _, told)| told - 10_000);
        let last = told.max().expect("two");
        let way = there + back;
        assert!(
            (2_500..=4_100 + 2 * way).contains(&last),
            "{last} ms at {way}"
        );
    }
}

/// It answers all at once, again and again.
#[test]
fn an_engine_that_stands_still_again_and_again_sees_deaths_late() {
    let until_it_runs = |time: u64| 1_800 - time % 1_800;
    let slow = move |time| Slow {
        there: until_it_runs(time),
        back: 1,
    };
    let mut world = Slowly::new(slow, (2, 10_000));
    world.run(60_000);
    world.assert_only_the_dead_are_dead();
}

proptest! {
    /// However long commands and answers take: nobody who lives is declared dead, nobody before their beat has stood for three seconds at the
    /// engine, and who is dead is told.
    #[test]
    fn only_the_dead_are_declared_dead(
        speeds in prop::collection::vec((1..1_000u64, 1..1_000u64), 1..12),
        each in 200..4_000u64,
        dies in (0..NODES, 5_000..15_000u64),
    ) {
        let slow = move |time: u64| {
            let at = usize::try_from(time / each).unwrap_or(0) % speeds.len();
            let (there, back) = speeds[at];
            Slow { there, back }
        };
        let mut world = Slowly::new(slow, dies);
        world.run(60_000);
        world.assert_only_the_dead_are_dead();
    }
}
