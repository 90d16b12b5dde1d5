//! What a person types and sees: flags, commands, the live screen.

pub mod command_line;
pub mod commands;
pub mod flags;
pub mod screen;

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use crate::{
    Record,
    cli::flags::{Cli, Config, command_line},
    judge::compare,
    report::{self, FileError},
    run::{campaign::CampaignEvent, metrics_endpoint::Exposed},
};
use clap::{CommandFactory, Parser, error::ErrorKind};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// Exit code of a process that was told twice to end.
const KILLED: i32 = 130;

/// The program: parses flags, runs, prints, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start: {error}");
            return ExitCode::from(98);
        }
    };
    let code = runtime.block_on(run(cli));
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> ExitCode {
    if let Some(command) = cli.command {
        return match commands::run(command) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: {error}");
                ExitCode::from(2)
            }
        };
    }
    let config = match cli.flags.check() {
        Ok(config) => config,
        Err(error) => Cli::command()
            .error(ErrorKind::ValueValidation, error)
            .exit(),
    };
    match measure(&config).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

struct Failure {
    message: String,
    code: u8,
}

async fn measure(config: &Config) -> Result<u8, Failure> {
    let stop = asked_to_stop().map_err(|error| Failure {
        message: error.to_string(),
        code: 98,
    })?;
    let exposed = match config.metrics_addr {
        Some(address) => Some(expose(address).await?),
        None => None,
    };
    let mut live = screen::Live::new(config.quiet);
    let mut codes = vec![0];
    let mut unwritten = None;
    let played = config
        .campaign
        .play(&config.target, stop, |news| match news {
            CampaignEvent::Progress(progress) => {
                live.show(progress);
                if let Some(exposed) = &exposed {
                    exposed.show(progress);
                }
            }
            CampaignEvent::Played(mut record) => {
                live.end();
                live = screen::Live::new(config.quiet);
                let written = conclude(config, &mut record);
                codes.push(record.exit_code);
                unwritten = unwritten.take().or(written.err());
            }
            CampaignEvent::Skipped(scenario) => {
                live.end();
                live = screen::Live::new(config.quiet);
                let _ = writeln!(
                    io::stderr(),
                    "{scenario} is not played: no load held before it"
                );
            }
        });
    let played = played.await;
    live.end();
    played.map_err(|error| Failure {
        message: error.to_string(),
        code: error.exit_code(),
    })?;
    match unwritten {
        Some(error) => Err(Failure {
            message: error.to_string(),
            code: 2,
        }),
        None => Ok(worst(&codes)),
    }
}

/// Judges, prints and writes what a plan has shown.
fn conclude(config: &Config, record: &mut Record) -> Result<(), FileError> {
    let Config {
        campaign, baseline, ..
    } = config;
    record.run.build.clone_from(&config.build);
    record.run.command = command_line(env::args_os().skip(1), env::vars_os());
    // Another scenario's run says nothing about this one.
    let comparable =
        |base: &Record| campaign.plans.len() == 1 || base.run.scenario == record.run.scenario;
    if let Some((baseline, name)) = baseline.as_ref().filter(|(base, _)| comparable(base)) {
        compare::judge_against(baseline, record, name);
    }
    let shown = commands::show(&report::terminal(record));
    let files = config.reports.iter().map(|(path, format)| {
        let path = campaign.report_path(path, &record.run.scenario);
        (path, *format)
    });
    commands::write_all(record, &files.collect::<Vec<_>>()).and(shown)
}

/// The exit code of several runs: a measurement that is not to be trusted is worse than a threshold that failed, and
/// that than a regression.
fn worst(codes: &[u8]) -> u8 {
    const WORST_FIRST: [u8; 3] = [98, 99, 97];
    let found = WORST_FIRST.into_iter().find(|code| codes.contains(code));
    found.unwrap_or(0)
}

async fn expose(address: SocketAddr) -> Result<Exposed, Failure> {
    let exposed = Exposed::start(address).await.map_err(|error| Failure {
        message: format!("--metrics-addr {address}: {error}; give a free address, or port 0"),
        code: 2,
    })?;
    // Whoever asked for port 0 has no other way to learn which it is.
    let _ = writeln!(
        io::stderr(),
        "metrics at http://{}/metrics",
        exposed.address()
    );
    Ok(exposed)
}

/// Ready at the first SIGINT or SIGTERM. The second ends the process at once.
fn asked_to_stop() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        either(&mut interrupt, &mut terminate).await;
        let _ = writeln!(
            io::stderr(),
            "ending early: closing all users; once more ends at once, without a report"
        );
        tokio::spawn(async move {
            either(&mut interrupt, &mut terminate).await;
            std::process::exit(KILLED);
        });
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
