//! What they know.

use std::collections::BTreeMap;

use super::World;

impl World {
    /// What each node knows, for who reads a failure.
    pub(in super::super) fn describe(&self) -> String {
        let mut text = format!("engine {:?}", self.lock().engine);
        for (rooms, _) in &self.nodes {
            let spread = rooms.spread.as_ref().expect("one of several");
            for (name, entry) in &spread.lock().names {
                let members = entry.room.as_ref().map(|room| {
                    let roster = room.roster();
                    let members = roster.members.iter().map(|member| {
                        let node = member.there.as_ref().map(|there| there.node.to_string());
                        (member.member.id, member.n, member.seat, node)
                    });
                    (room.id, members.collect::<Vec<_>>())
                });
                let (home, waiting) = (entry.home, entry.waiting.len());
                text += &format!(
                    "\n{}: {name} {home:?}, asking {}, {waiting} wait, {members:?}",
                    spread.me(),
                    entry.asking
                );
            }
        }
        text
    }

    pub(in super::super) fn assert_empty(&self) {
        for (rooms, metrics) in &self.nodes {
            assert_eq!(
                (metrics.named_rooms.get(), metrics.named_members.get()),
                (0, 0)
            );
            let spread = rooms.spread.as_ref().expect("one of several");
            let known = self.describe();
            let judge = spread.lock();
            assert!(judge.names.is_empty(), "{known}");
            assert!(judge.joining.is_empty(), "{:?}", judge.joining);
            assert!(spread.rooms.is_empty() && rooms.is_empty());
        }
        let between = self.lock();
        assert!(between.kept.iter().all(BTreeMap::is_empty));
    }
}
