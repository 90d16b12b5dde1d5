//! `/auth/token`: a token for any name, for development.

use std::{path::Path, time::Duration};

use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::json;

use super::{Reply, connection::Connection, error::HttpError, json_reply, send::read_body};
use crate::admission::auth::{Claims, Signer};

/// How long such a token is good.
const TTL: Duration = Duration::from_secs(3600);

const MAX_BODY_BYTES: usize = 4096;

/// Whom a token is for; other fields, such as a password, are ignored.
#[derive(Default, Deserialize)]
struct Asked {
    #[serde(alias = "username")]
    user: Option<String>,
    name: Option<String>,
}

/// Answers with a token that this secret has signed. Without a name in the body it is for a new user.
pub(super) async fn answer(
    request: Request<Incoming>,
    connection: &Connection,
    secret_file: &Path,
) -> Reply {
    let context = &connection.public.context;
    let (parts, body) = request.into_parts();
    let read = read_body(&parts.headers, body, MAX_BODY_BYTES, None, context).await;
    let (body, _memory) = match read {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let asked = match body.is_empty() {
        true => Ok(Asked::default()),
        false => serde_json::from_slice::<Asked>(&body),
    };
    let Ok(Asked { user, name }) = asked else {
        let message = "send a JSON object with user and name, or nothing";
        return HttpError::BadRequest.reply(message);
    };
    let claims = Claims {
        sub: user.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>())),
        name,
        ..Claims::default()
    };
    if let Err(why) = claims.check() {
        return HttpError::BadRequest.reply(&why);
    }
    let auth = connection.public.auth.as_ref();
    let issuer = auth.and_then(|auth| auth.issuer()).map(str::to_owned);
    match Signer::load(secret_file, issuer).and_then(|signer| signer.sign(claims, TTL)) {
        Ok(token) => {
            let body = json!({ "token": token, "expires_in_s": TTL.as_secs() });
            json_reply(StatusCode::OK, &body)
        }
        Err(error) => {
            tracing::error!(%error, "no token for /auth/token");
            HttpError::Internal.reply("the token could not be signed; see the server's log")
        }
    }
}
