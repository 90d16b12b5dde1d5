//! How many finals and answers the storage takes, and how long they wait:
//! `cargo run -p voicematch-transcribe --example storage_load -- [URL] [SECONDS]`.
//!
//! A thousand sessions have a final a second each, and beside them fifty interviews each have an answer recorded
//! (`record_response`), wait until it is stored, and think for 90 to 270 ms: 278 answers a second at most. Half of the finals have their
//! words one by one, as some providers tell them.
//!
//! It fails if a row is missing or an answer there twice, if the queue was past its bound, or, in a release build, if 5 % of the answers waited for 10 ms or
//! longer. That is a bound for a machine that does nothing else; CI does not run this.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use std::error::Error;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use voicematch_transcribe::record::{Record, RowId, Segment, SegmentKind, Session};
use voicematch_transcribe::store;
use voicematch_transcribe::store::metrics::StorageMetrics;
use voicematch_transcribe::store::writer::{Outcome, Settings, Where, Writer};
use voicematch_transcribe::survey::{Engine, Survey, SurveyMetrics, Tool, ToolCall, ToolError};

const SESSIONS: usize = 1_000;
const INTERVIEWS: u64 = 50;
/// How long a respondent thinks, in milliseconds. Not the same time for all: those whom one commit has answered would come together again.
const THINKING: RangeInclusive<u64> = 90..=270;
/// Of an interview. After the last one another interview begins.
const QUESTIONS: usize = 100;

/// How many milliseconds 95 % of the answers may take, in a release build.
const MOST_ANSWER_MS: f64 = 10.0;

/// Milliseconds from handing over to stored, and how many were not stored in the database.
#[derive(Default)]
struct Delays {
    millis: Vec<f64>,
    elsewhere: u64,
}

type Shared = Arc<Mutex<Delays>>;

fn note(delays: &Shared, since: Instant, is_stored: bool) {
    let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
    delays.millis.push(since.elapsed().as_secs_f64() * 1_000.0);
    delays.elsewhere += u64::from(!is_stored);
}

fn percentile(delays: &Shared, part: f64) -> f64 {
    let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
    delays.millis.sort_by(f64::total_cmp);
    let last = delays.millis.len().saturating_sub(1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (last as f64 * part) as usize;
    delays.millis.get(place).copied().unwrap_or(f64::NAN)
}

fn segment(session: RowId, seq: i64) -> Segment {
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
        text: format!("the sentence with the number {seq}, as long as people's sentences are"),
        words: (seq % 2 == 0).then(words),
        created_ms: seq,
    }
}

/// The words of such a sentence.
fn words() -> String {
    let word = r#"{"word":"sentence","start_ms":123456,"end_ms":123789,"confidence":0.93}"#;
    format!("[{}]", [word; 12].join(","))
}

/// Hands over five finals each 5 ms, of one session after the other. Returns how many.
async fn talk(writer: Arc<Writer>, sessions: Vec<RowId>, until: Instant, delays: Shared) -> i64 {
    let mut each = interval(Duration::from_millis(5));
    each.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut seq, mut sent) = (1, 0);
    let mut turn = sessions.iter();
    while Instant::now() < until {
        each.tick().await;
        for _ in 0..5 {
            let session = turn.next().or_else(|| {
                seq += 1;
                turn = sessions.iter();
                turn.next()
            });
            let Some(&session) = session else { return sent };
            sent += 1;
            let (since, delays) = (Instant::now(), Arc::clone(&delays));
            let receipt = writer.write(Record::Segment(segment(session, seq)));
            tokio::spawn(async move {
                let is_stored = receipt.await == Outcome::Stored(Where::Database);
                note(&delays, since, is_stored);
            });
        }
    }
    sent
}

/// A survey that asks for numbers.
fn survey() -> Result<Survey, Box<dyn Error>> {
    let question = |number| {
        format!(
            "[[question]]\nid = \"q{number}\"\ntype = \"number\"\ntext = {{ en = \"How many?\" }}\n"
        )
    };
    let questions: String = (0..QUESTIONS).map(question).collect();
    let text = format!("id = \"load\"\nlanguages = [\"en\"]\n{questions}");
    Survey::parse(&text, "load.toml").map_err(|problems| format!("{problems:?}").into())
}

async fn think() {
    sleep(Duration::from_millis(rand::random_range(THINKING))).await;
}

/// Holds interviews, one after the other. Returns them, with how many answers of each were recorded.
async fn interview(
    engine: Engine,
    until: Instant,
    delays: Shared,
) -> Result<Vec<(RowId, usize)>, ToolError> {
    think().await;
    let mut held = Vec::new();
    while Instant::now() < until {
        let session = engine.start("load", None, None, None).await?.interview;
        let mut recorded = 0;
        while recorded < QUESTIONS && Instant::now() < until {
            let given = json!({"value": recorded, "request_id": recorded.to_string()});
            let Ok(tool) = Tool::parse("record_response", given) else {
                break;
            };
            let since = Instant::now();
            let result = engine.call(ToolCall { session, tool }).await;
            note(&delays, since, result.is_ok());
            result?;
            recorded += 1;
            think().await;
        }
        held.push((session, recorded));
    }
    Ok(held)
}

/// Seconds of CPU that this process has used, the kernel's for it included.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    // Linux counts in hundredths of a second.
    Some((ticks()? + ticks()?) / 100.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("storage_load-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("load.db");
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| format!("sqlite:{}", file.display()));
    let seconds = std::env::args()
        .nth(2)
        .map_or(Ok(20), |text| text.parse())?;
    let store = store::connect(&url, true).await?;
    let (metrics, registry) = (StorageMetrics::new()?, Registry::new());
    metrics.register(&registry)?;
    let writer =
        Arc::new(Writer::start(Arc::clone(&store), Settings::new(&dir), metrics.clone()).await?);
    let engine = Engine::new(
        Arc::clone(&store),
        Arc::<Writer>::clone(&writer),
        vec![survey()?],
        SurveyMetrics::new()?,
    );
    let sessions: Vec<_> = (0..SESSIONS).map(|_| RowId::random()).collect();
    for &session in &sessions {
        writer.write(Record::Session(Session {
            id: session,
            slug: format!("load-{}", session.0),
            title: None,
            language: None,
            deliver: "host".to_owned(),
            open: false,
            created_ms: 0,
            ended_ms: None,
        }));
        // Their writing is no part of what is measured, and the queue has a bound.
        while metrics.queue().length > 100 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    while metrics.queue().length > 0 {
        sleep(Duration::from_millis(1)).await;
    }

    let (cpu, before) = (cpu_seconds(), commits(&registry));
    let until = Instant::now() + Duration::from_secs(seconds);
    let (finals, answers) = (Shared::default(), Shared::default());
    let talking = tokio::spawn(talk(
        Arc::clone(&writer),
        sessions.clone(),
        until,
        Arc::clone(&finals),
    ));
    let mut tasks = Vec::new();
    for _ in 0..INTERVIEWS {
        let delays = Arc::clone(&answers);
        tasks.push(tokio::spawn(interview(engine.clone(), until, delays)));
    }
    let mut longest = 0;
    while Instant::now() < until {
        longest = longest.max(metrics.queue().length);
        sleep(Duration::from_millis(1)).await;
    }
    let sent = talking.await?;
    let mut interviews = Vec::new();
    for task in tasks {
        interviews.extend(task.await??);
    }
    let left = writer
        .close((Instant::now() + Duration::from_secs(10)).into())
        .await;
    let per_second = |count: f64| count / seconds as f64;
    let cores = cpu_seconds()
        .zip(cpu)
        .map(|(after, before)| per_second(after - before));

    println!(
        "{}",
        if cfg!(debug_assertions) {
            "dev build"
        } else {
            "release build"
        }
    );
    let (commits, time) = commits(&registry);
    let (commits, time) = (commits - before.0, time - before.1);
    println!(
        "commits/s       {:.1}, {:.1} ms each",
        per_second(commits),
        time / commits * 1_000.0
    );
    for (name, delays) in [("finals", &finals), ("answers", &answers)] {
        let (all, elsewhere) = {
            let delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
            (delays.millis.len(), delays.elsewhere)
        };
        println!(
            "{name}/s        {:.0}, not in the database {elsewhere}",
            per_second(all as f64)
        );
        println!(
            "{name} stored   p50 {:.1} ms, p95 {:.1}, p99 {:.1}",
            percentile(delays, 0.5),
            percentile(delays, 0.95),
            percentile(delays, 0.99)
        );
    }
    println!("queue maximum   {longest}");
    println!("CPU             {:.3} cores", cores.unwrap_or(f64::NAN));
    let mut stored = 0;
    for &session in &sessions {
        stored += store.last_seq(session).await?;
    }
    println!("in the database {stored} of {sent} finals, left {left:?}");
    let (mut recorded, mut answers_stored) = (0, 0);
    for (interview, answers) in interviews {
        recorded += answers;
        answers_stored += store.answers(interview).await?.len();
    }
    println!("in the database {answers_stored} of {recorded} answers");
    // Without a file it is another database.
    let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
    let answered = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = sent as f64 + answered.millis.len() as f64;
    drop(answered);
    println!(
        "a row           {:.0} bytes of the file",
        bytes as f64 / rows
    );
    std::fs::remove_dir_all(&dir)?;
    if stored != sent {
        return Err("a final is missing".into());
    }
    if answers_stored != recorded {
        return Err("an answer is missing, or there twice".into());
    }
    if usize::try_from(longest).unwrap_or(0) > Settings::new(&dir).queue {
        return Err("the queue was past its bound".into());
    }
    let p95 = percentile(&answers, 0.95);
    // Without an answer it is not a number, which is in no bound.
    let is_quick = p95 < MOST_ANSWER_MS;
    if !cfg!(debug_assertions) && !is_quick {
        return Err(format!("95 % of the answers took {p95:.1} ms, not {MOST_ANSWER_MS}").into());
    }
    Ok(())
}

/// How many there were, and how many seconds they took.
fn commits(registry: &Registry) -> (f64, f64) {
    let families = registry.gather();
    let found = families
        .iter()
        .find(|family| family.name() == "transcribe_commit_seconds");
    let metric = found.and_then(|family| family.get_metric().first());
    metric.map_or((0.0, 0.0), |metric| {
        let times = metric.get_histogram();
        (times.get_sample_count() as f64, times.get_sample_sum())
    })
}
