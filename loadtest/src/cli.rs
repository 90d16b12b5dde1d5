//! The user interface: flags, commands, the live screen.

pub mod command_line;
pub mod commands;
pub mod flags;
mod output;
mod reports;
pub mod screen;
mod signals;

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use crate::{
    Record,
    cli::{
        flags::{Cli, Config, command_line},
        output::Printer,
        screen::Screen,
        signals::Stop,
    },
    judge,
    record::Exit,
    report::{self, FileError},
    run::{campaign::CampaignEvent, metrics_endpoint::Exposed},
};
use clap::{CommandFactory, error::ErrorKind};
use tokio::runtime;

/// The program: parses flags, runs, prints, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start: {error}");
            return Exit::Invalid.into();
        }
    };
    let code = runtime.block_on(run(cli));
    // A name lookup that is still running does not delay the end.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> ExitCode {
    if let Some(command) = cli.command {
        return match commands::run(command) {
            Ok(code) => code.into(),
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: {error}");
                Exit::Usage.into()
            }
        };
    }
    let config = match cli.flags.check() {
        Ok(config) => config,
        Err(error) => Cli::command()
            .error(ErrorKind::ValueValidation, error)
            .exit(),
    };
    let screen = match Screen::start(config.quiet) {
        Ok(screen) => screen,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start: {error}");
            return Exit::Invalid.into();
        }
    };
    let ended = measure(&config, &screen).await;
    let code = ended.unwrap_or_else(|failure| {
        screen.note(format!("error: {}", failure.message));
        failure.code
    });
    screen.clear();
    code.into()
}

struct Failure {
    message: String,
    code: Exit,
}

impl Failure {
    fn new(code: Exit, message: impl ToString) -> Self {
        Self {
            message: message.to_string(),
            code,
        }
    }
}

async fn measure(config: &Config, screen: &Screen) -> Result<Exit, Failure> {
    let own_fault = |error: io::Error| Failure::new(Exit::Invalid, error);
    let stop = Stop::listen(screen).map_err(own_fault)?;
    let printer = Printer::start().map_err(own_fault)?;
    let exposed = match config.metrics_addr {
        Some(address) => Some(expose(address, screen).await?),
        None => None,
    };
    let mut codes = Vec::new();
    let mut unwritten = None;
    let stopped = stop.clone().asked();
    let played = config
        .campaign
        .play(&config.target, stopped, |event| match event {
            CampaignEvent::Progress(progress) => {
                screen.show(progress);
                if let Some(exposed) = &exposed {
                    exposed.show(progress);
                }
            }
            CampaignEvent::Played(mut record) => {
                screen.clear();
                let written = conclude(config, &mut record);
                printer.print(report::terminal(&record));
                codes.push(record.exit_code);
                unwritten = unwritten.take().or(written.err());
            }
            CampaignEvent::Skipped(scenario) => {
                screen.clear();
                screen.note(format!("{scenario} is not played: no load held before it"));
            }
        })
        .await;
    screen.clear();
    let printed = all_printed(printer, stop).await;
    played.map_err(|error| Failure::new(error.exit_code(), error))?;
    match unwritten.or(printed.err()) {
        Some(error) => Err(Failure::new(Exit::Usage, error)),
        None => Ok(Exit::worst(&codes)),
    }
}

/// Waits until the reports are printed. A signal ends the wait. If a signal has ended the run, the wait needs a second
/// one, which ends the process.
async fn all_printed(printer: Printer, stop: Stop) -> Result<(), FileError> {
    if stop.is_asked() {
        return printer.finish().await;
    }
    tokio::select! {
        printed = printer.finish() => printed,
        () = stop.asked() => Ok(()),
    }
}

/// Judges a run against the baseline, and writes its reports.
fn conclude(config: &Config, record: &mut Record) -> Result<(), FileError> {
    let Config {
        campaign, baseline, ..
    } = config;
    record.run.build.clone_from(&config.build);
    record.run.command = command_line(env::args_os().skip(1), env::vars_os());
    // A run of another scenario says nothing about this one.
    let comparable =
        |base: &Record| campaign.plans.len() == 1 || base.run.scenario == record.run.scenario;
    if let Some((baseline, name)) = baseline.as_ref().filter(|(base, _)| comparable(base)) {
        judge::against_baseline(baseline, record, name);
    }
    let files = config.reports.iter().map(|(path, format)| {
        let path = campaign.report_path(path, &record.run.scenario);
        (path, *format)
    });
    reports::write_all(record, &files.collect::<Vec<_>>())
}

async fn expose(address: SocketAddr, screen: &Screen) -> Result<Exposed, Failure> {
    let exposed = Exposed::start(address).await.map_err(|error| {
        let advice = "give a free address, or port 0";
        Failure::new(
            Exit::Usage,
            format!("--metrics-addr {address}: {error}; {advice}"),
        )
    })?;
    // The address of the flag may have port 0; this line shows the real port.
    screen.note(format!("metrics at http://{}/metrics", exposed.address()));
    Ok(exposed)
}
