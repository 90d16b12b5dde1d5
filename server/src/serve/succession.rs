//! One server takes the place of another.

use crate::{
    admission::bans::ToldBan,
    hand_over::{HandOver, Inherited, Succeeded},
    systemd,
};

/// Tells the server before and the service manager that this one serves; then waits until another server takes its
/// place. Without --hand-over none ever does. `ban` takes over whom the server before keeps out.
pub(super) async fn wait(
    inherited: Option<Inherited>,
    hand_over: Option<HandOver>,
    ban: impl FnOnce(Vec<ToldBan>),
) -> Succeeded {
    if let Some(inherited) = inherited {
        match inherited.succeed().await {
            Ok(bans) => {
                tracing::info!(
                    bans = bans.len(),
                    "the server before has handed over, and drains"
                );
                ban(bans);
            }
            Err(error) => tracing::warn!(%error, "the server before could not be succeeded"),
        }
    }
    systemd::ready();
    if let Some(hand_over) = hand_over {
        match hand_over.succeeded().await {
            Ok(successor) => return successor,
            Err(error) => {
                tracing::warn!(%error, "--hand-over: no server can take the place of this one")
            }
        }
    }
    std::future::pending().await
}
