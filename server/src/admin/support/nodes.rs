//! Which nodes there are.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Answered, Guarded, ok};
use crate::cluster::NodeView;

/// The nodes that are one service
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    /// Whether this one is with the others: `up`, `down` (the engine is away, or refuses to write), `refused`, or `alone` (there is no --cluster)
    #[schema(example = "up")]
    state: &'static str,
    /// Why the engine, or this node, was refused
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Other versions of the bus that are spoken under the same prefix: nothing can be done together with these nodes
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_versions_of_the_bus: Vec<u8>,
    /// This one first, then those that live, then those that have died lately
    nodes: Vec<NodeView>,
}

/// The nodes, as this one sees them
#[utoipa::path(get, path = "/support/nodes", tag = "support", security(("token" = [])), responses(
    (status = 200, body = Nodes, description = "The nodes"),
    Guarded,
))]
pub(super) async fn show_nodes(State(admin): State<Arc<Admin>>) -> Answered<Nodes> {
    let Some(node) = &admin.node else {
        return ok(Nodes {
            state: "alone",
            reason: None,
            other_versions_of_the_bus: Vec::new(),
            nodes: Vec::new(),
        });
    };
    let standing = node.standing();
    ok(Nodes {
        state: standing.as_str(),
        other_versions_of_the_bus: node.other_versions(),
        nodes: node.nodes(),
        reason: standing.why().map(str::to_owned),
    })
}
