//! Why sessions end.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Answered, Guarded, ok};

/// Why sessions have ended
#[derive(Serialize, ToSchema)]
pub(super) struct Closes {
    /// The most frequent of the last minutes first
    reasons: Vec<Reason>,
    /// Which time "recent" is, in seconds: 600, or less after a start
    recent_seconds: u64,
}

/// A reason for which sessions end
#[derive(Serialize, ToSchema)]
pub(super) struct Reason {
    /// As in `sessions_closed_total`
    #[schema(example = "heartbeat_timeout")]
    reason: String,
    /// Sessions since the start
    total: u64,
    /// Sessions of the last minutes
    recent: u64,
}

/// Why sessions have ended, since the start and in the last 10 minutes
#[utoipa::path(get, path = "/support/closes", tag = "support", security(("token" = [])), responses(
    (status = 200, body = Closes, description = "The reasons"),
    Guarded,
))]
pub(super) async fn show_closes(State(admin): State<Arc<Admin>>) -> Answered<Closes> {
    let recent = admin.history.recent(&admin.context.metrics);
    let reasons = recent.closes.into_iter();
    ok(Closes {
        reasons: reasons
            .map(|(reason, total, recent)| Reason {
                reason: reason.to_owned(),
                total,
                recent,
            })
            .collect(),
        recent_seconds: recent.time.as_secs(),
    })
}
