//! Runs one path under valgrind and reads what it counted.

use std::{
    collections::HashMap,
    env, fs,
    io::ErrorKind,
    process::{self, Command},
};

use super::paths::OPERATIONS;

/// No profiling, no threads and no clock in the allocator.
const ALLOCATOR: &str =
    "prof:false,background_thread:false,narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1";

/// What one path cost, all its operations together.
pub(crate) struct Count {
    total: u64,
    /// Each function's own instructions, without its callees'.
    functions: HashMap<String, u64>,
}

impl Count {
    pub(crate) fn per_operation(&self) -> f64 {
        tenths(self.total)
    }

    /// Functions and their own instructions per operation, the costliest first.
    pub(crate) fn costliest(&self) -> Vec<(&str, f64)> {
        let mut functions: Vec<_> = self.functions.iter().collect();
        functions.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let shares = functions.into_iter();
        shares
            .map(|(name, &own)| (name.as_str(), tenths(own)))
            .collect()
    }
}

/// Per operation, to one decimal.
fn tenths(instructions: u64) -> f64 {
    let tenths = instructions * 10 / u64::from(OPERATIONS);
    tenths as f64 / 10.0
}

/// Compiler and platform.
pub(crate) fn rustc() -> Result<String, String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|error| format!("rustc -vV: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().unwrap_or_default();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(format!("{version} {}", host.unwrap_or_default()))
}

/// Counts the instructions of one path, in a process of its own.
pub(crate) fn count(path: &str) -> Result<Count, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let out = env::temp_dir().join(format!("voicematch-{}-{path}.callgrind", process::id()));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=instructions*::{path}*"))
        // A pattern must not be the beginning of another: one would hide the other.
        .arg("--zero-before=*measure_from_here*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(program)
        .args(["--path", path])
        .env("MALLOC_CONF", ALLOCATOR)
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                "valgrind is not installed (apt-get install valgrind)".to_owned()
            }
            _ => format!("valgrind: {error}"),
        })?;
    if !run.status.success() {
        let stderr = String::from_utf8_lossy(&run.stderr);
        return Err(format!("{path} under valgrind: {}\n{stderr}", run.status));
    }
    let text = fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    // What is left in the temporary directory harms nobody.
    let _ = fs::remove_file(&out);
    let functions = own_costs(&text);
    let total = functions.values().sum();
    if total == 0 {
        return Err(format!(
            "valgrind has not seen {path}: has it been inlined?"
        ));
    }
    Ok(Count { total, functions })
}

/// Each function's own instructions, from a file in callgrind's format without compression
/// (<https://valgrind.org/docs/manual/cl-format.html>): after `fn=` come lines of position and cost, and
/// the line after `calls=` is a callee's cost.
fn own_costs(text: &str) -> HashMap<String, u64> {
    let mut costs = HashMap::new();
    let (mut function, mut is_callee) = ("", false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            is_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit())
            && let Some(cost) = line.split(' ').nth(1)
            && !std::mem::take(&mut is_callee)
        {
            *costs.entry(function.to_owned()).or_default() += cost.parse().unwrap_or(0);
        }
    }
    costs
}
