//! The first connection of a run.

use std::{sync::Arc, time::Duration};

use tokio::{task::LocalSet, time::timeout};

use crate::{
    measure::{reach::NodeId, sample::ErrorKind},
    plan::ResolvedPlan,
    run::error::RunError,
    user::{
        connect::greeted,
        net::{
            connection::{Connection, Session, Wanted},
            endpoint::Endpoint,
            servers::Servers,
            target::Target,
        },
        resume::Resume,
    },
};

/// Opens one connection to each server, so that a wrong address gives one clear error and not one per user.
pub(super) async fn probe(plan: &ResolvedPlan, target: &Target) -> Result<Servers, RunError> {
    let unreachable = |url: String, reason: String, advice| RunError::Unreachable {
        url,
        reason,
        advice,
    };
    let found = Servers::find(target, plan.connect_timeout).await;
    let servers = found
        .map_err(|(url, reason)| unreachable(url, reason, "Check the host name.".to_owned()))?;
    for (place, url) in (0..).zip(target.urls()) {
        let server = servers.node(NodeId(place));
        let connected = {
            let entering = timeout(plan.connect_timeout, enter(plan, server));
            LocalSet::new().run_until(entering).await
        };
        if let Err(kind) = connected.unwrap_or(Err(ErrorKind::ConnectTimeout)) {
            let reason = format!("{} at {}", kind.name(), server.addresses());
            return Err(unreachable(url, reason, advice(&kind, target)));
        }
    }
    let servers = match plan.has_talks {
        false => servers,
        true => {
            let found = servers.with_admin(target, plan.connect_timeout).await;
            found.map_err(|reason| {
                let advice = "Sessions and interviews are begun at the server's admin address: give --admin-url.";
                unreachable(target.url(), reason, advice.to_owned())
            })?
        }
    };
    let others = servers.with_others(target, plan.origins.clone(), plan.connect_timeout);
    others
        .await
        .map_err(|(origin, reason)| RunError::Unreachable {
            url: format!("{}, which an http step asks", origin.authority()),
            reason,
            advice: "Check its address in the scenario.".to_owned(),
        })
}

/// Connects as users do, as far as possible without their steps: a server that accepts only users who have done an
/// earlier step would refuse this connection.
async fn enter(plan: &ResolvedPlan, server: &Arc<Endpoint>) -> Result<(), ErrorKind> {
    if !plan.has_plain_connections {
        return server.open(0).await.map(drop);
    }
    let wanted = Wanted {
        user: 0,
        path: &server.path,
        transport: plan.transport_of(0),
        session: match plan.resumes() {
            true => Session::Begin,
            false => Session::Plain,
        },
    };
    let opened = Connection::open(server, wanted).await;
    let mut connection = opened.map_err(ErrorKind::of_first_request)?;
    if plan.resumes() {
        let greeting = greeted(&mut connection, "session").await;
        let greeting = greeting.map_err(ErrorKind::of_first_request)?;
        let own = wanted.transport;
        let begun = Resume::begin(&greeting, own, own, Duration::ZERO);
        connection.show(begun.ok_or(ErrorKind::NotResumable)?.token());
    }
    // The users' connections measure how the server closes, not this one.
    let _ = connection.close().await;
    Ok(())
}

fn advice(kind: &ErrorKind, target: &Target) -> String {
    let advice = match kind {
        ErrorKind::ConnectRefused => "Nobody listens there: start the server, or check the port.",
        ErrorKind::ConnectTimeout => "No answer: check the address and the firewall.",
        ErrorKind::TlsFailed => {
            "Give --ca FILE if an authority that this system does not know has signed its certificate. One that is \
             marked as an authority itself (CA:TRUE, as openssl req -x509 makes it) is refused: make it with -addext \
             basicConstraints=critical,CA:FALSE."
        }
        ErrorKind::HandshakeRejected(401 | 403) => {
            "The server does not accept who connects: give --token, --token-file or --header. If one was given, it is \
             wrong or has expired."
        }
        ErrorKind::HandshakeRejected(300..=399) => {
            "The server sends users elsewhere: give the URL that it redirects to."
        }
        ErrorKind::HandshakeRejected(200 | 404) => {
            "Check the path of the URL: /ws is the usual one."
        }
        ErrorKind::HandshakeRejected(_) => "The server refuses users: see its log and its limits.",
        ErrorKind::SubprotocolMismatch => {
            return match target.access.subprotocols() {
                Some(asked) => format!(
                    "The server did not choose the subprotocol that --header Sec-WebSocket-Protocol asks for ({asked}): \
                     give one that it speaks."
                ),
                None => {
                    "The server chose a subprotocol that no user asked for: give it with --header \
                         'Sec-WebSocket-Protocol: NAME'."
                        .to_owned()
                }
            };
        }
        ErrorKind::HeadersTooLong => "Its answer has more headers than loadtest reads.",
        ErrorKind::HandshakeInvalid | ErrorKind::Ended | ErrorKind::Reset => {
            "Is it a WebSocket server? Check the port; behind TLS its URL begins with wss://."
        }
        _ => "Check the address.",
    };
    advice.to_owned()
}
