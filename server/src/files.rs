//! Files that the operator names: secrets, and what everybody may know. They are small, and read at once.

use std::{
    fs::{self, File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
};

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
