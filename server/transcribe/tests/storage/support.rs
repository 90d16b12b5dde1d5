//! Rows to write, and the question whether they are there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use voicematch_transcribe::record::{
    Answer, Interview, Participant, Record, RowId, Segment, SegmentKind, Session, Track,
};
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{
    Health, Left, Outcome, Receipt, Settings, Where, Writer,
};
use voicematch_transcribe::store::{self, Store};

/// No step of a test takes longer, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const IN_DATABASE: Outcome = Outcome::Stored(Where::Database);
pub(crate) const IN_SPILL: Outcome = Outcome::Stored(Where::Spill);

/// What happens, or a failure that says what did not.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("not in {PATIENCE:?}: {what}"),
    }
}

pub(crate) fn session(slug: &str) -> Session {
    Session {
        id: RowId::random(),
        slug: slug.to_owned(),
        title: Some("A title".to_owned()),
        language: None,
        deliver: "host".to_owned(),
        open: true,
        created_ms: 1_700_000_000_000,
        ended_ms: None,
    }
}

pub(crate) fn participant(session: RowId, user: &str) -> Participant {
    Participant {
        id: RowId::random(),
        session_id: session,
        user: user.to_owned(),
        name: None,
        role: "speaker".to_owned(),
        joined_ms: 1_700_000_000_001,
    }
}

pub(crate) fn track(session: RowId, participant: RowId) -> Track {
    Track {
        id: RowId::random(),
        session_id: session,
        participant_id: participant,
        provider: "fake".to_owned(),
        started_ms: 1_700_000_000_002,
        audio_ms: None,
        ended_ms: None,
    }
}

pub(crate) fn segment(session: RowId, seq: i64) -> Segment {
    Segment {
        session_id: session,
        seq,
        track_id: RowId(1),
        kind: SegmentKind::Final,
        source: "live".to_owned(),
        start_ms: seq * 2_000,
        end_ms: seq * 2_000 + 1_500,
        language: Some("en".to_owned()),
        confidence: Some(0.93),
        text: format!("sentence {seq} of a person who talks"),
        words: None,
        created_ms: 1_700_000_000_000 + seq,
    }
}

pub(crate) fn interview(respondent: &str) -> Interview {
    Interview {
        id: RowId::random(),
        survey_id: "mobility".to_owned(),
        version: 1,
        session_id: None,
        respondent: Some(respondent.to_owned()),
        language: "en".to_owned(),
        started_ms: 1_700_000_000_000,
        ended_ms: None,
    }
}

pub(crate) fn answer(interview: RowId, request: u64) -> Answer {
    Answer {
        interview_id: interview,
        question_id: format!("question {request}"),
        revision: 1,
        request_id: format!("request {request}"),
        value: request.to_string(),
        segment_seq: None,
        created_ms: 1_700_000_000_000 + request.cast_signed(),
    }
}

pub(crate) fn segments(session: RowId, seqs: impl IntoIterator<Item = i64>) -> Vec<Record> {
    let all = seqs.into_iter().map(|seq| segment(session, seq));
    all.map(Record::Segment).collect()
}

/// A SQLite database in a folder of its own.
pub(crate) fn sqlite_url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("transcripts.db").display())
}

/// Another connection to the SQLite database of the folder.
pub(crate) async fn connect(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join("transcripts.db"));
    options.connect().await.expect("a connection")
}

pub(crate) async fn run(connection: &mut SqliteConnection, sql: &'static str) {
    let done = sqlx::query(sql).execute(connection).await;
    done.expect(sql);
}

/// A writer over a database, a session in that, and where both are.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: StorageMetrics,
    pub(crate) writer: Writer,
    pub(crate) session: RowId,
}

impl Rig {
    pub(crate) async fn sqlite() -> Self {
        Self::sqlite_with(|_| {}).await
    }

    pub(crate) async fn sqlite_with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let url = sqlite_url(dir.path());
        Self::over(dir, &url, change).await
    }

    pub(crate) async fn over(dir: TempDir, url: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let store = store::connect(url, true).await.expect("a database");
        let mut settings = Settings::new(dir.path().join("state"));
        change(&mut settings);
        let metrics = StorageMetrics::new().expect("metrics");
        let writer = Writer::start(Arc::clone(&store), settings, metrics.clone());
        let writer = writer.await.expect("a writer");
        let row = session("session");
        let id = row.id;
        let begun = writer.write_now(Record::Session(row));
        assert_eq!(soon("the session is stored", begun).await, IN_DATABASE);
        Self {
            dir,
            store,
            metrics,
            writer,
            session: id,
        }
    }

    /// A new writer over the same database and folder.
    pub(crate) async fn again(dir: TempDir, store: Arc<dyn Store>, session: RowId) -> Self {
        let metrics = StorageMetrics::new().expect("metrics");
        let settings = Settings::new(dir.path().join("state"));
        let writer = Writer::start(Arc::clone(&store), settings, metrics.clone());
        Self {
            writer: writer.await.expect("a writer"),
            dir,
            store,
            metrics,
            session,
        }
    }

    /// Hands over segments.
    pub(crate) fn write(&self, seqs: impl IntoIterator<Item = i64>) -> Vec<Receipt> {
        let records = segments(self.session, seqs);
        records
            .into_iter()
            .map(|record| self.writer.write(record))
            .collect()
    }

    /// Waits for the writer to be so.
    pub(crate) async fn becomes(&self, health: Health) {
        let mut watch = self.writer.watch_health();
        let seen = soon("the health", watch.wait_for(|now| *now == health)).await;
        seen.expect("the writer lives");
    }

    pub(crate) async fn close(&self) -> Option<Left> {
        let left = self.writer.close(Instant::now() + PATIENCE);
        soon("the writer is closed", left).await
    }

    /// The session's segments that the database has, checked to be whole.
    pub(crate) async fn stored(&self) -> Vec<i64> {
        stored(&*self.store, self.session).await
    }
}

/// Each `seq` of the session in the database, in order.
pub(crate) async fn stored(store: &dyn Store, session: RowId) -> Vec<i64> {
    let mut seqs = vec![];
    loop {
        let after = seqs.last().copied().unwrap_or(0);
        let page = store
            .segments(session, after, 1_000)
            .await
            .expect("segments");
        if page.is_empty() {
            return seqs;
        }
        for found in page {
            assert_eq!(
                found,
                segment(session, found.seq),
                "what was written is read"
            );
            seqs.push(found.seq);
        }
    }
}

/// What has become of the records, in their order.
pub(crate) async fn outcomes(receipts: Vec<Receipt>) -> Vec<Outcome> {
    let mut all = vec![];
    for receipt in receipts {
        all.push(soon("a receipt", receipt).await);
    }
    all
}

pub(crate) fn count(all: &[Outcome], one: Outcome) -> usize {
    all.iter().filter(|outcome| **outcome == one).count()
}
