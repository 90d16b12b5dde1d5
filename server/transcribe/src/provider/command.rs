//! A program on this machine that hears PCM on its standard input and says JSON lines on its standard output:
//!
//! ```text
//! {"type":"ready"}
//! {"type":"partial","id":"1","start":0.2,"end":1.4,"text":"how often"}
//! {"type":"final","id":"1","start":0.2,"end":2.1,"text":"How often?","language":"en","confidence":0.9,"words":[]}
//! {"type":"error","message":"..."}
//! ```
//!
//! It says `ready` when it is able to hear: until then, audio that it reads counts for nothing. A final without text says that there
//! was no speech up to its end. Times are seconds of its input. When its input ends it says what is left and exits with 0. Each stream has a process, in a
//! process group of its own; one more waits, loaded, for the next stream. No shell is involved.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
};

use tokio::sync::mpsc;
use tracing::warn;

use super::{AUDIO_DEPTH, BoxFuture, EVENT_DEPTH, Link, OpenError, Provider, StreamSpec};

mod lines;
mod process;
mod stderr;

use process::Process;
use stderr::Allowance;

/// What a program may know of our environment.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// See [`command`](self).
pub struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    /// A process that is loaded and hears nothing yet.
    spare: Mutex<Option<Link>>,
    log: Arc<Allowance>,
}

impl Command {
    /// `text`: the program and its arguments, separated by spaces.
    ///
    /// # Errors
    /// There is no such program.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words
            .next()
            .ok_or("command needs a program: command:PROGRAM ARGS")?;
        let program = find(name).ok_or_else(|| format!("command: there is no program {name}"))?;
        Ok(Self {
            program,
            arguments: words.map(str::to_owned).collect(),
            spare: Mutex::new(None),
            log: Arc::new(Allowance::new()),
        })
    }

    fn start(&self) -> std::io::Result<Link> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .process_group(0)
            .kill_on_drop(true);
        for name in ENVIRONMENT {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn()?;
        let (audio, heard) = mpsc::channel(AUDIO_DEPTH);
        let (said, events) = mpsc::channel(EVENT_DEPTH);
        tokio::spawn(Process::new(child, heard, said, Arc::clone(&self.log)).run());
        Ok(Link {
            audio,
            events,
            job: None,
            resume: None,
            already: 0,
        })
    }

    /// The process that waits, if it still does.
    fn take_spare(&self) -> Option<Link> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.take().filter(|link| !link.audio.is_closed())
    }
}

impl Provider for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn open(&self, _spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        let opened = self.take_spare().map_or_else(|| self.start(), Ok);
        let opened = opened.map_err(|error| {
            let program = self.program.display();
            warn!(%program, %error, "the recogniser cannot be started");
            OpenError::Unreachable
        });
        if opened.is_ok() {
            self.prepare();
        }
        Box::pin(async { opened })
    }

    fn prepare(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.as_ref().is_none_or(|link| link.audio.is_closed()) {
            *spare = self.start().ok();
        }
    }

    /// Recognising takes a core for about two speakers.
    fn default_streams(&self) -> Option<usize> {
        Some(2 * available_parallelism().map_or(1, usize::from))
    }
}

/// The program of this name, as a shell would find it.
fn find(name: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        let found = path.metadata().ok();
        found.is_some_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}
