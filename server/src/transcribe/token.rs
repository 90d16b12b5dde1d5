//! The tokens of `/transcribe` and of surveys: JWTs (HS256) that this server signs for those whom the app lets in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, errors::ErrorKind,
};
use serde::{Deserialize, Serialize};
use voicematch_protocol::transcribe::{Role, TranscribeError};
use voicematch_transcribe::{record::RowId, sessions::Refusal};

use crate::admission::auth;

/// Whom all of them are for: no other token of the app has it.
const AUDIENCE: &str = "transcribe";

/// How long one is good.
const TTL: Duration = Duration::from_secs(12 * 3600);

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opens {
    /// A session, as this participant.
    Session {
        /// The session's slug.
        slug: String,
        /// The participant.
        participant: RowId,
        /// What the participant is there.
        role: Role,
    },
    /// One respondent's way through a survey.
    Interview {
        /// Which.
        id: RowId,
    },
}

/// A token that is good.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What it opens.
    pub opens: Opens,
    /// Until when.
    pub until: Instant,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    exp: u64,
    opens: Opens,
}

/// Signs and verifies them.
pub struct Tokens {
    sign: EncodingKey,
    verify: DecodingKey,
}

impl Tokens {
    /// Tokens that this key signs.
    pub fn new(key: &[u8]) -> Self {
        auth::install_cryptography();
        Self {
            sign: EncodingKey::from_secret(key),
            verify: DecodingKey::from_secret(key),
        }
    }

    /// A token that is good for 12 hours.
    pub fn sign(&self, opens: Opens) -> Result<String, Refusal> {
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            exp: (since_1970() + TTL).as_secs(),
            opens,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.sign).map_err(|error| {
            tracing::error!(%error, "no token for /transcribe");
            Refusal::new(
                TranscribeError::Internal,
                "the token could not be signed; see the server's log",
            )
        })
    }

    /// What a token opens, and until when.
    pub fn verify(&self, token: &str) -> Result<Opened, Refusal> {
        let mut validation = Validation::new(Algorithm::HS256);
        // Its time is over when the connections that it has opened are closed, and not later.
        validation.leeway = 0;
        // The crate counts whole seconds: in the second of `exp` it is over already.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        match decode::<Claims>(token, &self.verify, &validation) {
            Ok(token) => Ok(Opened {
                until: Instant::now() + time_until(token.claims.exp),
                opens: token.claims.opens,
            }),
            Err(error) if *error.kind() == ErrorKind::ExpiredSignature => Err(Refusal::new(
                TranscribeError::TokenExpired,
                "this token has expired; join again for a new one",
            )),
            Err(_) => Err(Refusal::new(
                TranscribeError::TokenInvalid,
                "this is no token of this server for a transcription session or a survey; join for one",
            )),
        }
    }
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// The time until `exp`, in seconds since 1970; bounded, so that it can be added to the present.
fn time_until(exp: u64) -> Duration {
    let left = Duration::from_secs(exp).saturating_sub(since_1970());
    left.min(Duration::from_secs(u32::MAX.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_what_it_was_signed_for_and_nothing_by_another_key() {
        let tokens = Tokens::new(&[1; 32]);
        let opens = Opens::Session {
            slug: "talk".into(),
            participant: RowId(7),
            role: Role::Speaker,
        };
        let token = tokens.sign(opens.clone()).expect("signed");
        let opened = tokens.verify(&token).expect("ours");
        assert_eq!(opened.opens, opens);
        let left = opened.until.duration_since(Instant::now());
        assert!(
            left <= TTL && left > TTL - Duration::from_secs(60),
            "{left:?}"
        );
        let other = Tokens::new(&[2; 32])
            .verify(&token)
            .expect_err("another key");
        assert_eq!(other.code, TranscribeError::TokenInvalid);
        let key = EncodingKey::from_secret(&[1; 32]);
        for (audience, exp, code) in [
            ("voicematch", u64::MAX / 2, TranscribeError::TokenInvalid),
            (AUDIENCE, 1, TranscribeError::TokenExpired),
            (
                AUDIENCE,
                since_1970().as_secs() - 1,
                TranscribeError::TokenExpired,
            ),
        ] {
            let claims = Claims {
                aud: audience.into(),
                exp,
                opens: opens.clone(),
            };
            let token = encode(&Header::new(Algorithm::HS256), &claims, &key).expect("signed");
            assert_eq!(tokens.verify(&token).expect_err(audience).code, code);
        }
        // Who has the key may sign a token for ever.
        let claims = Claims {
            aud: AUDIENCE.into(),
            exp: u64::MAX,
            opens,
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).expect("signed");
        assert!(tokens.verify(&token).is_ok());
    }
}
