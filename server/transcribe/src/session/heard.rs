//! From what a track's bridge has heard to segments, and to what is told.

use std::sync::Arc;

use tokio::sync::mpsc;
use voicematch_protocol::transcribe::{ProviderState, Told};

use super::{Entry, Session, tell, tracks::Track};
use crate::{
    bridge::{self, Heard},
    provider::{Utterance, Word as Said},
    record::{JobPiece, ProviderJob, Record, SegmentKind},
    time::wall_ms,
};

impl Session {
    /// Something that the bridge has heard.
    fn heard(self: &Arc<Self>, track: &Track, heard: Heard) {
        let mut state = self.lock();
        match heard {
            Heard::Partial {
                utterance,
                revision,
            } => {
                let Some(name) = state
                    .people
                    .get(&track.speaker)
                    .map(|person| person.name.clone())
                else {
                    return;
                };
                let id = utterance_name(track, &utterance);
                let told = Told::Partial {
                    utterance: &id,
                    revision,
                    speaker: &name,
                    start_ms: u64::try_from(track.at(start(&utterance))).unwrap_or(0),
                    text: &utterance.text,
                };
                self.tell_partial(&state, track.speaker, &id, &tell::write(&told));
            }
            Heard::Final { utterance, .. } => {
                let (from, to) = (track.at(start(&utterance)), track.until(end(&utterance)));
                let id = utterance_name(track, &utterance);
                let ms = |ms| u64::try_from(ms).unwrap_or(0);
                let at = |said: &Said| {
                    let from = track.at(ms(said.start_ms));
                    (from, track.until(ms(said.end_ms)).max(from))
                };
                let words = words(&utterance.words, at);
                if self.parts.config.log_text {
                    let (slug, text) = (&self.row.slug, &utterance.text);
                    tracing::info!(slug, start_ms = from, text, "said");
                }
                let mut segment =
                    track.segment(self.row.id, SegmentKind::Final, from, to, utterance.text);
                segment.language = utterance.language;
                segment.confidence = utterance.confidence;
                segment.words = words;
                self.add(
                    &mut state,
                    Entry {
                        segment,
                        utterance: Some(id),
                    },
                );
            }
            Heard::Gap {
                from_ms,
                to_ms,
                reason,
            } => {
                let (from, to) = (track.at(from_ms), track.until(to_ms));
                let segment = track.segment(
                    self.row.id,
                    SegmentKind::Gap,
                    from,
                    to,
                    reason.as_str().to_owned(),
                );
                self.add(
                    &mut state,
                    Entry {
                        segment,
                        utterance: None,
                    },
                );
            }
            Heard::State(provider) => {
                let (provider, retry_in_ms) = on_the_wire(provider);
                self.tell_state(&state, track.speaker, provider, retry_in_ms);
            }
            Heard::Failed(failure) => self.tell_failure(&state, track.speaker, failure),
            Heard::Job { job, at_ms } => {
                self.parts.writer.write(Record::ProviderJob(ProviderJob {
                    track_id: track.id,
                    job,
                    start_ms: track.at(at_ms),
                }));
            }
            Heard::JobPiece { job, job_ms, at_ms } => {
                let start_ms = track.at(at_ms);
                let number = track.next_piece();
                self.parts.writer.write(Record::JobPiece(JobPiece {
                    track_id: track.id,
                    number,
                    job,
                    job_ms: i64::try_from(job_ms).unwrap_or(i64::MAX),
                    start_ms,
                }));
            }
            Heard::Ended => {}
        }
    }

    /// A track has ended: the next audio of the speaker begins another.
    fn track_ended(self: &Arc<Self>, track: &Track) {
        let audio_ms = track.audio_ms();
        let mut state = self.lock();
        self.tell_missed(&mut state, track);
        state.audio_ms += audio_ms;
        state.tracks.retain(|open| open.id != track.id);
        if let Some(person) = state.people.get_mut(&track.speaker) {
            person.track.take_if(|current| current.id == track.id);
        }
        if track.has_begun() {
            self.parts.writer.write(Record::TrackEnded {
                id: track.id,
                audio_ms: i64::try_from(audio_ms).unwrap_or(i64::MAX),
                ended_ms: wall_ms(),
            });
        }
        self.open_tracks.send_modify(|open| *open -= 1);
    }
}

/// Listens to the bridge until the track has ended.
pub(super) async fn listen(
    session: Arc<Session>,
    track: Arc<Track>,
    mut heard: mpsc::Receiver<Heard>,
) {
    while let Some(heard) = heard.recv().await {
        session.heard(&track, heard);
    }
    session.track_ended(&track);
}

/// How a provider does, as participants are told.
fn on_the_wire(provider: bridge::ProviderState) -> (ProviderState, Option<u64>) {
    match provider {
        bridge::ProviderState::Ok => (ProviderState::Ok, None),
        bridge::ProviderState::Slow => (ProviderState::Slow, None),
        bridge::ProviderState::Silent => (ProviderState::Silent, None),
        bridge::ProviderState::Reconnecting { retry_in_ms } => {
            (ProviderState::Reconnecting, Some(retry_in_ms))
        }
        bridge::ProviderState::Busy => (ProviderState::Busy, None),
        bridge::ProviderState::Down => (ProviderState::Down, None),
        bridge::ProviderState::Paused => (ProviderState::Paused, None),
    }
}

/// Providers count the utterances of a stream; in a session there are several.
fn utterance_name(track: &Track, utterance: &Utterance) -> String {
    format!("{:x}-{}", track.id.0 & 0xffff_ffff, utterance.id)
}

fn start(utterance: &Utterance) -> u64 {
    u64::try_from(utterance.start_ms).unwrap_or(0)
}

fn end(utterance: &Utterance) -> u64 {
    u64::try_from(utterance.end_ms).unwrap_or(0)
}

/// The words as JSON; `at`: from when to when a word was said, on the session's clock.
pub(super) fn words(said: &[Said], at: impl Fn(&Said) -> (i64, i64)) -> Option<String> {
    #[derive(serde::Serialize)]
    struct Word<'a> {
        word: &'a str,
        start_ms: i64,
        end_ms: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
    }
    let words = said.iter().map(|word| {
        let (start_ms, end_ms) = at(word);
        Word {
            word: &word.word,
            start_ms,
            end_ms,
            confidence: word.confidence,
        }
    });
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| serde_json::to_string(&words).unwrap_or_default())
}
