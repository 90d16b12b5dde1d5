//! The scripts that the engine runs for us, atomically, what goes in and comes out, and the names of keys and channels.

mod ops;

use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::frames::VERSION;
use crate::id::NodeId;
pub use ops::{Answer, BeatReply, Found, Op, Stands, Wish};
pub(crate) use ops::{bytes, op_args, read_answer, read_beat};

/// Operations of one call of `seek`: 64 hold the engine for 0.4 ms with 10,000 waiting.
pub(crate) const OPERATIONS: usize = 64;

/// A beat whose answer takes longer is no good one: less than the lease of 2.5 s.
pub(crate) const BEAT_WITHIN: Duration = Duration::from_secs(2);

/// A script of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Seek,
    Beat,
    Bury,
    Room,
    Keep,
    Bans,
    Blocks,
}

impl Script {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seek => "seek",
            Self::Beat => "beat",
            Self::Bury => "bury",
            Self::Room => "room",
            Self::Keep => "keep",
            Self::Bans => "bans",
            Self::Blocks => "blocks",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) text: &'static str,
    pub(crate) sha: String,
}

/// Of what all versions of the bus have in common: which nodes there are, bans, blocks, the key of room tickets, channels.
const COMMON: u8 = 1;

/// What only nodes that speak one version of the bus have in common: named rooms, sessions that moved, seats.
const OF_BUS: [char; 3] = ['r', 's', 'j'];

/// The scripts, and the names of what they work on.
#[derive(Debug)]
pub(crate) struct Scripts {
    bodies: [Body; 7],
    prefix: String,
    bus: u8,
    pub(crate) tickets: Vec<u8>,
    pub(crate) pools: Vec<u8>,
    pub(crate) nodes: Vec<u8>,
    pub(crate) bans: Vec<u8>,
    pub(crate) blocks: Vec<u8>,
    /// The channel of all nodes.
    pub(crate) control: Vec<u8>,
}

impl Scripts {
    /// For nodes of this build.
    pub(crate) fn new(prefix: &str) -> Self {
        Self::of(prefix, VERSION)
    }

    fn of(prefix: &str, bus: u8) -> Self {
        let texts = [
            include_str!("scripts/seek.lua"),
            include_str!("scripts/beat.lua"),
            include_str!("scripts/bury.lua"),
            include_str!("scripts/room.lua"),
            include_str!("scripts/keep.lua"),
            include_str!("scripts/bans.lua"),
            include_str!("scripts/blocks.lua"),
        ];
        let sha = |text: &str| {
            Sha1::digest(text)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let key = |version, name| format!("{{{prefix}:m}}:{version}:{name}").into_bytes();
        Self {
            bodies: texts.map(|text| Body {
                text,
                sha: sha(text),
            }),
            prefix: prefix.to_owned(),
            bus,
            tickets: key(bus, "t"),
            pools: key(bus, "p"),
            nodes: key(COMMON, "n"),
            bans: key(COMMON, "b"),
            blocks: key(COMMON, "w"),
            control: format!("{prefix}:{COMMON}:c:{{c}}").into_bytes(),
        }
    }

    pub(crate) fn all(&self) -> &[Body] {
        &self.bodies
    }

    pub(crate) fn get(&self, script: Script) -> &Body {
        let [seek, beat, bury, room, keep, bans, blocks] = &self.bodies;
        match script {
            Script::Seek => seek,
            Script::Beat => beat,
            Script::Bury => bury,
            Script::Room => room,
            Script::Keep => keep,
            Script::Bans => bans,
            Script::Blocks => blocks,
        }
    }

    /// The channel of one node.
    pub(crate) fn inbox(&self, node: NodeId) -> Vec<u8> {
        format!("{}:{COMMON}:n:{{{node}}}", self.prefix).into_bytes()
    }

    /// `{vm:r:NAME}:1`. A brace in the name would move it to another slot, so the name is written in hex.
    pub(crate) fn key(&self, kind: char, name: &[u8]) -> Vec<u8> {
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let version = match OF_BUS.contains(&kind) {
            true => self.bus,
            false => COMMON,
        };
        format!("{{{}:{kind}:{name}}}:{version}", self.prefix).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_versions_of_the_bus_share_what_both_understand_and_nothing_else() {
        let [one, other] = [1, 2].map(|bus| Scripts::of("vm", bus));
        let node = NodeId::first([1; 6]);
        let of_bus = |scripts: &Scripts| {
            let named = OF_BUS.map(|kind| scripts.key(kind, b"tea"));
            [
                &[scripts.tickets.clone(), scripts.pools.clone()][..],
                &named,
            ]
            .concat()
        };
        for (one, other) in of_bus(&one).iter().zip(of_bus(&other)) {
            assert_ne!(*one, other);
        }
        let common = |scripts: &Scripts| {
            [
                scripts.nodes.clone(),
                scripts.bans.clone(),
                scripts.blocks.clone(),
                scripts.control.clone(),
                scripts.inbox(node),
                scripts.key('k', b"room"),
            ]
        };
        assert_eq!(common(&one), common(&other));
        assert_eq!(one.key('r', b"tea"), b"{vm:r:746561}:1");
        assert_eq!(other.tickets, b"{vm:m}:2:t");
    }
}
