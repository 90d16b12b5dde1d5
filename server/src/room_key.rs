//! Where the key of room tickets comes from: a file that the operator names, else one that the first start makes. A key
//! that is lost with the process would make tickets useless, so one that is in memory only goes to the server that takes
//! this one's place.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::files;
use voicematch_core::{
    live::Live,
    process::ProcessId,
    room::ticket::{MIN_KEY_BYTES, RoomKey, RoomKeys},
};

/// The name of the file that the first start makes.
const FILE: &str = "room.key";

/// Bytes of a key that we make.
const KEY_BYTES: usize = 32;

/// Where the keys are to come from.
#[derive(Debug, Clone)]
pub struct KeyConfig {
    /// The key that signs.
    pub key: KeyFrom,
    /// The one before.
    pub old: Option<PathBuf>,
    /// How long a ticket is valid.
    pub valid_for: Duration,
}

/// Where a key is to come from.
#[derive(Debug, Clone)]
pub enum KeyFrom {
    /// This file, which the operator has made.
    File(PathBuf),
    /// A file in this directory, which the first start makes.
    StateDir(Option<PathBuf>),
    /// Nowhere: it is lost with the process.
    Memory,
}

/// Loads the keys of this process, and says where the one that signs has come from.
pub fn load(config: &KeyConfig) -> Result<(RoomKeys, Source), String> {
    let (present, source) = match &config.key {
        KeyFrom::File(path) => (read(path)?, Source::File),
        KeyFrom::StateDir(directory) => kept(directory.as_deref()),
        KeyFrom::Memory => (RoomKey::random(), Source::Memory),
    };
    let keys = RoomKeys {
        process: ProcessId::random(),
        present,
        old: config.old.as_deref().map(read).transpose()?,
        shared: Live::new(None),
        valid_for: config.valid_for,
    };
    Ok((keys, source))
}

/// Believes the tickets of the server before, whose key was in memory only. `secret`: that key. A server without a key of
/// its own goes on with it; else it is the old one, unless the operator has named another.
pub fn inherit(keys: &mut RoomKeys, source: Source, secret: Vec<u8>) {
    let key = RoomKey::new(secret);
    match source {
        Source::Memory => keys.present = key,
        Source::File | Source::StateDir => _ = keys.old.get_or_insert(key),
    }
}

/// Whether the keys that the operator has made can be used; nothing is made.
pub fn check(config: &KeyConfig) -> Result<(), String> {
    let present = match &config.key {
        KeyFrom::File(path) => Some(("--room-key-file", path)),
        KeyFrom::StateDir(_) | KeyFrom::Memory => None,
    };
    let old = config
        .old
        .as_ref()
        .map(|path| ("--room-old-key-file", path));
    for (flag, path) in present.into_iter().chain(old) {
        read(path).map_err(|error| format!("{flag}: {error}"))?;
    }
    Ok(())
}

/// Where a key has come from; part of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--room-key-file`.
    File,
    /// `--state-dir`.
    StateDir,
    /// Nowhere: it is lost with the process.
    Memory,
}

impl Source {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::StateDir => "state_dir",
            Self::Memory => "memory",
        }
    }
}

/// Reads a key that the operator has made.
fn read(path: &Path) -> Result<RoomKey, String> {
    let shown = path.display();
    let secret = files::read_secret(path)?;
    if secret.len() < MIN_KEY_BYTES {
        return Err(format!(
            "{shown} has {} bytes, and a key has {MIN_KEY_BYTES} at least; head -c 32 /dev/urandom > {shown}",
            secret.len()
        ));
    }
    Ok(RoomKey::new(secret))
}

/// The key of the state directory, which the first start makes; in memory where nothing can be written.
fn kept(state_dir: Option<&Path>) -> (RoomKey, Source) {
    let kept = match state_dir {
        Some(directory) => read_or_make(directory),
        None => Err("there is no home directory; give --state-dir".into()),
    };
    match kept {
        Ok(key) => (key, Source::StateDir),
        Err(error) => {
            tracing::warn!(%error, "rooms will survive no restart but one with --hand-over: their key cannot be kept; give --state-dir or --room-key-file");
            (RoomKey::random(), Source::Memory)
        }
    }
}

fn read_or_make(directory: &Path) -> Result<RoomKey, String> {
    let path = directory.join(FILE);
    if !path.exists() {
        let made = make(directory, &path);
        made.map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    read(&path)
}

/// Makes the file, whole and at once. Of two processes that start together one makes it, and both read it.
fn make(directory: &Path, path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let draft = directory.join(format!("{FILE}.{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&rand::random::<[u8; KEY_BYTES]>())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Where state is kept unless a flag says otherwise: `$STATE_DIRECTORY` of systemd, else in the user's home.
pub fn default_state_dir() -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY").filter(|directory| !directory.is_empty());
    let home = || std::env::var_os("HOME").filter(|home| home.len() > 1);
    given
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(home()?).join(".local/state/voicematch")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("voicematch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn the_first_start_makes_a_key_and_later_ones_read_it() {
        let folder = folder("key");
        let makers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| kept(Some(&folder)).1))
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for made in makers {
            assert_eq!(made.expect("no panic"), Source::StateDir);
        }
        let path = folder.join(FILE);
        let mode = fs::metadata(&path).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(&folder).expect("there").count();
        assert_eq!(files, 1, "no draft is left");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("ours");
        assert!(read(&path).err().expect("refused").contains("chmod 600"));
        fs::write(&path, "short").expect("ours");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("ours");
        assert!(read(&path).err().expect("refused").contains("5 bytes"));
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_key_that_was_handed_over_signs_only_where_there_is_no_other() {
        let key = |secret: u8| vec![secret; KEY_BYTES];
        for (source, old, expected) in [
            (Source::Memory, None, (9, None)),
            (Source::Memory, Some(2), (9, Some(2))),
            (Source::StateDir, None, (1, Some(9))),
            (Source::File, Some(2), (1, Some(2))),
        ] {
            let mut keys = RoomKeys {
                present: RoomKey::new(key(1)),
                old: old.map(|old| RoomKey::new(key(old))),
                ..RoomKeys::random(ProcessId::random())
            };
            inherit(&mut keys, source, key(9));
            let old = keys.old.map(|old| old.secret()[0]);
            assert_eq!((keys.present.secret()[0], old), expected);
        }
    }

    #[test]
    fn where_nothing_can_be_kept_the_key_is_in_memory() {
        assert_eq!(kept(Some(Path::new("/proc/nothing"))).1, Source::Memory);
        assert_eq!(kept(None).1, Source::Memory);
    }
}
