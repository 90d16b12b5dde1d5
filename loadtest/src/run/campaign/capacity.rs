//! Plays the tries of a search for the capacity, and makes one record of them.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::{
    Stop,
    bisection::{Hunt, Try},
    explain, of_users,
};
use crate::{
    base::{machine::users_that_fit, units::count},
    judge,
    plan::{CapacitySearch, Plan},
    record::{Capacity, CapacityStep, Finding, Outcome, Record, Validity},
    run::{engine::run_until, error::RunError, progress::Progress},
    user::net::target::Target,
};

/// The pause after a try, so that an overloaded server can recover.
const PAUSE: Duration = Duration::from_millis(500);
/// How often to ask again when the server cannot be reached after a try.
const ASK_AGAIN: u32 = 5;
/// The pause before each of these attempts.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Descriptors that a later try may need and the present one does not.
const SPARE_FILES: u64 = 16;

/// A try with a valid measurement.
struct Tried {
    users: u32,
    held: bool,
    record: Record,
}

/// A search in progress.
struct Tries<'a, 's> {
    plan: &'a Plan,
    target: &'a Target,
    stop: Stop<'s>,
    began: Instant,
    hunt: Hunt,
    steps: Vec<CapacityStep>,
    tried: Vec<Tried>,
    /// The latest try, if it says nothing about the server: it was the generator's fault, or the user ended it.
    void: Option<Record>,
    /// Remarks for the record.
    findings: Vec<Finding>,
}

/// Searches for the most users with whom all thresholds of `plan` hold. Each try is a run.
///
/// Returns the record of the run with these users, with the answer in it; if no load held, that of the failed run.
///
/// # Errors
/// The first try could not take place. If a later one cannot, the search ends with what it knows.
pub(super) async fn search(
    plan: &Plan,
    search: &CapacitySearch,
    target: &Target,
    stop: Stop<'_>,
    on_progress: &mut (impl FnMut(&Progress) + Send),
) -> Result<Record, RunError> {
    let fit = users_that_fit().saturating_sub(SPARE_FILES).max(2);
    let fit = u32::try_from(fit).unwrap_or(u32::MAX);
    let within = CapacitySearch {
        from: search.from.min(fit),
        to: search.to.min(fit),
        ..search.clone()
    };
    let mut tries = Tries {
        plan,
        target,
        stop,
        began: Instant::now(),
        hunt: Hunt::new(within),
        steps: Vec::new(),
        tried: Vec::new(),
        void: None,
        findings: Vec::new(),
    };
    while let Some(next) = tries.hunt.next() {
        if !tries.play(next, on_progress).await? {
            break;
        }
    }
    let most = if fit < search.to {
        "that this process may open files for"
    } else {
        "that the search goes to"
    };
    tries.end(most).ok_or(RunError::Stopped)
}

impl Tries<'_, '_> {
    /// Plays one try. Returns whether the search goes on.
    async fn play(
        &mut self,
        next: Try,
        on_progress: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<bool, RunError> {
        let Try { kind, users } = next;
        let number = self.steps.len() + 1;
        let phase = format!(
            "try {number}: {} users, {}",
            count(users.into()),
            kind.name()
        );
        let plan = of_users(self.plan, users)?.ending_when_hopeless();
        let start = self.began.elapsed();
        let record = match self.run(&plan, &phase, on_progress).await {
            Ok(record) => record,
            Err(error) if self.steps.is_empty() => return Err(error),
            Err(RunError::Stopped) => return Ok(self.asked_to_end()),
            Err(error) => {
                self.find(
                    format!("the search ended before try {number}: {error}"),
                    "Check whether the server survived the previous try",
                );
                return Ok(false);
            }
        };
        let cut_short = record.run.interrupted && !record.thresholds.iter().any(|one| one.aborted);
        if cut_short || record.outcome == Outcome::Invalid {
            // The generator's machine may have paused once: that deserves a second try, but not a third.
            let again = !cut_short && self.void.is_none();
            if cut_short {
                self.asked_to_end();
            } else if !again {
                let (what, advice) = explain::distrust(users, &record);
                self.find(what, &advice);
            }
            self.void = Some(record);
            return Ok(again);
        }
        self.void = None;
        let held = record.outcome == Outcome::Pass;
        let time = [start, self.began.elapsed()];
        self.steps
            .push(explain::step(kind.name(), users, time, &record));
        self.hunt.tell(users, held);
        self.tried.push(Tried {
            users,
            held,
            record,
        });
        if !held {
            sleep(PAUSE).await;
        }
        let stopped = self.stop.clone().now_or_never().is_some();
        Ok(!stopped || self.asked_to_end())
    }

    /// Plays a run against a server that may still have to recover from the run before.
    async fn run(
        &self,
        plan: &Plan,
        phase: &str,
        on_progress: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<Record, RunError> {
        let mut left = if self.steps.is_empty() { 0 } else { ASK_AGAIN };
        loop {
            let ran = run_until(plan, self.target, self.stop.clone(), |progress| {
                on_progress(&Progress {
                    phase: match progress.phase.as_str() {
                        "" => phase.to_owned(),
                        phase => format!("{phase}: {phase}"),
                    },
                    ..progress.clone()
                });
            });
            match ran.await {
                Err(RunError::Unreachable { .. }) if left > 0 => left -= 1,
                ran => return ran,
            }
            tokio::select! {
                () = sleep(ASK_AGAIN_AFTER) => {}
                () = self.stop.clone() => return Err(RunError::Stopped),
            }
        }
    }

    /// Never goes on.
    fn asked_to_end(&mut self) -> bool {
        self.find(
            "the search was stopped before it had an answer".to_owned(),
            "Let it run to its end",
        );
        false
    }

    fn find(&mut self, what: String, advice: &str) {
        self.findings.push(Finding {
            validity: Validity::Suspect,
            what,
            advice: advice.to_owned(),
        });
    }

    /// The record of the answer; `None`: nothing was played. `most`: the reason why the largest load was the last.
    fn end(mut self, most: &str) -> Option<Record> {
        let answer = self.hunt.answer();
        if !answer.steady {
            self.find(
                "several times, a load held at one time and failed at another".to_owned(),
                "Look for what else runs on the server's machine, or hold each load for longer",
            );
        }
        let broke = self.tried.iter().filter(|tried| !tried.held);
        let broke = broke
            .filter(|tried| tried.users > answer.holds)
            .min_by_key(|tried| tried.users);
        let gave_out = match broke {
            Some(broke) => Some(explain::gave_out(broke.users, &broke.record)),
            None => self.findings.is_empty().then(|| {
                let users = count(answer.holds.into());
                format!("nothing, up to the {users} users {most}")
            }),
        };
        // The last try with these users: the one that confirmed them.
        let held = self.tried.iter().rev();
        let mut held = held.filter(|tried| tried.held && tried.users == answer.holds);
        let shown = held.next().or(broke).map(|tried| tried.record.clone());
        let mut record = shown.or(self.void)?;
        if !self.steps.is_empty() {
            record.capacity = Some(Capacity {
                holds: answer.holds.into(),
                breaks: answer.breaks.map(u64::from),
                gave_out,
                steps: self.steps,
            });
        }
        let mut findings = std::mem::take(&mut record.measurement.findings);
        findings.extend(self.findings);
        judge::conclude(&mut record, findings);
        Some(record)
    }
}
