//! Other versions of the bus under the same prefix: what they say is not understood, and is not ours to judge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Members, SUSPECTS, Shared};
use crate::engine::lock;
use crate::frames;
use crate::id::NodeId;

/// How many other versions are kept in the list.
const VERSIONS: usize = 8;

/// For how long something that came is remembered.
const LATELY: Duration = Duration::from_secs(60);

/// Versions of which something came, and when that was last.
#[derive(Debug, Default)]
pub(super) struct Versions {
    heard: Mutex<BTreeMap<u8, Instant>>,
    /// When it was last said that somebody else has registered.
    others: Mutex<Option<Instant>>,
}

impl Versions {
    /// Says so, unless something of it has come in the last minute.
    fn heard(&self, version: u8) {
        let mut versions = lock(&self.heard);
        if versions.len() >= VERSIONS && !versions.contains_key(&version) {
            return;
        }
        let before = versions.insert(version, Instant::now());
        if before.is_none_or(|before| before.elapsed() >= LATELY) {
            warn!(
                "others under the same --cluster-prefix speak version {version} of the bus, this node speaks {}: their users are not matched with each other; give one of the two another --cluster-prefix",
                frames::VERSION
            );
        }
    }

    /// Something has registered that says nothing of itself.
    fn saw_another_program(&self, node: NodeId) {
        let mut said = lock(&self.others);
        if said.is_none_or(|said| said.elapsed() >= LATELY) {
            *said = Some(Instant::now());
            warn!(
                "something that is no server of this program has registered under the same --cluster-prefix, as {node}; give one of the two another --cluster-prefix"
            );
        }
    }

    fn lately(&self) -> BTreeSet<u8> {
        let versions = lock(&self.heard);
        let lately = versions.iter().filter(|(_, at)| at.elapsed() < LATELY);
        lately.map(|(version, _)| *version).collect()
    }
}

impl Shared {
    /// Of a node that has registered.
    pub(super) fn look_at_version(&self, node: NodeId) {
        let bus = {
            let nodes = lock(&self.nodes);
            let found = nodes.others().find(|(other, _)| *other == node);
            found.map(|(_, info)| info.map(|info| info.bus))
        };
        match bus {
            Some(Some(bus)) if bus != frames::VERSION => self.versions.heard(bus),
            Some(None) => self.versions.saw_another_program(node),
            Some(Some(_)) | None => {}
        }
    }
}

impl Members {
    /// Other versions of the bus that are spoken under this prefix: by nodes that live, or in what came in the last minute.
    #[must_use]
    pub fn other_versions(&self) -> BTreeSet<u8> {
        let mut all = self.shared.versions.lately();
        let others = self.others().into_iter().filter_map(|(_, info)| info);
        all.extend(
            others
                .filter(|info| !info.is_of_this_bus())
                .map(|info| info.bus),
        );
        all
    }

    /// Something came in another version of the bus.
    pub(crate) fn heard_version(&self, version: u8) {
        self.shared.versions.heard(version);
    }

    /// Whose tickets are not to be found: suspects, nodes that send their users away, and nodes of another bus.
    #[must_use]
    pub fn passed_over(&self) -> Vec<NodeId> {
        let mut passed = self.suspects();
        let nodes = lock(&self.shared.nodes);
        let others = nodes
            .others()
            .filter_map(|(node, info)| Some((node, info?)));
        let avoided = others.filter(|(_, info)| info.draining || !info.is_of_this_bus());
        passed.extend(avoided.map(|(node, _)| node).take(SUSPECTS));
        passed
    }
}
