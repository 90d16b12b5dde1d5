//! Files that the operator names: secrets, and what everybody may know. They are small, and read at once.

use std::{
    fs::{self, File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// How often files that may change are looked at.
pub const CHECK: Duration = Duration::from_secs(5);

/// The most bytes of a secret.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// What is in the file, and what it is. The error names the file, and says what is wrong with it.
pub fn read(path: &Path, most_bytes: u64) -> Result<(Vec<u8>, Metadata), String> {
    let shown = path.display();
    let wrong = |error: std::io::Error| format!("{shown}: {error}");
    // Before it is opened: to open a pipe waits for its writer, and a device may never end.
    let metadata = fs::metadata(path).map_err(wrong)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(wrong)?.take(most_bytes + 1);
    file.read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > most_bytes {
        return Err(format!("{shown} is longer than {most_bytes} bytes"));
    }
    Ok((bytes, metadata))
}

/// What changes when a file does.
type Seen = Option<(SystemTime, u64, u64, i64, i64)>;

/// Files that are read again when they change.
pub struct Watched {
    paths: Vec<PathBuf>,
    last: Mutex<Last>,
}

/// What was found when the files were looked at last.
struct Last {
    seen: Vec<Seen>,
    /// What was wrong with them then.
    error: Option<String>,
}

impl Watched {
    /// To be made before the files are read: a change in between is seen the next time.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let paths: Vec<_> = paths.into_iter().map(Path::to_owned).collect();
        let seen = paths.iter().map(|path| seen(path)).collect();
        let last = Mutex::new(Last { seen, error: None });
        Self { paths, last }
    }

    /// Reads the files if one has changed since the last time, or could not be used then. `None`: there is nothing new to
    /// tell, as nothing has changed or the same is still wrong.
    pub fn read_again<T>(
        &self,
        read: impl FnOnce() -> Result<T, String>,
    ) -> Option<Result<T, String>> {
        let now: Vec<_> = self.paths.iter().map(|path| seen(path)).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.seen == now && last.error.is_none() {
            return None;
        }
        last.seen = now;
        let outcome = read();
        let error = outcome.as_ref().err().cloned();
        let before = std::mem::replace(&mut last.error, error);
        (outcome.is_ok() || before != last.error).then_some(outcome)
    }
}

fn seen(path: &Path) -> Seen {
    let file = fs::metadata(path).ok()?;
    // The last two change with its permissions too.
    let (seconds, nanos) = (file.ctime(), file.ctime_nsec());
    Some((
        file.modified().ok()?,
        file.len(),
        file.ino(),
        seconds,
        nanos,
    ))
}

/// What is in a file that only its owner and group may read: Kubernetes gives a mounted secret to a group.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let (secret, metadata) = read(path, MAX_SECRET_BYTES)?;
    if metadata.mode() & 0o007 != 0 {
        let shown = path.display();
        return Err(format!("{shown} may be read by others; chmod 600 {shown}"));
    }
    Ok(secret)
}

/// The secret as text, without the end of its line. `flag` has named the file.
pub fn read_secret_text(flag: &str, path: &Path) -> Result<String, String> {
    let secret = read_secret(path).map_err(|error| format!("{flag}: {error}"))?;
    let secret = String::from_utf8(secret).map_err(|_| format!("{flag}: the file is not UTF-8"))?;
    match secret.trim_end() {
        "" => Err(format!("{flag}: {} is empty", path.display())),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_used_is_tried_again_and_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "first").expect("written");
        let watched = Watched::new([&*path]);
        let read = || watched.read_again(|| read_secret_text("--flag", &path));
        assert_eq!(read(), None, "nothing has changed");
        fs::write(&path, "").expect("written");
        assert!(read().expect("it has changed").is_err());
        assert_eq!(read(), None, "the same is wrong");
        let wrong = || Err::<(), _>("the machine has no descriptors left".to_owned());
        assert!(watched.read_again(wrong).is_some(), "another error is told");
        // The file is as it was, and can be read now.
        let outcome = watched.read_again(|| Ok::<_, String>("at last"));
        assert_eq!(outcome, Some(Ok("at last")));
        assert_eq!(watched.read_again(|| Ok(())), None);
    }
}
