//! `/debug/pprof/`: where time and memory go, in the formats and at the paths of Go's net/http/pprof.
//!
//! One CPU capture at a time, and of bounded length. The first one raises the process's memory for good,
//! by the profiler's fixed table: measure memory before you profile.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read as _, Write as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use hyper::StatusCode;
use pprof::{
    ProfilerGuardBuilder, Report,
    protos::{Function, Line, Location, Message, Profile, Sample, ValueType},
};
use tokio::sync::{Mutex, MutexGuard};

use crate::http::{Reply, error::HttpError, reply};

/// The longest capture.
pub const MAX_CAPTURE: Duration = Duration::from_secs(300);

/// How long a capture takes that does not say; Go's default.
const DEFAULT_SECONDS: &str = "30";

/// Samples a second; Go's rate.
const FREQUENCY_HZ: i32 = 100;

const OCTETS: &str = "application/octet-stream";

/// How many tasks there are of each kind, from the outermost to the innermost name of the kind.
pub type TaskCounts = Vec<(Vec<String>, i64)>;

/// Takes profiles, one CPU capture at a time.
#[derive(Default)]
pub struct Profiler {
    capturing: Mutex<()>,
}

/// Why there is no profile.
struct Failure(HttpError, String);

impl Failure {
    fn internal(error: impl std::fmt::Display) -> Self {
        Self(
            HttpError::Internal,
            format!("the profile could not be taken: {error}"),
        )
    }
}

impl Profiler {
    /// Answers a request below `/debug/pprof/`; `name` is what follows that. `tasks` counts the tasks.
    pub async fn answer(
        self: Arc<Self>,
        name: &str,
        query: &str,
        tasks: impl FnOnce() -> TaskCounts,
    ) -> Reply {
        let outcome = match name {
            "" => Ok(reply(
                StatusCode::OK,
                "text/html; charset=utf-8",
                index(&tasks()),
            )),
            "profile" => self
                .cpu(query, to_pprof)
                .await
                .map(|body| file(OCTETS, "profile", body)),
            "flamegraph" => self
                .cpu(query, to_flamegraph)
                .await
                .map(|body| reply(StatusCode::OK, "image/svg+xml", body)),
            "heap" => heap().await.map(|body| file(OCTETS, "heap", body)),
            "tasks" if parameter(query, "debug").is_some_and(|debug| debug != "0") => Ok(reply(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                tasks_text(&tasks()),
            )),
            "tasks" => tasks_pprof(&tasks()).map(|body| file(OCTETS, "tasks", body)),
            _ => {
                let message = format!("there is no profile {name:.40}; see /debug/pprof/");
                Err(Failure(HttpError::NotFound, message))
            }
        };
        outcome.unwrap_or_else(|Failure(error, message)| error.reply(&message))
    }

    /// Samples all threads for the asked time and renders the samples.
    async fn cpu(
        &self,
        query: &str,
        render: fn(&Report) -> Result<Vec<u8>, Failure>,
    ) -> Result<Vec<u8>, Failure> {
        let length = capture_length(query)?;
        let _capturing = self.begin()?;
        let guard = ProfilerGuardBuilder::default()
            .frequency(FREQUENCY_HZ)
            .build()
            .map_err(Failure::internal)?;
        // If the client hangs up, this future is dropped here, and the capture ends with it.
        tokio::time::sleep(length).await;
        let rendered = tokio::task::spawn_blocking(move || {
            let report = guard.report().build().map_err(Failure::internal)?;
            drop(guard);
            render(&report)
        });
        rendered.await.map_err(Failure::internal)?
    }

    fn begin(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        self.capturing.try_lock().map_err(|_| {
            Failure(
                HttpError::CaptureRunning,
                "a capture is running; wait for its end".to_owned(),
            )
        })
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn capture_length(query: &str) -> Result<Duration, Failure> {
    let seconds = parameter(query, "seconds").unwrap_or(DEFAULT_SECONDS);
    let length = seconds
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    length
        .filter(|length| !length.is_zero() && *length <= MAX_CAPTURE)
        .ok_or_else(|| {
            let max = MAX_CAPTURE.as_secs();
            Failure(
                HttpError::BadRequest,
                format!("seconds is {seconds:.20}; give a number up to {max}"),
            )
        })
}

fn to_pprof(report: &Report) -> Result<Vec<u8>, Failure> {
    gzip(&report.pprof().map_err(Failure::internal)?.encode_to_vec())
}

fn to_flamegraph(report: &Report) -> Result<Vec<u8>, Failure> {
    let mut stacks: BTreeMap<String, isize> = BTreeMap::new();
    for (frames, count) in &report.data {
        let mut stack = frames.thread_name_or_id();
        for symbol in frames
            .frames
            .iter()
            .rev()
            .flat_map(|frame| frame.iter().rev())
        {
            // A semicolon parts the frames of a folded stack.
            let _ = write!(stack, ";{}", symbol.name().replace(';', ":"));
        }
        *stacks.entry(stack).or_default() += count;
    }
    let lines: Vec<String> = stacks
        .iter()
        .map(|(stack, count)| format!("{stack} {count}"))
        .collect();
    let mut options = inferno::flamegraph::Options::default();
    options.title = "voicematch-server, CPU".to_owned();
    options.count_name = "samples".to_owned();
    let mut svg = Vec::new();
    if lines.is_empty() {
        let idle = "(idle: no sample was taken) 1";
        inferno::flamegraph::from_lines(&mut options, [idle], &mut svg)
            .map_err(Failure::internal)?;
    } else {
        let lines = lines.iter().map(String::as_str);
        inferno::flamegraph::from_lines(&mut options, lines, &mut svg)
            .map_err(Failure::internal)?;
    }
    Ok(svg)
}

async fn heap() -> Result<Vec<u8>, Failure> {
    let Some(control) = jemalloc_pprof::PROF_CTL.as_ref() else {
        let message = "this program has no heap profiles: it is static, or was started with MALLOC_CONF=prof:false";
        return Err(Failure(HttpError::NotSupported, message.to_owned()));
    };
    let mut control = control.clone().lock_owned().await;
    let dumped = tokio::task::spawn_blocking(move || {
        hide_allocator(&control.dump_pprof().map_err(Failure::internal)?)
    });
    dumped.await.map_err(Failure::internal)?
}

/// Functions that `go tool pprof` is to leave out of a heap profile: the allocator's own, and what only
/// passes on to it. The memory is shown at the function that allocated it.
const ALLOCATOR_FRAMES: &str = r"prof_.*|_rjem_.*|do_rallocx|mallocx|rallocx|malloc|calloc|realloc|alloc::.*|<alloc::.*|hashbrown::.*|bytes::.*";

fn hide_allocator(zipped: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    GzDecoder::new(zipped)
        .read_to_end(&mut bytes)
        .map_err(Failure::internal)?;
    let mut profile = Profile::decode(&*bytes).map_err(Failure::internal)?;
    profile.string_table.push(ALLOCATOR_FRAMES.to_owned());
    profile.drop_frames =
        i64::try_from(profile.string_table.len() - 1).map_err(Failure::internal)?;
    gzip(&profile.encode_to_vec())
}

fn tasks_text(tasks: &TaskCounts) -> String {
    let total: i64 = tasks.iter().map(|(_, count)| count).sum();
    let mut text = format!("tasks profile: total {total}\n");
    for (names, count) in tasks {
        let _ = writeln!(text, "{count} @ {}", names.join(" > "));
    }
    text
}

fn tasks_pprof(tasks: &TaskCounts) -> Result<Vec<u8>, Failure> {
    let mut profile = Profile {
        string_table: vec![String::new(), "tasks".to_owned(), "count".to_owned()],
        ..Profile::default()
    };
    let kind = ValueType { ty: 1, unit: 2 };
    profile.sample_type = vec![kind.clone()];
    profile.period_type = Some(kind);
    profile.period = 1;
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    profile.time_nanos = i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX);
    let mut ids: BTreeMap<&str, u64> = BTreeMap::new();
    for (names, count) in tasks {
        let mut location_id = Vec::new();
        for name in names.iter().rev() {
            let next = ids.len() as u64 + 1;
            let id = *ids.entry(name).or_insert_with(|| {
                profile.string_table.push(name.clone());
                let text = i64::try_from(profile.string_table.len() - 1).unwrap_or(0);
                profile.function.push(Function {
                    id: next,
                    name: text,
                    system_name: text,
                    ..Function::default()
                });
                let line = Line {
                    function_id: next,
                    ..Line::default()
                };
                profile.location.push(Location {
                    id: next,
                    line: vec![line],
                    ..Location::default()
                });
                next
            });
            location_id.push(id);
        }
        profile.sample.push(Sample {
            location_id,
            value: vec![*count],
            ..Sample::default()
        });
    }
    gzip(&profile.encode_to_vec())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(Failure::internal)
}

fn file(content_type: &'static str, name: &str, body: Vec<u8>) -> Reply {
    use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
    let mut reply = reply(StatusCode::OK, content_type, body);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.pb.gz\"")) {
        reply.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    reply
}

fn index(tasks: &TaskCounts) -> String {
    let total: i64 = tasks.iter().map(|(_, count)| count).sum();
    INDEX
        .replace("{tasks}", &total.to_string())
        .replace("{max}", &MAX_CAPTURE.as_secs().to_string())
}

const INDEX: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>/debug/pprof/</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; }
td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }
td:first-child { text-align: right; font-variant-numeric: tabular-nums; }
code { white-space: nowrap; }
</style>
</head>
<body>
<h1>/debug/pprof/</h1>
<p>Types of profiles available:</p>
<table>
<tr><th>Count</th><th>Profile</th><th>What it shows</th></tr>
<tr><td></td><td><a href="profile?seconds=10">profile</a></td><td>CPU time, sampled for <code>seconds=N</code> (30; at most {max}). Open it with <code>go tool pprof</code>.</td></tr>
<tr><td></td><td><a href="flamegraph?seconds=10">flamegraph</a></td><td>The same, drawn as SVG.</td></tr>
<tr><td></td><td><a href="heap">heap</a></td><td>Memory in use, by where it was allocated; a sample of about one in 512 KiB.</td></tr>
<tr><td>{tasks}</td><td><a href="tasks?debug=1">tasks</a></td><td>What the server is busy with, by kind; <code>debug=1</code> is text. The counterpart of Go's goroutine.</td></tr>
</table>
<p>One CPU capture at a time; a second one is told 409. The first capture raises the process's memory for good,
by the profiler's fixed table: measure memory before you profile.</p>
<p><code>go tool pprof -top 'http://HOST:PORT/debug/pprof/profile?seconds=10'</code></p>
</body>
</html>
"#;
