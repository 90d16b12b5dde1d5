//! Others under the same prefix with which nothing can be done together: a node that is nothing alone does not start beside them.

use std::time::Duration;

use tokio::time::timeout;
use voicematch_cluster::{Members, NodeId, frames::VERSION, nodes::Info};

/// Who does not beat is taken out within this time: what a program has left behind stands in nobody's way.
const TAKEN_OUT: Duration = Duration::from_secs(8);

/// Who is there and stays, and what to do about it.
pub(super) async fn find(members: &Members) -> Option<String> {
    let mut beats = members.beats();
    let gone = async { while one(members).is_some() && beats.changed().await.is_ok() {} };
    match timeout(TAKEN_OUT, gone).await {
        Ok(()) => None,
        Err(_) => one(members).map(|(node, info)| says(node, info.as_ref())),
    }
}

fn one(members: &Members) -> Option<(NodeId, Option<Info>)> {
    let mut others = members.others().into_iter();
    others.find(|(_, info)| info.as_ref().is_none_or(|info| !info.is_of_this_bus()))
}

fn says(node: NodeId, info: Option<&Info>) -> String {
    match info {
        Some(Info { bus, version, .. }) => format!(
            "server {node}, of version {version}, has the same --cluster-prefix and speaks version {bus} of the bus, this one speaks {VERSION}: \
             nothing can be done together; give the servers of one version another --cluster-prefix"
        ),
        None => format!(
            "another program has registered under the same --cluster-prefix, as {node}; give these servers another --cluster-prefix"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_and_what_to_do() {
        let node = NodeId::first([0xab; 6]);
        let mut info = Info::new([0; 4]);
        (info.bus, info.version) = (7, "9.9.9".to_owned());
        let other_bus = says(node, Some(&info));
        for word in ["abababababab", "9.9.9", "version 7", "--cluster-prefix"] {
            assert!(other_bus.contains(word), "{other_bus}");
        }
        let other_program = says(node, None);
        assert!(other_program.contains("another --cluster-prefix"));
    }
}
