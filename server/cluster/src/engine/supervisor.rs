//! Keeps the connections: makes them, watches them, makes them anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::connect::{ConnectError, Session, ask, connect};
use super::{Live, Shared, Trouble, lock};
use crate::frames;

/// Between two probes.
const PROBE: Duration = Duration::from_millis(250);

/// Without a probe that came back the connections are given up: TCP does not notice a black hole.
const SILENT: Duration = Duration::from_secs(2);

const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_MOST: Duration = Duration::from_secs(1);

/// Between two lines in the log about an engine that stays away.
const LOG: Duration = Duration::from_secs(30);

/// Connects and connects again, until it is aborted.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut wait = BACK_OFF;
    let mut said: Option<Instant> = None;
    loop {
        let trouble = match attempt(&shared).await {
            Ok(session) => {
                info!("connected to the engine {}", shared.settings);
                (wait, said) = (BACK_OFF, None);
                let trouble = watch(&shared, session).await;
                warn!(
                    "the connection to the engine is given up: {}",
                    trouble.label()
                );
                trouble
            }
            Err(error) => {
                if said.is_none_or(|said| said.elapsed() >= LOG) {
                    said = Some(Instant::now());
                    warn!("no connection to the engine {}: {error}", shared.settings);
                }
                error.trouble()
            }
        };
        *lock(&shared.live) = None;
        lock(&shared.health).lost();
        shared.tell();
        shared
            .metrics
            .reconnects
            .with_label_values(&[trouble.label()])
            .inc();
        // Half of it random, so that not all nodes come at once.
        sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        wait = (wait * 2).min(BACK_OFF_MOST);
    }
}

/// A session whose first probe has come back.
async fn attempt(shared: &Arc<Shared>) -> Result<Session, ConnectError> {
    let mut session = connect(shared).await?;
    let mut commands = session.commands.clone();
    let first = publish(shared, &session, 0);
    let came_back = async {
        ask(&mut commands, &first).await?;
        session.probes.recv().await;
        Ok(())
    };
    timeout(SILENT, came_back)
        .await
        .map_err(|_| ConnectError::Silent("SPUBLISH"))?
        .map_err(ConnectError::Redis)?;
    lock(&shared.health).heard(Instant::now());
    *lock(&shared.live) = Some(Live {
        commands: session.commands.clone(),
        trouble: session.report.clone(),
    });
    // A life that began meanwhile has told nobody.
    if *lock(&shared.node) != session.node {
        let _ = session.report.try_send(Trouble::Life);
    }
    shared.tell();
    Ok(session)
}

fn publish(shared: &Shared, session: &Session, number: u64) -> redis::Cmd {
    let mut cmd = redis::cmd("SPUBLISH");
    cmd.arg(shared.scripts.inbox(session.node))
        .arg(&frames::encode_probe(number)[..]);
    cmd
}

/// Probes, until there is a reason to connect anew.
async fn watch(shared: &Arc<Shared>, mut session: Session) -> Trouble {
    let mut ticks = interval(PROBE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut number = 0;
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(probe) = session.probes.recv() => {
                heard = Instant::now();
                lock(&shared.health).heard(heard);
                while let Some((number, at)) = sent.pop_front_if(|(number, _)| *number <= probe) {
                    if number == probe {
                        shared.metrics.bus_seconds.observe(at.elapsed().as_secs_f64());
                    }
                }
                shared.tell();
            }
            Some(trouble) = session.trouble.recv() => return trouble,
            _ = ticks.tick() => {
                shared.tell();
                if heard.elapsed() >= SILENT {
                    return Trouble::Silent;
                }
                number += 1;
                sent.push_back((number, Instant::now()));
                sent.truncate(64);
                let cmd = publish(shared, &session, number);
                let shared = Arc::clone(shared);
                // It ends by itself, within the time of a call: two or three at once.
                tokio::spawn(timeout(SILENT, async move {
                    let _ = shared.call("probe", shared.settings.call, async |commands| ask(commands, &cmd).await).await;
                }));
            }
        }
    }
}
