//! `/support`: answers for people who help users, and what they may do: end a session, and keep users out for a time.
//!
//! All of it runs on the admin's thread. It looks at copies, and locks one thing after the other, each for a moment.

mod bans;
mod closes;
mod extract;
#[cfg(feature = "cluster")]
mod nodes;
mod rooms;
mod sessions;
mod waiting;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Admin;
use crate::http::{error::HttpError, reply};

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    let routes = OpenApiRouter::default();
    #[cfg(feature = "cluster")]
    let routes = routes.routes(routes!(nodes::show_nodes));
    routes
        .routes(routes!(sessions::list_sessions))
        .routes(routes!(sessions::show_session))
        .routes(routes!(sessions::disconnect_session))
        .routes(routes!(rooms::show_room))
        .routes(routes!(rooms::show_named_room))
        .routes(routes!(bans::list_bans, bans::add_ban))
        .routes(routes!(bans::remove_ban))
        .routes(routes!(closes::show_closes))
}

/// Why a request was refused.
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// For programs.
    #[schema(example = "not_found")]
    code: String,
    /// For people: what was wrong, and what to do.
    error: String,
}

/// What is answered to who may not ask, at each path.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the description is made of it")]
pub(super) enum Guarded {
    /// Something in the path, the query or the body is wrong
    #[response(status = 400)]
    BadRequest(Problem),
    /// The token is missing or wrong
    #[response(status = 401)]
    Unauthorized(Problem),
    /// A page of another site asks, or by another name than the server's; or there must be a token and there is none
    #[response(status = 403)]
    Forbidden(Problem),
}

/// A refusal.
pub(super) struct Refusal(HttpError, String);

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self(HttpError::BadRequest, message.into())
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self(HttpError::NotFound, message.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.0.reply(&self.1).into_response()
    }
}

/// An answer as JSON.
struct Answer<T>(StatusCode, T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(mut body) => {
                body.push(b'\n');
                reply(self.0, "application/json", body).into_response()
            }
            Err(error) => HttpError::Internal
                .reply(&error.to_string())
                .into_response(),
        }
    }
}

type Answered<T> = Result<Answer<T>, Refusal>;

fn ok<T>(answer: T) -> Answered<T> {
    Ok(Answer(StatusCode::OK, answer))
}

/// The time that was so long ago, as RFC 3339 has it.
fn ago(age: Duration) -> String {
    written(SystemTime::now().checked_sub(age))
}

/// The time that will be then.
fn after(left: Duration) -> String {
    written(SystemTime::now().checked_add(left))
}

fn written(time: Option<SystemTime>) -> String {
    let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}
