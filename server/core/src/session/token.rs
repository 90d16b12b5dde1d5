//! The tokens with which a client shows that a session is its own.
//!
//! A token is 42 characters of base64url: version (1 byte), process (6), session (8), secret (16). Of the secret only the
//! first half of its SHA-256 is kept, so that a copy of the memory opens no session.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use voicematch_protocol::SessionId;

use crate::process::ProcessId;

const VERSION: u8 = 1;

/// Bytes of a token.
const LEN: usize = 1 + 6 + 8 + 16;

/// A token, as a client shows it.
#[derive(Clone)]
pub struct Token {
    pub process: ProcessId,
    pub session: SessionId,
    secret: [u8; 16],
}

impl Token {
    fn random(process: ProcessId, session: SessionId) -> Self {
        Self {
            process,
            session,
            secret: rand::random(),
        }
    }

    /// Reads what [`Self::text`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (&[version], rest) = bytes.split_first_chunk()?;
        let (process, rest) = rest.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (secret, _) = rest.split_first_chunk()?;
        (len == LEN && version == VERSION).then_some(Self {
            process: ProcessId(*process),
            session: SessionId(u64::from_be_bytes(*session)),
            secret: *secret,
        })
    }

    /// The characters.
    pub fn text(&self) -> String {
        let session = self.session.0.to_be_bytes();
        let parts = [&[VERSION], &self.process.0[..], &session, &self.secret];
        URL_SAFE_NO_PAD.encode(parts.concat())
    }

    #[cfg(test)]
    pub(super) fn set_secret(&mut self, secret: [u8; 16]) {
        self.secret = secret;
    }

    /// What nodes show each other of it.
    pub(super) fn hash(&self) -> Hash {
        let digest: [u8; 32] = Sha256::digest(self.secret).into();
        let (&half, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Hash(half)
    }
}

/// What is kept of a token: as many bits as its secret has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Hash([u8; 16]);

impl Hash {
    fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The tokens that open one session. A new one replaces the old one when it is used, so that a client who never got it
/// is not locked out.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Tokens {
    valid: Hash,
    successor: Option<Hash>,
    /// That of the event stream, whose address cannot change: valid until another connection follows it.
    stream: Option<Hash>,
}

impl Tokens {
    /// The first one.
    pub(super) fn new(process: ProcessId, session: SessionId) -> (Self, Token) {
        let token = Token::random(process, session);
        let tokens = Self {
            valid: token.hash(),
            successor: None,
            stream: None,
        };
        (tokens, token)
    }

    /// Whether this token opens the session. The use of a successor ends its predecessor. It takes the same time
    /// whatever the token is.
    pub(super) fn accept(&mut self, token: &Token) -> bool {
        self.accept_hash(token.hash())
    }

    /// The same of a token that was shown to another node.
    pub(super) fn accept_hash(&mut self, hash: Hash) -> bool {
        let is = |kept: Option<Hash>| {
            let there = Choice::from(u8::from(kept.is_some()));
            kept.unwrap_or_default().is(&hash) & there
        };
        let (valid, successor, stream) =
            (self.valid.is(&hash), is(self.successor), is(self.stream));
        if successor.into() {
            self.valid = hash;
            self.successor = None;
        }
        (valid | successor | stream).into()
    }

    /// Offers a successor. `used`: the token that a new connection has just shown; `for_stream`: that connection is an
    /// event stream. `process`: that which has the session now.
    pub(super) fn rotate(&mut self, used: &Token, process: ProcessId, for_stream: bool) -> Token {
        self.stream = for_stream.then(|| used.hash());
        let token = Token::random(process, used.session);
        self.successor = Some(token.hash());
        token
    }
}

/// Takes the time of [`Tokens::accept`], for a session that is not there.
pub(super) fn accept_nothing(token: &Token) {
    let (mut tokens, _) = Tokens::new(token.process, token.session);
    std::hint::black_box(tokens.accept(token));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSION: SessionId = SessionId(7);

    #[test]
    fn a_token_reads_back() {
        let token = Token::random(ProcessId::random(), SESSION);
        let text = token.text();
        assert_eq!(text.len(), 42);
        let read = Token::parse(&text).expect("valid");
        assert_eq!(read.text(), text);
        assert_eq!((read.process, read.session), (token.process, SESSION));
    }

    proptest! {
        #[test]
        fn what_is_no_token_is_refused(text in "\\PC{0,60}") {
            prop_assert!(Token::parse(&text).is_none_or(|token| token.text() == text));
        }
    }

    #[test]
    fn an_old_token_dies_when_its_successor_is_used() {
        let (mut tokens, first) = Tokens::new(ProcessId::random(), SESSION);
        assert!(tokens.accept(&first));
        let lost = tokens.rotate(&first, first.process, false);
        // The answer with the new token got lost, so the client comes with the old one.
        assert!(tokens.accept(&first));
        let second = tokens.rotate(&first, first.process, false);
        assert!(!tokens.accept(&lost));
        assert!(tokens.accept(&second));
        assert!(!tokens.accept(&first));
        assert!(tokens.accept(&second));
    }

    #[test]
    fn the_token_of_an_event_stream_stays_until_something_else_follows_it() {
        let (mut tokens, first) = Tokens::new(ProcessId::random(), SESSION);
        let second = tokens.rotate(&first, first.process, true);
        assert!(tokens.accept(&second), "a message that is sent");
        assert!(tokens.accept(&first), "the stream comes again by itself");
        let third = tokens.rotate(&first, first.process, true);
        assert!(tokens.accept(&third));
        assert!(!tokens.accept(&second));
        tokens.rotate(&third, third.process, false);
        assert!(!tokens.accept(&first), "a WebSocket has followed");
    }

    #[test]
    fn a_wrong_secret_opens_nothing() {
        let (mut tokens, first) = Tokens::new(ProcessId::random(), SESSION);
        let forged = Token::random(first.process, SESSION);
        assert!(!tokens.accept(&forged));
        let none = Token {
            secret: [0; 16],
            ..first
        };
        assert!(!tokens.accept(&none));
    }
}
