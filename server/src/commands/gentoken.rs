//! `gentoken`: a token to try a server that asks for one.

use std::{
    io::{self, BufWriter, Write},
    time::Duration,
};

use voicematch_server::admission::auth::{Claims, Grant, Signer};

use super::{Outcome, printed};

/// Prints a token for `user`; or so many, for USER1 and so on. Without `rooms`
/// the user may join all.
pub(crate) fn run(
    signer: &Signer,
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
        let token = signer.sign(claims, ttl)?;
        if let Err(error) = writeln!(lines, "{token}") {
            return printed(Err(error));
        }
    }
    printed(lines.flush())
}
