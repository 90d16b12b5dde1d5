//! Packs the files of `client/` for the ways in which browsers take them, so that to serve one is a look-up.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
};

use brotli::enc::BrotliEncoderParams;
use flate2::{Compression, write::GzEncoder};

/// The client module, at `/client.js`.
const CLIENT: &str = "client/client.js";

/// The folders whose files are served, and the path below which each is.
const FOLDERS: [(&str, &str); 2] = [("client/client", "/client"), ("client/page", "/page")];

fn main() -> Result<(), Box<dyn Error>> {
    for (folder, _) in FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
    }
    println!("cargo:rerun-if-changed={CLIENT}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut table = String::from("&[\n");
    for (number, (path, file)) in files()?.iter().enumerate() {
        let content_type = content_type(file)?;
        let plain = fs::read(file)?;
        let mut hasher = DefaultHasher::new();
        plain.hash(&mut hasher);
        let hash = hasher.finish();
        write!(
            table,
            "File {{ path: {path:?}, content_type: {content_type:?}"
        )?;
        let codings = [
            ("brotli", brotli(&plain)?),
            ("gzip", gzip(&plain)?),
            ("plain", plain),
        ];
        for (coding, bytes) in codings {
            let packed = out.join(format!("{number}.{coding}"));
            fs::write(&packed, bytes)?;
            let etag = format!("\"{hash:016x}-{coding}\"");
            write!(
                table,
                ", {coding}: Coded {{ bytes: include_bytes!({packed:?}), etag: {etag:?} }}"
            )?;
        }
        table.push_str(" },\n");
    }
    table.push_str("]\n");
    fs::write(out.join("files.rs"), table)?;
    Ok(())
}

/// What is served: the path, and the file. The page itself is at `/`.
fn files() -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = vec![("/client.js".to_owned(), PathBuf::from(CLIENT))];
    for (folder, below) in FOLDERS {
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            // What an editor keeps for itself, and what is for tools that check types.
            if name.starts_with('.') || name.ends_with(".d.ts") {
                continue;
            }
            let path = match &*name {
                "index.html" => "/".to_owned(),
                name => format!("{below}/{name}"),
            };
            files.push((path, file));
        }
    }
    files.sort();
    // Whole paths, as the table is compiled elsewhere.
    files
        .into_iter()
        .map(|(path, file)| Ok((path, file.canonicalize()?)))
        .collect()
}

fn content_type(file: &Path) -> Result<&'static str, String> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml; charset=utf-8"),
        _ => Err(format!("{}: add its type in build.rs", file.display())),
    }
}

fn brotli(mut plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut plain, &mut packed, &BrotliEncoderParams::default())?;
    Ok(packed)
}

fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(plain)?;
    packer.finish()
}
