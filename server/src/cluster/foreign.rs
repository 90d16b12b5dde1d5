//! Another program's values stand on the engine where this one's belong.

use std::future::pending;

use tokio::sync::watch;
use voicematch_cluster::Engine;

use super::{Node, running::Alone};

/// Why calls do nothing, if that is why.
pub(super) fn why(engine: &Engine) -> Option<String> {
    let foreign = engine.foreign();
    let foreign = foreign.borrow();
    let (call, error) = foreign.first_key_value()?;
    Some(format!(
        "another program uses the same names on the engine; give the nodes another --cluster-prefix ({call}: {error})"
    ))
}

/// Says so, once, of a node that has not joined yet: one that is nothing alone ends. Does not return.
pub(super) async fn refuse(engine: &Engine, node: &Node, refuse: &watch::Sender<Option<Alone>>) {
    // A closed channel means that the engine is gone, and so is this node.
    let _ = (engine.foreign().wait_for(|foreign| !foreign.is_empty())).await;
    if node.joined.get().is_none() {
        refuse.send_replace(why(engine).map(Alone::Refused));
    }
    pending().await
}
