//! A running program: audio goes in, events come out, and in the end nothing of it is left.

use std::{sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, ChildStdout},
    sync::mpsc::{Receiver, Sender},
    time::{Instant, sleep_until, timeout},
};

use super::{
    lines::{Line, Lines},
    stderr::{self, Allowance},
};
use crate::provider::{Event, Input, LossReason};

/// How long a program may go on after its input has ended.
const FINISHING: Duration = Duration::from_secs(5);

/// How long the output of a program is read that has exited: a child of it may keep that open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// See [`process`](self).
pub(super) struct Process {
    child: Child,
    audio: Receiver<Input>,
    events: Sender<Event>,
    log: Arc<Allowance>,
}

/// How the writing to a program has ended.
enum Written {
    /// All was written, and its input was closed.
    Finished,
    /// It reads no more.
    Broken,
    /// Nobody wants what it says.
    Abandoned,
}

/// How a program has ended.
#[derive(Clone, Copy, PartialEq)]
enum Ended {
    /// It has closed its output, or exited.
    Output {
        was_finished: bool,
    },
    Abandoned,
    /// It had to be stopped.
    Stopped,
}

impl Process {
    pub(super) fn new(
        child: Child,
        audio: Receiver<Input>,
        events: Sender<Event>,
        log: Arc<Allowance>,
    ) -> Self {
        Self {
            child,
            audio,
            events,
            log,
        }
    }

    pub(super) async fn run(self) {
        let Self {
            mut child,
            audio,
            events,
            log,
        } = self;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let logging = stderr.map(|stderr| tokio::spawn(stderr::log(stderr, log)));
        let group = Group::of(&child);
        let ended = match (stdin, stdout) {
            (Some(stdin), Some(stdout)) => talk(&mut child, stdin, stdout, audio, &events).await,
            _ => Ended::Stopped,
        };
        let is_success = end(child, group, ended).await;
        if let Some(logging) = logging {
            logging.abort();
        }
        if ended != (Ended::Output { was_finished: true }) || !is_success {
            let _ = events.send(Event::Lost(LossReason::Crashed)).await;
        }
    }
}

/// Until one of both sides has ended.
async fn talk(
    child: &mut Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    audio: Receiver<Input>,
    events: &Sender<Event>,
) -> Ended {
    let (write, read) = (write(stdin, audio, events), read(stdout, events));
    tokio::pin!(write, read);
    let (mut was_finished, mut has_exited) = (false, false);
    let mut stop_at = None;
    loop {
        let stop = stop_at.unwrap_or_else(Instant::now);
        tokio::select! {
            written = &mut write, if !was_finished && !has_exited => match written {
                Written::Finished => {
                    was_finished = true;
                    stop_at = Some(Instant::now() + FINISHING);
                }
                Written::Broken => return Ended::Stopped,
                Written::Abandoned => return Ended::Abandoned,
            },
            () = &mut read => return Ended::Output { was_finished },
            _ = child.wait(), if !has_exited => {
                has_exited = true;
                stop_at = Some(Instant::now() + LAST_WORDS);
            }
            () = sleep_until(stop), if stop_at.is_some() => return match has_exited {
                true => Ended::Output { was_finished },
                false => Ended::Stopped,
            },
            () = events.closed() => return Ended::Abandoned,
        }
    }
}

async fn write(
    mut stdin: ChildStdin,
    mut audio: Receiver<Input>,
    events: &Sender<Event>,
) -> Written {
    let mut bytes = 0;
    while let Some(input) = audio.recv().await {
        let Input::Pcm(pcm) = input else {
            return Written::Finished;
        };
        if stdin.write_all(&pcm).await.is_err() {
            return Written::Broken;
        }
        bytes += pcm.len() as u64;
        if events.send(Event::Accepted { bytes }).await.is_err() {
            return Written::Abandoned;
        }
    }
    Written::Abandoned
}

async fn read(stdout: ChildStdout, events: &Sender<Event>) {
    let mut lines = Lines::new(stdout);
    while let Some(line) = lines.next().await {
        let event = match line {
            Line::Whole(line) => super::lines::event(line),
            Line::TooLong => Event::Garbage("a line of more than 64 KiB"),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// The process group of a program, which is killed when this is dropped: also when the server ends meanwhile.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // While one of its processes lives, its number is not given to another one.
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Ends all that is left of a program. Whether it exited with 0 by itself.
async fn end(mut child: Child, group: Group, ended: Ended) -> bool {
    let is_success = match ended {
        Ended::Output { .. } => {
            let exited = timeout(FINISHING, child.wait()).await;
            matches!(exited, Ok(Ok(status)) if status.success())
        }
        Ended::Abandoned | Ended::Stopped => false,
    };
    // Its children too.
    drop(group);
    let _ = child.wait().await;
    is_success
}
