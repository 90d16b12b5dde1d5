//! Whom a user waits for, who else stands in the same pools, and why they are not matched.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
#[cfg(feature = "cluster")]
use voicematch_core::{matchmaker::Seeker, session::SessionView};
use voicematch_core::{
    matchmaker::{PoolView, TicketView, WhyNot},
    session::Wait,
};

#[cfg(feature = "cluster")]
use super::Admin;
#[cfg(feature = "cluster")]
use crate::cluster::InPool;

/// Users of all nodes who are named, in each pool.
#[cfg(feature = "cluster")]
const MOST_THERE: usize = 20;

/// Whom a user waits for
#[derive(Serialize, ToSchema)]
pub(super) struct Waiting {
    /// `false`: for a former partner, with a room ticket
    for_match: bool,
    /// Whether the user does not answer, and is matched with nobody until they do
    parked: bool,
    /// For how long, without the time before `cancel_match`
    seconds: f64,
    language: Option<String>,
    region: Option<String>,
    interests: Vec<String>,
    /// Where the user stands, from narrow to wide; who waits in none of them is not looked at
    pools: Vec<Pool>,
    /// The kind of pool that comes next; `null`: none
    widens_to: Option<String>,
    widens_in_seconds: Option<f64>,
    /// All who wait, in any pool
    waiting_in_all: i64,
}

/// Users who wait for the same thing
#[derive(Serialize, ToSchema)]
pub(super) struct Pool {
    #[schema(example = "interest")]
    kind: String,
    #[schema(example = "interest chess, language en")]
    name: String,
    waiting: usize,
    /// From 1; `null`: not there while parked, or after the first 10,000
    place: Option<usize>,
    /// The first 20 others
    others: Vec<Other>,
    /// Who waits on all nodes; `null`: this server is alone, or the cluster's engine does not answer
    #[serde(skip_serializing_if = "Option::is_none")]
    on_all_nodes: Option<OnAllNodes>,
}

/// Users of all nodes who wait for the same thing
#[derive(Serialize, ToSchema)]
pub(super) struct OnAllNodes {
    waiting: usize,
    /// The first 20, this user among them
    first: Vec<There>,
}

/// A user of some node
#[derive(Serialize, ToSchema)]
pub(super) struct There {
    #[schema(pattern = "^[0-9a-f]{16}$")]
    session: String,
    /// The node; see /support/nodes
    #[schema(pattern = "^[0-9a-f]{16}$")]
    node: String,
    /// Why the two are not matched; `null`: they are about to be, or it is this user
    not_matched_because: Option<Because>,
}

/// Another user in the same pool
#[derive(Serialize, ToSchema)]
pub(super) struct Other {
    #[schema(pattern = "^[0-9a-f]{16}$")]
    session: String,
    /// Why the two are not matched; `null`: they are about to be
    not_matched_because: Option<Because>,
}

/// Why two are not matched.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Because {
    /// Both are sessions of one user
    SamePerson,
    /// One of them has blocked the other
    Blocked,
    /// One of them has sent `next` a short while ago
    FormerPartner,
    #[cfg(feature = "cluster")]
    /// Their node does not answer, is dead, sends its users away, or speaks another version of the bus
    NodeAway,
}

impl From<WhyNot> for Because {
    fn from(why: WhyNot) -> Self {
        match why {
            WhyNot::SamePerson => Self::SamePerson,
            WhyNot::Blocked => Self::Blocked,
            WhyNot::FormerPartner => Self::FormerPartner,
        }
    }
}

impl Waiting {
    pub(super) fn of(wait: &Wait, waiting_in_all: i64) -> Self {
        let partner = TicketView {
            language: None,
            region: None,
            interests: Vec::new(),
            waited: Duration::ZERO,
            pools: Vec::new(),
            widens: None,
        };
        let (ticket, for_match, parked) = match wait {
            Wait::Match { ticket, parked, .. } => (&**ticket, true, *parked),
            Wait::Partner => (&partner, false, false),
        };
        Self {
            for_match,
            parked,
            seconds: ticket.waited.as_secs_f64(),
            language: ticket.language.clone(),
            region: ticket.region.clone(),
            interests: ticket.interests.clone(),
            pools: ticket.pools.iter().map(Pool::of).collect(),
            widens_to: ticket.widens.map(|(kind, _)| kind.as_str().to_owned()),
            widens_in_seconds: ticket.widens.map(|(_, left)| left.as_secs_f64()),
            waiting_in_all,
        }
    }
}

impl Pool {
    fn of(pool: &PoolView) -> Self {
        let others = pool.others.iter().map(|(session, why)| Other {
            session: session.to_string(),
            not_matched_because: why.map(Because::from),
        });
        Self {
            kind: pool.kind.as_str().to_owned(),
            name: pool.key.to_string(),
            waiting: pool.waiting,
            place: pool.place,
            others: others.collect(),
            on_all_nodes: None,
        }
    }
}

/// Adds who waits for the same on all nodes.
#[cfg(feature = "cluster")]
pub(super) async fn on_all_nodes(
    mut waiting: Option<Waiting>,
    view: &SessionView,
    admin: &Admin,
) -> Option<Waiting> {
    let (Some(node), Some(Wait::Match { ticket, seeker, .. }), Some(pools_here)) =
        (&admin.node, &view.wait, &mut waiting)
    else {
        return waiting;
    };
    let pools = ticket
        .pools
        .iter()
        .map(|pool| (pool.kind, pool.key.clone()));
    let pools: Vec<_> = pools.collect();
    let seen = node.pools(&pools, MOST_THERE).await;
    for (pool, seen) in pools_here.pools.iter_mut().zip(seen.into_iter().flatten()) {
        pool.on_all_nodes = Some(OnAllNodes {
            waiting: seen.waiting,
            first: (seen.first.into_iter())
                .map(|there| There {
                    session: there.seeker.ticket.session.to_string(),
                    node: there.node.to_string(),
                    not_matched_because: why_not(seeker, &there),
                })
                .collect(),
        });
    }
    waiting
}

#[cfg(feature = "cluster")]
fn why_not(one: &Seeker, there: &InPool) -> Option<Because> {
    if one.ticket.session == there.seeker.ticket.session {
        return None;
    }
    let why = one.why_not(&there.seeker).map(Because::from);
    why.or_else(|| there.is_passed_over.then_some(Because::NodeAway))
}
