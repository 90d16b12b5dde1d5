//! The key of room tickets that all nodes share. Nodes without `--room-key-file` take the one that the first of them has
//! written to the engine; nodes with the file write only which key it is.

use subtle::ConstantTimeEq;
use voicematch_cluster::{CallError, Engine};
use voicematch_core::room::ticket::{RoomKey, RoomKeys};

use crate::room_key::Source;

/// Where it stands in the engine: the kind and the name.
const PLACE: (char, &[u8]) = ('k', b"room");

/// What stands there begins with one of these: the key itself, or which one the file has.
const SECRET: u8 = b'k';
const FILE: u8 = b'f';

/// The label under which a key says which one it is.
const ID_LABEL: &[u8] = b"voicematch room key id 1";

/// Why there is no common key.
pub(super) enum Disagreement {
    /// The engine did not answer.
    Engine,
    /// The engine answered, and did not do it: why.
    Refused(String),
    /// The nodes have been given different keys; what to do about it.
    Other(String),
}

/// Sees to it that this node has the key of the others.
pub(super) async fn agree(
    engine: &Engine,
    keys: &RoomKeys,
    source: Source,
) -> Result<(), Disagreement> {
    let own = keys.signing();
    let mine = match source {
        Source::File => [&[FILE][..], &id(own)].concat(),
        Source::StateDir | Source::Memory => [&[SECRET][..], own.secret()].concat(),
    };
    let theirs = engine.keep_first(PLACE.0, PLACE.1, &mine, None).await;
    let theirs = theirs.map_err(|error| match error {
        CallError::Refused(why) => Disagreement::Refused(why),
        _ => Disagreement::Engine,
    })?;
    let is_same = bool::from(theirs.ct_eq(&mine));
    match (source, theirs.split_first()) {
        _ if is_same => Ok(()),
        (Source::StateDir | Source::Memory, Some((&SECRET, secret))) => {
            match keys.shared.replace(Some(RoomKey::new(secret.to_vec()))) {
                true => Ok(()),
                false => Err(Disagreement::Other(
                    "the other nodes have changed their key of room tickets too often for this one; restart it".into(),
                )),
            }
        }
        (Source::StateDir | Source::Memory, _) => Err(Disagreement::Other(
            "the other nodes have a key of room tickets that this one has not; give it the same --room-key-file".into(),
        )),
        (Source::File, Some((&SECRET, _))) => Err(Disagreement::Other(
            "this node has --room-key-file and the other nodes have none; give all of them the same file, or none".into(),
        )),
        (Source::File, _) => Err(Disagreement::Other(
            "the other nodes have another --room-key-file; give all of them the same one".into(),
        )),
    }
}

fn id(key: &RoomKey) -> [u8; 16] {
    let mut id = [0; 16];
    if let Some(derived) = key.derive(ID_LABEL) {
        id.copy_from_slice(&derived[..16]);
    }
    id
}

/// Which key a node has, as the others are told.
pub(super) fn short_id(key: &RoomKey) -> [u8; 4] {
    let [a, b, c, d, ..] = id(key);
    [a, b, c, d]
}
