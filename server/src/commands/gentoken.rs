//! `gentoken`: a token to try a server that asks for one.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use voicematch_server::admission::auth::{self, Claims, Grant};

use super::Outcome;

/// Prints a token for `user` that is signed with the secret in this file; or so many, for USER1 and so on. Without `rooms`
/// the user may join all.
pub(crate) fn run(
    secret_file: &Path,
    user: &str,
    count: Option<u32>,
    name: Option<String>,
    rooms: Vec<String>,
    ttl: Duration,
) -> Outcome {
    let users = match count {
        None => vec![user.to_owned()],
        Some(count) => (1..=count).map(|n| format!("{user}{n}")).collect(),
    };
    let mut lines = BufWriter::new(io::stdout().lock());
    for sub in users {
        let claims = Claims {
            sub,
            name: name.clone(),
            voicematch: Grant {
                rooms: (!rooms.is_empty()).then(|| rooms.clone()),
                ..Grant::default()
            },
            ..Claims::default()
        };
        claims.check()?;
        let token = auth::sign(secret_file, claims, ttl)?;
        writeln!(lines, "{token}")?;
    }
    lines.flush()?;
    Ok(ExitCode::SUCCESS)
}
