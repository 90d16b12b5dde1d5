//! `completions` and `man`: made from the flags themselves.

use std::{io, process::ExitCode};

use clap::CommandFactory;
use clap_complete::Shell;
use voicematch_server::config::Cli;

use super::Outcome;

/// Prints what a shell needs to complete the flags.
pub(crate) fn print_completions(shell: Shell) -> Outcome {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page.
pub(crate) fn print_page() -> Outcome {
    clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
