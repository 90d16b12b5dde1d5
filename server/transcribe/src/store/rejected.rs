//! The file of rows that the database refuses, for a person to look at.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::spill::Spill;
use crate::record::Record;

/// The most bytes of the file; later rows are counted only.
const BOUND: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
pub(super) struct RejectedFile(PathBuf);

#[derive(Serialize)]
struct Line<'a> {
    error: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

impl RejectedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Deletes it, and spill files that were set aside, where nothing was added to them for so long.
    pub(super) fn delete_older_than(&self, age: Duration) -> io::Result<()> {
        let dir = self.0.parent().unwrap_or(Path::new("."));
        for entry in dir.read_dir()? {
            let entry = entry?;
            let path = entry.path();
            if path != self.0 && !Spill::is_set_aside(&path) {
                continue;
            }
            let written = entry.metadata()?.modified()?;
            if written.elapsed().is_ok_and(|passed| passed >= age) {
                std::fs::remove_file(&path)?;
                tracing::info!(file = %path.display(), "a file of rows that were refused or could not be read is deleted: it is older than what is kept");
            }
        }
        Ok(())
    }

    /// Adds the rows, each with the database's sentence about it.
    pub(super) fn add(&self, rows: &[(Record, String)]) -> io::Result<()> {
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.0)?;
        let mut lines = vec![];
        for (record, error) in rows {
            serde_json::to_writer(&mut lines, &Line { error, record })?;
            lines.push(b'\n');
        }
        if file.metadata()?.len() + lines.len() as u64 > BOUND {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all(&lines)?;
        file.sync_data()
    }
}
