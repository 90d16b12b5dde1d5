//! Bans: users and networks that are kept out for a time.

#![allow(
    unused_qualifications,
    reason = "of the code that utoipa makes of parameters"
)]

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::extract::State;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin, Answer, Answered, Guarded, Problem, Refusal, after,
    extract::{Asked, Named, Sent},
    ok,
};
use crate::{
    admission::bans::{Ban, MAX_BANS, Whom},
    http::error::HttpError,
};

/// The longest ban, in seconds: a year. The process will not live so long.
const MAX_SECONDS: u32 = 365 * 24 * 3600;

/// The longest id of a user in a token, in bytes.
const MAX_USER_BYTES: usize = 128;

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 256;

/// Bans in a list, if the request does not say how many.
const DEFAULT_LIMIT: usize = 100;

/// The most.
const MAX_LIMIT: usize = 1000;

/// Whom to keep out, and for how long: name a user or an address
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBan {
    /// The app's id of the user
    #[schema(min_length = 1, max_length = 128)]
    user: Option<String>,
    /// An address or a network; an IPv6 address stands for its /64
    #[schema(example = "203.0.113.0/24", max_length = 64)]
    address: Option<String>,
    #[schema(minimum = 1, maximum = 31_536_000)]
    seconds: u32,
    /// For operators; users do not see it
    #[serde(default)]
    #[schema(max_length = 256)]
    reason: String,
}

/// A ban
#[derive(Serialize, ToSchema)]
pub(super) struct BanAnswer {
    /// By which this server knows it; others of a cluster have their own
    #[schema(minimum = 1)]
    id: u64,
    /// The app's id of the user
    user: Option<String>,
    /// The network
    #[schema(example = "203.0.113.0/24")]
    address: Option<String>,
    reason: String,
    /// When it ends by itself
    #[schema(format = DateTime)]
    until: String,
}

impl BanAnswer {
    fn of(ban: &Ban) -> Self {
        let (user, address) = match &ban.whom {
            Whom::User(user) => (Some(user.to_string()), None),
            Whom::Network(network) => (None, Some(network.to_string())),
        };
        Self {
            id: ban.id,
            user,
            address,
            reason: ban.reason.to_string(),
            until: after(ban.until.saturating_duration_since(Instant::now())),
        }
    }
}

/// A new ban
#[derive(Serialize, ToSchema)]
pub(super) struct Banned {
    #[serde(flatten)]
    ban: BanAnswer,
    /// Sessions that it has ended, on this server
    sessions_closed: usize,
}

/// Bans that are in force
#[derive(Serialize, ToSchema)]
pub(super) struct BanList {
    /// The latest first
    bans: Vec<BanAnswer>,
    /// All bans of this server
    total: usize,
}

/// Which bans to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// That of this user, by the app's id
    user: Option<String>,
    /// Those that keep out this address
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// So many at the most; 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Which {
    fn fits(&self, ban: &Ban) -> bool {
        match &ban.whom {
            _ if self.user.is_none() && self.address.is_none() => true,
            Whom::User(user) => self.user.as_deref() == Some(user),
            Whom::Network(network) => self
                .address
                .is_some_and(|address| network.contains(&address.to_canonical())),
        }
    }
}

/// The bans that are in force
#[utoipa::path(get, path = "/support/bans", tag = "support", security(("token" = [])), params(Which), responses(
    (status = 200, body = BanList, description = "Some of them"),
    Guarded,
))]
pub(super) async fn list_bans(
    State(admin): State<Arc<Admin>>,
    Asked(which): Asked<Which>,
) -> Answered<BanList> {
    let limit = which.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refusal::bad(format!("limit is 1 to {MAX_LIMIT}")));
    }
    let bans = admin.bans.all(Instant::now());
    let fit = bans.iter().filter(|ban| which.fits(ban));
    ok(BanList {
        bans: fit.take(limit).map(BanAnswer::of).collect(),
        total: bans.len(),
    })
}

/// Keeps a user or a network out, and ends their sessions; in place of an earlier ban of the same. On all servers of a cluster
#[utoipa::path(post, path = "/support/bans", tag = "support", security(("token" = [])), request_body = NewBan, responses(
    (status = 201, body = Banned, description = "They are out"),
    (status = 409, body = Problem, description = "There are 10,000 bans"),
    (status = 413, body = Problem, description = "The body is longer than 16 KiB"),
    (status = 415, body = Problem, description = "The body is not application/json"),
    Guarded,
))]
pub(super) async fn add_ban(
    State(admin): State<Arc<Admin>>,
    Sent(new): Sent<NewBan>,
) -> Answered<Banned> {
    let whom = match (new.user, new.address) {
        (Some(user), None) if (1..=MAX_USER_BYTES).contains(&user.len()) => Whom::User(user.into()),
        (Some(_), None) => {
            let message = format!("user is the app's id, of 1 to {MAX_USER_BYTES} bytes");
            return Err(Refusal::bad(message));
        }
        (None, Some(address)) => Whom::network(&address).map_err(Refusal::bad)?,
        _ => return Err(Refusal::bad("name either user or address")),
    };
    if !(1..=MAX_SECONDS).contains(&new.seconds) {
        return Err(Refusal::bad(format!("seconds is 1 to {MAX_SECONDS}")));
    }
    if new.reason.len() > MAX_REASON_BYTES {
        let message = format!("reason has {MAX_REASON_BYTES} bytes at the most");
        return Err(Refusal::bad(message));
    }
    let lasts = Duration::from_secs(new.seconds.into());
    let added = admin
        .bans
        .add(whom, new.reason.into(), lasts, Instant::now());
    let ban = added.map_err(|_| {
        let message = format!("there are {MAX_BANS} bans; delete some, or ban a network");
        Refusal(HttpError::TooManyBans, message)
    })?;
    #[cfg(feature = "cluster")]
    if let Some(node) = &admin.node {
        node.tell_ban(&ban);
    }
    let members = admin.context.directory.members();
    let sessions_closed = members.iter().filter(|member| ban.close(member)).count();
    tracing::info!(
        ban = ban.id,
        seconds = new.seconds,
        sessions_closed,
        "an operator has banned"
    );
    let ban = BanAnswer::of(&ban);
    let banned = Banned {
        ban,
        sessions_closed,
    };
    Ok(Answer(StatusCode::CREATED, banned))
}

/// Ends a ban, on all servers of a cluster
#[utoipa::path(delete, path = "/support/bans/{id}", tag = "support", security(("token" = [])),
    params(("id" = u64, Path, description = "The id of the ban", minimum = 1)),
    responses(
        (status = 200, body = BanAnswer, description = "It is lifted"),
        (status = 404, body = Problem, description = "There is no ban of this id, or it is over"),
        Guarded,
    )
)]
pub(super) async fn remove_ban(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<u64>,
) -> Answered<BanAnswer> {
    let ban = admin.bans.remove(id);
    let ban =
        ban.ok_or_else(|| Refusal::not_found("there is no ban of this id; it may be over"))?;
    #[cfg(feature = "cluster")]
    if let Some(node) = &admin.node {
        node.tell_lifted(&ban);
    }
    tracing::info!(ban = id, "an operator has lifted a ban");
    ok(BanAnswer::of(&ban))
}
