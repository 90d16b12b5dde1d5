//! Speakers whose audio is transcribed while the relay is measured.

use std::time::Duration;

use crate::{
    Problem,
    clock::{SECOND, now},
    frame::{encode, opcode},
    machine::Places,
    server::{Server, post},
    users::{Event, Users, handshake},
};

/// The length of a chunk of audio.
const CHUNK: u64 = SECOND / 10;
/// Samples a second, two bytes each.
const RATE: u64 = 16_000;

/// Speakers, each in a session of their own, which they also read.
pub(crate) struct Speakers {
    users: Users,
    /// A chunk of noise, which is speech to the fake provider.
    chunk: Vec<u8>,
    count: usize,
    /// When the next chunk is due, and the number of it.
    due: u64,
    next: usize,
    begun: u64,
    told: Told,
}

/// What the server has said to all of them.
#[derive(Default)]
struct Told {
    finals: u64,
    stored: u64,
    errors: u64,
    lost: u64,
}

impl Told {
    fn note(&mut self, event: &Event<'_>) {
        let Event::Text(text) = event else {
            self.lost += 1;
            return;
        };
        let is = |kind: &str| memchr::memmem::find(text, kind.as_bytes()).is_some();
        self.finals += u64::from(is(r#""type":"final""#));
        self.stored += u64::from(is(r#""type":"stored""#));
        self.errors += u64::from(is(r#""type":"error""#));
    }
}

impl Speakers {
    /// All are connected when this returns.
    pub(crate) fn new(server: &Server, count: usize, places: &Places) -> Result<Self, Problem> {
        let admin = server.admin()?;
        let mut users = Users::new(server.address, count, places.apart())?;
        for speaker in 0..count {
            let begun = post(admin, "/api/sessions", "{}").map_err(|error| {
                Problem::new(format!(
                    "no session: {error}; the server's command must say --transcribe fake --state-dir FOLDER"
                ))
            })?;
            // Who holds this token may speak, too.
            let begun: serde_json::Value = serde_json::from_slice(&begun).unwrap_or_default();
            let token = begun["host_token"].as_str().unwrap_or_default();
            let shown = format!("Authorization: Bearer {token}\r\n");
            users.connect_to(speaker, &handshake(server.address, "/transcribe", &shown))?;
        }
        let samples = RATE * CHUNK / SECOND;
        let noise: Vec<u8> = (0..samples)
            .flat_map(|n| if n % 2 == 0 { 3_000_i16 } else { -2_500 }.to_le_bytes())
            .collect();
        let mut speakers = Self {
            users,
            chunk: encode(opcode::BINARY, &noise),
            count,
            due: now(),
            next: 0,
            begun: now(),
            told: Told::default(),
        };
        let mut ready = 0;
        let until = now() + 10 * SECOND;
        while ready < count {
            if now() > until {
                return Err(Problem::new(format!("{ready} of {count} speakers came in")));
            }
            let told = &mut speakers.told;
            speakers.users.look(|_, _, event| {
                told.note(&event);
                ready += usize::from(matches!(event, Event::Text(_)));
            })?;
        }
        (speakers.due, speakers.begun) = (now(), now());
        Ok(speakers)
    }

    /// Says what is due, and hears what is told.
    pub(crate) fn talk(&mut self) -> Result<(), Problem> {
        while now() >= self.due {
            self.users.send(self.next % self.count, &self.chunk);
            self.next += 1;
            self.due += CHUNK / self.count as u64;
        }
        let told = &mut self.told;
        self.users
            .wait(Duration::ZERO, |_, _, event| told.note(&event))
    }

    /// Whether all were heard as they spoke.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let wanted = (now() - self.begun) / (CHUNK / self.count as u64);
        let Told {
            finals,
            stored,
            errors,
            lost,
        } = self.told;
        // The fake provider makes a final of two seconds.
        let least = wanted / 40;
        if lost > 0
            || errors > 0
            || stored == 0
            || finals < least
            || (self.next as u64) < wanted / 10 * 9
        {
            return Err(Problem::new(format!(
                "of {wanted} chunks {} were said; {finals} finals came, {stored} times some were stored, {errors} \
                 errors, {lost} speakers were hung up on: ask for fewer --speakers than {}",
                self.next, self.count
            )));
        }
        Ok(())
    }
}
