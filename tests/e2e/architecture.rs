//! The layout holds: each room of the programs and of the core imports only the rooms that the tables below name, and
//! those stand further down, so there is no circle. The core is a crate, and knows only what its Cargo.toml names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A room and the rooms it may import. A room is a top-level module: a file, a folder, or both.
type Room = (&'static str, &'static [&'static str]);

/// From the top down.
const SERVER: &[Room] = &[
    ("reload", &["config", "machine", "log"]),
    (
        "config",
        &[
            "admin",
            "listen",
            "http",
            "transport",
            "admission",
            "machine",
            "log",
            "report",
            "room_key",
            "trace",
            "events",
            "fetch",
            "files",
            "cluster",
            "transcribe",
        ],
    ),
    (
        "admin",
        &[
            "listen",
            "profile",
            "http",
            "shutdown",
            "admission",
            "machine",
            "files",
            "log",
            "cluster",
            "transcribe",
        ],
    ),
    ("hand_over", &["listen", "admission", "io"]),
    ("listen", &["http", "admission", "io", "machine", "files"]),
    ("profile", &["http"]),
    (
        "http",
        &[
            "transcribe",
            "cluster",
            "transport",
            "admission",
            "io",
            "shutdown",
            "trace",
        ],
    ),
    ("transcribe", &["admission", "io", "files"]),
    (
        "cluster",
        &["admission", "transport", "files", "room_key", "workers"],
    ),
    ("workers", &["transport"]),
    ("transport", &["io"]),
    ("shed", &["admission"]),
    ("drain", &[]),
    ("shutdown", &["admission"]),
    ("admission", &["io", "fetch", "files"]),
    ("io", &[]),
    ("machine", &[]),
    ("room_key", &["files"]),
    ("events", &["fetch"]),
    ("log", &["report"]),
    ("report", &["fetch", "sending"]),
    ("trace", &["fetch", "sending"]),
    ("sending", &[]),
    ("fetch", &[]),
    ("files", &[]),
    ("systemd", &[]),
];

/// From the top down.
const CORE: &[Room] = &[
    (
        "session",
        &[
            "matchmaker",
            "directory",
            "room",
            "address",
            "events",
            "identity",
            "rate",
            "outbox",
            "cluster",
            "metrics",
            "live",
            "memory",
            "pause",
            "process",
            "trace",
        ],
    ),
    (
        "matchmaker",
        &[
            "room", "outbox", "cluster", "metrics", "live", "process", "trace",
        ],
    ),
    ("directory", &["room"]),
    (
        "room",
        &[
            "address", "identity", "outbox", "cluster", "metrics", "live", "memory", "process",
            "blocks", "events",
        ],
    ),
    ("identity", &["rate"]),
    ("rate", &["pause"]),
    ("outbox", &["cluster", "metrics", "memory", "process"]),
    ("metrics", &[]),
    ("address", &[]),
    ("live", &[]),
    ("memory", &[]),
    ("pause", &[]),
    ("cluster", &["process"]),
    ("process", &[]),
    ("blocks", &[]),
    ("events", &[]),
    ("trace", &[]),
];

/// From the top down.
const TRANSCRIBE: &[Room] = &[
    (
        "sessions",
        &["session", "parts", "bridge", "record", "store", "time"],
    ),
    ("export", &["session", "record", "store"]),
    (
        "session",
        &[
            "parts", "deliver", "track", "bridge", "provider", "record", "store", "time",
        ],
    ),
    ("parts", &["bridge", "store"]),
    ("survey_log", &["survey", "store", "record"]),
    ("survey", &["store", "record"]),
    ("deliver", &[]),
    ("track", &[]),
    ("bridge", &["provider"]),
    ("provider", &[]),
    ("store", &["record"]),
    ("record", &[]),
    ("time", &[]),
];

/// From the top down.
const CLUSTER: &[Room] = &[
    ("bus", &["members", "engine", "frames", "id"]),
    ("index", &["members", "engine", "scripts", "id"]),
    ("members", &["nodes", "engine", "scripts", "frames", "id"]),
    ("nodes", &["scripts", "frames", "id"]),
    (
        "engine",
        &["scripts", "settings", "metrics", "frames", "id"],
    ),
    ("scripts", &["frames", "id"]),
    ("settings", &[]),
    ("metrics", &[]),
    ("frames", &["id"]),
    ("id", &[]),
];

/// From the top down.
const LOADTEST: &[Room] = &[
    ("golden", &["report", "judge", "record"]),
    (
        "cli",
        &["run", "user", "report", "judge", "plan", "record", "base"],
    ),
    (
        "run",
        &["user", "judge", "measure", "plan", "record", "base"],
    ),
    ("user", &["measure", "plan", "base"]),
    ("report", &["record", "base"]),
    ("judge", &["measure", "plan", "record", "base"]),
    ("measure", &["plan", "record", "base"]),
    ("plan", &["record", "base"]),
    ("record", &[]),
    ("base", &[]),
];

/// What the core may not know: sockets, wires, flags, runtimes.
const IO_CRATES: [&str; 7] = [
    "hyper",
    "http-body-util",
    "fastwebsockets",
    "clap",
    "rustix",
    "socket2",
    "tracing-subscriber",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code without comments and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that follow each `prefix` (such as `crate::`) in the code, also in `crate::{a::B, c}`.
fn paths(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(head(rest)),
        }
    }
    found
}

/// The first name of each path in a group of imports, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut begins, mut found) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !c.is_whitespace() => {
                found.extend(head(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let name: String = path
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// The code of each room of a program: all its files together, without those that are only tests.
fn rooms(source: &str) -> BTreeMap<String, String> {
    let source = root().join(source);
    let mut rooms = BTreeMap::<String, String>::new();
    for path in rust_files(&source) {
        let relative = path.strip_prefix(&source).unwrap().with_extension("");
        // `serve` joins all rooms, as the library's face; `main` and `commands` are the program that uses it.
        let is_top = ["lib", "serve", "main", "commands"]
            .iter()
            .any(|name| relative.starts_with(name));
        if relative.ends_with("tests") || is_top {
            continue;
        }
        let room = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let code = code(&fs::read_to_string(&path).unwrap());
        // The first file of a room may not reach its siblings by `super::`, which would hide an import.
        assert!(
            relative.iter().count() > 1 || !code.contains("super::"),
            "{} says super::; write crate::",
            path.display()
        );
        rooms.entry(room).or_default().push_str(&(code + "\n"));
    }
    rooms
}

/// What is wrong with the imports of a program whose rooms are to be those of `table`.
fn faults(table: &[Room], rooms: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let level = |name: &str| table.iter().position(|(room, _)| *room == name);
    for room in rooms.keys().filter(|room| level(room).is_none()) {
        faults.push(format!("{room} is not in the table of rooms"));
    }
    for (at, (room, may)) in table.iter().enumerate() {
        let Some(code) = rooms.get(*room) else {
            faults.push(format!("there is no room {room}"));
            continue;
        };
        let upward = may.iter().filter(|other| level(other) <= Some(at));
        faults.extend(upward.map(|other| format!("{room} may not stand above {other}")));
        let mut found = paths(code, "crate::");
        found.retain(|other| level(other).is_some() && other != room);
        for other in &found {
            if !may.contains(&other.as_str()) {
                faults.push(format!("{room} imports {other}"));
            }
        }
        let unused = may.iter().filter(|other| !found.contains(**other));
        faults.extend(unused.map(|other| format!("{room} need not import {other}")));
    }
    faults
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::{\n a::{B, C as D}, e,\n f::g,\n};\nuse crate::h::I; fn x(_: &crate::j::K) {} my_crate::no;\n// crate::comment\n";
    let found: Vec<String> = paths(&code(text), "crate::").into_iter().collect();
    assert_eq!(found, ["a", "e", "f", "h", "j"]);
}

#[test]
fn the_rooms_of_the_server_import_downward_only() {
    let faults = faults(SERVER, &rooms("server/src"));
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_rooms_of_the_core_import_downward_only() {
    let faults = faults(CORE, &rooms("server/core/src"));
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_rooms_of_transcription_import_downward_only() {
    let faults = faults(TRANSCRIBE, &rooms("server/transcribe/src"));
    assert!(faults.is_empty(), "{faults:#?}");
    let manifest = section("server/transcribe/Cargo.toml", "dependencies");
    assert!(!manifest.contains("clap") && !manifest.contains("voicematch-core"));
}

#[test]
fn the_rooms_of_the_cluster_import_downward_only() {
    let faults = faults(CLUSTER, &rooms("server/cluster/src"));
    assert!(faults.is_empty(), "{faults:#?}");
    let manifest = section("server/cluster/Cargo.toml", "dependencies");
    assert!(!manifest.contains("voicematch"));
}

#[test]
fn the_rooms_of_the_load_test_import_downward_only() {
    let faults = faults(LOADTEST, &rooms("loadtest/src"));
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The lines of a section of a Cargo.toml.
fn section(manifest: &str, name: &str) -> String {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let mut lines = text
        .lines()
        .skip_while(|line| line.trim() != format!("[{name}]"));
    lines.next();
    lines
        .take_while(|line| !line.starts_with('['))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    assert!(!section("loadtest/Cargo.toml", "dependencies").contains("voicematch-server"));
    assert!(section("loadtest/Cargo.toml", "dependencies").contains("voicematch-protocol"));
    let core = section("server/core/Cargo.toml", "dependencies");
    for name in IO_CRATES {
        assert!(!core.contains(name), "the core names {name}");
    }
    let locks_only = section("server/core/Cargo.toml", "dependencies.tokio");
    assert!(
        locks_only.contains(r#"features = ["sync"]"#),
        "{locks_only}"
    );
    let protocol = section("server/protocol/Cargo.toml", "dependencies");
    for line in protocol.lines().filter(|line| !line.trim().is_empty()) {
        assert!(
            line.starts_with("serde"),
            "the wire needs serde only: {line}"
        );
    }
}
