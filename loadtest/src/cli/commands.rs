//! Commands on the records of earlier runs.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use clap::CommandFactory;

use crate::{
    base::files,
    cli::{
        flags::{Cli, Command},
        output::print,
        reports,
    },
    judge::compare,
    plan::scenario,
    record::Exit,
    report::{self, FileError},
    run::shards,
};

/// Runs the command, and returns the exit code.
///
/// # Errors
/// A file that cannot be read or written.
pub fn run(command: Command) -> Result<Exit, Box<dyn Error>> {
    match command {
        Command::Report { record, to } => {
            let files = reports::checked(&to)?;
            let record = report::read(&record)?;
            let written = reports::write_all(&record, &files);
            written.and(print(&report::terminal(&record)))?;
            Ok(Exit::Pass)
        }
        Command::Compare {
            baseline,
            record,
            to,
        } => {
            let files = reports::checked(&to)?;
            let base = report::read(&baseline)?;
            let mut run = report::read(&record)?;
            let comparison = compare::compare(&base, &run, &name(&baseline));
            let code = compare::exit_code(&base, &run, &comparison);
            run.comparison = Some(comparison);
            let written = reports::write_all(&run, &files);
            written.and(print(&report::comparison(&run)))?;
            Ok(code)
        }
        Command::Merge {
            records,
            cluster,
            to,
        } => {
            let files = reports::checked(&to)?;
            let read = |path: &PathBuf| Ok((name(path), report::read(path)?));
            let records = records.iter().map(read).collect::<Result<_, FileError>>()?;
            let record = shards::merge(records, cluster)?;
            let written = reports::write_all(&record, &files);
            written.and(print(&report::terminal(&record)))?;
            Ok(record.exit_code)
        }
        Command::Scenarios => {
            print(&scenario::list())?;
            Ok(Exit::Pass)
        }
        Command::Check { scenario } => {
            print(&scenario::describe(&scenario::load(&scenario)?))?;
            Ok(Exit::Pass)
        }
        Command::Init { file, from } => {
            let text = match from {
                Some(name) => scenario::text(&name)?,
                None => scenario::EXAMPLE,
            };
            let path = file.display();
            files::create(&file, text.as_bytes()).map_err(|error| format!("{path}: {error}"))?;
            print(&format!(
                "{path} is written. Check it: loadtest check {path}\n"
            ))?;
            Ok(Exit::Pass)
        }
        Command::Schema => {
            print(scenario::SCHEMA)?;
            Ok(Exit::Pass)
        }
        Command::Completions { shell } => {
            let (mut cli, mut text) = (Cli::command(), Vec::new());
            clap_complete::generate(shell, &mut cli, "loadtest", &mut text);
            print(&String::from_utf8(text)?)?;
            Ok(Exit::Pass)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            print(&String::from_utf8(text)?)?;
            Ok(Exit::Pass)
        }
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
