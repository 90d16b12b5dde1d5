//! Records and reports as files.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::render;
use crate::{
    base::files,
    record::{Record, SCHEMA_VERSION},
};

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One page that needs nothing else.
    Html,
    /// Short enough for a comment on a change.
    Markdown,
    /// The record itself.
    Json,
    /// The windows of the run, a line each.
    Csv,
    /// What a terminal shows.
    Text,
}

/// Why a file could not be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// The end of its name tells no format.
    #[error("{0}: a report ends in .html, .md, .json, .csv or .txt")]
    Format(PathBuf),
    /// It could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Two reports would be written to one file, and one of them would be lost.
    #[error("{} is the same file as {}: give each report a file of its own", other.display(), one.display())]
    SameFile {
        /// The report that was named first.
        one: PathBuf,
        /// The other one.
        other: PathBuf,
    },
    /// It is no record.
    #[error("{path}: not the JSON of a run ({error}); a record is written by `--report FILE.json`")]
    NotARecord {
        /// The file.
        path: PathBuf,
        /// Where reading stopped, and why.
        error: serde_json::Error,
    },
    /// It is a record of another layout.
    #[error(
        "{path}: layout {found} of a record, while this program reads {SCHEMA_VERSION}; \
         render it with the version that wrote it, or run again"
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The layout that it says it has.
        found: u64,
    },
}

impl Format {
    /// The format that the end of a file's name asks for.
    ///
    /// # Errors
    /// An end that is none of `.html`, `.md`, `.json`, `.csv` and `.txt`.
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let end = path.extension().and_then(|end| end.to_str());
        match end.map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Ok(Self::Html),
            Some("md" | "markdown") => Ok(Self::Markdown),
            Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some("txt") => Ok(Self::Text),
            _ => Err(FileError::Format(path.to_owned())),
        }
    }
}

/// What is read first; the rest of the file is only skimmed.
#[derive(serde::Deserialize)]
struct Layout {
    schema_version: Option<u64>,
}

/// Reads a record that was written as JSON.
///
/// # Errors
/// A file that cannot be read, that is no record, or one of another layout.
pub fn read(path: &Path) -> Result<Record, FileError> {
    let text = files::text(path, files::RECORD_BYTES).map_err(|error| FileError::Io {
        path: path.to_owned(),
        error,
    })?;
    let not_a_record = |error| FileError::NotARecord {
        path: path.to_owned(),
        error,
    };
    // The layout first: of another one, the first name that is missing would say less.
    let layout: Layout = serde_json::from_str(&text).map_err(not_a_record)?;
    match layout.schema_version {
        Some(found) if found != u64::from(SCHEMA_VERSION) => Err(FileError::OtherVersion {
            path: path.to_owned(),
            found,
        }),
        _ => serde_json::from_str(&text).map_err(not_a_record),
    }
}

/// Writes a report whole; an error leaves what was there before.
///
/// # Errors
/// A file that cannot be written.
pub fn write(record: &Record, path: &Path, format: Format) -> Result<(), FileError> {
    files::replace(path, render(record, format).as_bytes()).map_err(|error| FileError::Io {
        path: path.to_owned(),
        error,
    })
}
