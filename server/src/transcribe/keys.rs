//! Where the keys come from: that of tokens, and the provider's.

use voicematch_core::room::ticket::RoomKey;
use voicematch_transcribe::provider::{self, Secret};

use super::TranscribeConfig;
use crate::files;

/// The label under which the key of tokens is made of the key of room tickets.
const TOKEN_LABEL: &[u8] = b"voicematch transcribe token 1";

/// What other transcription services take these secrets from.
const TOKEN_KEY_VARIABLE: &str = "TRANSCRIPTION_JWT_SECRET";
const GLADIA_KEY_VARIABLE: &str = "GLADIA_API_KEY";

/// The shortest key of tokens, in bytes.
const MIN_KEY_BYTES: usize = 32;

/// The key of tokens: without one it is made of the key of room tickets.
pub(super) fn of_tokens(config: &TranscribeConfig, room_key: &RoomKey) -> Result<Vec<u8>, String> {
    match given_for_tokens(config)? {
        Some(key) => Ok(key),
        None => {
            let key = room_key.derive(TOKEN_LABEL);
            let key = key.ok_or("the key of tokens could not be made")?;
            Ok(key.to_vec())
        }
    }
}

/// The key of tokens that a file or the environment has; `None`: there is none.
pub(super) fn given_for_tokens(config: &TranscribeConfig) -> Result<Option<Vec<u8>>, String> {
    const FLAG: &str = "--transcribe-token-key-file";
    let key = match &config.token_key {
        Some(path) => {
            let key = files::read_secret(path);
            key.map_err(|error| format!("{FLAG}: {error}"))?
        }
        None => match from_environment(TOKEN_KEY_VARIABLE, FLAG) {
            Some(key) => key.into_bytes(),
            None => return Ok(None),
        },
    };
    match key.len() {
        MIN_KEY_BYTES.. => Ok(Some(key)),
        bytes => Err(format!(
            "{FLAG}: the key of tokens has {bytes} bytes, and a key has {MIN_KEY_BYTES} at least"
        )),
    }
}

/// The provider's key, if it needs one.
pub(super) fn of_provider(config: &TranscribeConfig) -> Result<Option<Secret>, String> {
    if let Some(path) = &config.provider_key {
        let key = provider::read_key(path);
        return key
            .map(Some)
            .map_err(|error| format!("--gladia-key-file: {error}"));
    }
    let provider = config.provider.as_deref().unwrap_or_default();
    if !provider.starts_with("gladia") {
        return Ok(None);
    }
    let key = from_environment(GLADIA_KEY_VARIABLE, "--gladia-key-file");
    let key = key.map(|key| {
        Secret::new(key.trim_end()).ok_or_else(|| {
            format!(
                "{GLADIA_KEY_VARIABLE} holds more than a key: spaces, or letters that are not ASCII"
            )
        })
    });
    key.transpose()
}

/// A secret from the environment, as other transcription services take it.
fn from_environment(variable: &str, flag: &str) -> Option<String> {
    let secret = std::env::var(variable)
        .ok()
        .filter(|text| !text.is_empty())?;
    tracing::warn!(
        "{variable} holds a secret, and every program of this user may read it: use {flag}"
    );
    Some(secret)
}
