//! The servers of a run in the form of a record.

use std::time::Duration;

use super::{Loss, Nodes};
use crate::{
    measure::reach::NodeId,
    record::{self, digits},
};

impl Nodes {
    /// `urls`: of the servers, in order.
    pub fn to_record(&self, urls: &[String]) -> Vec<record::Node> {
        let nodes = (0..).zip(&self.all);
        nodes
            .map(|(place, node): (u8, _)| record::Node {
                number: u32::from(place) + 1,
                url: urls.get(usize::from(place)).cloned().unwrap_or_default(),
                peak_connected: node.peak,
                connections: node.counts.arrived,
                from_other_nodes: node.counts.changed,
                broke: node.counts.broke,
                errors: node.errors.to_record().collect(),
                lost_with_it: node.with_it.to_record().collect(),
                losses: self.losses_of(NodeId(place)),
                server: node.server.to_record(),
            })
            .collect()
    }

    fn losses_of(&self, node: NodeId) -> Vec<record::NodeLoss> {
        let losses = self.losses.iter().filter(|loss| loss.node == node);
        losses.map(Loss::to_record).collect()
    }

    /// How often an error occurred at which server.
    pub fn places(&self, kind: &str) -> Vec<record::ErrorPlace> {
        let at = |(place, node): (u32, &super::Node)| {
            let mut errors = node.errors.to_record();
            let found = errors.find(|error| error.kind == kind)?;
            Some(record::ErrorPlace {
                node: place + 1,
                count: found.count,
            })
        };
        (0..).zip(&self.all).filter_map(at).collect()
    }
}

impl Loss {
    fn to_record(&self) -> record::NodeLoss {
        let millis = |time: Duration| digits(time.as_secs_f64() * 1e3);
        let all = self.matched.max_ms().filter(|_| self.not_matched() == 0);
        record::NodeLoss {
            from_ms: millis(self.from),
            gone_ms: millis(self.at),
            connections: self.connections,
            back_ms: self.back.map(millis),
            torn: self.torn,
            told: self.told.count(),
            told_max_ms: self.told.max_ms().map(digits),
            matched_again: self.matched.count(),
            matched_again_ms: all.map(digits),
        }
    }
}
