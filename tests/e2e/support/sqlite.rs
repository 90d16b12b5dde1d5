//! Another user of a SQLite file.

use std::process::Command;

use super::{Process, eventually, processes::interpreter};

/// What another program does with a SQLite file, in Python.
fn python(file: &str, script: &str) -> Command {
    let mut command = Command::new(interpreter());
    let opened = "import sqlite3, sys, time\n\
                  db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n";
    command.args(["-c", &format!("{opened}{script}"), file]);
    command
}

/// Runs SQL; what it answers, the first column of the first row.
pub(crate) fn ask(file: &str, sql: &str) -> String {
    let script = format!("print((db.execute({sql:?}).fetchone() or [''])[0])");
    let output = python(file, &script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Keeps the file from all other writers until this is dropped.
pub(crate) struct Lock(Process);

impl Lock {
    pub(crate) async fn take(file: &str) -> Self {
        let script = "db.execute('BEGIN IMMEDIATE')\nprint('locked', flush=True)\ntime.sleep(999)";
        let lock = Self(Process::spawn(python(file, script)));
        eventually("the file is locked", async || lock.0.stdout() == ["locked"]).await;
        lock
    }
}
