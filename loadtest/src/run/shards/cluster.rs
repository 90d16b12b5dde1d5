//! Shards with one server each, all of which are one service. What shards with all URLs know while they run, such as which
//! server a message came from, follows here from the shard that sent it.

use super::{input::Part, place, servers};
use crate::measure::{
    nodes::Nodes,
    reach::{NodeId, Reach},
};

/// Makes the shards know of all servers. Returns their URLs, in the order of their numbers; none if it is one, or the
/// shards knew.
pub(super) fn join(parts: &mut [Part]) -> Vec<String> {
    let known = parts.iter().find(|part| part.books.nodes.several());
    if let Some(part) = known {
        return part.shard.plan.servers.clone();
    }
    let mut urls: Vec<String> = Vec::new();
    for part in parts.iter() {
        if !urls.contains(&part.record.run.target) {
            urls.push(part.record.run.target.clone());
        }
    }
    if servers(parts).len() < 2 || urls.len() > NodeId::MAX {
        return Vec::new();
    }
    let node_of = |part: &Part| {
        let found = urls.iter().position(|url| *url == part.record.run.target);
        NodeId(
            found
                .and_then(|place| u8::try_from(place).ok())
                .unwrap_or(0),
        )
    };
    let nodes: Vec<(u32, NodeId)> = parts
        .iter()
        .map(|part| (place(part), node_of(part)))
        .collect();
    for (part, (_, node)) in parts.iter_mut().zip(&nodes) {
        part.books.ledger.at_node(*node);
        let from = |shard: u32| nodes.iter().find(|(one, _)| *one == shard);
        let reach = |shard| Some(Reach::of(from(shard)?.1, *node));
        part.books.crossings.find_reach(reach);
        let [local, remote] = [Reach::Local as usize, Reach::Remote as usize];
        part.books.totals.reach[local] = part.books.totals.message.clone();
        // Messages of other shards are all from elsewhere, unless two shards share a server.
        let elsewhere = nodes.iter().filter(|(_, other)| other == node).count() == 1;
        part.books.series.each(|cell| {
            cell.reach[local] = cell.message.clone();
            if elsewhere {
                cell.across_by_reach[remote] = cell.across.clone();
            }
        });
        let users = part.books.totals.people;
        let broke = users.dropped;
        let errors = part.books.totals.errors.clone();
        let peak = part.record.connections.peak;
        let mut all = Nodes::new(urls.len());
        if let Some(mine) = all.all.get_mut(node.index()) {
            mine.counts.arrived = users.connected;
            (mine.counts.departed, mine.counts.broke) = (users.connected, broke);
            (mine.peak, mine.errors) = (peak, errors);
            mine.server = part.books.server.clone();
        }
        part.books.nodes = all;
    }
    urls
}
