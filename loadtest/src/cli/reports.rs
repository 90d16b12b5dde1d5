//! The files for reports.

use std::path::PathBuf;

use crate::{
    base::files,
    record::Record,
    report::{self, FileError, Format},
};

/// Files, each with the format of its extension. No two of them are the same file.
///
/// # Errors
/// An unknown extension, a file that cannot be written, or two names of one file.
pub fn checked(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Format)>, FileError> {
    let mut known: Vec<(PathBuf, &PathBuf)> = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        let format = Format::of(path)?;
        let failed = |error| FileError::Io {
            path: path.clone(),
            error,
        };
        files::check_writable(path).map_err(failed)?;
        let file = files::destination(path).map_err(failed)?;
        if let Some((_, other)) = known.iter().find(|(other, _)| *other == file) {
            return Err(FileError::SameFile {
                one: (*other).clone(),
                other: path.clone(),
            });
        }
        known.push((file, path));
        files.push((path.clone(), format));
    }
    Ok(files)
}

/// Writes a record to every file, also when one of them fails.
///
/// # Errors
/// The first file that cannot be written.
pub fn write_all(record: &Record, files: &[(PathBuf, Format)]) -> Result<(), FileError> {
    let written = files.iter();
    let written = written.map(|(path, format)| report::write(record, path, *format));
    written.fold(Ok(()), Result::and)
}
