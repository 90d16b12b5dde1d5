//! The other nodes, as operators see them.

use serde::Serialize;
use utoipa::ToSchema;
use voicematch_cluster::{Stands, frames::VERSION};
use voicematch_core::matchmaker::{PoolKey, PoolKind, Seeker};

use super::{
    Joined, Node,
    joined::{pool, ticket_to_core},
};

/// One node.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeView {
    /// Its id: 12 hexadecimal digits of the process, 4 that count its lives.
    pub id: String,
    /// `self`, `alive`, `draining`, `suspect` (it does not answer), `dead`, or `strange`: no node of this program, or one that speaks
    /// another version of the bus, with which nothing can be done together.
    pub state: &'static str,
    /// The version of the program, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version of the bus that it speaks, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<u8>,
}

impl Node {
    /// This node, the others that live, and those that have died lately.
    pub fn nodes(&self) -> Vec<NodeView> {
        let Some(joined) = self.joined.get() else {
            return vec![view(self.first, "self", Some(own()))];
        };
        let members = &joined.members;
        let suspects = members.suspects();
        let mut nodes = vec![view(members.me(), "self", Some(own()))];
        nodes.extend(members.others().into_iter().map(|(node, info)| {
            let state = match &info {
                None => "strange",
                Some(info) if !info.is_of_this_bus() => "strange",
                Some(_) if suspects.contains(&node) => "suspect",
                Some(info) if info.draining => "draining",
                Some(_) => "alive",
            };
            view(node, state, info.map(|info| (info.version, info.bus)))
        }));
        nodes.extend((members.dead().into_iter()).map(|node| view(node, "dead", None)));
        nodes
    }
}

/// Who waits in a pool, on all nodes.
pub struct PoolOfAll {
    pub waiting: usize,
    pub first: Vec<InPool>,
}

/// A user of some node in it.
pub struct InPool {
    pub seeker: Seeker,
    pub node: voicematch_cluster::NodeId,
    /// Nobody of that node is found now.
    pub is_passed_over: bool,
}

impl Node {
    /// Who waits in these pools, and the first `most` of each by name. `None`: the engine does not answer.
    pub async fn pools(
        &self,
        pools: &[(PoolKind, PoolKey)],
        most: usize,
    ) -> Option<Vec<PoolOfAll>> {
        let Joined {
            engine, members, ..
        } = self.joined.get()?;
        let names: Vec<_> = pools.iter().map(pool).collect();
        let seen = engine.look(&names, most).await.ok()?;
        let passed_over = [members.passed_over(), members.dead()].concat();
        let all = seen.into_iter().map(|seen| PoolOfAll {
            waiting: seen.waiting,
            first: (seen.first.into_iter())
                .map(|stands| InPool {
                    is_passed_over: passed_over.contains(&stands.node),
                    node: stands.node,
                    seeker: seeker(&stands),
                })
                .collect(),
        });
        Some(all.collect())
    }
}

fn seeker(stands: &Stands) -> Seeker {
    let numbers = |ids: &[[u8; 8]]| ids.iter().map(|id| u64::from_be_bytes(*id)).collect();
    Seeker {
        ticket: ticket_to_core(stands.ticket),
        person: u64::from_be_bytes(stands.person),
        avoided: numbers(&stands.avoided),
        apart: numbers(&stands.apart),
        // Those that were asked for, and others whose words are not known.
        pools: Vec::new(),
    }
}

/// `says`: the version of its program and that of its bus.
fn view(
    id: voicematch_cluster::NodeId,
    state: &'static str,
    says: Option<(String, u8)>,
) -> NodeView {
    let (version, bus) = says.unzip();
    NodeView {
        id: id.to_string(),
        state,
        version,
        bus,
    }
}

fn own() -> (String, u8) {
    (env!("CARGO_PKG_VERSION").to_owned(), VERSION)
}
