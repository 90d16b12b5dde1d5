//! What is done with the records of runs that are over.

use std::{
    error::Error,
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli::flags::Command,
    judge::compare,
    plan::scenario,
    record::Record,
    report::{self, FileError, Format},
    run::shards,
};

/// Does what is asked; returns the exit code.
///
/// # Errors
/// A file that cannot be read or written.
pub fn run(command: Command) -> Result<u8, Box<dyn Error>> {
    match command {
        Command::Report { record, to } => {
            let formats = formats(&to)?;
            let record = report::read(&record)?;
            let shown = show(&report::terminal(&record));
            write_all(&record, &formats).and(shown)?;
            Ok(0)
        }
        Command::Compare {
            baseline,
            record,
            to,
        } => {
            let formats = formats(&to)?;
            let base = report::read(&baseline)?;
            let mut run = report::read(&record)?;
            let comparison = compare::compare(&base, &run, &name(&baseline));
            let code = compare::exit_code(&base, &run, &comparison);
            run.comparison = Some(comparison);
            let shown = show(&report::comparison(&run));
            write_all(&run, &formats).and(shown)?;
            Ok(code)
        }
        Command::Merge { records, to } => {
            let formats = formats(&to)?;
            let read = |path: &PathBuf| Ok((name(path), report::read(path)?));
            let records = records.iter().map(read).collect::<Result<_, FileError>>()?;
            let record = shards::merge(records)?;
            let shown = show(&report::terminal(&record));
            write_all(&record, &formats).and(shown)?;
            Ok(record.exit_code)
        }
        Command::Scenarios => {
            show(&scenario::list())?;
            Ok(0)
        }
        Command::Check { scenario } => {
            show(&scenario::describe(&scenario::load(&scenario)?))?;
            Ok(0)
        }
        Command::Init { file, from } => {
            let text = match from {
                Some(name) => scenario::text(&name)?,
                None => scenario::EXAMPLE,
            };
            let written = OpenOptions::new().write(true).create_new(true).open(&file);
            let path = file.display();
            written
                .and_then(|mut written| written.write_all(text.as_bytes()))
                .map_err(|error| format!("{path}: {error}"))?;
            show(&format!(
                "{path} is written. Check it: loadtest check {path}\n"
            ))?;
            Ok(0)
        }
        Command::Schema => {
            show(scenario::SCHEMA)?;
            Ok(0)
        }
    }
}

/// Prints a report. Whoever reads may have gone (`| head`): files and exit code count all the same.
///
/// # Errors
/// It could not be written down where somebody wanted to keep it.
pub fn show(text: &str) -> Result<(), FileError> {
    let mut out = io::stdout();
    let shown = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match shown {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(FileError::Io {
            path: "standard output".into(),
            error,
        }),
        _ => Ok(()),
    }
}

fn formats(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Format)>, FileError> {
    let with_format = |path: &PathBuf| Ok((path.clone(), Format::of(path)?));
    paths.iter().map(with_format).collect()
}

/// Writes a record to every file: one that cannot be written costs none of the others.
///
/// # Errors
/// The first one that cannot be written.
pub fn write_all(record: &Record, files: &[(PathBuf, Format)]) -> Result<(), FileError> {
    let written = files.iter();
    let written = written.map(|(path, format)| report::write(record, path, *format));
    written.fold(Ok(()), Result::and)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
