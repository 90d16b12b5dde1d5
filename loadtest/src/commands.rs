//! What is done with the records of runs that are over.

use std::{
    error::Error,
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use loadtest::{
    compare,
    config::Command,
    merge,
    record::Record,
    report::{self, FileError, Format},
    scenario,
};

/// Does what is asked; returns the exit code.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn run(command: Command) -> Result<u8, Box<dyn Error>> {
    match command {
        Command::Report { record, to } => {
            let formats = formats(&to)?;
            let record = report::read(&record)?;
            show(&report::terminal(&record));
            write_all(&record, &formats)?;
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
            show(&report::comparison(&run));
            write_all(&run, &formats)?;
            Ok(code)
        }
        Command::Merge { records, to } => {
            let formats = formats(&to)?;
            let read = |path: &PathBuf| Ok((name(path), report::read(path)?));
            let records = records.iter().map(read).collect::<Result<_, FileError>>()?;
            let record = merge::merge(records)?;
            show(&report::terminal(&record));
            write_all(&record, &formats)?;
            Ok(record.exit_code)
        }
        Command::Scenarios => {
            show(&scenario::list());
            Ok(0)
        }
        Command::Check { scenario } => {
            show(&scenario::describe(&scenario::load(&scenario)?));
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
            ));
            Ok(0)
        }
        Command::Schema => {
            show(scenario::SCHEMA);
            Ok(0)
        }
    }
}

/// Prints a report. Whoever reads may have gone (`| head`): files and exit code count all the same.
pub(crate) fn show(text: &str) {
    let mut out = io::stdout();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = writeln!(io::stderr(), "cannot print: {error}");
    }
}

fn formats(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Format)>, FileError> {
    let with_format = |path: &PathBuf| Ok((path.clone(), Format::of(path)?));
    paths.iter().map(with_format).collect()
}

/// Writes a record to every file.
///
/// # Errors
/// The first one that cannot be written.
pub(crate) fn write_all(record: &Record, files: &[(PathBuf, Format)]) -> Result<(), FileError> {
    files
        .iter()
        .try_for_each(|(path, format)| report::write(record, path, *format))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
