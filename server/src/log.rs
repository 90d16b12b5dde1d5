//! The log: one line an event on standard error. Nothing waits for the reader of the log, not even the end of
//! the process: a thread writes the lines, and a line that finds no room or cannot be written is counted.

use std::{
    env,
    io::{self, IsTerminal, Write},
    panic, str,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// Lines that may wait for the reader.
const MAX_WAITING_LINES: usize = 4096;

/// How long the end of the process waits for the reader.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Parts of the program that write to the log.
const TARGETS: [&str; 4] = [
    "voicematch_server",
    "voicematch_core",
    "voicematch_transcribe",
    "loadtest",
];

static WAITING_LINES: AtomicUsize = AtomicUsize::new(0);
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// Lines that were not written since the start, because the reader was too slow or the write failed.
pub fn lost_lines() -> u64 {
    LOST_LINES.load(Ordering::Relaxed)
}

/// Reads the value of `--log`: a level, or levels by part of the program.
pub fn filter(text: &str) -> Result<Targets, String> {
    let mut filter = Targets::new();
    let mut parts = Vec::new();
    for word in text.split(',').map(str::trim) {
        let (target, level) = match word.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, word),
        };
        // An empty word would be read as "error".
        let level = Some(level).filter(|level| !level.is_empty());
        let level: LevelFilter = level.and_then(|level| level.parse().ok()).ok_or_else(|| {
            format!("{word:?} has no level; give off, error, warn, info, debug or trace")
        })?;
        let Some(target) = target else {
            // Libraries warn at the most: what they say at trace has tokens in it.
            filter = filter.with_default(level.min(LevelFilter::WARN));
            filter = filter.with_targets(TARGETS.map(|target| (target, level)));
            continue;
        };
        let part = target.split("::").next().unwrap_or_default();
        if !TARGETS.contains(&part) {
            return Err(format!(
                "nothing named {target:?} writes to the log; give {} or a module of it",
                TARGETS.join(", ")
            ));
        }
        parts.push((target.to_owned(), level));
    }
    // Whatever their place, parts are more special than the level of all.
    filter = filter.with_targets(parts);
    Ok(filter)
}

static SET_FILTER: OnceLock<Box<dyn Fn(Targets) + Send + Sync>> = OnceLock::new();

/// Logs this from now on.
pub fn set_filter(filter: Targets) {
    if let Some(set) = SET_FILTER.get() {
        set(filter);
    }
}

/// The end of the log. Dropping it gives the reader a moment to take what waits.
#[must_use]
pub struct LastLines(());

impl Drop for LastLines {
    fn drop(&mut self) {
        wait(LAST_LINES, || WAITING_LINES.load(Ordering::Acquire) == 0);
    }
}

/// Logs to standard error from now on, for people or as JSON.
pub fn start(filter: Targets, is_json: bool) -> io::Result<LastLines> {
    let (sender, lines) = sync_channel(MAX_WAITING_LINES);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&lines))?;
    let layer = fmt::layer()
        .with_writer(Sender(sender))
        .with_ansi(has_colours())
        // Failing to log must not be fatal.
        .log_internal_errors(false);
    let (filter, handle) = reload::Layer::new(filter);
    // The program starts its log once.
    let _ = SET_FILTER.set(Box::new(move |filter| {
        if let Err(error) = handle.reload(filter) {
            tracing::error!(%error, "what is logged could not be changed");
        }
    }));
    let registry = tracing_subscriber::registry().with(filter);
    #[cfg(feature = "sentry")]
    let registry = registry.with(crate::report::ErrorLayer);
    if is_json {
        registry.with(layer.json().flatten_event(true)).init();
    } else {
        registry.with(layer.with_target(false)).init();
    }
    // The default hook writes to standard error itself, and waits for the reader.
    panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked")));
    Ok(LastLines(()))
}

/// Prints lines on standard output without waiting for their reader.
pub fn print(lines: String) {
    let print = move || io::stdout().write_all(lines.as_bytes());
    // Without the thread, or with nobody to read, the lines are lost; the log has them too.
    drop(thread::Builder::new().name("print".into()).spawn(print));
}

/// Prints why the program ends on standard error; waits for the reader only as long as [`LastLines`] does.
pub fn print_error(error: &str) {
    let line = format!("voicematch-server: {error}\n");
    let print = move || io::stderr().write_all(line.as_bytes());
    if let Ok(printing) = thread::Builder::new().spawn(print) {
        wait(LAST_LINES, || printing.is_finished());
    }
}

fn wait(time: Duration, is_over: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_over() && begun.elapsed() < time {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the log may have colours: not in a file, nor where the user wants none (no-color.org).
fn has_colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !unwanted && !is_dumb
}

fn write_lines(lines: &Receiver<Box<[u8]>>) {
    for line in lines {
        if io::stderr().write_all(&line).is_err() {
            LOST_LINES.fetch_add(1, Ordering::Relaxed);
        }
        WAITING_LINES.fetch_sub(1, Ordering::Release);
    }
}

/// Hands lines to the thread that writes them.
struct Sender(SyncSender<Box<[u8]>>);

impl<'a> MakeWriter<'a> for Sender {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Sender {
    /// Takes one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        WAITING_LINES.fetch_add(1, Ordering::Relaxed);
        if self.0.try_send(line.into()).is_err() {
            WAITING_LINES.fetch_sub(1, Ordering::Relaxed);
            LOST_LINES.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_parts_of_the_program() {
        for text in [
            "info",
            "WARN",
            "off",
            "warn,voicematch_server::session=debug",
        ] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["inof", "", "info,", "voicematch=debug", "loadtest=inof"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
