//! Reads files that somebody names, and no more of them than there can be.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The most of a scenario.
pub const SCENARIO_BYTES: u64 = 1 << 20;
/// The most of a list of tokens, and of certificates.
pub const ACCESS_BYTES: u64 = 64 << 20;
/// The most of a record: that of a shard with as many rooms as are kept has a tenth of it.
pub const RECORD_BYTES: u64 = 128 << 20;

/// Reads a whole file of `most` bytes at the most: a device never ends.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut all)?;
    if all.len() as u64 > most {
        return Err(io::Error::other(format!(
            "it has more than {} MiB, which no such file needs: is it the right one?",
            most >> 20
        )));
    }
    Ok(all)
}

/// The same for a text.
///
/// # Errors
/// As for [`bytes`]; or it is no UTF-8.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(bytes(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("byte {at} is not UTF-8: give a text file"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_and_what_is_no_text_is_an_error() {
        for (file, part) in [("/dev/zero", "more than 1 MiB"), ("/", "directory")] {
            let error = text(Path::new(file), SCENARIO_BYTES).expect_err(file);
            assert!(error.to_string().contains(part), "{error}");
        }
        let file = std::env::temp_dir().join(format!("loadtest-text-{}", std::process::id()));
        std::fs::write(&file, b"abc\xff").expect("written");
        let (text, whole) = (text(&file, 4), bytes(&file, 4));
        let short = bytes(&file, 3);
        std::fs::remove_file(&file).expect("removed");
        let error = text.expect_err("no UTF-8").to_string();
        assert!(error.contains("byte 3"), "{error}");
        assert_eq!(whole.expect("just fits").len(), 4);
        assert!(short.is_err());
    }
}
