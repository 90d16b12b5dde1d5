//! The number of nodes in each state, for the metrics.

use super::Shared;
use crate::engine::lock;
use crate::nodes::Info;

pub(super) fn count_nodes(shared: &Shared) {
    let metrics = shared.engine.metrics();
    let (alive, dead, strange) = {
        let nodes = lock(&shared.nodes);
        let is_strange = |info: Option<&Info>| info.is_none_or(|info| !info.is_of_this_bus());
        let strange = nodes.others().filter(|(_, info)| is_strange(*info)).count();
        (nodes.others().count(), nodes.dead().len(), strange)
    };
    let suspects = lock(&shared.suspects).len();
    for (state, count) in [
        ("alive", alive - strange),
        ("dead", dead),
        ("strange", strange),
        ("suspect", suspects),
    ] {
        metrics
            .nodes
            .with_label_values(&[state])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
