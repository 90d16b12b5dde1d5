//! Sessions without a server, and participants of them without sockets.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration, time::Instant};

use prometheus::Registry;
use serde_json::Value;
use tokio::time::timeout;
use voicematch_protocol::{numbered::parse_word, transcribe::Role};
use voicematch_transcribe::{
    bridge::Bridges,
    record::{RowId, Segment, SegmentKind},
    session::{Attachment, Out},
    sessions::{Config, NewParticipant, NewSession, SessionMetrics, Sessions},
    store::{
        self, Store,
        metrics::StorageMetrics,
        writer::{Settings, Writer},
    },
};

use super::{CHUNK_MS, PATIENCE, Rig, numbered};

/// The sessions of a process that begins, and their database in this folder.
pub(crate) async fn begin(dir: &Path, bridges: &Bridges) -> (Arc<Sessions>, Arc<dyn Store>) {
    begin_with(Config::default(), dir, bridges).await
}

/// The same with other bounds.
pub(crate) async fn begin_with(
    config: Config,
    dir: &Path,
    bridges: &Bridges,
) -> (Arc<Sessions>, Arc<dyn Store>) {
    let store = store::connect(&database(dir), true)
        .await
        .expect("a database");
    let metrics = StorageMetrics::new().expect("the names are right");
    let writer = Writer::start(store.clone(), Settings::new(dir), metrics).await;
    let writer = Arc::new(writer.expect("it begins"));
    let metrics = SessionMetrics::new(&Registry::new()).expect("the names are right");
    let bridges = bridges.clone();
    let name = bridges.provider().name();
    let sessions = Sessions::new(config, writer, store.clone(), Some(bridges), name, metrics);
    (sessions, store)
}

/// The database in this folder.
pub(crate) fn database(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("talk.db").display())
}

/// A participant who is attached.
pub(crate) struct Guest {
    pub who: RowId,
    pub attachment: Attachment,
    told: VecDeque<Value>,
    /// The number of the next chunk.
    pub next: u32,
}

impl Guest {
    pub(crate) async fn attach(
        sessions: &Sessions,
        slug: &str,
        who: RowId,
        after: Option<i64>,
    ) -> Self {
        let attachment = sessions.attach(slug, who, after).await;
        Self {
            who,
            attachment: attachment.expect("the session goes on"),
            told: VecDeque::new(),
            next: 0,
        }
    }

    /// The next message of this type; others are skipped.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        loop {
            while let Some(message) = self.told.pop_front() {
                if message["type"] == kind {
                    return message;
                }
            }
            let out = timeout(PATIENCE, self.attachment.next()).await;
            let out = out.unwrap_or_else(|_| panic!("no {kind} within {PATIENCE:?}"));
            match out.expect("the database answers") {
                Out::Text(messages) => {
                    let messages = messages.iter().map(|text| serde_json::from_str(text));
                    let messages: Result<Vec<Value>, _> = messages.collect();
                    self.told.extend(messages.expect("JSON"));
                }
                Out::Close(closing) => panic!("closed before {kind}: {closing:?}"),
            }
        }
    }

    /// Waits for this `provider_state`.
    pub(crate) async fn expect_state(&mut self, state: &str) {
        while self.expect("provider_state").await["state"] != state {}
    }

    /// Waits until all up to this number is stored.
    pub(crate) async fn expect_stored(&mut self, seq: i64) {
        while self.expect("stored").await["through"].as_i64() < Some(seq) {}
    }

    /// Speaks so many chunks, live, the first of which has come at `from`.
    pub(crate) fn say(&mut self, count: u32, from: Instant) {
        for index in 0..count {
            let at = from + Duration::from_millis(CHUNK_MS) * index;
            self.attachment.audio(numbered(1, self.next), at);
            self.next += 1;
        }
    }
}

pub(crate) const SLUG: &str = "tea";

/// A stored gap: from, to, and why.
pub(crate) type Gap = (i64, i64, String);

/// A session, and the process that has it.
pub(crate) struct Meeting {
    pub began: Instant,
    pub sessions: Arc<Sessions>,
    pub store: Arc<dyn Store>,
    pub id: RowId,
    pub host: RowId,
    dir: tempfile::TempDir,
}

impl Meeting {
    /// The host is there.
    pub(crate) async fn begin(provider: &str) -> (Self, Guest) {
        Self::begin_with(&Rig::fake(provider)).await
    }

    pub(crate) async fn begin_with(rig: &Rig) -> (Self, Guest) {
        let dir = tempfile::tempdir().expect("a folder");
        let (sessions, store) = begin(dir.path(), &rig.bridges).await;
        let new = NewSession {
            slug: Some(SLUG.to_owned()),
            ..NewSession::default()
        };
        let (session, host) = sessions.create(new).await.expect("created");
        let present = Guest::attach(&sessions, SLUG, host.id, None).await;
        let meeting = Self {
            began: Instant::now(),
            sessions,
            store,
            id: session.id,
            host: host.id,
            dir,
        };
        (meeting, present)
    }

    /// The sessions of another process, with the same database.
    pub(crate) async fn other_process(&self) -> Arc<Sessions> {
        self.other_process_with(&Rig::fake("")).await
    }

    pub(crate) async fn other_process_with(&self, rig: &Rig) -> Arc<Sessions> {
        begin(self.dir.path(), &rig.bridges).await.0
    }

    /// The process is gone for longer than its lease: another one may have the session.
    pub(crate) async fn lease_is_over(&self) {
        let owner = self.store.owner(self.id).await.expect("it answers");
        let released = self.store.release(owner.expect("it is held").id).await;
        released.expect("released");
    }

    pub(crate) async fn speaker(&self, user: &str) -> Guest {
        let new = NewParticipant {
            user: user.to_owned(),
            name: None,
            role: Role::Speaker,
        };
        let (_, joined) = self.sessions.join(SLUG, new, false).await.expect("joined");
        Guest::attach(&self.sessions, SLUG, joined.id, None).await
    }

    /// A time of the session, whose first audio comes at 0.
    pub(crate) fn at(&self, seconds: u64) -> Instant {
        self.began + Duration::from_secs(seconds)
    }

    pub(crate) async fn rows(&self) -> Vec<Segment> {
        let rows = self.store.segments(self.id, 0, 100).await;
        rows.expect("the database answers")
    }

    pub(crate) async fn gaps(&self) -> Vec<Gap> {
        let rows = self.rows().await.into_iter();
        let gaps = rows.filter(|row| row.kind == SegmentKind::Gap);
        gaps.map(|row| (row.start_ms, row.end_ms, row.text))
            .collect()
    }

    /// Each of the chunks that one speaker has said from the session's first audio on, without a pause, is stored: as a word, or
    /// as a part of a gap.
    pub(crate) async fn assert_complete(&self, chunks: u32) {
        let rows = self.rows().await;
        for chunk in 0..chunks {
            let from = i64::from(chunk) * CHUNK_MS.cast_signed();
            let to = from + CHUNK_MS.cast_signed();
            let is_here = |row: &Segment| match row.kind {
                SegmentKind::Gap => row.start_ms <= from && to <= row.end_ms,
                SegmentKind::Final => {
                    let mut words = row.text.split(' ').filter_map(parse_word);
                    words.any(|(_, word)| word == chunk)
                }
            };
            assert!(
                rows.iter().any(is_here),
                "chunk {chunk} is nowhere: {rows:#?}"
            );
        }
        let tracks = self.store.tracks(self.id).await.expect("it answers");
        assert!(
            tracks.iter().all(|track| track.ended_ms.is_some()),
            "{tracks:?}"
        );
    }
}
