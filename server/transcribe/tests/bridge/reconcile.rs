//! What a provider has heard for a process that has died is added to the session, once.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use voicematch_protocol::transcribe::{Deliver, Role};
use voicematch_transcribe::{
    bridge::BridgeConfig,
    provider::{
        BoxFuture, Link, OpenError, Provider, Secret, StreamSpec, Utterance, Word, fake::Fake,
        gladia::Gladia,
    },
    record::{Participant, ProviderJob, Record, RowId, Segment, SegmentKind, Session, Track},
    sessions::Sessions,
    store,
};

use crate::support::{
    PATIENCE, Rig, becomes, eventually, fake,
    gladia::{GladiaServer, KEY},
    server::{Faults, Plan},
    sessions::{Guest, Meeting, begin, database},
};

const SLUG: &str = "tea";
/// Where the lost track begins in the session.
const BEGAN_MS: i64 = 7_000;

fn session() -> (Session, Participant, Track) {
    let session = Session {
        id: RowId::random(),
        slug: SLUG.to_owned(),
        title: None,
        language: None,
        deliver: Deliver::Host.as_str().to_owned(),
        open: false,
        created_ms: 1,
        ended_ms: None,
    };
    let host = Participant {
        id: RowId::random(),
        session_id: session.id,
        user: "host".to_owned(),
        name: None,
        role: Role::Host.as_str().to_owned(),
        joined_ms: 1,
    };
    let track = Track {
        id: RowId::random(),
        session_id: session.id,
        participant_id: host.id,
        provider: "gladia".to_owned(),
        started_ms: 1,
        audio_ms: None,
        ended_ms: None,
    };
    (session, host, track)
}

/// The texts of the finals that the host is told, until there are so many.
async fn finals(sessions: &Sessions, host: RowId, count: usize) -> Vec<String> {
    let mut host = Guest::attach(sessions, SLUG, host, Some(0)).await;
    let mut told = Vec::new();
    while told.len() < count {
        let said = host.expect("final").await;
        told.push(said["text"].as_str().expect("a text").to_owned());
    }
    told
}

/// Bridges to a Gladia with these faults.
async fn gladia(faults: Faults) -> (Rig, GladiaServer) {
    let server = GladiaServer::start(Plan::new([faults])).await;
    let key = Secret::new(KEY).expect("it is right");
    let provider = Gladia::parse(&server.url, key).expect("it is right");
    (Rig::patient(Arc::new(provider)), server)
}

#[tokio::test]
async fn what_the_provider_has_heard_before_a_crash_is_added_once() {
    let (rig, _gladia) = gladia(Faults::default()).await;
    let mut speaker = rig.speaker(9);
    for _ in 0..60 {
        speaker.say();
        speaker.listen(Duration::from_millis(5)).await;
    }
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    let said = ledger.finals.clone();
    assert!(said.len() >= 3, "{said:?}");

    // Of all that, the process before has stored the first final.
    let dir = tempfile::tempdir().expect("a folder");
    let store = store::connect(&database(dir.path()), true)
        .await
        .expect("a database");
    let (session, host, track) = session();
    let first = Segment {
        session_id: session.id,
        seq: 1,
        track_id: track.id,
        kind: SegmentKind::Final,
        source: "live".to_owned(),
        start_ms: BEGAN_MS + said[0].start_ms,
        end_ms: BEGAN_MS + said[0].end_ms,
        language: None,
        confidence: None,
        text: said[0].text.clone(),
        words: None,
        created_ms: 2,
    };
    let job = ProviderJob {
        track_id: track.id,
        job: ledger.jobs[0].clone(),
        start_ms: BEGAN_MS,
    };
    let rows = [
        Record::Session(session.clone()),
        Record::Participant(host.clone()),
        Record::Track(track),
        Record::ProviderJob(job),
        Record::Segment(first),
    ];
    store.append(&rows).await.expect("written");

    let texts: Vec<_> = said.iter().map(|said| said.text.clone()).collect();
    let (sessions, _) = begin(dir.path(), &rig.bridges).await;
    assert_eq!(finals(&sessions, host.id, texts.len()).await, texts);
    let until = || Instant::now() + PATIENCE;
    assert_eq!(sessions.drain(until).await, None);
    let stored = store.segments(session.id, 0, 100).await.expect("read");
    let times: Vec<_> = stored
        .iter()
        .map(|row| (row.seq, row.start_ms, &*row.source))
        .collect();
    let expected = (1..).zip(&said).map(|(seq, said)| {
        let source = if seq == 1 { "live" } else { "reconciled" };
        (seq, BEGAN_MS + said.start_ms, source)
    });
    assert_eq!(times, expected.collect::<Vec<_>>());
    let tracks = store.tracks(session.id).await.expect("read");
    assert!(tracks[0].ended_ms.is_some());

    // The next process finds nothing to ask for.
    let (sessions, _) = begin(dir.path(), &rig.bridges).await;
    assert_eq!(finals(&sessions, host.id, texts.len()).await, texts);
    assert_eq!(sessions.drain(until).await, None);
    let again = store.segments(session.id, 0, 100).await.expect("read");
    assert_eq!(again, stored);
}

/// A provider that hangs, and that says what it has heard before when it is asked to.
struct Later {
    hangs: Fake,
    /// From now on it says it.
    tells: watch::Sender<bool>,
    said: Vec<Utterance>,
}

impl Later {
    fn new(said: Vec<Utterance>) -> Arc<Self> {
        Arc::new(Self {
            hangs: fake("?stall_after=0ms"),
            tells: watch::Sender::new(false),
            said,
        })
    }
}

fn said(start_ms: i64, end_ms: i64, text: &str) -> Utterance {
    Utterance {
        start_ms,
        end_ms,
        text: text.to_owned(),
        ..Utterance::default()
    }
}

/// A database in this folder with a session whose track was never ended: its host, and the session.
async fn cut_off(dir: &Path) -> (RowId, Session) {
    let store = store::connect(&database(dir), true)
        .await
        .expect("a database");
    let (session, host, track) = session();
    let job = ProviderJob {
        track_id: track.id,
        job: "a job".to_owned(),
        start_ms: BEGAN_MS,
    };
    let rows = [
        Record::Session(session.clone()),
        Record::Participant(host.clone()),
        Record::Track(track),
        Record::ProviderJob(job),
    ];
    store.append(&rows).await.expect("written");
    (host.id, session)
}

impl Provider for Later {
    fn name(&self) -> &'static str {
        "gladia"
    }

    fn open(&self, spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        self.hangs.open(spec)
    }

    fn transcript<'a>(
        &'a self,
        _job: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<Utterance>>, OpenError>> {
        Box::pin(async {
            let mut tells = self.tells.subscribe();
            tells.wait_for(|tells| *tells).await.expect("it is here");
            Ok(Some(self.said.clone()))
        })
    }
}

#[tokio::test]
async fn what_is_told_in_a_drain_is_asked_for_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (host, _) = cut_off(dir.path()).await;
    let provider = Later::new(vec![said(0, 100, "before the crash")]);
    let rig = Rig::new(Arc::<Later>::clone(&provider), BridgeConfig::default());
    let (sessions, _) = begin(dir.path(), &rig.bridges).await;
    let mut talking = Guest::attach(&sessions, SLUG, host, None).await;
    // The drain waits for the last words of this.
    talking.say(1, Instant::now().into_std());
    eventually("it is asked", || provider.tells.receiver_count() == 1).await;
    let until = || Instant::now() + PATIENCE;
    let tell = async {
        // The drain has begun before.
        provider.tells.send_replace(true);
        eventually("it has told", || provider.tells.receiver_count() == 0).await;
    };
    let (left, ()) = tokio::join!(sessions.drain(until), tell);
    assert_eq!(left, None);

    let (sessions, _) = begin(dir.path(), &rig.bridges).await;
    let texts = finals(&sessions, host, 1).await;
    assert_eq!(texts, ["before the crash"]);
}

#[tokio::test]
async fn what_cannot_have_been_said_is_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let (host, session) = cut_off(dir.path()).await;
    let word = |word: &str, start_ms, end_ms| Word {
        word: word.to_owned(),
        start_ms,
        end_ms,
        confidence: None,
    };
    let whole = Utterance {
        words: vec![word("good", 100, 200), word("morning", 200, i64::MAX)],
        ..said(100, 900, "good morning")
    };
    let provider = Later::new(vec![
        said(-1, 50, "before the begin"),
        said(0, i64::MAX, "for ever"),
        said(i64::MIN, i64::MAX, "always"),
        said(5_000, 4_000, "backwards"),
        said(2_000, 3_000, &"too much ".repeat(2_000)),
        whole,
    ]);
    provider.tells.send_replace(true);
    let rig = Rig::new(provider, BridgeConfig::default());
    let (sessions, store) = begin(dir.path(), &rig.bridges).await;
    assert_eq!(finals(&sessions, host, 1).await, ["good morning"]);
    let until = || Instant::now() + PATIENCE;
    assert_eq!(sessions.drain(until).await, None);
    let stored = store.segments(session.id, 0, 100).await.expect("read");
    let [only] = &stored[..] else {
        panic!("{stored:?}")
    };
    let times = (only.start_ms - BEGAN_MS, only.end_ms - BEGAN_MS);
    assert_eq!(times, (100, 900));
    let words = r#"[{"word":"good","start_ms":7100,"end_ms":7200},{"word":"morning","start_ms":7200,"end_ms":7900}]"#;
    assert_eq!(only.words.as_deref(), Some(words));
    let tracks = store.tracks(session.id).await.expect("read");
    assert_eq!(tracks[0].audio_ms, Some(800));
}

/// Two utterances of two seconds with a pause of ten between them, of which the provider's stream knows nothing: it counts audio.
/// What the next process makes of it, in milliseconds of the session. `faults`: those of the provider.
async fn spoken_around_a_pause(faults: Faults, told: i64) -> Vec<(String, i64, i64)> {
    let (rig, server) = gladia(faults).await;
    let (meeting, mut host) = Meeting::begin_with(&rig).await;
    let mut ann = meeting.speaker("ann").await;
    ann.say(20, meeting.at(0));
    host.expect_stored(1).await;
    ann.say(20, meeting.at(12));
    if told > 1 {
        host.expect_stored(told).await;
    }
    eventually("it has heard all", || {
        server.state.heard_bytes("job-1") == 40 * 3_200
    })
    .await;
    // What was handed over before is written then, too.
    meeting.speaker("ben").await;
    meeting.lease_is_over().await;
    let next = meeting.other_process_with(&rig).await;
    let _host = Guest::attach(&next, SLUG, meeting.host, None).await;
    becomes(true, "the track has ended", async || {
        let tracks = meeting.store.tracks(meeting.id).await.expect("read");
        tracks[0].ended_ms.is_some()
    })
    .await;
    becomes(2, "how many rows are stored", async || {
        meeting.rows().await.len()
    })
    .await;
    let rows = meeting.rows().await.into_iter();
    rows.map(|row| (row.source, row.start_ms, row.end_ms))
        .collect()
}

#[tokio::test]
async fn what_was_said_after_a_pause_is_not_added_again() {
    let rows = spoken_around_a_pause(Faults::default(), 2).await;
    let live = |start, end| ("live".to_owned(), start, end);
    assert_eq!(rows, [live(0, 2_000), live(11_900, 13_900)]);
}

#[tokio::test]
async fn what_was_said_after_a_pause_and_never_told_is_added_at_its_time() {
    let mute = Faults {
        mute_after: Some(20),
        ..Faults::default()
    };
    let rows = spoken_around_a_pause(mute, 1).await;
    let expected = [("live", 0, 2_000), ("reconciled", 11_900, 13_900)];
    assert_eq!(
        rows,
        expected.map(|(source, start, end)| (source.to_owned(), start, end))
    );
}
