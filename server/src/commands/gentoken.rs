//! `gentoken`: a token to try a server that asks for one.

use std::{path::Path, process::ExitCode, time::Duration};

use voicematch_server::admission::auth::{self, Claims, Grant};

use super::Outcome;

/// Prints a token that is signed with the secret in this file. Without `rooms` the user may join all.
pub(crate) fn run(
    secret_file: &Path,
    user: String,
    name: Option<String>,
    rooms: Vec<String>,
    ttl: Duration,
) -> Outcome {
    let claims = Claims {
        sub: user,
        name,
        voicematch: Grant {
            rooms: (!rooms.is_empty()).then_some(rooms),
            ..Grant::default()
        },
        ..Claims::default()
    };
    claims.check()?;
    let token = auth::sign(secret_file, claims, ttl)?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}
