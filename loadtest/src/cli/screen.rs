//! Progress on stderr: a screen in a terminal, a plain line every 5 s elsewhere.

mod history;
mod text;

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Progress, cli::screen::history::History};

const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// How often a log is told that the start is waited for.
const WAIT_EVERY: Duration = Duration::from_secs(30);

/// Where progress is shown.
pub enum Live {
    Quiet,
    Terminal {
        bar: ProgressBar,
        history: Box<History>,
    },
    Plain {
        next: Duration,
        /// While the start is waited for: what is left when that is told again.
        wait: Duration,
    },
}

impl Live {
    /// As fits the place that stderr goes to.
    pub fn new(quiet: bool) -> Self {
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

    /// Shows the picture of now.
    pub fn show(&mut self, progress: &Progress) {
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

    /// Leaves the terminal to the report.
    pub fn end(&mut self) {
        if let Self::Terminal { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
