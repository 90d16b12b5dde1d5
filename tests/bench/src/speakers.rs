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
    /// Of each speaker, the number up to which all is stored.
    stored: Vec<u64>,
    errors: u64,
    lost: u64,
}

impl Told {
    fn new(count: usize) -> Self {
        Self {
            stored: vec![0; count],
            ..Self::default()
        }
    }

    fn note(&mut self, speaker: usize, event: &Event<'_>) {
        let Event::Text(text) = event else {
            self.lost += 1;
            return;
        };
        let is = |kind: &str| memchr::memmem::find(text, kind.as_bytes()).is_some();
        self.finals += u64::from(is(r#""type":"final""#));
        self.errors += u64::from(is(r#""type":"error""#));
        if is(r#""type":"stored""#) {
            let stored: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
            self.stored[speaker] = stored["through"].as_u64().unwrap_or(0);
        }
    }

    /// Whether all were heard as they spoke: `said` chunks of those that were `due`.
    fn check(&self, said: u64, due: u64) -> Result<(), Problem> {
        let Self {
            finals,
            errors,
            lost,
            ..
        } = *self;
        let (stored, count) = (self.stored.iter().sum::<u64>(), self.stored.len() as u64);
        // The fake provider makes a final of two seconds. The last of each speaker may not be stored yet.
        let is_heard = finals >= due / 40 && stored + count >= finals && stored > 0;
        if lost > 0 || errors > 0 || !is_heard || said < due / 10 * 9 {
            return Err(Problem::new(format!(
                "of {due} chunks {said} were said; {finals} finals came, {stored} are stored, {errors} errors, {lost} speakers \
                 were hung up on: ask for fewer --speakers than {count}"
            )));
        }
        Ok(())
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
            told: Told::new(count),
        };
        let mut ready = 0;
        let until = now() + 10 * SECOND;
        while ready < count {
            if now() > until {
                return Err(Problem::new(format!("{ready} of {count} speakers came in")));
            }
            let told = &mut speakers.told;
            speakers.users.look(|_, speaker, event| {
                told.note(speaker, &event);
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
        self.users.wait(Duration::ZERO, |_, speaker, event| {
            told.note(speaker, &event)
        })
    }

    /// Whether all were heard as they spoke.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let due = (now() - self.begun) / (CHUNK / self.count as u64);
        self.told.check(self.next as u64, due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two speakers who are told this.
    fn told(messages: &[(usize, &str)]) -> Told {
        let mut told = Told::new(2);
        for (speaker, text) in messages {
            told.note(*speaker, &Event::Text(text.as_bytes()));
        }
        told
    }

    const FINALS: [(usize, &str); 4] = [
        (
            0,
            r#"{"type":"final","seq":1,"text":"said \"type\":\"error\""}"#,
        ),
        (1, r#"{"type":"final","seq":1}"#),
        (0, r#"{"type":"final","seq":2}"#),
        (0, r#"{"type":"final","seq":3}"#),
    ];
    const STORED: [(usize, &str); 3] = [
        (1, r#"{"type":"stored","through":1}"#),
        (0, r#"{"type":"stored","through":1}"#),
        (0, r#"{"type":"stored","through":2}"#),
    ];

    #[test]
    fn who_is_heard_and_stored_is_heard_as_they_spoke() {
        let heard = told(&[&FINALS[..], &STORED].concat());
        assert_eq!((heard.finals, &heard.stored[..]), (4, &[2, 1][..]));
        assert_eq!((heard.errors, heard.lost), (0, 0));
        assert!(heard.check(160, 160).is_ok());
    }

    #[test]
    fn who_is_not_is_told_to_speak_less() {
        let all = [&FINALS[..], &STORED].concat();
        let error = [
            &all[..],
            &[(1, r#"{"type":"error","code":"provider_busy"}"#)],
        ]
        .concat();
        let mut gone = told(&all);
        gone.note(1, &Event::Closed { in_order: true });
        for (told, said, due, why) in [
            (told(&all), 143, 160, "they could not speak"),
            (told(&all), 200, 200, "finals are missing"),
            (
                told(&[&FINALS[..], &STORED[..1]].concat()),
                160,
                160,
                "they are not stored",
            ),
            (told(&FINALS), 160, 160, "none is stored"),
            (told(&error), 160, 160, "an error"),
            (gone, 160, 160, "one is gone"),
        ] {
            assert!(told.check(said, due).is_err(), "{why}");
        }
    }
}
