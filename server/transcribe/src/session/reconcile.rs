//! What a process that has died was still waiting for: the provider may have made text of it, and is asked.

mod times;

use std::{sync::Arc, time::Duration};

use self::times::Times;
use super::{Entry, Session, heard::words};
use crate::{
    provider::{Utterance, Word},
    record::{Record, Segment, SegmentKind, Track},
    store::StoreError,
    time::wall_ms,
};

/// The pauses before the provider is asked: it ends a stream that was cut off by itself, and then works on it.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// Segments that are read at once.
const PAGE: u32 = 1_000;

/// What a provider may say of an utterance: as of one that comes while it is spoken, it is checked.
const LONGEST_MS: i64 = 7 * 24 * 3_600 * 1_000;
const MAX_TEXT: usize = 16 * 1_024;

/// Two utterances that share no more than this are two.
const OVERLAP_MS: i64 = 50;

impl Session {
    /// Adds what the provider has heard of tracks that were never ended, and nobody has stored. `tracks`: those of the time
    /// before this process took the session up.
    pub(crate) async fn reconcile(self: Arc<Self>, tracks: Vec<Track>) {
        let is_open =
            |track: &Track| track.ended_ms.is_none() && track.provider == self.parts.provider;
        let tracks: Vec<_> = tracks.into_iter().filter(is_open).collect();
        if !tracks.is_empty()
            && let Err(error) = self.try_reconcile(tracks).await
        {
            let slug = &self.row.slug;
            tracing::warn!(slug, %error, "what was said before a crash could not be asked for; the next start tries again");
        }
        self.lock().reconciling = false;
    }

    async fn try_reconcile(self: &Arc<Self>, tracks: Vec<Track>) -> Result<(), StoreError> {
        let jobs = self.parts.store.jobs(self.row.id).await?;
        for track in tracks {
            let mut stored = self.finals_of(&track).await?;
            let pieces = self.parts.store.job_pieces(track.id).await?;
            for job in jobs.iter().filter(|job| job.track_id == track.id) {
                let times = Times::new(job, &pieces);
                for said in self.ask(&job.job).await {
                    if !is_plausible(&said) {
                        let slug = &self.row.slug;
                        tracing::warn!(
                            slug,
                            "what the provider says of before a crash cannot be: left out"
                        );
                        continue;
                    }
                    let when = times.of(said.start_ms, said.end_ms);
                    if said.text.is_empty() || stored.iter().any(|other| overlap(when, *other)) {
                        continue;
                    }
                    stored.push(when);
                    if !self.add_missing(&track, &times, said) {
                        // The track stays open: who takes the session up next asks again.
                        return Ok(());
                    }
                }
            }
            let mut state = self.lock();
            if state.draining {
                return Ok(());
            }
            // Nobody knows how much came; this much was heard.
            let audio_ms: i64 = stored.iter().map(|(start, end)| end - start).sum();
            state.audio_ms += u64::try_from(audio_ms).unwrap_or(0);
            // Before a drain can close the writer.
            self.parts.writer.write(Record::TrackEnded {
                id: track.id,
                audio_ms,
                ended_ms: wall_ms(),
            });
        }
        Ok(())
    }

    /// The times of what is stored of a track.
    async fn finals_of(&self, track: &Track) -> Result<Vec<(i64, i64)>, StoreError> {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let store = &self.parts.store;
            let page = store.segments(self.row.id, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(found);
            };
            after = last.seq;
            let finals = page.iter().filter(|segment| {
                segment.track_id == track.id && segment.kind == SegmentKind::Final
            });
            found.extend(finals.map(|segment| (segment.start_ms, segment.end_ms)));
        }
    }

    /// What the provider has heard in a job, once it has ended it.
    async fn ask(&self, job: &str) -> Vec<Utterance> {
        let Some(bridges) = &self.parts.bridges else {
            return Vec::new();
        };
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            if let Ok(said) = bridges.provider().transcript(job).await {
                return said.unwrap_or_default();
            }
        }
        tracing::warn!(
            job,
            "the provider does not say what it has heard before a crash"
        );
        Vec::new()
    }

    /// Whether the session still takes it; one that has ended meanwhile does.
    fn add_missing(self: &Arc<Self>, track: &Track, times: &Times, said: Utterance) -> bool {
        let mut state = self.lock();
        if state.draining {
            return false;
        }
        let (start_ms, end_ms) = times.of(said.start_ms, said.end_ms);
        let within = |ms: i64| ms.clamp(said.start_ms, said.end_ms);
        let at = |word: &Word| times.of(within(word.start_ms), within(word.end_ms));
        let segment = Segment {
            session_id: self.row.id,
            // The log says it.
            seq: 0,
            track_id: track.id,
            kind: SegmentKind::Final,
            source: "reconciled".to_owned(),
            start_ms,
            end_ms,
            words: words(&said.words, at),
            language: said.language,
            confidence: said.confidence,
            text: said.text,
            created_ms: wall_ms(),
        };
        let entry = Entry {
            segment,
            utterance: None,
        };
        self.add(&mut state, entry);
        true
    }
}

fn is_plausible(said: &Utterance) -> bool {
    let times = 0..=LONGEST_MS;
    let are_times = times.contains(&said.start_ms) && times.contains(&said.end_ms);
    are_times && said.start_ms <= said.end_ms && said.text.len() <= MAX_TEXT
}

/// Whether both were said at the same time.
fn overlap(one: (i64, i64), other: (i64, i64)) -> bool {
    let shorter = (one.1 - one.0).min(other.1 - other.0);
    let shared = one.1.min(other.1) - one.0.max(other.0);
    one == other || shared > OVERLAP_MS.min(shorter / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_at_the_same_time_is_one() {
        for (one, other, is_one) in [
            ((0, 1_000), (1_000, 2_000), false),
            ((0, 1_000), (960, 2_000), false),
            ((0, 1_000), (900, 2_000), true),
            ((0, 1_000), (200, 300), true),
            ((0, 40), (0, 40), true),
            ((0, 40), (30, 70), false),
            ((5, 5), (5, 5), true),
        ] {
            assert_eq!(overlap(one, other), is_one, "{one:?} {other:?}");
            assert_eq!(overlap(other, one), is_one);
        }
    }
}
