//! The types of the wire in TypeScript, for the client of browsers: `server/client/client/wire.d.ts` is what is printed here.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::{Display, Write as _},
    fs,
    path::PathBuf,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    CallReport, ClientType, CloseReason, JoinRoom, LeaveReason, Numbers, Rejoin, RelayKind,
    RenewToken, Report, Request, RoomId, ServerMessage, SessionId,
    server::{RELAY_TAIL, relay_head},
};

const HEAD: &str = "\
/**
 * The messages of the wire, as the types of `server/protocol` say. Not to be edited:
 *
 *     UPDATE_GOLDEN=1 cargo test -p voicematch-protocol --lib typescript
 */
";

/// To a client an id is text.
macro_rules! text {
    ($($id:ident)+) => {
        $(impl JsonSchema for $id {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($id).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string" })
            }
        })+
    };
}

text!(SessionId RoomId);

impl JsonSchema for LeaveReason {
    fn schema_name() -> Cow<'static, str> {
        "LeaveReason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let ended = CloseReason::ALL.iter().copied().map(Self::Ended);
        let all = [Self::Left, Self::Next].into_iter().chain(ended);
        let words: BTreeSet<_> = all.map(Self::as_str).collect();
        json_schema!({ "description": "Why a user left a room (`peer_left`).", "enum": words })
    }
}

// The server writes it by hand.
/// What another user has sent.
#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the names and the types of the fields count")]
struct Relayed<'a> {
    #[serde(rename = "type")]
    kind: RelayKind,
    /// Who.
    from: SessionId,
    /// As it was sent: any JSON value.
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What the server puts before every message of a resumable session, but for `ping`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the name and the type of the field count")]
struct Numbered {
    /// In a resumable session: the number of this message, from 1.
    #[schemars(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

struct Field {
    name: String,
    about: String,
    is_required: bool,
    shape: String,
}

/// The doc comment of a schema in one line.
fn about(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn list(schema: &Value) -> &[Value] {
    schema.as_array().map_or(&[], Vec::as_slice)
}

/// The words of a closed list, each with what it means. Of those that have no doc comment there is one list.
fn words(schema: &Value) -> Vec<(String, String)> {
    let mut words = Vec::new();
    for one in list(&schema["oneOf"]).iter().chain([schema]) {
        let all = list(&one["enum"]).iter().chain(one.get("const"));
        let about = if one == schema {
            String::new()
        } else {
            about(one)
        };
        words.extend(
            all.filter_map(Value::as_str)
                .map(|word| (format!("'{word}'"), about.clone())),
        );
    }
    words
}

/// A type that needs no name.
fn shape(schema: &Value) -> String {
    let says_nothing = |key: &String| ["default", "description"].contains(&key.as_str());
    if schema
        .as_object()
        .is_none_or(|schema| schema.keys().all(says_nothing))
    {
        return "unknown".to_owned();
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("'{word}'");
    }
    if let Some(path) = schema["$ref"].as_str() {
        return path.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Value::Array(any) = &schema["anyOf"] {
        return any.iter().map(shape).collect::<Vec<_>>().join(" | ");
    }
    match &schema["type"] {
        Value::Array(any) => {
            let shapes = any
                .iter()
                .map(|kind| shape(&Value::from_iter([("type", kind.clone())])));
            shapes.collect::<Vec<_>>().join(" | ")
        }
        Value::String(kind) => match kind.as_str() {
            "array" => format!("{}[]", shape(&schema["items"])),
            "integer" => "number".to_owned(),
            "string" | "number" | "boolean" | "null" => kind.clone(),
            other => panic!("no type for {other}: {schema}"),
        },
        _ => panic!("no type for {schema}"),
    }
}

/// The fields of an object: `type` first, then in the order of the alphabet.
fn fields(schema: &Value) -> Vec<Field> {
    let required = list(&schema["required"]);
    let properties = schema["properties"].as_object().expect("an object");
    let mut fields: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let is_required = required.iter().any(|required| required == name);
            let mut shape = shape(schema);
            if !is_required {
                // Where a field may be absent, nobody needs to write `null`, and the server never does.
                shape = shape.replace(" | null", "");
            }
            Field {
                name: name.clone(),
                about: about(schema),
                is_required,
                shape,
            }
        })
        .collect();
    fields.sort_by_key(|field| (field.name != "type", field.name.clone()));
    fields
}

fn object(fields: &[Field], indent: &str) -> String {
    let mut text = "{\n".to_owned();
    for Field {
        name,
        about,
        is_required,
        shape,
    } in fields
    {
        comment(&mut text, &format!("{indent}  "), about);
        let mark = if *is_required { "" } else { "?" };
        line(&mut text, format_args!("{indent}  {name}{mark}: {shape};"));
    }
    text + indent + "}"
}

fn line(text: &mut String, what: impl Display) {
    writeln!(text, "{what}").expect("a String takes all");
}

fn comment(text: &mut String, indent: &str, about: &str) {
    if !about.is_empty() {
        line(text, format_args!("{indent}/** {about} */"));
    }
}

/// A type with a name: a closed list, or an object.
fn named(text: &mut String, name: &str, schema: &Value) {
    line(text, "");
    comment(text, "", &about(schema));
    if schema.get("properties").is_some() {
        return line(
            text,
            format_args!("export interface {name} {}", object(&fields(schema), "")),
        );
    }
    line(text, format_args!("export type {name} ="));
    let words = words(schema);
    for (i, (word, about)) in words.iter().enumerate() {
        comment(text, "  ", about);
        let end = if i + 1 == words.len() { ";" } else { "" };
        line(text, format_args!("  | {word}{end}"));
    }
}

/// A type that is one of `members` with `common` in each.
fn union(text: &mut String, head: &str, common: &[Field], members: &[(String, Vec<Field>)]) {
    line(text, "");
    let common = object(common, "");
    line(text, format_args!("{head} = {common} & ("));
    for (about, fields) in members {
        comment(text, "  ", about);
        line(text, format_args!("  | {}", object(fields, "    ")));
    }
    line(text, ");");
}

fn server(text: &mut String) {
    let mut schemas = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let all = ServerMessage::json_schema(&mut schemas).to_value();
    let relayed = Relayed::json_schema(&mut schemas).to_value();
    let members = list(&all["oneOf"]).iter().chain([&relayed]);
    let members: Vec<_> = members
        .map(|schema| (about(schema), fields(schema)))
        .collect();
    let common = fields(&Numbered::json_schema(&mut schemas).to_value());
    definitions(text, &mut schemas);
    union(
        text,
        "/** What the server sends. */\nexport type ServerMessage",
        &common,
        &members,
    );
}

/// The types that messages refer to.
fn definitions(text: &mut String, schemas: &mut SchemaGenerator) {
    let sorted: BTreeMap<_, _> = schemas.take_definitions(true).into_iter().collect();
    for (name, schema) in &sorted {
        named(text, name, schema);
    }
}

/// What a type of message takes of the fields of [`Request`], and what it has besides.
fn own_fields(
    kind: ClientType,
    schemas: &mut SchemaGenerator,
) -> (&'static [&'static str], Option<Schema>) {
    match kind {
        ClientType::FindMatch | ClientType::Next => (&["criteria"], None),
        ClientType::Offer | ClientType::Answer | ClientType::IceCandidate | ClientType::Message => {
            (&["payload", "to"], None)
        }
        ClientType::Block => (&["to"], None),
        ClientType::Report => (&["to"], Some(Report::json_schema(schemas))),
        ClientType::JoinRoom => (&[], Some(JoinRoom::json_schema(schemas))),
        ClientType::Rejoin => (&[], Some(Rejoin::json_schema(schemas))),
        ClientType::RenewToken => (&[], Some(RenewToken::json_schema(schemas))),
        ClientType::CallReport => (&[], Some(CallReport::json_schema(schemas))),
        ClientType::CancelMatch
        | ClientType::LeaveRoom
        | ClientType::Leave
        | ClientType::Ping
        | ClientType::Pong
        | ClientType::Unknown => (&[], None),
    }
}

fn client(text: &mut String) {
    let mut schemas = SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator();
    let request = Request::json_schema(&mut schemas).to_value();
    let kinds = words(&ClientType::json_schema(&mut schemas).to_value());
    let mut members = Vec::new();
    for &kind in ClientType::ALL
        .iter()
        .filter(|&&kind| kind != ClientType::Unknown)
    {
        let shape = format!("'{}'", kind.as_str());
        let (_, about) = kinds
            .iter()
            .find(|(word, _)| *word == shape)
            .expect("a word")
            .clone();
        let (names, more) = own_fields(kind, &mut schemas);
        let mut own = vec![Field {
            name: "type".to_owned(),
            about: String::new(),
            is_required: true,
            shape,
        }];
        own.extend(
            fields(&request)
                .into_iter()
                .filter(|field| names.contains(&&*field.name)),
        );
        assert_eq!(own.len(), names.len() + 1, "a request has {names:?}");
        for field in &mut own {
            // The session refuses a relay without it.
            field.is_required |= field.name == "payload";
        }
        own.extend(
            more.iter()
                .flat_map(|more| fields(&more.clone().to_value())),
        );
        members.push((about, own));
    }
    let mut common = fields(&Numbers::json_schema(&mut schemas).to_value());
    common.extend(
        fields(&request)
            .into_iter()
            .filter(|field| field.name == "id"),
    );
    common.retain(|field| field.name != "type");
    schemas.definitions_mut().remove("ClientType");
    definitions(text, &mut schemas);
    union(
        text,
        "/** What a client sends. */\nexport type ClientMessage",
        &common,
        &members,
    );
}

/// Fails unless the client has these types.
#[test]
fn the_types_of_the_client_are_these() {
    let mut text = HEAD.to_owned();
    client(&mut text);
    server(&mut text);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../client/client/wire.d.ts");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("the golden file can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "wire.d.ts differs from what it is to be: look at it, then set UPDATE_GOLDEN=1 to keep it\n{text}"
    );
}

#[test]
fn a_relayed_message_is_of_its_type() {
    for &kind in RelayKind::ALL {
        let (head, len) = relay_head(kind, SessionId(7));
        let text = [&head[..len], b"{}", RELAY_TAIL].concat();
        let relayed: Relayed<'_> = serde_json::from_slice(&text).expect("of its type");
        assert_eq!((relayed.kind, relayed.from), (kind, SessionId(7)));
    }
}
