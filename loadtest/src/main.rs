//! `loadtest`: parse flags, run, print, exit.

mod live;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use loadtest::{
    Exposed,
    config::{Config, Flags},
    report, run_until,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that was told twice to end.
const KILLED: i32 = 130;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = match Flags::parse().check() {
        Ok(config) => config,
        Err(error) => Flags::command()
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
    // Before anything listens to the server: a file that cannot be written is found now, not in half an hour.
    if let Some(path) = &config.json {
        let touched = fs::OpenOptions::new().create(true).append(true).open(path);
        touched.map_err(|error| unwritable(path, &error))?;
    }
    let stop = asked_to_stop().map_err(|error| Failure {
        message: error.to_string(),
        code: 98,
    })?;
    let exposed = match config.metrics_addr {
        Some(address) => Some(expose(address).await?),
        None => None,
    };
    let mut live = live::Live::new(config.quiet);
    let ran = run_until(&config.plan, &config.target, stop, |progress| {
        live.show(progress);
        if let Some(exposed) = &exposed {
            exposed.show(progress);
        }
    })
    .await;
    live.end();
    let record = ran.map_err(|error| Failure {
        message: error.to_string(),
        code: error.exit_code(),
    })?;
    // Whoever reads may have gone (`| head`): the JSON and the exit code count all the same.
    let _ = io::stdout().write_all(report::terminal(&record).as_bytes());
    if let Some(path) = &config.json {
        let text = report::render(&record, report::Format::Json);
        fs::write(path, text).map_err(|error| unwritable(path, &error))?;
    }
    Ok(record.exit_code)
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

fn unwritable(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure {
        message: format!("--json {}: {error}", path.display()),
        code: 2,
    }
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
