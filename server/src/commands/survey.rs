//! `survey`: questionnaires, without a server.

#[cfg(feature = "mcp")]
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::PathBuf};
use std::{path::Path, process::ExitCode};

#[cfg(feature = "mcp")]
use voicematch_server::{
    config::database_url,
    room_key::default_state_dir,
    transcribe::{Interview, lead as lead_interview},
};
use voicematch_server::{log, transcribe::read_survey};

use super::Outcome;

/// Says whether a server could hold this survey.
pub(crate) fn check(path: &Path) -> Outcome {
    match read_survey(path) {
        Ok(survey) => {
            println!(
                "{} is good: survey {} with {} questions in {}",
                path.display(),
                survey.id,
                survey.questions.len(),
                survey.languages.join(", ")
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            faults.lines().for_each(log::print_error);
            Ok(ExitCode::from(2))
        }
    }
}

/// Leads one interview on standard input and output.
#[cfg(feature = "mcp")]
pub(crate) fn lead(
    path: &Path,
    respondent: Option<String>,
    language: Option<String>,
    database: Option<String>,
    state_dir: Option<PathBuf>,
) -> Outcome {
    let survey = match read_survey(path) {
        Ok(survey) => survey,
        Err(faults) => {
            faults.lines().for_each(log::print_error);
            return Ok(ExitCode::from(2));
        }
    };
    let state_dir = state_dir.or_else(default_state_dir);
    let state_dir = state_dir.ok_or("give --state-dir: a directory for the answers")?;
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state_dir);
    made.map_err(|error| format!("--state-dir: {}: {error}", state_dir.display()))?;
    let respondent = respondent.map(TryInto::try_into).transpose();
    let interview = Interview {
        respondent: respondent.map_err(|error| format!("--respondent: {error}"))?,
        language,
        database: database_url(database, &state_dir),
        state_dir,
    };
    let _last_lines = log::start(log::filter("warn")?, false)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(lead_interview(survey, interview));
    // A read of standard input that has begun does not hold up the end.
    runtime.shutdown_background();
    ended?;
    Ok(ExitCode::SUCCESS)
}
