//! Several servers that are one service.

use serde::{Deserialize, Serialize};

use super::{ErrorEntry, Server};

/// One of the servers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its place on the command line, from 1.
    pub number: u32,
    pub url: String,
    /// The most users that were connected to it at the same time; of shards, their sum.
    pub peak_connected: u64,
    /// How often a user was connected to it.
    pub connections: u64,
    /// Of those, how many had been at another server before.
    pub from_other_nodes: u64,
    /// How many of its connections neither side closed.
    pub broke: u64,
    /// What its users saw go wrong, and counts.
    pub errors: Vec<ErrorEntry>,
    /// What its users saw because it was lost: in no other count of errors.
    pub lost_with_it: Vec<ErrorEntry>,
    /// When it was lost, in order.
    pub losses: Vec<NodeLoss>,
    /// By its own metrics.
    pub server: Option<Server>,
}

/// The loss of a server: all of its connections were gone, and most of them broke.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeLoss {
    /// When its first connection was noticed to be gone.
    pub from_ms: f64,
    /// When its last one was.
    pub gone_ms: f64,
    /// The connections that broke.
    pub connections: u64,
    /// When a user was connected to it again; `None`: nobody was.
    pub back_ms: Option<f64>,
    /// Users who lost their partner by it, or who were at it and had a partner or were looking for one.
    pub torn: u64,
    /// Of those, users of other servers, who were told that their partner is gone.
    pub told: u64,
    /// From the loss until the last of them was told.
    pub told_max_ms: Option<f64>,
    /// Of `torn`, how many were matched again, or were in their room again.
    pub matched_again: u64,
    /// From the loss until all of them were, one who is left over aside; `None`: not within the run.
    pub matched_again_ms: Option<f64>,
}

/// How often an error occurred at one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPlace {
    /// From 1.
    pub node: u32,
    pub count: u64,
}

/// Rooms of two, and their messages, by where the users were when they met.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReachRow {
    /// `local`: both were at one server; `remote`: at two.
    pub reach: String,
    /// Rooms of which both users told.
    pub pairs: u64,
    pub sent: u64,
    pub delivered: u64,
    pub lost: u64,
    /// Lost because the server of the sender or of the receiver was.
    pub lost_with_node: u64,
    pub undeliverable: u64,
    pub pending: u64,
    /// Delivered, in percent of delivered and lost.
    pub success_percent: Option<f64>,
}
