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
    seen: Mutex<Vec<Seen>>,
}

impl Watched {
    /// To be made before the files are read: a change in between is seen the next time.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let paths: Vec<_> = paths.into_iter().map(Path::to_owned).collect();
        let seen = Mutex::new(paths.iter().map(|path| seen(path)).collect());
        Self { paths, seen }
    }

    /// Whether one has changed since this was last asked.
    pub fn has_changed(&self) -> bool {
        let now: Vec<_> = self.paths.iter().map(|path| seen(path)).collect();
        let mut before = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *before != now;
        *before = now;
        changed
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
