//! Who speaks in a session, and who listens.

use std::{pin::pin, time::Duration};

use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{
    Part,
    api::Ask,
    audio::Voice,
    line::{Line, Told},
    lock,
    session::Stage,
};
use crate::{
    measure::{
        sample::{ErrorKind, ServerCode},
        talk::TalkSample,
        words::{Hearing, Track},
    },
    user::{
        Stop,
        run_state::{RunState, reached},
    },
};

#[derive(Deserialize)]
struct Joined {
    participant: Participant,
}

#[derive(Deserialize)]
struct Participant {
    id: Box<str>,
    token: String,
}

/// One speaker's audio under way.
struct Speech {
    number: u32,
    voice: Voice,
    first_due: Duration,
    /// Chunks so far.
    sent: u32,
    /// The session has ended.
    ended: bool,
}

impl Part<'_> {
    /// Joins, and connects. `None`: the run, or the session, is over before.
    async fn come_in(&self, role: &str) -> Result<Option<(Box<str>, Line)>, Stop> {
        let mut stage = self.session.stage();
        let waited = async {
            tokio::select! {
                stage = stage.wait_for(|stage| *stage != Stage::Begun) => {
                    stage.is_ok_and(|stage| *stage == Stage::Open)
                }
                () = reached(&self.context.state, RunState::Draining) => false,
            }
        };
        match timeout(self.talk.within.saturating_mul(3), waited).await {
            Ok(true) => {}
            Ok(false) if self.is_over() => return Ok(None),
            _ => return Err(Stop::Failed),
        }
        let path = format!("/api/sessions/{}/participants/join", self.session.slug);
        let ask = Ask {
            call: "join_session",
            method: Method::POST,
            path: &path,
            body: Some(json!({ "user": format!("u{}", self.user), "role": role }).to_string()),
            within: self.talk.within,
        };
        let joined: Option<Joined> = self.context.ask(self.user, ask).await;
        let Participant { id, token } = joined.ok_or(Stop::Failed)?.participant;
        let opening = Line::open(
            &self.context,
            self.user,
            &token,
            "",
            self.context.now(),
            true,
        );
        let line = opening.await.map_err(Stop::NotConnected)?;
        Ok(Some((id, line)))
    }

    /// Speaks until the time is over, and waits until the server has read all of it.
    pub async fn speak(&self) -> Result<(), Stop> {
        let Some((speaker, mut line)) = self.come_in("speaker").await? else {
            return Ok(());
        };
        let acks = if self.talk.acks_each {
            "each"
        } else {
            "second"
        };
        let start = json!({ "type": "start", "sample_rate": self.talk.sample_rate, "ack": acks, "live": true });
        line.say(&start.to_string()).map_err(Stop::Broken)?;
        let number = self.context.talks.next_track();
        let mut speech = Speech {
            number,
            voice: Voice::new(self.talk, &self.context.talks, number),
            first_due: self.context.now(),
            sent: 0,
            ended: false,
        };
        self.session.begin_track(
            number,
            Track {
                speaker,
                first_due: speech.first_due,
                every: self.talk.every,
                said: 0,
            },
        );
        let spoken = self.send_all(&mut line, &mut speech).await;
        spoken.map_err(Stop::Broken)?;
        if speech.ended {
            line.closed().await;
            return Ok(());
        }
        self.stop_speaking(&mut line, &mut speech)
            .await
            .map_err(Stop::Broken)?;
        match speech.ended {
            true => line.closed().await,
            false => line.close().await,
        }
        Ok(())
    }

    async fn send_all(&self, line: &mut Line, speech: &mut Speech) -> Result<(), ErrorKind> {
        let mut draining = pin!(reached(&self.context.state, RunState::Draining));
        let end = self.talk.time.map(|time| speech.first_due + time);
        loop {
            let now = self.context.now();
            let due = speech.first_due + self.talk.every.saturating_mul(speech.sent);
            if end.is_some_and(|end| due >= end)
                || self.is_over()
                || self.session.is_over()
                || speech.ended
            {
                return Ok(());
            }
            if now >= due {
                self.send_chunk(line, speech, now.saturating_sub(due))?;
                continue;
            }
            tokio::select! {
                biased;
                () = &mut draining => return Ok(()),
                told = line.next() => self.on_told(told?, speech),
                () = self.context.pacer.until(self.context.epoch + due) => {}
            }
        }
    }

    fn send_chunk(
        &self,
        line: &mut Line,
        speech: &mut Speech,
        lateness: Duration,
    ) -> Result<(), ErrorKind> {
        let now_us = u64::try_from(self.context.now().as_micros()).unwrap_or(u64::MAX);
        line.audio(speech.voice.chunk(speech.sent, now_us))?;
        speech.sent = speech.sent.saturating_add(1);
        if self.talk.is_numbered() {
            self.session.said(speech.number);
        }
        self.tell(TalkSample::Spoken {
            lateness,
            audio: self.talk.every,
            numbered: self.talk.is_numbered(),
        });
        Ok(())
    }

    /// Ends the audio. The answer to a `ping` shows that all before it was read.
    async fn stop_speaking(&self, line: &mut Line, speech: &mut Speech) -> Result<(), ErrorKind> {
        line.say(r#"{"type":"stop"}"#)?;
        line.say(r#"{"type":"ping"}"#)?;
        let reading = async {
            while !speech.ended {
                match line.next().await? {
                    Told::Pong => break,
                    told => self.on_told(told, speech),
                }
            }
            Ok(())
        };
        let read = timeout(self.patience(), reading).await;
        read.unwrap_or(Err(ErrorKind::Silent))
    }

    fn on_told(&self, told: Told, speech: &mut Speech) {
        match told {
            Told::AudioAck { ms } => {
                let every = self.talk.every.as_millis().max(1);
                // Of 48 kHz the last few samples are confirmed with the next chunk.
                let chunks = (u128::from(ms) + every / 2) / every;
                let chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
                let Some(chunk) = chunks.checked_sub(1).filter(|chunk| *chunk < speech.sent) else {
                    return;
                };
                let due = speech.first_due + self.talk.every.saturating_mul(chunk);
                let latency = self.context.now().saturating_sub(due);
                self.tell(TalkSample::Acked { latency });
            }
            // This session tells its host, and who listens.
            Told::Partial { text } | Told::Final { text, .. } => {
                let words = text.split_whitespace().count() as u64;
                self.tell(TalkSample::Misdelivered { words });
            }
            Told::Ended { .. } => speech.ended = true,
            Told::Error { code } => self.tell_error(ErrorKind::ServerError(ServerCode::new(&code))),
            _ => {}
        }
    }

    /// Listens until the session, or the user's part in the plan, is over.
    pub async fn listen(&self) -> Result<(), Stop> {
        let Some((_, mut line)) = self.come_in("listener").await? else {
            return Ok(());
        };
        let since = self.context.now();
        let mut heard = Hearing::default();
        let left = self.until.map(|until| self.context.epoch + until);
        loop {
            let leaving = async {
                match left {
                    Some(moment) => self.context.pacer.until(moment).await,
                    None => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                biased;
                told = line.next() => told.map_err(Stop::Broken)?,
                () = leaving => {
                    line.close().await;
                    return Ok(());
                }
                () = self.is_late() => {
                    self.tell_error(ErrorKind::Silent);
                    line.close().await;
                    return Ok(());
                }
            };
            match told {
                Told::Final {
                    seq,
                    speaker,
                    start_ms,
                    text,
                } => {
                    let (heard, told_at) = {
                        let talked = lock(&self.session.talked);
                        let heard = heard.hear(&talked.tracks, &speaker, start_ms, &text);
                        (heard, talked.told_at(seq))
                    };
                    // A listener may be told before the host is.
                    let after =
                        told_at.map_or(Duration::ZERO, |at| self.context.now().saturating_sub(at));
                    let after = (heard.heard > 0).then_some(after);
                    self.tell(TalkSample::FannedOut { heard, after });
                }
                Told::Ended { .. } => break,
                Told::Error { code } => {
                    self.tell_error(ErrorKind::ServerError(ServerCode::new(&code)))
                }
                _ => {}
            }
        }
        let words = {
            let talked = lock(&self.session.talked);
            heard.missing_of(&talked.heard, &talked.tracks, since)
        };
        self.tell(TalkSample::Missed { words });
        line.closed().await;
        Ok(())
    }

    /// The run is over, and the session has not ended for long.
    async fn is_late(&self) {
        reached(&self.context.state, RunState::Draining).await;
        tokio::time::sleep(self.patience().saturating_mul(2)).await;
    }
}
