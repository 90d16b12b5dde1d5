//! The first connection of a run.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::RunError;
use crate::{
    measure::sample::ErrorKind,
    plan::ResolvedPlan,
    user::net::{target::Target, websocket::Endpoint},
};

/// Opens one connection, so that a wrong address is one clear error and not one per user.
pub(super) async fn probe(plan: &ResolvedPlan, target: &Target) -> Result<Endpoint, RunError> {
    let unreachable = |reason: String, advice| {
        let url = target.url();
        RunError::Unreachable {
            url,
            reason,
            advice,
        }
    };
    const NAME: &str = "Check the host name.";
    let address: SocketAddr = match target.resolve().await {
        Ok(Some(address)) => address,
        Ok(None) => return Err(unreachable("the host has no address".to_owned(), NAME)),
        Err(error) => return Err(unreachable(error.to_string(), NAME)),
    };
    let endpoint = Endpoint::new(target, address);
    let connected = timeout(plan.connect_timeout, enter(plan, &endpoint)).await;
    if let Err(kind) = connected.unwrap_or(Err(ErrorKind::ConnectTimeout)) {
        let reason = format!("{} at {address}", kind.name());
        return Err(unreachable(reason, advice(&kind)));
    }
    let others = endpoint.with_others(plan.origins.clone()).await;
    others.map_err(|(origin, reason)| RunError::Unreachable {
        url: format!("{}, which an http step asks", origin.authority),
        reason,
        advice: "Check its address in the scenario.",
    })
}

/// Connects as users do, as far as that is possible without playing their steps: who is let in by what an earlier
/// step brings home is not let in here.
async fn enter(plan: &ResolvedPlan, endpoint: &Endpoint) -> Result<(), ErrorKind> {
    if !plan.has_plain_connections {
        return endpoint.reach().await;
    }
    let connection = endpoint.connect(0, None).await?;
    // How the server takes a close is measured on the users, not here.
    let _ = connection.close().await;
    Ok(())
}

fn advice(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectRefused => "Nobody listens there: start the server, or check the port.",
        ErrorKind::ConnectTimeout => "No answer: check the address and the firewall.",
        ErrorKind::TlsFailed => {
            "Is its certificate signed by an authority of this system? Else give --ca FILE."
        }
        ErrorKind::HandshakeRejected(401 | 403) => {
            "The server wants to know who connects: give --token, --token-file or --header."
        }
        ErrorKind::HandshakeRejected(300..=399) => {
            "The server sends users elsewhere: give the URL that it redirects to."
        }
        ErrorKind::HandshakeRejected(200 | 404) => {
            "Check the path of the URL: /ws is the usual one."
        }
        ErrorKind::HandshakeRejected(_) => "The server refuses users: see its log and its limits.",
        ErrorKind::HandshakeInvalid | ErrorKind::Ended | ErrorKind::Reset => {
            "Is it a WebSocket server? Check the port; behind TLS its URL begins with wss://."
        }
        _ => "Check the address.",
    }
}
