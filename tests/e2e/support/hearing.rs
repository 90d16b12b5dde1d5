//! A session in which one speaker says numbered words, and a ledger of what its host is told of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    PATIENCE, TestServer,
    talk::{Part, Talk, words},
};

/// The length of a word.
const WORD_MS: u64 = 100;

/// A session, its host, one speaker, and what was told.
pub(crate) struct Hearing {
    pub(crate) talk: Talk,
    pub(crate) host: Part,
    pub(crate) speaker: Part,
    /// The speaker's id.
    id: String,
    /// Milliseconds of audio sent.
    audio_ms: u64,
    /// Each word, and when it was said in milliseconds of the session.
    said: BTreeMap<String, u64>,
    pub(crate) heard: BTreeSet<String>,
    /// From, to, and why.
    pub(crate) gaps: Vec<(u64, u64, String)>,
    /// `provider_state` as they came.
    pub(crate) states: Vec<String>,
    /// The codes of `error`.
    pub(crate) errors: Vec<String>,
    /// Finals and gaps by number: kind and text.
    told: BTreeMap<u64, (String, String)>,
    pub(crate) stored_through: u64,
    /// What was told to be stored nowhere: from and to.
    pub(crate) lost: Vec<(u64, u64)>,
    pub(crate) partials: u64,
    /// All that was told, as it was written.
    pub(crate) frames: String,
}

impl Hearing {
    pub(crate) async fn begin(server: &TestServer) -> Self {
        Self::begin_in(server, json!({})).await
    }

    /// The same in a session as the app wants it.
    pub(crate) async fn begin_in(server: &TestServer, wanted: Value) -> Self {
        let talk = Talk::create(server, wanted).await;
        let host = Part::connect(server, &talk.host, "").await.unwrap();
        let (id, token) = talk.join(server, "ann", "speaker").await;
        let mut speaker = Part::connect(server, &token, "").await.unwrap();
        // As a recording, so that it need not be spoken slowly.
        speaker.send(json!({"type": "start", "live": false})).await;
        Self {
            talk,
            host,
            speaker,
            id,
            audio_ms: 0,
            said: BTreeMap::new(),
            heard: BTreeSet::new(),
            gaps: Vec::new(),
            states: Vec::new(),
            errors: Vec::new(),
            told: BTreeMap::new(),
            stored_through: 0,
            lost: Vec::new(),
            partials: 0,
            frames: String::new(),
        }
    }

    /// The host connects again, and is told what comes after the last that it was told.
    pub(crate) async fn come_back(&mut self, server: &TestServer) {
        let query = format!("?after={}", self.last());
        self.host = Part::connect(server, &self.talk.host, &query)
            .await
            .unwrap();
    }

    /// Says so many words.
    pub(crate) async fn say(&mut self, count: u32) {
        for word in self.speaker.say(1, count).await {
            self.said.insert(word, self.audio_ms);
            self.audio_ms += WORD_MS;
        }
    }

    /// Is silent so long that an utterance ends.
    pub(crate) async fn breathe(&mut self) {
        self.be_silent(700).await;
    }

    pub(crate) async fn be_silent(&mut self, ms: u64) {
        for _ in 0..ms / WORD_MS {
            assert!(self.speaker.audio(vec![0; 3_200]).await);
            self.audio_ms += WORD_MS;
        }
    }

    fn note(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().unwrap();
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        self.frames.push_str(&message.to_string());
        let is_ours = message["speaker"] == self.id.as_str();
        let kind = message["type"].as_str().unwrap();
        match kind {
            "final" => self.told(number("seq"), kind, text("text")),
            "gap" => self.told(number("seq"), kind, text("reason")),
            _ => {}
        }
        match kind {
            "final" if is_ours => {
                for word in words([&*text("text")]) {
                    assert!(self.said.contains_key(&word), "{word} was never said");
                    assert!(self.heard.insert(word.clone()), "{word} came twice");
                }
            }
            "gap" if is_ours => {
                let gap = (number("from_ms"), number("to_ms"), text("reason"));
                self.gaps.push(gap);
            }
            "partial" if is_ours => self.partials += 1,
            "provider_state" if is_ours => self.states.push(text("state")),
            "error" => self.errors.push(text("code")),
            "stored" => self.stored_through = number("through"),
            "lost" => self.lost.push((number("from_seq"), number("to_seq"))),
            _ => {}
        }
    }

    fn told(&mut self, seq: u64, kind: &str, text: String) {
        assert_eq!(seq, self.last() + 1, "numbers have no holes");
        self.told.insert(seq, (kind.to_owned(), text));
    }

    /// The number of the last final or gap.
    pub(crate) fn last(&self) -> u64 {
        self.told.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Notes messages until it is so.
    pub(crate) async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + 2 * PATIENCE;
        while !is_so(self) {
            match timeout_at(end, self.host.listen()).await {
                Ok(Ok(message)) => self.note(&message),
                next => panic!(
                    "{next:?}: {:?} are missing, gaps {:?}, states {:?}, errors {:?}, stored {} of {}",
                    self.missing(),
                    self.gaps,
                    self.states,
                    self.errors,
                    self.stored_through,
                    self.last()
                ),
            }
        }
    }

    /// Words that were said and not heard, and when.
    fn missing(&self) -> Vec<(&String, u64)> {
        let said = self.said.iter().map(|(word, at)| (word, *at));
        said.filter(|(word, _)| !self.heard.contains(*word))
            .collect()
    }

    /// Whether each word was heard, or lies in a gap.
    pub(crate) fn is_settled(&self) -> bool {
        let in_gap = |at: u64| {
            let mut gaps = self.gaps.iter();
            gaps.any(|(from, to, _)| *from < at + WORD_MS && at < *to)
        };
        self.missing().iter().all(|(_, at)| in_gap(*at))
    }

    /// After a fault: more words, of which a final must come, and until then all before is settled.
    pub(crate) async fn goes_on(&mut self) {
        self.say(10).await;
        self.breathe().await;
        let last = self.said.iter().max_by_key(|(_, at)| **at).unwrap();
        let last = last.0.clone();
        self.until(|now| now.heard.contains(&last) && now.is_settled())
            .await;
    }

    /// Each word was heard, and there is no gap.
    #[track_caller]
    pub(crate) fn assert_all_heard(&self) {
        assert_eq!(self.missing(), []);
        assert_eq!(self.gaps, []);
    }

    /// No more is called missing than was not heard, to a word at each end of a gap.
    #[track_caller]
    pub(crate) fn assert_gaps_are_what_is_missing(&self) {
        assert!(self.is_settled());
        let gaps: u64 = self.gaps.iter().map(|(from, to, _)| to - from).sum();
        let missing = self.missing().len() as u64 * WORD_MS;
        let ends = self.gaps.len() as u64 * 2 * WORD_MS;
        assert!(
            gaps <= missing + ends && missing <= gaps + ends,
            "{missing} ms are missing: {:?}",
            self.gaps
        );
    }

    /// All that was told is stored once, as it was told, but for what was told to be lost; the numbers of both.
    pub(crate) async fn assert_stored(&mut self, server: &TestServer) -> (usize, usize) {
        self.until(|now| now.stored_through >= now.last()).await;
        let file = self.talk.transcript(server, "transcript.json").await;
        let file: Value = serde_json::from_str(&file).unwrap();
        let mut stored: Vec<_> = file["segments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                (row["seq"].as_u64().unwrap(), (text("kind"), text("text")))
            })
            .collect();
        stored.sort();
        let is_lost = |seq: u64| {
            self.lost
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&seq))
        };
        let kept = self.told.iter().filter(|(seq, _)| !is_lost(**seq));
        let kept: Vec<_> = kept.map(|(seq, row)| (*seq, row.clone())).collect();
        assert_eq!(stored, kept);
        let counts = (self.told.len(), stored.len());
        eprintln!(
            "{} words said, {} heard, {} in {} gaps; rows told {}, stored {}",
            self.said.len(),
            self.heard.len(),
            self.missing().len(),
            self.gaps.len(),
            counts.0,
            counts.1
        );
        counts
    }
}
