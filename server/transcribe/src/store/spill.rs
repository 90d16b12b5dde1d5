//! The file that takes records while the database does not.
//!
//! A record is its length (4 bytes, little-endian), the CRC-32 of its JSON (4 bytes), and its JSON. A batch is on disk when
//! [`Spill::append`] returns. Each process has a file of its own and holds a lock on it, so that one without a lock was left by
//! a process that has ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::record::{Record, RowId};

const HEADER: usize = 8;

/// Around the id of the process, in hexadecimal.
const PREFIX: &str = "spill-";
const SUFFIX: &str = ".log";

/// In place of `PREFIX`, once it cannot be read to its end.
const SET_ASIDE: &str = "damaged-";

/// How much of the file is read at once, unless a record is longer: bytes.
const BLOCK: u64 = 256 * 1024;

/// No record is longer, in bytes.
const LONGEST: u64 = 1024 * 1024;

pub(super) struct Spill {
    /// Of the process that writes it.
    id: RowId,
    path: PathBuf,
    file: File,
    /// The most bytes of the file.
    bound: u64,
    len: u64,
    /// Before it, all is in the database.
    replayed: u64,
    /// Records that are not in the database.
    waiting: u64,
    /// What follows `len` is not a torn batch, but something that cannot be read.
    damaged: bool,
}

/// Records at the head of the file.
pub(super) struct Chunk {
    pub(super) records: Vec<Record>,
    /// Where they end, for [`Spill::replayed`].
    pub(super) end: u64,
}

impl Spill {
    /// A new file.
    pub(super) fn create(dir: &Path, bound: u64) -> io::Result<Self> {
        let id = RowId::random();
        let path = dir.join(format!("{PREFIX}{:016x}{SUFFIX}", id.0));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            id,
            path,
            file,
            bound,
            len: 0,
            replayed: 0,
            waiting: 0,
            damaged: false,
        })
    }

    /// Files in the folder, the oldest first. Which of them are in use only [`left`](Self::left) can tell.
    pub(super) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = vec![];
        for entry in dir.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }

    /// The file of a process that has ended, without a batch that was not written to its end; `None` if it is in use or gone.
    pub(super) fn left(path: PathBuf) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            locked => locked.map_err(io::Error::from)?,
        }
        let mut spill = Self {
            id: owner(&path),
            len: file.metadata()?.len(),
            path,
            file,
            bound: 0,
            replayed: 0,
            waiting: 0,
            damaged: false,
        };
        spill.check()?;
        Ok(Some(spill))
    }

    /// Counts the records, and cuts off what is torn.
    fn check(&mut self) -> io::Result<()> {
        let mut at = 0;
        let mut good = true;
        while good && at < self.len {
            let (records, end, tail) = self.read(at, usize::MAX)?;
            self.waiting += records.len() as u64;
            at = end;
            match tail {
                Tail::Whole => {}
                // A batch that was not written to its end has nothing whole behind it.
                Tail::Torn if !self.has_record_after(end)? => {
                    let bytes = self.len - end;
                    tracing::warn!(file = %self.path.display(), bytes, "the last batch of a spill file is torn; it was never acknowledged");
                    self.file.set_len(end)?;
                    good = false;
                }
                Tail::Torn | Tail::Damaged => {
                    self.damaged = true;
                    good = false;
                }
            }
        }
        self.len = at;
        Ok(())
    }

    /// Whether a record is behind one at `at` that says to be longer than the file: then its length is what is damaged.
    fn has_record_after(&self, at: u64) -> io::Result<bool> {
        let block = self.block(at, LONGEST)?;
        let is_record = |from: usize| {
            block.get(from + HEADER) == Some(&b'{')
                && matches!(frame(&block[from..]), Frame::Record(..))
        };
        Ok((1..block.len()).any(is_record))
    }

    /// Writes a batch so that it survives a power failure, or nothing of it.
    pub(super) fn append(&mut self, batch: &[Record]) -> io::Result<()> {
        let mut bytes = vec![];
        for record in batch {
            let start = bytes.len();
            bytes.extend([0; HEADER]);
            serde_json::to_writer(&mut bytes, record)?;
            let json = &bytes[start + HEADER..];
            let len = u32::try_from(json.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let crc = crc32fast::hash(json);
            bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
            bytes[start + 4..start + HEADER].copy_from_slice(&crc.to_le_bytes());
        }
        let len = self.len + bytes.len() as u64;
        if len > self.bound {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the spill file has reached its bound",
            ));
        }
        let written = self.file.write_all_at(&bytes, self.len);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // The next batch goes to the same place; a rest of this one behind it would look like damage.
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len = len;
        self.waiting += batch.len() as u64;
        Ok(())
    }

    /// The first records that have not been replayed, at most `most`.
    pub(super) fn peek(&self, most: usize) -> io::Result<Chunk> {
        let (records, end, tail) = self.read(self.replayed, most)?;
        if records.is_empty() && !matches!(tail, Tail::Whole) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Chunk { records, end })
    }

    /// These are in the database. After the last of them the file is empty again.
    pub(super) fn replayed(&mut self, end: u64, records: u64) -> io::Result<()> {
        self.replayed = end;
        self.waiting = self.waiting.saturating_sub(records);
        // What cannot be read behind the last one is kept.
        if end == self.len && !self.damaged {
            self.file.set_len(0)?;
            // Replayed once more, it could bring back what has been deleted since.
            self.file.sync_data()?;
            (self.len, self.replayed) = (0, 0);
        }
        Ok(())
    }

    /// Gives the file a name under which nobody reads it, for a person to look at.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        let mut path = self.path.clone();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replacen(PREFIX, SET_ASIDE, 1);
        path.set_file_name(name);
        tracing::error!(file = %path.display(), "a spill file cannot be read to its end and is kept under this name");
        std::fs::rename(&self.path, &path)
    }

    pub(super) fn is_set_aside(path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(SET_ASIDE) && name.ends_with(SUFFIX)
    }

    /// Removes the file.
    pub(super) fn remove(&self) -> io::Result<()> {
        if self.damaged {
            return self.set_aside();
        }
        std::fs::remove_file(&self.path)
    }

    /// The process that writes it, or wrote it.
    pub(super) fn id(&self) -> RowId {
        self.id
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replayed == self.len
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Records that are not in the database.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Records from `at` on, where they end, and what follows.
    fn read(&self, at: u64, most: usize) -> io::Result<(Vec<Record>, u64, Tail)> {
        let mut records = vec![];
        let mut block = self.block(at, BLOCK)?;
        let mut done = 0;
        while records.len() < most && at + (done as u64) < self.len {
            match frame(&block[done..]) {
                Frame::Record(record, bytes) => {
                    records.push(*record);
                    done += bytes;
                }
                Frame::Damaged => return Ok((records, at + done as u64, Tail::Damaged)),
                Frame::Needs(bytes) if at + (done + bytes) as u64 > self.len => {
                    return Ok((records, at + done as u64, Tail::Torn));
                }
                Frame::Needs(bytes) if done == 0 => block = self.block(at, bytes as u64)?,
                Frame::Needs(_) => break,
            }
        }
        Ok((records, at + done as u64, Tail::Whole))
    }

    fn block(&self, at: u64, most: u64) -> io::Result<Vec<u8>> {
        let len = most.min(self.len - at);
        let mut block = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut block, at)?;
        Ok(block)
    }
}

impl Drop for Spill {
    /// To close the file is not enough: a child that is being started has a copy of the descriptor until it is a program of its own.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "a spill file cannot be unlocked");
        }
    }
}

/// The process whose file this is.
fn owner(path: &Path) -> RowId {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = name
        .strip_prefix(PREFIX)
        .and_then(|name| name.strip_suffix(SUFFIX));
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    RowId(id.unwrap_or_default().cast_signed())
}

enum Tail {
    Whole,
    Torn,
    Damaged,
}

enum Frame {
    /// A record, and the bytes that it takes.
    Record(Box<Record>, usize),
    /// So many bytes are needed to say more.
    Needs(usize),
    Damaged,
}

fn frame(bytes: &[u8]) -> Frame {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Frame::Needs(HEADER);
    };
    let [a, b, c, d, crc @ ..] = *header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len == 0 {
        return Frame::Damaged;
    }
    let Some(json) = rest.get(..len) else {
        return Frame::Needs(HEADER + len);
    };
    if crc32fast::hash(json) != u32::from_le_bytes(crc) {
        return Frame::Damaged;
    }
    match serde_json::from_slice(json) {
        Ok(record) => Frame::Record(Box::new(record), HEADER + len),
        Err(_) => Frame::Damaged,
    }
}
