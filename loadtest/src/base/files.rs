//! Reads and writes files that the operator names.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// The largest scenario.
pub const SCENARIO_BYTES: u64 = 1 << 20;
/// The largest list of tokens or certificates.
pub const ACCESS_BYTES: u64 = 64 << 20;
/// The largest record: the record of a shard with the most rooms that are kept has a tenth of it.
pub const RECORD_BYTES: u64 = 128 << 20;

/// More links than this are a circle, as for the kernel.
const MAX_LINKS: u32 = 40;

/// Reads a whole text file of at most `most` bytes (a device never ends), without the byte order mark that some
/// editors put before UTF-8.
///
/// # Errors
/// It cannot be read, is longer, or is in UTF-16.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut all)?;
    if all.len() as u64 > most {
        return Err(io::Error::other(format!(
            "it has more than {} MiB, which no such file needs: is it the right one?",
            most >> 20
        )));
    }
    if all.starts_with(b"\xff\xfe") || all.starts_with(b"\xfe\xff") {
        return Err(io::Error::other(
            "it is in UTF-16: save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)",
        ));
    }
    if all.starts_with(b"\xef\xbb\xbf") {
        all.drain(..3);
    }
    Ok(all)
}

/// Reads a file as [`bytes`] does.
///
/// # Errors
/// As for [`bytes`]; or it is not UTF-8.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(bytes(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("byte {at} is not UTF-8: give a text file"))
    })
}

/// The file that is written when `path` is: links are followed, `..` is resolved, and the file need not exist.
///
/// # Errors
/// The folder does not exist or cannot be read, or the links form a circle.
pub fn destination(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let folder = fs::canonicalize(folder(&path))?;
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        path = folder.join(name);
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_not_a_link) => return Ok(path),
        }
    }
    Err(io::Error::other("these links form a circle"))
}

/// Checks that a file can be written. Changes nothing.
///
/// # Errors
/// It cannot be written.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let path = destination(path)?;
    match OpenOptions::new().append(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_beside(&path).map(drop),
        opened => opened.map(drop),
    }
}

/// Writes a file whole: an error leaves what was there before, if anything was.
///
/// What cannot be replaced is written in place: a device, a pipe, a file that is mounted by itself or in a folder
/// that takes no new files.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let path = destination(path)?;
    let old = fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return fs::write(path, contents);
    }
    let mut new = match new_beside(&path) {
        Ok(new) => new,
        Err(_) if old.is_some() => return fs::write(path, contents),
        Err(error) => return Err(error),
    };
    new.write_all(contents)?;
    if let Some(old) = &old {
        new.as_file().set_permissions(old.permissions())?;
    }
    new.as_file().sync_all()?;
    match new.persist(&path) {
        Err(_) if old.is_some() => fs::write(path, contents),
        persisted => persisted.map(drop).map_err(|failed| failed.error),
    }
}

/// Writes a new file whole.
///
/// # Errors
/// It exists already, or cannot be written.
pub fn create(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut new = new_beside(path)?;
    new.write_all(contents)?;
    new.as_file().sync_all()?;
    let persisted = new.persist_noclobber(path);
    persisted.map(drop).map_err(|failed| failed.error)
}

/// A file without contents in the folder of `path`, which is gone when it is dropped.
fn new_beside(path: &Path) -> io::Result<NamedTempFile> {
    Builder::new()
        .prefix(".loadtest-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder(path))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_without_end_and_files_that_are_not_text_are_errors() {
        for (file, part) in [("/dev/zero", "more than 1 MiB"), ("/", "directory")] {
            let error = text(Path::new(file), SCENARIO_BYTES).expect_err(file);
            assert!(error.to_string().contains(part), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("text");
        fs::write(&file, b"abc\xff").expect("written");
        let error = text(&file, 4).expect_err("not UTF-8").to_string();
        assert!(error.contains("byte 3"), "{error}");
        assert_eq!(bytes(&file, 4).expect("just fits").len(), 4);
        assert!(bytes(&file, 3).is_err());
    }

    #[test]
    fn byte_order_marks_are_passed_over_or_explained() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("text");
        fs::write(&file, b"\xef\xbb\xbfabc").expect("written");
        assert_eq!(text(&file, 10).expect("UTF-8"), "abc");
        for utf16 in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
            fs::write(&file, utf16).expect("written");
            let error = text(&file, 10).expect_err("UTF-16").to_string();
            assert!(error.contains("save it as UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_destination_is_the_same_by_all_its_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).expect("made");
        symlink("sub/../file", at("link")).expect("made");
        symlink("loop", at("loop")).expect("made");
        let file = destination(&at("file")).expect("it can be made");
        for name in ["link", "sub/../file", "sub/../link", "./file"] {
            assert_eq!(destination(&at(name)).expect(name), file, "{name}");
        }
        for bad in ["none/file", "loop"] {
            assert!(destination(&at(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_replaced_behind_its_link_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        symlink("file", at("link")).expect("made");
        check_writable(&at("link")).expect("it can be made");
        assert!(!at("file").exists(), "a check makes nothing");
        replace(&at("link"), b"one").expect("written");
        fs::set_permissions(at("file"), Permissions::from_mode(0o640)).expect("set");
        replace(&at("link"), b"two").expect("written");
        assert_eq!(fs::read(at("file")).expect("read"), b"two");
        let mode = fs::metadata(at("file"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(at("link").is_symlink());
        assert!(create(&at("file"), b"three").is_err(), "it exists");
        create(&at("new"), b"three").expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 3);
    }
}
