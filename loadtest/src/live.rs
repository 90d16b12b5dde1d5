//! Progress on stderr: one live line in a terminal, a plain line every 5 s elsewhere.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use loadtest::Progress;

const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where progress is shown.
pub(crate) enum Live {
    Quiet,
    Terminal(ProgressBar),
    Plain { next: Duration },
}

impl Live {
    /// As fits the place that stderr goes to.
    pub(crate) fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !stderr().is_terminal() {
            return Self::Plain { next: PLAIN_EVERY };
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:20.green/black.bright} {wide_msg}") {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self::Terminal(bar)
    }

    /// Shows the picture of now.
    pub(crate) fn show(&mut self, progress: &Progress) {
        match self {
            Self::Quiet => {}
            Self::Terminal(bar) => {
                bar.update(|state| {
                    state.set_len(millis(progress.planned));
                    state.set_pos(millis(progress.elapsed.min(progress.planned)));
                });
                bar.set_message(progress.to_string());
            }
            Self::Plain { next } if progress.elapsed >= *next => {
                let _ = writeln!(stderr(), "{progress}");
                while *next <= progress.elapsed {
                    *next += PLAIN_EVERY;
                }
            }
            Self::Plain { .. } => {}
        }
    }

    /// Leaves the screen to the report.
    pub(crate) fn end(&mut self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
