//! The key of a provider.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

/// The most bytes of a key's file.
const MAX_BYTES: u64 = 4096;

/// A key, or a URL that holds one. It can be neither logged nor printed: it has no `Debug` and no `Display`.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// `None` if it is empty or has characters that no HTTP header can carry.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_visible = |byte: u8| byte.is_ascii_graphic();
        (!text.is_empty() && text.bytes().all(is_visible)).then(|| Self(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// Reads a key from a file that only its owner and group may read: Kubernetes gives a mounted secret to a group.
///
/// # Errors
/// What is wrong with the file, in a sentence that names it and not what is in it.
pub fn read_key(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let wrong = |error: std::io::Error| format!("{shown}: {error}");
    // Before it is opened: to open a pipe waits for its writer.
    let metadata = fs::metadata(path).map_err(wrong)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(format!("{shown} may be read by others; chmod 600 {shown}"));
    }
    let mut text = String::new();
    let mut file = File::open(path).map_err(wrong)?.take(MAX_BYTES + 1);
    file.read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{shown} is longer than {MAX_BYTES} bytes"));
    }
    match text.trim_end() {
        "" => Err(format!("{shown} is empty")),
        key => Secret::new(key).ok_or_else(|| {
            format!("{shown} holds more than a key: spaces, or letters that are not ASCII")
        }),
    }
}
