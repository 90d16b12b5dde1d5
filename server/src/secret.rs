//! Secrets in files.

use std::{fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

/// The most bytes of a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// What is in the file, which only its owner and group may read: Kubernetes gives a mounted secret to a group.
pub fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let wrong = |error: std::io::Error| format!("{shown}: {error}");
    let file = File::open(path).map_err(wrong)?;
    let mode = file.metadata().map_err(wrong)?.mode();
    if mode & 0o007 != 0 {
        return Err(format!("{shown} may be read by others; chmod 600 {shown}"));
    }
    let mut secret = Vec::new();
    let mut file = file.take(MAX_BYTES + 1);
    file.read_to_end(&mut secret).map_err(wrong)?;
    if secret.len() as u64 > MAX_BYTES {
        return Err(format!("{shown} is too long; a secret has 64 KiB at most"));
    }
    Ok(secret)
}

/// The secret as text, without the end of its line. `flag` has named the file.
pub fn text(flag: &str, path: &Path) -> Result<String, String> {
    let secret = bytes(path).map_err(|error| format!("{flag}: {error}"))?;
    let secret = String::from_utf8(secret).map_err(|_| format!("{flag}: the file is not UTF-8"))?;
    match secret.trim_end() {
        "" => Err(format!("{flag}: {} is empty", path.display())),
        secret => Ok(secret.to_owned()),
    }
}
