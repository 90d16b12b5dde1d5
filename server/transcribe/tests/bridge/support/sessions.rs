//! Sessions without a server, and participants of them without sockets.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration, time::Instant};

use prometheus::Registry;
use serde_json::Value;
use tokio::time::timeout;
use voicematch_transcribe::{
    bridge::Bridges,
    record::RowId,
    session::{Attachment, Out},
    sessions::{Config, SessionMetrics, Sessions},
    store::{
        self, Store,
        metrics::StorageMetrics,
        writer::{Settings, Writer},
    },
};

use super::{CHUNK_MS, PATIENCE, numbered};

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
    pub attachment: Attachment,
    told: VecDeque<Value>,
    /// The number of the next chunk.
    next: u32,
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
