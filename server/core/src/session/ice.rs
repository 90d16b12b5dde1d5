//! The STUN and TURN servers that users are told of.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use voicematch_protocol::{IceServer, SessionId};

/// What goes into `RTCConfiguration.iceServers`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IceConfig {
    /// The same for all.
    pub fixed: Vec<IceServer>,
    /// With credentials of each session's own.
    pub turn: Option<Turn>,
}

/// TURN servers that share a secret with this one, such as coturn with `use-auth-secret`: they believe a user name that is
/// a time and a name, and its HMAC-SHA1 as the password, until that time
/// (<https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00>).
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    pub urls: Vec<String>,
    pub secret: Vec<u8>,
    /// How long a credential is believed.
    pub ttl: Duration,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Turn");
        shown.field("urls", &self.urls).field("ttl", &self.ttl);
        shown.finish_non_exhaustive()
    }
}

impl Turn {
    fn server(&self, id: SessionId, now: SystemTime) -> IceServer {
        let until = now.duration_since(UNIX_EPOCH).unwrap_or_default() + self.ttl;
        let username = format!("{}:{id}", until.as_secs());
        let mac = Hmac::<Sha1>::new_from_slice(&self.secret).ok();
        let mac = mac.map(|mut mac| {
            mac.update(username.as_bytes());
            STANDARD.encode(mac.finalize().into_bytes())
        });
        IceServer {
            urls: self.urls.clone(),
            username: Some(username),
            credential: mac,
        }
    }
}

impl IceConfig {
    /// The servers as a session is told of them.
    pub fn of(&self, id: SessionId, now: SystemTime) -> Cow<'_, [IceServer]> {
        match &self.turn {
            None => Cow::Borrowed(&self.fixed),
            Some(turn) => {
                let own = std::iter::once(turn.server(id, now));
                Cow::Owned(self.fixed.iter().cloned().chain(own).collect())
            }
        }
    }

    /// After which time a session needs new credentials: before the old ones end, so that a call that begins just then
    /// can still be set up.
    pub fn renew_after(&self) -> Option<Duration> {
        self.turn.as_ref().map(|turn| turn.ttl / 4 * 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_that_of_the_draft() {
        let turn = Turn {
            urls: vec!["turn:turn.example.org".to_owned()],
            secret: b"north".to_vec(),
            ttl: Duration::from_secs(3600),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let server = turn.server(SessionId(0xabc), now);
        let username = "1700003600:0000000000000abc";
        assert_eq!(server.username.as_deref(), Some(username));
        // printf %s 1700003600:0000000000000abc | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(
            server.credential.as_deref(),
            Some("tudrXpXhPZC98rD3f383Gml4TP8=")
        );
        assert!(!format!("{turn:?}").contains("north"));
    }
}
