//! What the schema says that the types that read a file do not: of words that are read as text, for a better error, and
//! of values that several kinds of TOML can write. For the test that makes the schema.

pub use schemars::JsonSchema;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::values::{Count, ManyOrOne, Pause, Percent, Rate, SizeText, Time, TransportList};
use crate::plan::size::{MAX_PAYLOAD_BYTES, MIN_PAYLOAD_BYTES};

/// The steps without values.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "the schema's list of words; a word is read as text, for a better error"
)]
pub(super) enum StepWord {
    Connect,
    FindMatch,
    Next,
    Leave,
    Reconnect,
    Close,
    Stay,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "the schema's list of words; a word is read as text, for a better error"
)]
pub(super) enum TransportsWord {
    Ws,
    Sse,
    Poll,
    Mixed,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "the schema's list of words; a word is read as text, for a better error"
)]
pub(super) enum AcksWord {
    Second,
    Each,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "the schema's list of words; a word is read as text, for a better error"
)]
pub(super) enum OverWord {
    Http,
    Ws,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "UPPERCASE")]
#[expect(
    dead_code,
    reason = "the schema's list of methods; a method is read as text, for a better error"
)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only in the schema")]
pub(super) struct Pointer(#[schemars(regex(pattern = "^/"))] String);

/// A value with a schema written by hand: several kinds of TOML values are allowed.
macro_rules! schema {
    ($type:ident, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema!(Time, {
    "description": "A number and a unit",
    "type": "string",
    "pattern": r"^\s*\d",
    "examples": ["10ms", "5s", "30m", "1h"]
});
schema!(Pause, {
    "description": "A time, or two times of which each user takes one between",
    "type": "string",
    "pattern": r"^\s*\d",
    "examples": ["2s", "1s..3s"]
});
schema!(Rate, {
    "description": "Users per second",
    "oneOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": "^[0-9.]+(/[sm])?$" }]
});
schema!(Percent, {
    "oneOf": [
        { "type": "number", "minimum": 0, "maximum": 100 },
        { "type": "string", "pattern": r"^[0-9.]+\s*%$" }
    ]
});
schema!(Count, {
    "description": "How often, for how long, or endless",
    "oneOf": [
        { "type": "integer", "minimum": 1 },
        { "const": "endless" },
        { "type": "string", "pattern": r"^\s*\d" }
    ]
});
schema!(ManyOrOne, {
    "oneOf": [
        { "type": ["string", "number", "boolean"] },
        { "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } }
    ]
});
schema!(TransportList, {
    "oneOf": [
        { "enum": ["ws", "sse", "poll"] },
        { "type": "array", "minItems": 1, "items": { "enum": ["ws", "sse", "poll"] } }
    ]
});
schema!(SizeText, {
    "description": "Bytes of a payload: always the same, between two sizes, log-normal, or by weight",
    "oneOf": [
        { "type": "integer", "minimum": MIN_PAYLOAD_BYTES, "maximum": MAX_PAYLOAD_BYTES },
        { "type": "string", "pattern": r"^\d+\.\.\d+$" },
        {
            "type": "object",
            "additionalProperties": false,
            "required": ["median", "p99"],
            "properties": {
                "median": { "type": "integer", "minimum": MIN_PAYLOAD_BYTES, "maximum": MAX_PAYLOAD_BYTES },
                "p99": { "type": "integer", "minimum": MIN_PAYLOAD_BYTES, "maximum": MAX_PAYLOAD_BYTES }
            }
        },
        {
            "type": "array",
            "minItems": 1,
            "items": { "type": "array", "minItems": 2, "maxItems": 2, "items": { "type": "integer", "minimum": 0 } }
        }
    ]
});
