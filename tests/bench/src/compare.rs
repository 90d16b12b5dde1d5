//! The comparison: server and baseline in turn, and the table of both.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use crate::{
    Problem,
    figures::Figures,
    machine::{Places, allow_open_files},
    options::Compare,
    run, table,
};

#[derive(Serialize)]
struct Report<'a> {
    options: &'a Compare,
    places: String,
    medians: Vec<table::Line>,
    repetitions: BTreeMap<&'static str, &'a [Figures]>,
}

/// Measures, prints the table, writes the JSON.
pub(crate) fn run(options: &Compare) -> Result<(), Problem> {
    allow_open_files(options.users.max(options.slots))?;
    let places = Places::choose(&options.common)?;
    let (mut server, mut baseline) = (Vec::new(), Vec::new());
    for nth in 1..=options.common.reps {
        server.push(one(
            "server",
            &options.common.server,
            nth,
            options,
            &places,
        )?);
        if let Some(command) = &options.baseline {
            baseline.push(one("baseline", command, nth, options, &places)?);
        }
    }
    let medians = table::lines(&server, &baseline);
    println!(
        "{} users, {} byte payloads, open loop at {}/s, closed loop with {} outstanding, {} sessions at once;\n\
         {}; medians and ranges of {} repetitions\n",
        options.users,
        options.common.payload_bytes,
        table::number(options.rate as f64),
        options.window,
        options.slots,
        places.describe(),
        options.common.reps,
    );
    print!("{}", table::render(&medians));
    let report = Report {
        options,
        places: places.describe(),
        medians,
        repetitions: BTreeMap::from([("server", &server[..]), ("baseline", &baseline[..])]),
    };
    write_json(options.common.json.as_deref(), &report)
}

fn one(
    name: &str,
    command: &str,
    nth: u32,
    options: &Compare,
    places: &Places,
) -> Result<Figures, Problem> {
    let figures = run::repetition(command, options, places)
        .map_err(|problem| Problem::new(format!("{name}, repetition {nth}: {problem}")))?;
    eprintln!(
        "{name} {nth}/{}: {} messages/s at most, {} us CPU each{}",
        options.common.reps,
        table::number(figures.closed_rate),
        table::number(figures.closed_cpu_us),
        match figures.disturbed() {
            none if none.is_empty() => String::new(),
            some => format!("; disturbed: {}", some.join(", ")),
        }
    );
    Ok(figures)
}

/// Writes a report, if it is wanted.
pub(crate) fn write_json(path: Option<&Path>, report: &impl Serialize) -> Result<(), Problem> {
    let Some(path) = path else {
        return Ok(());
    };
    let text = serde_json::to_string_pretty(report);
    let text = text.map_err(|error| Problem::new(format!("the report: {error}")))?;
    write_file(path, &format!("{text}\n"))
}

/// Writes a file, or says which one could not be.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Problem> {
    fs::write(path, text).map_err(|error| Problem::new(format!("{}: {error}", path.display())))
}
