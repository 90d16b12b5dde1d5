//! Instructions of each hot path, which do not depend on what else the machine does.
//!
//! Runs itself under valgrind once for each path and compares with `instructions.json`. A path that has
//! grown by more than 5 % is named, and the exit code is 1. `--update` writes the file instead. Counts of
//! another compiler or platform than the file's are only reported. What has a bound of its own is judged all the same.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints its findings"
)]

mod support;

#[path = "instructions/callgrind.rs"]
mod callgrind;
#[path = "instructions/paths.rs"]
mod paths;

use std::{collections::BTreeMap, env, fs, path::Path, process::ExitCode};

use callgrind::Count;
use serde::{Deserialize, Serialize};

/// Growth that fails, in per cent.
const MAX_GROWTH: f64 = 5.0;

/// How much more one of the nineteen writes of a message to a room of twenty may cost than a single one.
const MAX_ROOM_SHARE: f64 = 1.2;

/// What a token by HS256 may add to a handshake: 15 us, of a processor that does one instruction in each cycle at 3 GHz.
const MAX_TOKEN: f64 = 45_000.0;

/// How many functions are listed of a path that has grown.
const LISTED: usize = 8;

/// What `instructions.json` holds.
#[derive(Default, Serialize, Deserialize)]
struct Baseline {
    /// Compiler and platform.
    rustc: String,
    instructions_per_operation: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if let Some(path) = args.iter().skip_while(|arg| *arg != "--path").nth(1) {
        paths::run(path);
        return ExitCode::SUCCESS;
    }
    if !has("--bench") {
        println!("nothing to test; use cargo bench --bench instructions");
        return ExitCode::SUCCESS;
    }
    match guard(has("--update")) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

fn guard(update: bool) -> Result<ExitCode, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let baseline = match fs::read(&file) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))?
        }
        Err(_) => Baseline::default(),
    };
    let rustc = callgrind::rustc()?;
    let mut counts = BTreeMap::new();
    for path in paths::NAMES {
        counts.insert(path.to_owned(), callgrind::count(path)?);
    }
    let grown = compare(&baseline.instructions_per_operation, &counts);
    let share = room_share(&counts);
    println!("one receiver of a message to a room: {share:.2} single writes");
    if share > MAX_ROOM_SHARE {
        println!("FAILED: {MAX_ROOM_SHARE} at the most");
        return Ok(ExitCode::FAILURE);
    }
    let token = counts["check_token"].per_operation();
    println!("a token of a handshake: {token:.0} instructions");
    if token > MAX_TOKEN {
        println!("FAILED: {MAX_TOKEN} at the most");
        return Ok(ExitCode::FAILURE);
    }
    if update {
        let new = Baseline {
            rustc,
            instructions_per_operation: counts
                .iter()
                .map(|(path, count)| (path.clone(), count.per_operation()))
                .collect(),
        };
        let text = serde_json::to_string_pretty(&new).map_err(|e| e.to_string())? + "\n";
        fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        println!("wrote {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if baseline.rustc != rustc {
        println!("the baseline is of another compiler or platform, so nothing is judged:");
        println!("  baseline: {}\n  now:      {rustc}", baseline.rustc);
        println!("write a new one with: cargo bench --bench instructions -- --update");
        return Ok(ExitCode::SUCCESS);
    }
    for path in &grown {
        println!("\n{path} has grown by more than {MAX_GROWTH} %; its own share and its callees':");
        let count = &counts[path];
        for (function, share) in count.costliest().into_iter().take(LISTED) {
            println!("{share:>12.1}  {function}");
        }
    }
    if !grown.is_empty() {
        println!("\nFAILED: {}", grown.join(", "));
        println!(
            "if that is the price of something worth it: cargo bench --bench instructions -- --update"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What one receiver of a message to a room of twenty costs, in single writes: a relay to one partner is parsed alike.
fn room_share(counts: &BTreeMap<String, Count>) -> f64 {
    let of = |path: &str| counts[path].per_operation();
    let parsed = of("relay_ice_candidate") - of("send_direct");
    (of("message_to_room") - parsed) / 19.0 / of("send_direct")
}

/// Prints the table; returns which paths have grown too much.
fn compare(baseline: &BTreeMap<String, f64>, counts: &BTreeMap<String, Count>) -> Vec<String> {
    println!(
        "{:<22}{:>12}{:>12}{:>10}   instructions per operation",
        "path", "baseline", "now", "change"
    );
    let mut grown = Vec::new();
    for (path, count) in counts {
        let now = count.per_operation();
        let Some(&before) = baseline.get(path) else {
            println!("{path:<22}{:>12}{now:>12.1}{:>10}", "none", "");
            continue;
        };
        let change = (now / before - 1.0) * 100.0;
        println!("{path:<22}{before:>12.1}{now:>12.1}{change:>+9.1}%");
        if change > MAX_GROWTH {
            grown.push(path.clone());
        }
    }
    for path in baseline.keys().filter(|path| !counts.contains_key(*path)) {
        println!("{path:<22} is in the baseline and is not measured any more");
    }
    grown
}
