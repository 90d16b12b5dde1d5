//! What happens to them.

use super::{NODES, World, id_of};

impl World {
    pub(in super::super) fn fault(&mut self) {
        match self.dice(40) {
            0 => {
                let node = self.dice(NODES);
                self.bury(node);
            }
            1 => self.lock().engine.clear(),
            2 => self.lock().is_down = true,
            3..6 => self.lock().is_down = false,
            6 => {
                let node = self.dice(NODES);
                let now = self.now();
                self.nodes[node].0.bus_lost(now);
            }
            7 => self.lock().links.clear(),
            8 => self.lock().is_full = true,
            9..12 => {
                let mut between = self.lock();
                between.is_full = false;
                between.full_to = None;
            }
            16 => {
                let node = self.dice(NODES);
                self.lock().full_to = Some(node);
            }
            12..16 => {
                let seconds = self.dice(4);
                self.pass(seconds as u64);
            }
            _ => {}
        }
    }

    /// It is quiet.
    pub(in super::super) fn heal(&mut self) {
        self.random = 0;
        {
            let mut between = self.lock();
            between.is_down = false;
            between.is_silent = false;
            between.is_full = false;
            between.full_to = None;
        }
        for _ in 0..30 {
            self.settle();
            self.pass(1);
        }
        self.settle();
    }

    /// A node is taken for dead, by all at once, and begins anew.
    pub(in super::super) fn bury(&mut self, node: usize) {
        self.kill(node);
        for other in (0..NODES).filter(|other| *other != node) {
            self.hear_of_death(node, other);
        }
        let now = self.now();
        self.nodes[node].0.begin_life(now);
    }

    /// The same, and nobody has heard of it yet.
    pub(in super::super) fn kill(&mut self, node: usize) {
        let mut between = self.lock();
        let id = id_of(node, between.lives[node]);
        between.dead.insert(id);
        between.lives[node] += 1;
        between.kept[node].clear();
    }

    /// The last death of a node.
    pub(in super::super) fn hear_of_death(&mut self, node: usize, other: usize) {
        let now = self.now();
        let life = self.lock().lives[node] - 1;
        self.nodes[other].0.node_died(id_of(node, life), now);
    }

    /// A node knows nothing more of a name, as if it had never been there.
    pub(in super::super) fn kill_mirror(&mut self, node: usize, name: &str) {
        let spread = self.nodes[node].0.spread.as_ref().expect("one of several");
        let mut judge = spread.lock();
        if let Some(room) = judge.names.remove(name).and_then(|entry| entry.room) {
            spread.rooms.remove(&room.id);
            self.nodes[node].0.rooms.remove(name);
        }
    }
}
