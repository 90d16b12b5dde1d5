//! Much data in one line of a record: JSON, compressed (zlib), in base64.

use std::io::{self, Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Serialize, de::DeserializeOwned};

/// The most that is unpacked: a file of a few kilobytes must not fill the memory.
const MAX_BYTES: u64 = 256 << 20;

/// Packs `data`.
pub fn pack(data: &impl Serialize) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail, and what is packed is made of what JSON has.
    let _ = serde_json::to_writer(&mut encoder, data);
    BASE64_STANDARD.encode(encoder.finish().unwrap_or_default())
}

/// Unpacks what [`pack`] gave.
///
/// # Errors
/// It was not [`pack`] that gave it, or it was damaged.
pub fn unpack<T: DeserializeOwned>(text: &str) -> io::Result<T> {
    let bytes = BASE64_STANDARD.decode(text).map_err(io::Error::other)?;
    let json = io::BufReader::new(ZlibDecoder::new(bytes.as_slice()).take(MAX_BYTES));
    Ok(serde_json::from_reader(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_small_and_comes_back() {
        let data = vec!["the same again"; 1000];
        let packed = pack(&data);
        assert!(packed.len() < 500, "{}", packed.len());
        assert_eq!(unpack::<Vec<String>>(&packed).expect("packed"), data);
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let packed = pack(&[1, 2, 3]);
        for bad in ["", "?", &packed[..packed.len() - 8]] {
            assert!(unpack::<Vec<u8>>(bad).is_err(), "{bad}");
        }
        assert!(unpack::<Vec<String>>(&packed).is_err());
    }
}
