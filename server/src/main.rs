//! Flags -> config -> server -> signal -> exit code.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the user sees"
)]

mod commands;

use std::{io::Write, process::ExitCode};

use clap::Parser;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use voicematch_server::{
    Server,
    config::{Cli, Command, Config, Flags, LogFormat},
    listen::BoundAddress,
    metrics::process,
    shutdown::Signals,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's settings, which it reads from this symbol before `main` (jemalloc.net/jemalloc.3.html#tuning).
/// Heap profiles sample one allocation in 512 KiB. Freed memory goes back to the system after half a
/// second, by a thread of the allocator's own, so that a peak of users does not stay in memory. One arena
/// keeps small servers small: the hot paths do not allocate.
#[allow(
    unsafe_code,
    reason = "the name is jemalloc's, and nothing else defines it"
)]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 109] =
    b"prof:true,prof_active:true,lg_prof_sample:19,background_thread:true,dirty_decay_ms:500,narenas:1,tcache:true\0";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        #[cfg(feature = "self-test")]
        Some(Command::SelfTest { users, duration }) => commands::self_test::run(users, duration),
        Some(Command::Healthcheck { listen, url }) => {
            commands::healthcheck::run(&listen, url.as_deref())
        }
        None => serve(cli.serve),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("voicematch-server: {error}");
        ExitCode::FAILURE
    })
}

fn serve(flags: Flags) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let _writer = match log_to_stderr(&flags) {
        Ok(writer) => writer,
        Err(error) => {
            eprintln!("voicematch-server: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let config = match flags.check() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("voicematch-server: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = config.workers,
        "starting"
    );
    raise_descriptor_limit(&config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let server = Server::bind(config)?;
        let addrs = server.addrs();
        tracing::info!(public = %addrs.public, admin = %addrs.admin, "listening");
        // Whoever started the server may not be listening any more.
        let mut out = std::io::stdout().lock();
        let _ = match &addrs.public {
            BoundAddress::Tcp(public) => {
                writeln!(out, "public  ws://{public}/ws  http://{public}/health")
            }
            public => writeln!(out, "public  {public}"),
        };
        let _ = match &addrs.admin {
            BoundAddress::Tcp(admin) => {
                writeln!(
                    out,
                    "admin   http://{admin}/metrics  http://{admin}/debug/pprof/"
                )
            }
            admin => writeln!(out, "admin   {admin}"),
        };
        drop(out);
        let (first, stop) = tokio::sync::oneshot::channel();
        let run = server.run(async { _ = stop.await });
        let watch = async {
            let signal = signals.next().await;
            tracing::info!(signal, "stopping; a second signal ends at once");
            let _ = first.send(());
            let signal = signals.next().await;
            tracing::warn!(signal, "ended at once");
        };
        tokio::select! {
            outcome = run => outcome.map(|()| ExitCode::SUCCESS).map_err(Into::into),
            () = watch => Ok(ExitCode::from(130)),
        }
    })
}

/// Descriptors besides those of connections: listeners, runtimes, admin, log.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Every connection needs a file descriptor: takes as many as the system allows, and says so if the
/// connection limit asks for more. Returns how many there are.
fn raise_descriptor_limit(config: &Config) -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let max_connections = config.limits.max_connections;
    if max_connections as u64 > have.saturating_sub(RESERVED_DESCRIPTORS) {
        tracing::warn!(
            max_connections,
            open_files = have,
            fits = have.saturating_sub(RESERVED_DESCRIPTORS),
            "the limit on open files does not fit --max-connections; raise it (ulimit -Hn, LimitNOFILE=)"
        );
    }
    have
}

/// Log lines that may wait for a reader that has stopped.
const MAX_LOG_LINES: usize = 4096;

/// Logs to standard error through a thread of its own: a reader that has stopped, or gone, costs log lines,
/// which are counted, and never a user. Dropping what is returned writes what is left.
fn log_to_stderr(flags: &Flags) -> Result<WorkerGuard, Box<dyn std::error::Error>> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_new(&flags.log).map_err(|error| {
        format!(
            "--log {:?}: {error}; write info, debug or the like",
            flags.log
        )
    })?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_LOG_LINES)
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    process::count_lost_log_lines(move || lost.dropped_lines() as u64);
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(has_colours())
        // Failing to log must not be fatal.
        .log_internal_errors(false);
    match flags.log_format {
        LogFormat::Human => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(guard)
}

/// Whether the log may have colours: not in a file, nor where the user wants none (no-color.org).
fn has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && !unwanted && !is_dumb
}
