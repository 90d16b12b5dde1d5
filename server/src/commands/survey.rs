//! `survey`: questionnaires, without a server.

use std::{path::Path, process::ExitCode};

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
