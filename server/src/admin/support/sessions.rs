//! Sessions: why is this user not matched, and what else support asks.

#![allow(
    unused_qualifications,
    reason = "of the code that utoipa makes of parameters"
)]

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use voicematch_core::{
    room::{Member, Standing, named::NamedRooms},
    session::{Carried, SessionView, Wait},
};
use voicematch_protocol::{CloseReason, SessionId};

use super::{
    Admin, Answered, Guarded, Problem, Refusal, ago,
    extract::{Asked, Named},
    ok,
    rooms::RoomAnswer,
    waiting::Waiting,
};

/// Sessions in a list, if the request does not say how many.
const DEFAULT_LIMIT: usize = 50;

/// The most.
const MAX_LIMIT: usize = 500;

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doing {
    /// Neither waiting nor in a room.
    Idle,
    /// Waiting for a match, or for a former partner.
    Waiting,
    InRoom,
    /// Has just left.
    Gone,
}

impl From<&Standing> for Doing {
    fn from(standing: &Standing) -> Self {
        match standing {
            Standing::Idle { .. } => Self::Idle,
            Standing::Waiting(_) => Self::Waiting,
            Standing::InRoom(_) | Standing::InNamedRoom(_) => Self::InRoom,
            Standing::Gone => Self::Gone,
        }
    }
}

/// A session in a list
#[derive(Serialize, ToSchema)]
pub(super) struct SessionLine {
    #[schema(pattern = "^[0-9a-f]{16}$")]
    session: String,
    /// The app's id of the user, if there is one
    user: Option<String>,
    /// What other users see
    name: Option<String>,
    /// The user's address; of an IPv6 user the first of the /64 network
    address: Option<String>,
    state: Doing,
    /// Whether the session outlives its connections
    resumable: bool,
    /// Whether it has no connection now
    detached: bool,
}

impl SessionLine {
    pub(super) fn of(member: &Member) -> Self {
        Self {
            session: member.id.to_string(),
            user: member.user().map(str::to_owned),
            name: member.name().map(str::to_owned),
            address: member.address().ip().map(|ip| ip.to_string()),
            state: (&member.standing()).into(),
            resumable: member.is_resumable(),
            detached: member.is_away(),
        }
    }
}

/// Some sessions
#[derive(Serialize, ToSchema)]
pub(super) struct SessionList {
    /// In no order
    sessions: Vec<SessionLine>,
    /// Whether there are more that fit
    more: bool,
    /// All sessions of this server
    total: usize,
}

/// Which sessions to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those of this user, by the app's id
    user: Option<String>,
    /// So many at the most; 50
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Carrier {
    /// A WebSocket
    Ws,
    /// An event stream
    Sse,
    /// Polls
    Poll,
    /// Nothing: its connection is lost, and it waits for the next one
    None,
}

/// A session, and why it is where it is
#[derive(Serialize, ToSchema)]
pub(super) struct SessionAnswer {
    #[serde(flatten)]
    line: SessionLine,
    /// What the user is to the app, by the token
    roles: Vec<String>,
    /// Since when it is in this state; `null` in a named room, and while a match is being made
    #[schema(format = DateTime)]
    since: Option<String>,
    /// What carries it
    transport: Carrier,
    /// Since when nothing does
    #[schema(format = DateTime)]
    detached_since: Option<String>,
    /// Whether only its seat in the room is kept, for the user's next session
    vacant: bool,
    /// Whom it waits for
    waiting: Option<Waiting>,
    /// The room that it is in
    room: Option<RoomAnswer>,
    /// What the user has not been sent yet
    outbox: Outbox,
    /// Set if it is about to end: for this reason
    closing: Option<String>,
    /// Whether the server is about to stop: then there are no new matches
    server_draining: bool,
}

/// What waits to be written to a user
#[derive(Serialize, ToSchema)]
pub(super) struct Outbox {
    messages: usize,
    bytes: usize,
}

/// Some sessions, or those of a user
#[utoipa::path(get, path = "/support/sessions", tag = "support", security(("token" = [])), params(Which), responses(
    (status = 200, body = SessionList, description = "Some of them"),
    Guarded,
))]
pub(super) async fn list_sessions(
    State(admin): State<Arc<Admin>>,
    Asked(which): Asked<Which>,
) -> Answered<SessionList> {
    let limit = which.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refusal::bad(format!("limit is 1 to {MAX_LIMIT}")));
    }
    let directory = &admin.context.directory;
    let user = which.user.as_deref();
    let fits = |member: &Member| user.is_none() || member.user() == user;
    let mut found = directory.find(limit + 1, fits);
    let more = found.len() > limit;
    found.truncate(limit);
    ok(SessionList {
        sessions: found.iter().map(|member| SessionLine::of(member)).collect(),
        more,
        total: directory.len(),
    })
}

/// One session: why is this user not matched?
#[utoipa::path(get, path = "/support/sessions/{id}", tag = "support", security(("token" = [])),
    params(("id" = String, Path, description = "The session_id of the greeting", pattern = "^[0-9a-fA-F]{16}$")),
    responses(
        (status = 200, body = SessionAnswer, description = "The session"),
        (status = 404, body = Problem, description = "There is no session of this id, or no more"),
        Guarded,
    )
)]
pub(super) async fn show_session(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<SessionId>,
) -> Answered<SessionAnswer> {
    let view = admin.context.view(id, Instant::now());
    let view = view.ok_or_else(unknown)?;
    let answer = SessionAnswer::of(&view, &admin);
    #[cfg(feature = "cluster")]
    let answer = SessionAnswer {
        waiting: super::waiting::on_all_nodes(answer.waiting, &view, &admin).await,
        ..answer
    };
    ok(answer)
}

/// That a session was told to end
#[derive(Serialize, ToSchema)]
pub(super) struct Disconnected {
    #[schema(pattern = "^[0-9a-f]{16}$")]
    session: String,
    /// `false`: it was about to end already
    disconnected: bool,
}

/// Ends a session; the user hears 4506, and its resume token opens nothing any more
#[utoipa::path(post, path = "/support/sessions/{id}/disconnect", tag = "support", security(("token" = [])),
    params(("id" = String, Path, description = "The session_id of the greeting", pattern = "^[0-9a-fA-F]{16}$")),
    responses(
        (status = 200, body = Disconnected, description = "It ends now"),
        (status = 404, body = Problem, description = "There is no session of this id, or no more"),
        Guarded,
    )
)]
pub(super) async fn disconnect_session(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<SessionId>,
) -> Answered<Disconnected> {
    let member = admin.context.directory.get(id).ok_or_else(unknown)?;
    let disconnected = member.outbox.status().closing.is_none();
    member.outbox.close(CloseReason::Disconnected);
    tracing::info!(session = %id, "an operator has disconnected a session");
    ok(Disconnected {
        session: id.to_string(),
        disconnected,
    })
}

fn unknown() -> Refusal {
    Refusal::not_found(
        "there is no session of this id on this server; it may have ended, or be at the server before this one, which drains",
    )
}

impl SessionAnswer {
    fn of(view: &SessionView, admin: &Admin) -> Self {
        let context = &admin.context;
        let in_all = context.metrics.waiting_users();
        let (messages, bytes) = view.unsent;
        Self {
            line: SessionLine {
                state: (&view.standing).into(),
                detached: matches!(view.carried, Carried::Nothing(_)),
                ..SessionLine::of(&view.member)
            },
            roles: roles(&view.member),
            since: age(view).map(ago),
            transport: match view.carried {
                Carried::Connection(transport) => match transport.as_str() {
                    "sse" => Carrier::Sse,
                    _ => Carrier::Ws,
                },
                Carried::Polls => Carrier::Poll,
                Carried::Nothing(_) => Carrier::None,
            },
            detached_since: match view.carried {
                Carried::Nothing(age) => Some(ago(age)),
                _ => None,
            },
            vacant: view.member.is_vacant(),
            waiting: view.wait.as_ref().map(|wait| Waiting::of(wait, in_all)),
            room: room(&view.standing, &context.named_rooms),
            outbox: Outbox { messages, bytes },
            closing: view.closing.map(|reason| reason.as_str().to_owned()),
            server_draining: context.draining.load(Ordering::Relaxed),
        }
    }
}

fn roles(member: &Member) -> Vec<String> {
    let identity = member.identity.as_deref();
    let roles = identity.map_or(&[][..], |identity| &identity.roles);
    roles.iter().map(|role| role.to_string()).collect()
}

/// For how long a user has been where they are.
fn age(view: &SessionView) -> Option<Duration> {
    match (&view.standing, &view.wait) {
        (Standing::Idle { since }, _) => Some(since.elapsed()),
        (_, Some(Wait::Match { ticket, .. })) => Some(ticket.waited),
        (Standing::InRoom(room), _) => Some(room.age()),
        _ => None,
    }
}

fn room(standing: &Standing, named: &NamedRooms) -> Option<RoomAnswer> {
    match standing {
        Standing::InRoom(room) => Some(RoomAnswer::of(room)),
        Standing::InNamedRoom(room) => Some(RoomAnswer::of_named(room, named)),
        _ => None,
    }
}
