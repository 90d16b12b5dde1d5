//! Tokens of an app, made by OpenSSL, and the files that they need.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use super::{Client, TestServer, Via};

/// A folder of one test's own.
pub(crate) struct Folder(PathBuf);

/// What [`Folder::secret`] writes.
pub(crate) const SECRET: &str = "correct horse battery staple, and more of it";

impl Folder {
    /// A file with a secret, and the secret.
    pub(crate) fn secret(&self) -> (String, &'static str) {
        (self.write("secret", SECRET), SECRET)
    }

    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("auth-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

/// What OpenSSL makes of this.
pub(crate) fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut command = Command::new("openssl");
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    output.stdout
}

/// A certificate for localhost that signs itself, and its key: two files.
pub(crate) fn certificate(folder: &Folder, name: &str) -> (String, String) {
    let (chain, key) = (
        folder.path(&format!("{name}.pem")),
        folder.path(&format!("{name}.key")),
    );
    let request = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
    ];
    let subject = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    let files = ["-keyout", &key, "-out", &chain];
    openssl(&[&request[..], &subject, &files].concat(), b"");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    (chain, key)
}

/// A key that signs.
pub(crate) enum Signer<'a> {
    Secret(&'a str),
    Rsa(String),
    Ec(String),
    Ed(String),
    /// By nobody.
    None,
}

impl Signer<'_> {
    /// A new private key of this kind in this folder.
    pub(crate) fn generate(folder: &Folder, kind: &str) -> Self {
        let file = folder.path(kind);
        let algorithm: &[&str] = match kind {
            "RSA" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "EC" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            kind => &["-algorithm", kind],
        };
        openssl(&[&["genpkey", "-out", &file], algorithm].concat(), b"");
        match kind {
            "RSA" => Self::Rsa(file),
            "EC" => Self::Ec(file),
            _ => Self::Ed(file),
        }
    }

    pub(crate) fn file(&self) -> &str {
        match self {
            Self::Rsa(file) | Self::Ec(file) | Self::Ed(file) => file,
            Self::Secret(_) | Self::None => panic!("no file"),
        }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
            Self::None => "none",
        }
    }

    pub(crate) fn public_pem(&self) -> String {
        let pem = openssl(&["pkey", "-in", self.file(), "-pubout"], b"");
        String::from_utf8(pem).unwrap()
    }

    /// As a member of a set of keys.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let der = openssl(
            &["pkey", "-in", self.file(), "-pubout", "-outform", "DER"],
            b"",
        );
        let tail = |bytes: usize| BASE64.encode(&der[der.len() - bytes..][..bytes.min(32)]);
        match self {
            Self::Rsa(file) => {
                let modulus = openssl(&["rsa", "-in", file, "-modulus", "-noout"], b"");
                let modulus = String::from_utf8(modulus).unwrap();
                let hex = modulus.trim().strip_prefix("Modulus=").unwrap().to_owned();
                let bytes: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect();
                json!({"kty": "RSA", "kid": id, "n": BASE64.encode(bytes), "e": "AQAB"})
            }
            Self::Ec(_) => json!({
                "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                "x": tail(64), "y": tail(32),
            }),
            _ => json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": tail(32)}),
        }
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let message = text.as_bytes();
        let signature = match self {
            Self::Secret(secret) => {
                let args = ["dgst", "-sha256", "-hmac", secret, "-binary"];
                openssl(&args, message)
            }
            Self::Rsa(file) => openssl(&["dgst", "-sha256", "-sign", file], message),
            Self::Ec(file) => raw_of(&openssl(&["dgst", "-sha256", "-sign", file], message)),
            Self::Ed(file) => {
                let input = format!("{file}.message");
                fs::write(&input, message).unwrap();
                let args = ["pkeyutl", "-sign", "-rawin", "-inkey", file, "-in", &input];
                openssl(&args, b"")
            }
            Self::None => Vec::new(),
        };
        format!("{text}.{}", BASE64.encode(signature))
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "typ": "JWT"}), claims)
    }
}

/// The two numbers of a signature, of 32 bytes each, out of its DER form.
pub(crate) fn raw_of(der: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        let number = &number[number.len().saturating_sub(32)..];
        raw.resize(raw.len() + 32 - number.len(), 0);
        raw.extend_from_slice(number);
        rest = after;
    }
    raw
}

pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// What a token says of this user, for an hour.
pub(crate) fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": in_seconds(3600)})
}

/// The same with these fields.
pub(crate) fn claims_with(user: &str, more: Value) -> Value {
    let mut claims = claims(user);
    let Value::Object(more) = more else {
        panic!("{more}");
    };
    claims.as_object_mut().unwrap().extend(more);
    claims
}

/// A resumable user with this token, over this transport.
pub(crate) async fn begin(server: &TestServer, via: Via, token: &str) -> Client {
    let path = match via {
        Via::WebSocket => format!("/ws?resume=1&token={token}"),
        Via::EventStream => format!("/events?token={token}"),
        Via::Polling => format!("/poll?wait=5&token={token}"),
    };
    Client::begin_with(server, via, &path).await
}
