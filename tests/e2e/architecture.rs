//! The layout holds: imports run downward only, layers do not name what they must not know, files stay
//! small.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the top down. A module may name those that stand behind it, and no others of these.
const LAYERS: [&str; 7] = [
    "listen",
    "http",
    "transport",
    "session",
    "matchmaker",
    "room",
    "outbox",
];

/// From here down nothing knows of transports or flags.
const SANS_IO: [&str; 6] = [
    "session",
    "matchmaker",
    "room",
    "outbox",
    "directory",
    "metrics",
];

const FORBIDDEN_CRATES: [&str; 7] = [
    "hyper",
    "hyper_util",
    "http_body_util",
    "fastwebsockets",
    "clap",
    "socket2",
    "tokio_tungstenite",
];

/// Lines that a file may have, unless it is only tests.
const MAX_LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every Rust file below `directory`.
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

/// Whether a file is only tests, by its name or by what its parent says of it.
fn is_tests(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let declared = path
        .parent()
        .map(|directory| directory.with_extension("rs"))
        .and_then(|parent| fs::read_to_string(parent).ok())
        .is_some_and(|parent| parent.contains(&format!("#[cfg(test)]\nmod {name};")));
    name == "tests" || declared
}

/// The code without comments and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that follow each `crate::` in the code, also in `crate::{a::B, c}`.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
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

/// Every module of the server, with its code: a module's files together.
fn modules() -> BTreeMap<String, String> {
    let source = root().join("server/src");
    let mut modules = BTreeMap::<String, String>::new();
    for path in rust_files(&source).iter().filter(|path| !is_tests(path)) {
        let relative = path.strip_prefix(&source).unwrap().with_extension("");
        let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        modules
            .entry(module)
            .or_default()
            .push_str(&(code(&text) + "\n"));
    }
    for known in LAYERS.iter().chain(&SANS_IO) {
        assert!(modules.contains_key(*known), "where is {known}?");
    }
    modules
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::{\n a::{B, C as D}, e,\n f::g,\n};\nuse crate::h::I; fn x(_: &crate::j::K) {} my_crate::no;\n// crate::comment\n";
    let found: Vec<String> = crate_paths(&code(text)).into_iter().collect();
    assert_eq!(found, ["a", "e", "f", "h", "j"]);
}

#[test]
fn imports_run_downward_only() {
    let modules = modules();
    let level = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut wrong = Vec::new();
    for (module, code) in &modules {
        let may: Option<&[&str]> = match module.as_str() {
            "session" => Some(&["matchmaker", "room", "outbox", "directory", "metrics"]),
            "matchmaker" => Some(&["room", "outbox", "metrics"]),
            "room" => Some(&["outbox", "metrics"]),
            "outbox" => Some(&["metrics"]),
            "directory" => Some(&["room"]),
            "metrics" => Some(&["matchmaker"]),
            "shutdown" => Some(&["session", "room"]),
            _ => None,
        };
        for other in crate_paths(code).iter().filter(|other| *other != module) {
            let upward = level(module)
                .zip(level(other))
                .is_some_and(|(from, to)| to < from);
            let barred = may.is_some_and(|may| !may.contains(&other.as_str()));
            if upward || barred {
                wrong.push(format!("{module} names {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Of the matchmaker the metrics know the kinds of pool and nothing else.
    let metrics = modules["metrics"].replace("crate::matchmaker::Width", "");
    assert!(!metrics.contains("crate::matchmaker"));
}

#[test]
fn from_the_session_down_nothing_knows_of_transports_or_flags() {
    let modules = modules();
    for module in SANS_IO {
        for name in FORBIDDEN_CRATES {
            let code = &modules[module];
            for form in [format!("{name}::"), format!("use {name}")] {
                let named = code.match_indices(&form).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                assert!(!named, "{module} names {name}");
            }
        }
    }
    // Only the top joins configuration with the parts: a part takes its own struct.
    let may_see_config = ["config", "lib", "main"];
    for (module, code) in &modules {
        let sees = crate_paths(code).contains("config");
        assert!(
            !sees || may_see_config.contains(&module.as_str()),
            "{module} names config"
        );
    }
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
    let protocol = section("server/protocol/Cargo.toml", "dependencies");
    for line in protocol.lines().filter(|line| !line.trim().is_empty()) {
        assert!(
            line.starts_with("serde"),
            "the wire needs serde only: {line}"
        );
    }
}

#[test]
fn files_stay_small() {
    let mut long = Vec::new();
    for directory in ["server/protocol/src", "server/src", "loadtest/src", "tests"] {
        for path in rust_files(&root().join(directory)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > MAX_LINES && !is_tests(&path) {
                long.push(format!(
                    "{}: {lines}",
                    path.strip_prefix(root()).unwrap().display()
                ));
            }
        }
    }
    assert!(long.is_empty(), "longer than {MAX_LINES} lines: {long:#?}");
}
