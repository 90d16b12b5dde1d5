//! Progress on stderr: a screen in a terminal, a plain line every 5 s elsewhere.

mod history;
mod text;

use std::{
    io::{self, IsTerminal, Write, stderr},
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Progress, cli::screen::history::History};

const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// How often the log says that the run waits for its start.
const WAIT_EVERY: Duration = Duration::from_secs(30);
/// The queue of messages to the screen. Progress comes four times a second; what does not fit is skipped.
const QUEUE: usize = 64;
/// How long [`Screen::clear`] waits for a stopped terminal or a pipe that nobody reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// The output on stderr, printed by its own thread: a slow reader of stderr does not delay the run.
#[derive(Clone)]
pub struct Screen(SyncSender<Message>);

enum Message {
    Progress(Box<Progress>),
    Note(String),
    Clear(SyncSender<()>),
}

impl Screen {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a new thread.
    pub fn start(quiet: bool) -> io::Result<Self> {
        let (messages, to_show) = mpsc::sync_channel(QUEUE);
        thread::Builder::new()
            .name("loadtest-screen".to_owned())
            .spawn(move || draw(&to_show, quiet))?;
        Ok(Self(messages))
    }

    /// Shows the progress of the run.
    pub fn show(&self, progress: &Progress) {
        let _ = self
            .0
            .try_send(Message::Progress(Box::new(progress.clone())));
    }

    /// Prints a line, even if quiet.
    pub fn note(&self, line: impl ToString) {
        let _ = self.0.try_send(Message::Note(line.to_string()));
    }

    /// Removes the progress from the terminal, and waits a short time until everything is shown.
    pub fn clear(&self) {
        let (cleared, wait) = mpsc::sync_channel(1);
        if self.0.try_send(Message::Clear(cleared)).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

fn draw(messages: &Receiver<Message>, quiet: bool) {
    let mut live = Live::new(quiet);
    for message in messages {
        match message {
            Message::Progress(progress) => live.show(&progress),
            Message::Note(line) => live.note(&line),
            Message::Clear(cleared) => {
                live.end();
                live = Live::new(quiet);
                let _ = cleared.send(());
            }
        }
    }
}

/// How progress is shown.
enum Live {
    Quiet,
    Terminal {
        bar: ProgressBar,
        history: Box<History>,
    },
    Plain {
        next: Duration,
        /// Before the start: when the next line says how long it waits.
        wait: Duration,
    },
}

impl Live {
    fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !stderr().is_terminal() {
            return Self::Plain {
                next: PLAIN_EVERY,
                wait: Duration::MAX,
            };
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40.green/black.bright} {prefix}\n{msg}")
        {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self::Terminal {
            bar,
            history: Box::default(),
        }
    }

    fn show(&mut self, progress: &Progress) {
        match (&mut *self, progress.starts_in) {
            (_, None) | (Self::Quiet, _) => {}
            (Self::Terminal { bar, .. }, Some(_)) => {
                return bar.set_prefix(text::heading(progress));
            }
            (Self::Plain { wait, .. }, Some(left)) => {
                if left <= *wait {
                    let _ = writeln!(stderr(), "{}", text::plain(progress));
                    *wait = left.saturating_sub(WAIT_EVERY);
                }
                return;
            }
        }
        match self {
            Self::Quiet => {}
            Self::Terminal { bar, history } => {
                history.add(progress);
                bar.update(|state| {
                    state.set_len(millis(progress.planned));
                    state.set_pos(millis(progress.elapsed.min(progress.planned)));
                });
                let (_rows, columns) = console::Term::stderr().size();
                bar.set_prefix(text::heading(progress));
                bar.set_message(text::body(progress, history, usize::from(columns)));
            }
            // Another run has begun.
            Self::Plain { next, .. } if progress.elapsed + PLAIN_EVERY < *next => {
                *next = PLAIN_EVERY
            }
            Self::Plain { next, .. } if progress.elapsed >= *next => {
                let _ = writeln!(stderr(), "{}", text::plain(progress));
                while *next <= progress.elapsed {
                    *next += PLAIN_EVERY;
                }
            }
            Self::Plain { .. } => {}
        }
    }

    /// Prints a line above the progress.
    fn note(&self, line: &str) {
        let print = || _ = writeln!(stderr(), "{line}");
        match self {
            Self::Terminal { bar, .. } => bar.suspend(print),
            Self::Quiet | Self::Plain { .. } => print(),
        }
    }

    /// Removes the progress from a terminal.
    fn end(&self) {
        if let Self::Terminal { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
