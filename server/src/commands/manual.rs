//! `completions` and `man`: made from the flags themselves.

use clap::CommandFactory;
use clap_complete::Shell;
use voicematch_server::config::Cli;

use super::{Outcome, print};

/// Prints what a shell needs to complete the flags.
pub(crate) fn print_completions(shell: Shell) -> Outcome {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    print(&text)
}

/// Prints the manual page.
pub(crate) fn print_page() -> Outcome {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    print(&text)
}
