//! The report on stdout, printed by its own thread: a slow reader of stdout delays neither the run nor
//! its end.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
};

use tokio::sync::oneshot;

use crate::report::FileError;

/// Prints texts one after the other.
pub struct Printer {
    texts: mpsc::Sender<String>,
    done: oneshot::Receiver<Result<(), FileError>>,
}

impl Printer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a new thread.
    pub fn start() -> io::Result<Self> {
        let (texts, to_print) = mpsc::channel::<String>();
        let (printed, done) = oneshot::channel();
        thread::Builder::new()
            .name("loadtest-print".to_owned())
            .spawn(move || {
                let all = to_print.iter().map(|text| print(&text));
                let _ = printed.send(all.fold(Ok(()), Result::and));
            })?;
        Ok(Self { texts, done })
    }

    /// Prints `text` after earlier texts. Does not wait.
    pub fn print(&self, text: String) {
        let _ = self.texts.send(text);
    }

    /// Waits until everything is printed.
    ///
    /// # Errors
    /// As for [`print`].
    pub async fn finish(self) -> Result<(), FileError> {
        drop(self.texts);
        self.done.await.unwrap_or(Ok(()))
    }
}

/// Prints to stdout. A reader that has gone (`| head`) is no error: files and exit code are still right.
///
/// # Errors
/// stdout is a file that cannot be written.
pub fn print(text: &str) -> Result<(), FileError> {
    let mut out = io::stdout();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(FileError::Io {
            path: "standard output".into(),
            error,
        }),
        _ => Ok(()),
    }
}
