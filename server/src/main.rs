//! Flags -> config -> server -> signal -> exit code.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the user sees"
)]

mod commands;

use std::process::ExitCode;

use tokio::sync::{mpsc, oneshot};
#[cfg(feature = "transcribe")]
use voicematch_server::config::SurveyCommand;
use voicematch_server::{
    Server,
    admission::auth::Signer,
    config::{
        Command, Config, LogFormat,
        parse::{CannotParse, Parsed, parse},
    },
    hand_over,
    listen::{BoundAddress, activated},
    log,
    machine::descriptors,
    reload::Reload,
    shutdown::{GoOn, Signals},
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
#[cfg(not(target_env = "musl"))]
pub static MALLOC_CONF: &[u8; 109] =
    b"prof:true,prof_active:true,lg_prof_sample:19,background_thread:true,dirty_decay_ms:500,narenas:1,tcache:true\0";

/// The same without heap profiles: in a static binary by musl jemalloc has no unwinder and would read beyond the stack.
#[allow(
    unsafe_code,
    reason = "the name is jemalloc's, and nothing else defines it"
)]
#[unsafe(export_name = "malloc_conf")]
#[cfg(target_env = "musl")]
pub static MALLOC_CONF: &[u8; 64] =
    b"background_thread:true,dirty_decay_ms:500,narenas:1,tcache:true\0";

fn main() -> ExitCode {
    activated::find();
    let parsed = match parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(CannotParse::Flags(error)) => error.exit(),
        Err(CannotParse::File(faults)) => {
            for fault in faults {
                log::print_error(&fault);
            }
            return ExitCode::from(2);
        }
    };
    let outcome = match parsed.cli.command.clone() {
        None => serve(parsed),
        #[cfg(feature = "self-test")]
        Some(Command::SelfTest { users, duration }) => commands::self_test::run(users, duration),
        Some(Command::Gentoken {
            jwt_secret_file,
            jwt_issuer,
            user,
            name,
            rooms,
            count,
            ttl,
        }) => match Signer::load(&jwt_secret_file, jwt_issuer) {
            Ok(signer) => commands::gentoken::run(&signer, &user, count, name, rooms, ttl),
            Err(error) => Err(error.into()),
        },
        Some(Command::Healthcheck {
            config,
            listen,
            admin_listen,
            url,
        }) => {
            let flags = [
                ("--config", config.map(Into::into)),
                ("--listen", listen.map(Into::into)),
                ("--admin-listen", admin_listen.map(Into::into)),
            ];
            commands::healthcheck::run(&flags, url.as_deref())
        }
        Some(Command::Checkconfig { config }) => commands::configuration::check(&config),
        Some(Command::Defaultconfig) => commands::configuration::print_default(),
        Some(Command::Completions { shell }) => commands::manual::print_completions(shell),
        Some(Command::Man) => commands::manual::print_page(),
        #[cfg(feature = "transcribe")]
        Some(Command::Survey {
            what: SurveyCommand::Check { file },
        }) => commands::survey::check(&file),
        #[cfg(feature = "mcp")]
        Some(Command::Survey {
            what:
                SurveyCommand::Mcp {
                    file,
                    respondent,
                    language,
                    database,
                    state_dir,
                },
        }) => commands::survey::lead(&file, respondent, language, database, state_dir),
    };
    outcome.unwrap_or_else(|error| {
        log::print_error(&error.to_string());
        ExitCode::FAILURE
    })
}

fn serve(parsed: Parsed) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let flags = &parsed.cli.serve;
    let _last_lines = log::start(flags.log.clone(), flags.log_format == LogFormat::Json)?;
    let reload = Reload::new(parsed.written.clone());
    let mut config = match parsed.check_all() {
        Ok(config) => config,
        Err(faults) => {
            faults.iter().for_each(|fault| log::print_error(fault));
            return Ok(ExitCode::from(2));
        }
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = config.workers,
        "starting"
    );
    config.fit(descriptors::raise_limit());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve_until_signals(config, reload));
    // A profile that is being taken does not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn serve_until_signals(
    config: Config,
    mut reload: Reload,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut signals = Signals::new()?;
    let can_be_replaced = config.hand_over.is_some();
    let server = Server::bind(config)?;
    let addrs = server.addrs();
    if server.lets_everybody_in() {
        tracing::warn!(
            "everybody may come in; --jwt-secret-file, --jwt-public-key-file or --jwks asks for tokens of your app, --auth-webhook asks your app"
        );
    }
    let shown: Vec<_> = addrs.public.iter().map(ToString::to_string).collect();
    tracing::info!(public = %shown.join(","), admin = %addrs.admin, "listening");
    let mut public = String::new();
    for address in &addrs.public {
        let shown = match address {
            BoundAddress::Tcp(address) => {
                let s = if server.has_tls() { "s" } else { "" };
                format!("ws{s}://{address}/ws  http{s}://{address}/health")
            }
            unix => unix.to_string(),
        };
        public += &format!("public  {shown}\n");
    }
    let admin = match &addrs.admin {
        BoundAddress::Tcp(admin) => format!("http://{admin}/  http://{admin}/metrics"),
        admin => admin.to_string(),
    };
    log::print(format!("{public}admin   {admin}\n"));
    let (drain, drain_asked) = oneshot::channel();
    let (stop, stop_asked) = oneshot::channel();
    let (reloaded, reloads) = mpsc::unbounded_channel();
    let run = server.run(reloads, async { _ = drain_asked.await }, async {
        _ = stop_asked.await;
    });
    let mut exit_code = ExitCode::SUCCESS;
    let watch = async {
        let on_other = |signal| match signal {
            GoOn::Reload => {
                if let Some(config) = reload.read() {
                    // Without a receiver the server is about to end.
                    let _ = reloaded.send(config);
                }
            }
            GoOn::Replace if can_be_replaced => hand_over::start_successor(),
            GoOn::Replace => tracing::error!(
                "SIGUSR2: a new server can take the place of this one only with --hand-over"
            ),
        };
        let signal = signals.stop(on_other).await;
        tracing::info!(signal, "stopping; a second signal ends the drain");
        let _ = drain.send(());
        let signal = signals.stop(|_| {}).await;
        tracing::warn!(signal, "stopping without a drain");
        exit_code = ExitCode::from(130);
        let _ = stop.send(());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = run => outcome?,
        () = watch => {}
    }
    Ok(exit_code)
}
