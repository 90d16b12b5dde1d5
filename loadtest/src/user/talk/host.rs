//! The host of a session: creates it, is told what is said, ends it, and compares its transcript.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    Part,
    api::Ask,
    line::{Line, Told},
    lock, pause,
};
use crate::{
    measure::{
        sample::{ErrorKind, Sample, ServerCode},
        talk::TalkSample,
        words::{Final, Gap},
    },
    user::{Stop, run_state::RunState},
};

/// How often a host looks whether all is heard, once nobody speaks.
const LOOK: Duration = Duration::from_millis(100);
/// How long words may come of audio without numbers, of which nobody knows what is to be heard.
const UNNUMBERED: Duration = Duration::from_secs(2);
/// How often the transcript is asked for until it has all that was told.
const TRIES: u32 = 5;

#[derive(Deserialize)]
struct Created {
    host_token: String,
}

#[derive(Deserialize)]
struct Transcript {
    segments: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    seq: i64,
    kind: String,
    speaker: Box<str>,
    start_ms: i64,
    text: Box<str>,
}

/// What the host waits for.
#[derive(Default)]
struct Waiting {
    /// Finals that are not told as stored, and when they were told.
    unstored: VecDeque<(i64, Duration)>,
    /// Since when nobody speaks.
    idle_since: Option<Duration>,
    /// The server has ended the session; the number of its last final or gap.
    ended: Option<i64>,
}

impl Part<'_> {
    /// Hosts the session until all who speak in it have ended, and settles it.
    pub async fn host(&self) -> Result<(), Stop> {
        let hosted = self.create_and_host().await;
        self.session.end();
        self.context
            .talks
            .forget(self.talk, self.user, &self.session);
        hosted
    }

    async fn create_and_host(&self) -> Result<(), Stop> {
        let listeners = self.talk.speakers < self.talk.members;
        let deliver = if listeners { "listeners" } else { "host" };
        let ask = Ask {
            call: "create_session",
            method: Method::POST,
            path: "/api/sessions",
            body: Some(json!({ "slug": self.session.slug, "deliver": deliver }).to_string()),
            within: self.talk.within,
        };
        let created: Option<Created> = self.context.ask(self.user, ask).await;
        let token = created.ok_or(Stop::Failed)?.host_token;
        let opening = Line::open(&self.context, self.user, &token, "?after=0", self.due, true);
        let mut line = match opening.await {
            Ok(line) => line,
            Err(error) => {
                (self.context.sink)(Sample::NotConnected { error });
                return Err(Stop::Failed);
            }
        };
        self.session.open();
        let mut waiting = Waiting::default();
        let heard = self.hear_all(&mut line, &mut waiting).await;
        if let Err(error) = heard {
            (self.context.sink)(Sample::StoppedSending);
            (self.context.sink)(Sample::Dropped { error });
            self.settle(None);
            return Err(Stop::Failed);
        }
        if waiting.ended.is_some() {
            line.closed().await;
        } else {
            line.close().await;
        }
        let stored = self.transcript(waiting.ended.unwrap_or(0)).await;
        self.settle(stored.as_ref());
        Ok(())
    }

    /// Listens until nobody speaks, and all is heard and stored; then ends the session.
    async fn hear_all(&self, line: &mut Line, waiting: &mut Waiting) -> Result<(), ErrorKind> {
        let mut speakers = self.session.speakers();
        while waiting.ended.is_none() {
            let is_idle = self.session.is_idle(self.is_over());
            if is_idle && self.is_done(waiting) && self.session.close_if_idle() {
                return self.end(line, waiting).await;
            }
            if !is_idle {
                waiting.idle_since = None;
            }
            tokio::select! {
                biased;
                told = line.next() => self.on_host_told(told?, waiting),
                _ = speakers.changed() => {}
                () = sleep(LOOK), if is_idle => {}
                () = super::super::run_state::reached(&self.context.state, RunState::Draining),
                    if !self.is_over() => {}
            }
        }
        Ok(())
    }

    /// Whether all that was said is heard and stored, or has had its time.
    fn is_done(&self, waiting: &mut Waiting) -> bool {
        let now = self.context.now();
        let idle = now.saturating_sub(*waiting.idle_since.get_or_insert(now));
        if idle >= self.patience() {
            return true;
        }
        if !waiting.unstored.is_empty() {
            return false;
        }
        match self.talk.is_numbered() {
            true => lock(&self.session.talked).settle(None).lost == 0,
            false => idle >= UNNUMBERED,
        }
    }

    async fn end(&self, line: &mut Line, waiting: &mut Waiting) -> Result<(), ErrorKind> {
        line.say(r#"{"type":"stop"}"#)?;
        let ending = async {
            while waiting.ended.is_none() {
                let told = line.next().await?;
                self.on_host_told(told, waiting);
            }
            Ok(())
        };
        let ended = timeout(self.patience(), ending).await;
        ended.unwrap_or(Err(ErrorKind::Silent))
    }

    fn on_host_told(&self, told: Told, waiting: &mut Waiting) {
        let now = self.context.now();
        match told {
            Told::Partial { text } => {
                let (due, foreign) = {
                    let talked = lock(&self.session.talked);
                    (
                        talked.tracks.newest_due(&text),
                        talked.tracks.foreign(&text),
                    )
                };
                if foreign > 0 {
                    self.tell(TalkSample::Misdelivered { words: foreign });
                }
                if let Some(due) = due {
                    let latency = now.saturating_sub(due);
                    self.tell(TalkSample::Partial { latency });
                }
            }
            Told::Final {
                seq,
                speaker,
                start_ms,
                text,
            } => {
                waiting.unstored.push_back((seq, now));
                self.on_final(
                    seq,
                    Final {
                        speaker: speaker.into(),
                        start_ms,
                        text: text.into(),
                    },
                );
            }
            Told::Gap {
                speaker,
                from_ms,
                to_ms,
            } => {
                let ms = u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0);
                self.tell(TalkSample::Gap {
                    audio: Duration::from_millis(ms),
                });
                let gap = Gap {
                    speaker: speaker.into(),
                    from_ms,
                    to_ms,
                };
                lock(&self.session.talked).gaps.push(gap);
            }
            Told::Stored { through } => {
                while let Some((_, told)) =
                    waiting.unstored.pop_front_if(|(seq, _)| *seq <= through)
                {
                    self.tell(TalkSample::Stored {
                        after: now.saturating_sub(told),
                    });
                }
            }
            Told::Ended { segments } => waiting.ended = Some(segments),
            Told::Error { code } => self.tell_error(ErrorKind::ServerError(ServerCode::new(&code))),
            _ => {}
        }
    }

    fn on_final(&self, seq: i64, told: Final) {
        let now = self.context.now();
        let (mut heard, due) = {
            let mut talked = lock(&self.session.talked);
            let super::session::Talked { tracks, heard, .. } = &mut *talked;
            let heard = heard.hear(tracks, &told.speaker, told.start_ms, &told.text);
            let due = tracks.newest_due(&told.text);
            talked.remember(seq, now);
            talked.told.insert(seq, told);
            (heard, due)
        };
        if !self.talk.is_numbered() {
            // Nobody knows what is to be heard.
            heard.altered = 0;
        }
        let latency = due.map(|due| now.saturating_sub(due));
        let late = latency.is_some_and(|latency| latency > self.context.plan.message_timeout);
        self.tell(TalkSample::Final {
            heard,
            late,
            latency,
        });
    }

    /// The finals of the transcript. `None`: it could not be read, as was told.
    async fn transcript(&self, segments: i64) -> Option<BTreeMap<i64, Final>> {
        let path = format!("/api/sessions/{}/transcript.json", self.session.slug);
        let mut tries = 0;
        loop {
            tries += 1;
            let ask = Ask {
                call: "transcript",
                method: Method::GET,
                path: &path,
                body: None,
                within: self.talk.within.max(self.patience()),
            };
            let read: Transcript = self.context.ask(self.user, ask).await?;
            let last = read.segments.iter().map(|segment| segment.seq).max();
            if last.unwrap_or(0) >= segments || tries == TRIES {
                let finals = read.segments.into_iter().filter(|one| one.kind == "final");
                let finals = finals.map(|one| {
                    let Segment {
                        seq,
                        speaker,
                        start_ms,
                        text,
                        ..
                    } = one;
                    (
                        seq,
                        Final {
                            speaker,
                            start_ms,
                            text,
                        },
                    )
                });
                return Some(finals.collect());
            }
            pause(&self.context, LOOK).await;
        }
    }

    fn settle(&self, stored: Option<&BTreeMap<i64, Final>>) {
        let mut settled = lock(&self.session.talked).settle(stored);
        if !self.talk.is_numbered() {
            settled.wrongly_stored = 0;
        }
        self.tell(TalkSample::Settled(settled));
    }
}
