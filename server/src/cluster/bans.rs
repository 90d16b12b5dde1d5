//! Bans of all nodes. What an operator says at one is written to the engine, which counts the time; the others are told that
//! something has changed, and read it. The engine may lose it: then who knows says it again.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use voicematch_cluster::{CallError, Engine, KeptOut, Word};

use super::{
    Node,
    desk::Todo,
    running::{Part, TICK},
};
use crate::admission::bans::{Ban, MAX_BANS, Whom};

/// The same ban, told twice, may end so much later or sooner: messages take their time.
const SAME: Duration = Duration::from_secs(5);

/// Between two looks: who tells of changes too often does not flood the engine.
const PAUSE: Duration = Duration::from_millis(50);

/// A ban that an operator has made here, or lifted.
pub(super) type Said = (Word, Ban);

impl Node {
    /// Tells the others of a ban.
    pub fn tell_ban(&self, ban: &Ban) {
        self.bans.say((Word::Ban, ban.clone()));
    }

    /// Tells the others that a ban was lifted.
    pub fn tell_lifted(&self, ban: &Ban) {
        self.bans.say((Word::Lift, ban.clone()));
    }
}

impl Part {
    /// Does not return.
    pub(super) async fn keep_bans(&self, engine: &Engine) {
        let desk = &self.node.bans;
        // What was said here before this node had joined, and what the others know.
        desk.say_again();
        let mut state = engine.state();
        loop {
            tokio::select! {
                () = desk.woken() => {}
                // It may have missed something.
                changed = state.changed() => match changed {
                    Ok(()) => desk.read(),
                    Err(_) => return,
                },
            }
            while state.wait_for(|state| state.index).await.is_ok() {
                let todo = desk.take();
                if todo.is_nothing() {
                    break;
                }
                if self.carry_out(engine, &todo).await.is_err() {
                    desk.put_back(todo);
                    sleep(TICK).await;
                }
                sleep(PAUSE).await;
            }
        }
    }

    async fn carry_out(&self, engine: &Engine, todo: &Todo<Said>) -> Result<(), CallError> {
        let now = Instant::now();
        let mut words = Vec::new();
        if todo.again {
            let known = self.bans.all(now).into_iter();
            words.extend(known.map(|ban| (Word::Keep, kept(&ban, now))));
        }
        words.extend(todo.words.iter().map(|(word, ban)| (*word, kept(ban, now))));
        if !words.is_empty() {
            let taken = engine.write_bans(&words).await?;
            if let (true, Some(joined)) = (taken > 0, self.node.joined.get()) {
                joined.bus.tell_bans();
            }
        }
        for said in engine.read_bans().await? {
            self.take(&said);
        }
        Ok(())
    }

    /// Takes over what another node has said.
    fn take(&self, said: &KeptOut) {
        let now = Instant::now();
        let Some(whom) = whom(&said.whom) else {
            return;
        };
        if said.lifted {
            if self.bans.lift(&whom).is_some() {
                tracing::info!("a ban was lifted on another node");
            }
            return;
        }
        let until = now + said.left;
        let is_known = self.bans.find(&whom, now).is_some_and(|ban| {
            let apart = ban.until.max(until) - ban.until.min(until);
            apart <= SAME && *ban.reason == *said.reason
        });
        if is_known {
            return;
        }
        match self
            .bans
            .add(whom, said.reason.as_str().into(), said.left, now)
        {
            Ok(ban) => {
                let members = self
                    .context
                    .upgrade()
                    .map(|context| context.directory.members());
                let members = members.unwrap_or_default();
                let sessions_closed = members.iter().filter(|member| ban.close(member)).count();
                tracing::info!(ban = ban.id, sessions_closed, "a ban of another node");
            }
            Err(_) => {
                tracing::warn!("there are {MAX_BANS} bans: one of another node was not taken")
            }
        }
    }
}

/// A ban as the nodes write it. One that is over lives for a moment, so that it does no harm.
fn kept(ban: &Ban, now: Instant) -> KeptOut {
    KeptOut {
        whom: ban.whom.to_word().into_bytes(),
        left: ban.until.saturating_duration_since(now),
        reason: ban.reason.to_string(),
        lifted: false,
    }
}

fn whom(bytes: &[u8]) -> Option<Whom> {
    Whom::of_word(str::from_utf8(bytes).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_banned_reads_back() {
        let now = Instant::now();
        let until = now + Duration::from_secs(60);
        for ban in [
            Whom::User("ann".into()),
            Whom::User("".into()),
            Whom::network("203.0.113.0/24").expect("valid"),
            Whom::network("2001:db8:1:2::9").expect("valid"),
        ] {
            let reason = "spam".into();
            let kept = kept(
                &Ban {
                    id: 1,
                    whom: ban.clone(),
                    reason,
                    until,
                },
                now,
            );
            assert_eq!(whom(&kept.whom), Some(ban));
        }
        for bytes in [&b""[..], b"x1", b"n0.0.0.0/0", b"\xff"] {
            assert_eq!(whom(bytes), None);
        }
    }
}
