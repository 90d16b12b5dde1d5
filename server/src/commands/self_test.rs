//! `self-test`: a server and its users in one process.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use loadtest::{Plan, Target};
use tokio::sync::mpsc;
use voicematch_server::{Server, config::parse::parse, machine::descriptors, room_key::KeyFrom};

use super::Outcome;

/// How often it prints its progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Plays users against a server in this process, with the settings of the environment and its file, and prints what
/// they saw. Exits as `loadtest` does.
pub(crate) fn run(users: u32, duration: Duration) -> Outcome {
    let addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let args = ["voicematch-server"].into_iter().chain(addresses);
    let parsed = parse(args.map(Into::into)).map_err(|why| why.faults().join("\n"))?;
    let mut config = parsed.check()?;
    // Nothing is to be left behind.
    config.room_key.key = KeyFrom::Memory;
    // A user and its connection in the server take one each.
    let open_files = descriptors::raise_limit() / 2;
    config.fit(open_files);
    let fits = descriptors::connections(open_files);
    if users as usize > fits {
        return Err(format!("{users} users do not fit the limit on open files; at most {fits} do, or raise it (ulimit -n)").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::bind(config)?;
        let addrs = server.addrs();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.run(
            mpsc::unbounded_channel().1,
            async { _ = stopped.await },
            std::future::pending(),
        ));
        let admin = format!("http://{}/metrics", addrs.admin);
        let target = Target::new(&format!("ws://{}/ws", addrs.public[0]), Some(&admin))?;
        let plan = Plan::new(users, duration);
        eprintln!(
            "self-test: {users} users come within {:.1?} and talk for {duration:.1?}",
            plan.ramp()
        );
        let mut reported = Instant::now();
        let run = loadtest::run(&plan, &target, |progress| {
            if reported.elapsed() >= PROGRESS_EVERY {
                reported = Instant::now();
                eprintln!("self-test: {progress}");
            }
        });
        let record = run.await?;
        // The users have said goodbye; what is left of the drain is at most a moment.
        let _ = stop.send(());
        serving.await??;
        print!("{}", loadtest::terminal(&record));
        Ok(ExitCode::from(record.exit_code))
    })
}
