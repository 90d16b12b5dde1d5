//! Growth: the same users, more and more of them.

use serde::Serialize;

use crate::{
    Problem,
    compare::{write_file, write_json},
    figures::Quiet,
    machine::{Places, allow_open_files},
    options::Growth,
    phases::Held,
    process::rss,
    server::Server,
    stats::Spread,
    svg::{self, Panel, Point},
    table::number,
};

/// One measurement of one number of users.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    users: usize,
    rss_mib: f64,
    cpu_percent: f64,
    p99_ms: f64,
    delivered_per_second: f64,
    lost: u64,
    #[serde(flatten)]
    quiet: Quiet,
}

#[derive(Serialize)]
struct Report<'a> {
    command: &'a str,
    options: &'a Growth,
    places: String,
    repetitions: &'a [Measured],
}

/// Measures every number of users, draws the chart, writes the JSON.
pub(crate) fn run(options: &Growth) -> Result<(), Problem> {
    allow_open_files(options.users.iter().copied().max().unwrap_or(0))?;
    let places = Places::choose(&options.common)?;
    let mut all = Vec::new();
    for nth in 1..=options.common.reps {
        for users in &options.users {
            let measured = one(*users, options, &places)
                .map_err(|problem| Problem::new(format!("{users} users: {problem}")))?;
            eprintln!(
                "{nth}/{}: {users} users: {} MiB, {} % CPU, p99 {} ms{}",
                options.common.reps,
                number(measured.rss_mib),
                number(measured.cpu_percent),
                number(measured.p99_ms),
                if measured.quiet.disturbed {
                    "; disturbed"
                } else {
                    ""
                }
            );
            all.push(measured);
        }
    }
    let command = command(std::env::args());
    let panels = [
        panel("Memory of the server (RSS)", "MiB", &all, |m| m.rss_mib),
        panel("CPU of the server", "% of a core", &all, |m| m.cpu_percent),
        panel("Relay latency, 99th percentile", "ms", &all, |m| m.p99_ms),
    ];
    let title = format!(
        "Growth with the number of users, each sending a message every {} s",
        options.every
    );
    write_file(
        &options.svg,
        &svg::chart(&title, "users", &command, &panels),
    )?;
    for panel in &panels {
        println!("{}, {}", panel.title, panel.unit);
        for point in &panel.points {
            let Spread { median, min, max } = point.y;
            let star = if point.disturbed { " *" } else { "" };
            println!(
                "{:>8.0} users {:>9}  ({} - {}){star}",
                point.x,
                number(median),
                number(min),
                number(max)
            );
        }
    }
    let report = Report {
        command: &command,
        options,
        places: places.describe(),
        repetitions: &all,
    };
    write_json(options.common.json.as_deref(), &report)
}

fn one(users: usize, options: &Growth, places: &Places) -> Result<Measured, Problem> {
    let common = &options.common;
    let server = Server::start(&common.server, places)?;
    let mut held = Held::new(&server, users, common.payload_bytes, places.apart())?;
    held.connect()?;
    held.match_all()?;
    held.meet()?;
    held.rest(common.settle)?;
    let open = held.open_loop(users as f64 / options.every, options.seconds, || Ok(()))?;
    let rss = rss(server.pid())?;
    held.leave()?;
    Ok(Measured {
        users,
        rss_mib: rss as f64 / 1024.0 / 1024.0,
        cpu_percent: open.window.server_percent(),
        p99_ms: open.typical_latency_us(99.0) / 1e3,
        delivered_per_second: open.delivered as f64 / open.window.seconds(),
        lost: open.lost,
        quiet: Quiet::of(&open.window),
    })
}

/// One chart: the medians of what is not disturbed, or of everything if nothing else is there.
fn panel(
    title: &'static str,
    unit: &'static str,
    all: &[Measured],
    get: fn(&Measured) -> f64,
) -> Panel {
    let mut numbers: Vec<_> = all.iter().map(|m| m.users).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let point = |users: usize| {
        let here = || all.iter().filter(move |m| m.users == users);
        let calm: Vec<_> = here().filter(|m| !m.quiet.disturbed).map(get).collect();
        let any: Vec<_> = here().map(get).collect();
        let disturbed = calm.is_empty();
        let y = Spread::of(if disturbed { &any } else { &calm })?;
        Some(Point {
            x: users as f64,
            y,
            disturbed,
        })
    };
    let points = numbers.into_iter().filter_map(point).collect();
    Panel {
        title,
        unit,
        points,
    }
}

/// The command line as one would type it; of the program only its name, and without `--json`, which
/// leaves the chart as it is.
fn command(mut args: impl Iterator<Item = String>) -> String {
    let mut kept = Vec::new();
    while let Some(word) = args.next() {
        if word == "--json" {
            let _file = args.next();
        } else if !word.starts_with("--json=") {
            kept.push(word);
        }
    }
    let words = kept.into_iter().enumerate().map(|(i, word)| {
        let word = match i {
            0 => word.rsplit('/').next().unwrap_or_default().to_owned(),
            _ => word,
        };
        if word.contains(|c: char| c.is_whitespace() || "{}\"$&;".contains(c)) || word.is_empty() {
            format!("'{word}'")
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed_again() {
        let args = [
            "/somewhere/voicematch-bench",
            "growth",
            "--json",
            "a file",
            "--server",
            "a --port {port}",
            "--users",
            "2,4",
        ];
        assert_eq!(
            command(args.into_iter().map(String::from)),
            "voicematch-bench growth --server 'a --port {port}' --users 2,4"
        );
    }
}
