//! Room tickets: with them two users have their room back after the server has died, without it having remembered
//! anything.
//!
//! A ticket is base64url of: version (1 byte), key (1), process (6), room (8), the user's session (8), issued at (4,
//! seconds), then for a match: the partner's session (8), the partner's process (6, in version 3:
//! another one than the first) and the seat (1), or for a named room: the user's number (4) and the
//! name; then 16 bytes of HMAC-SHA256 over a purpose, all of it, and the app's id of the user, if there is one: the ticket of
//! one person is none for another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use voicematch_protocol::{RoomId, SessionId};

use crate::{live::Live, process::ProcessId};

/// What is signed begins with this, so that no other use of the key can be passed off as a ticket.
const PURPOSE: &[u8] = b"voicematch room ticket 1";

const MATCH: u8 = 1;
const NAMED: u8 = 2;
/// A match whose partner is another process's.
const MATCH_OVER: u8 = 3;

/// Bytes of the code at the end.
const CODE_BYTES: usize = 16;

/// How far in the future a ticket may have been issued: a clock may have been set back.
const SKEW: Duration = Duration::from_secs(60);

/// The least bytes of a key.
pub const MIN_KEY_BYTES: usize = 32;

/// A secret that signs tickets.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomKey {
    /// Tells keys apart; it is no secret.
    id: u8,
    secret: Vec<u8>,
}

impl RoomKey {
    /// `secret` has `MIN_KEY_BYTES` at least.
    pub fn new(secret: Vec<u8>) -> Self {
        let id = Sha256::digest([PURPOSE, &secret[..]].concat())[0];
        Self { id, secret }
    }

    /// One that nobody else has.
    pub fn random() -> Self {
        Self::new(rand::random::<[u8; MIN_KEY_BYTES]>().to_vec())
    }

    /// A key of another kind, which says nothing of this one: HMAC-SHA256 over a label of its own.
    /// `None` never comes: HMAC takes keys of any length.
    pub fn derive(&self, label: &[u8]) -> Option<[u8; 32]> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        Some(mac.chain_update(label).finalize().into_bytes().into())
    }

    /// What it was made from: all who know it can sign.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    fn mac(&self, text: &[u8], user: Option<&str>) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::new_from_slice(&self.secret).ok()?;
        mac.update(PURPOSE);
        mac.update(text);
        if let Some(user) = user {
            // No name of a room has this byte in it.
            mac.update(&[0]);
            mac.update(user.as_bytes());
        }
        Some(mac)
    }
}

/// The keys of this process.
pub struct RoomKeys {
    pub process: ProcessId,
    /// Signs.
    pub present: RoomKey,
    /// The one before is still believed.
    pub old: Option<RoomKey>,
    /// The one that all nodes of a cluster share, once it is known: it signs then, and the two above are believed.
    pub shared: Live<Option<RoomKey>>,
    /// How long a ticket is valid: the longest call that can be saved.
    pub valid_for: Duration,
}

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomTicket {
    pub process: ProcessId,
    pub room: RoomId,
    /// The session that had the seat.
    pub session: SessionId,
    pub seat: TicketSeat,
}

/// Which seat in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketSeat {
    /// Of two; seat 0 made the offer.
    Match {
        partner: SessionId,
        /// The process that has the partner's session.
        process: ProcessId,
        seat: u8,
    },
    /// With this number in the room of that name.
    Named { n: u32, name: Box<str> },
}

/// Why a ticket is not believed.
#[derive(Debug, PartialEq, Eq)]
pub enum BadTicket {
    /// Not made with a key of ours, or no ticket at all.
    Invalid,
    Expired,
}

impl RoomKeys {
    /// Keys for one process that nobody else shares.
    pub fn random(process: ProcessId) -> Self {
        Self {
            process,
            present: RoomKey::random(),
            old: None,
            shared: Live::new(None),
            valid_for: Duration::from_secs(12 * 3600),
        }
    }

    /// The key that signs.
    pub fn signing(&self) -> &RoomKey {
        self.shared.get().as_ref().unwrap_or(&self.present)
    }

    /// Signs a ticket of this process. `user`: the app's id, if it has named one.
    pub fn sign(
        &self,
        room: RoomId,
        session: SessionId,
        user: Option<&str>,
        seat: &TicketSeat,
    ) -> String {
        self.sign_at(room, session, user, seat, SystemTime::now())
    }

    fn sign_at(
        &self,
        room: RoomId,
        session: SessionId,
        user: Option<&str>,
        seat: &TicketSeat,
        now: SystemTime,
    ) -> String {
        let version = match seat {
            TicketSeat::Match { process, .. } if *process == self.process => MATCH,
            TicketSeat::Match { .. } => MATCH_OVER,
            TicketSeat::Named { .. } => NAMED,
        };
        let key = self.signing();
        let mut text = vec![version, key.id];
        text.extend_from_slice(&self.process.0);
        text.extend_from_slice(&room.0.to_be_bytes());
        text.extend_from_slice(&session.0.to_be_bytes());
        text.extend_from_slice(&seconds(now).to_be_bytes());
        match seat {
            TicketSeat::Match {
                partner,
                process,
                seat,
            } => {
                text.extend_from_slice(&partner.0.to_be_bytes());
                if version == MATCH_OVER {
                    text.extend_from_slice(&process.0);
                }
                text.push(*seat);
            }
            TicketSeat::Named { n, name } => {
                text.extend_from_slice(&n.to_be_bytes());
                text.extend_from_slice(name.as_bytes());
            }
        }
        if let Some(mac) = key.mac(&text, user) {
            text.extend_from_slice(&mac.finalize().into_bytes()[..CODE_BYTES]);
        }
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a ticket that was signed for this user with a key of ours.
    pub fn read(&self, ticket: &str, user: Option<&str>) -> Result<RoomTicket, BadTicket> {
        self.read_at(ticket, user, SystemTime::now())
    }

    fn read_at(
        &self,
        ticket: &str,
        user: Option<&str>,
        now: SystemTime,
    ) -> Result<RoomTicket, BadTicket> {
        let bytes = URL_SAFE_NO_PAD
            .decode(ticket)
            .map_err(|_| BadTicket::Invalid)?;
        let at = bytes
            .len()
            .checked_sub(CODE_BYTES)
            .ok_or(BadTicket::Invalid)?;
        let (text, code) = bytes.split_at(at);
        // One key in 256 has the id of another: then both are tried.
        let keys = [
            self.shared.get().as_ref(),
            Some(&self.present),
            self.old.as_ref(),
        ];
        let mut keys = keys.into_iter().flatten();
        let signed = keys.any(|key| {
            let of_key = text.get(1) == Some(&key.id);
            let mac = key.mac(text, user).filter(|_| of_key);
            mac.is_some_and(|mac| mac.verify_truncated_left(code).is_ok())
        });
        if !signed {
            return Err(BadTicket::Invalid);
        }
        let (ticket, issued) = parse(text).ok_or(BadTicket::Invalid)?;
        let now = u64::from(seconds(now));
        let (issued, valid) = (u64::from(issued), self.valid_for.as_secs());
        if issued > now + SKEW.as_secs() || now > issued + valid {
            return Err(BadTicket::Expired);
        }
        Ok(ticket)
    }
}

fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// The ticket, and when it was issued.
fn parse(text: &[u8]) -> Option<(RoomTicket, u32)> {
    let (&[version, _key], rest) = text.split_first_chunk()?;
    let (process, rest) = rest.split_first_chunk()?;
    let (room, rest) = rest.split_first_chunk()?;
    let (session, rest) = rest.split_first_chunk()?;
    let (issued, rest) = rest.split_first_chunk()?;
    let seat = match version {
        MATCH | MATCH_OVER => {
            let (partner, rest) = rest.split_first_chunk()?;
            let (partners_process, rest) = match version {
                MATCH => (process, rest),
                _ => rest.split_first_chunk()?,
            };
            let &[seat] = rest else { return None };
            TicketSeat::Match {
                partner: SessionId(u64::from_be_bytes(*partner)),
                process: ProcessId(*partners_process),
                seat: seat.min(1),
            }
        }
        NAMED => {
            let (n, name) = rest.split_first_chunk()?;
            TicketSeat::Named {
                n: u32::from_be_bytes(*n),
                name: std::str::from_utf8(name).ok()?.into(),
            }
        }
        _ => return None,
    };
    let ticket = RoomTicket {
        process: ProcessId(*process),
        room: RoomId(u64::from_be_bytes(*room)),
        session: SessionId(u64::from_be_bytes(*session)),
        seat,
    };
    Some((ticket, u32::from_be_bytes(*issued)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: RoomId = RoomId(1);
    const OWN: SessionId = SessionId(2);

    fn seat() -> TicketSeat {
        TicketSeat::Match {
            partner: SessionId(3),
            process: ProcessId([3; 6]),
            seat: 1,
        }
    }

    #[test]
    fn a_ticket_reads_back_until_it_expires() {
        let keys = RoomKeys::random(ProcessId::random());
        let now = SystemTime::now();
        let named = TicketSeat::Named {
            n: 7,
            name: "tea".into(),
        };
        let here = TicketSeat::Match {
            partner: SessionId(3),
            process: keys.process,
            seat: 0,
        };
        for seat in [seat(), here, named] {
            let text = keys.sign_at(ROOM, OWN, None, &seat, now);
            assert!(text.len() <= 80, "{}", text.len());
            let ticket = RoomTicket {
                process: keys.process,
                room: ROOM,
                session: OWN,
                seat,
            };
            for later in [0, 12 * 3600] {
                let read = keys.read_at(&text, None, now + Duration::from_secs(later));
                assert_eq!(read, Ok(ticket.clone()));
            }
            let late = now + Duration::from_secs(12 * 3600 + 1);
            assert_eq!(keys.read_at(&text, None, late), Err(BadTicket::Expired));
            let early = now - Duration::from_secs(62);
            assert_eq!(keys.read_at(&text, None, early), Err(BadTicket::Expired));
        }
    }

    #[test]
    fn the_key_before_is_believed_and_no_other() {
        let secret = |byte: u8| RoomKey::new(vec![byte; MIN_KEY_BYTES]);
        let keys = |present: u8, old: Option<u8>| RoomKeys {
            process: ProcessId([0; 6]),
            present: secret(present),
            old: old.map(secret),
            shared: Live::new(None),
            valid_for: Duration::from_secs(60),
        };
        let ticket = keys(1, None).sign(ROOM, OWN, None, &seat());
        assert!(keys(1, None).read(&ticket, None).is_ok());
        assert!(keys(2, Some(1)).read(&ticket, None).is_ok());
        assert_eq!(keys(2, None).read(&ticket, None), Err(BadTicket::Invalid));
        assert_eq!(
            keys(3, Some(2)).read(&ticket, None),
            Err(BadTicket::Invalid)
        );

        // The id of a key is one byte.
        let id = secret(1).id;
        let mut random = std::iter::repeat_with(RoomKey::random);
        let same_id = random.find(|key| key.id == id).expect("one of 256");
        let keys = RoomKeys {
            present: same_id,
            ..keys(2, Some(1))
        };
        assert!(keys.read(&ticket, None).is_ok());
    }

    #[test]
    fn a_ticket_is_for_its_user() {
        let keys = RoomKeys::random(ProcessId::random());
        let (ann, bob) = (Some("ann"), Some("bob"));
        for (owner, others) in [(ann, [bob, None]), (None, [ann, Some("")])] {
            let ticket = keys.sign(ROOM, OWN, owner, &seat());
            assert!(keys.read(&ticket, owner).is_ok());
            for other in others {
                assert_eq!(keys.read(&ticket, other), Err(BadTicket::Invalid));
            }
        }
    }

    proptest! {
        #[test]
        fn a_changed_ticket_is_invalid(at: prop::sample::Index, bit in 0..8u32, cut in 0..60usize) {
            let keys = RoomKeys::random(ProcessId::random());
            let text = keys.sign(ROOM, OWN, None, &seat());
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("base64");
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(keys.read(&URL_SAFE_NO_PAD.encode(&bytes), None), Err(BadTicket::Invalid));
            bytes.truncate(cut);
            prop_assert_eq!(keys.read(&URL_SAFE_NO_PAD.encode(&bytes), None), Err(BadTicket::Invalid));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,120}") {
            let keys = RoomKeys::random(ProcessId::random());
            prop_assert_eq!(keys.read(&text, None), Err(BadTicket::Invalid));
        }
    }
}
