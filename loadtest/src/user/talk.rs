//! A user's part in a transcription session, and in an interview.

mod answers;
mod api;
mod audio;
mod host;
mod interview;
mod line;
mod session;
mod speaker;

use std::{
    collections::HashMap,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    measure::{
        sample::{ErrorKind, Sample},
        talk::TalkSample,
    },
    plan::{
        Plan,
        flow::Step,
        talk::{Audio, Talk},
    },
    user::{Stop, User, WorkerContext, run_state::RunState},
};
use answers::Answers;
use session::Session;

/// How long the last words may take after the last speaker has stopped, beside the message time-out.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the users of all workers share: the sessions that are open, and the answers that are stored.
pub struct Talks {
    /// By the name of the talk and the number of its group.
    open: Mutex<HashMap<(String, u32), Arc<Session>>>,
    /// Sessions, and tracks, so far.
    sessions: AtomicU32,
    tracks: AtomicU32,
    /// The step between two numbers of this process; other shards have those between.
    shards: u32,
    answers: Mutex<Answers>,
    /// By the path and the rate of the talk.
    files: HashMap<(PathBuf, u32), Arc<[u8]>>,
}

impl Talks {
    /// Reads the audio that users of this plan play.
    ///
    /// # Errors
    /// A file, and why it cannot be played.
    pub fn new(plan: &Plan) -> Result<Self, (String, String)> {
        let mut files = HashMap::new();
        for flow in &plan.flows {
            let mut wanted = Vec::new();
            collect_files(&flow.steps, &mut wanted);
            for (path, rate) in wanted {
                let audio = audio::read(&path, rate);
                let audio = audio.map_err(|reason| (path.display().to_string(), reason))?;
                files.insert((path, rate), audio.into());
            }
        }
        Ok(Self {
            open: Mutex::default(),
            sessions: AtomicU32::new(plan.shard.index),
            tracks: AtomicU32::new(plan.shard.index),
            shards: plan.shard.count.max(1),
            answers: Mutex::default(),
            files,
        })
    }

    /// The open session of a user's group, which they have entered; a new one if there is none.
    fn enter(&self, run: u32, talk: &Talk, user: u32) -> Arc<Session> {
        let (group, speaks) = talk.place_of(user);
        let mut open = lock(&self.open);
        let key = (talk.name.clone(), group);
        if let Some(session) = open.get(&key)
            && session.enter(speaks)
        {
            return Arc::clone(session);
        }
        let number = self.sessions.fetch_add(self.shards, Relaxed);
        let session = Arc::new(Session::new(format!("{}-{run:08x}-{number}", talk.name)));
        session.enter(speaks);
        open.insert(key, Arc::clone(&session));
        session
    }

    /// Forgets a session that is over.
    fn forget(&self, talk: &Talk, user: u32, session: &Arc<Session>) {
        let key = (talk.name.clone(), talk.place_of(user).0);
        let mut open = lock(&self.open);
        if open
            .get(&key)
            .is_some_and(|known| Arc::ptr_eq(known, session))
        {
            open.remove(&key);
        }
    }

    /// A number that no other track of the run has.
    fn next_track(&self) -> u32 {
        self.tracks.fetch_add(self.shards, Relaxed)
    }
}

fn collect_files(steps: &[Step], wanted: &mut Vec<(PathBuf, u32)>) {
    for step in steps {
        match step {
            Step::Talk(Talk {
                audio: Audio::File(path),
                sample_rate,
                ..
            }) => wanted.push((path.clone(), *sample_rate)),
            Step::Loop { steps, .. } => collect_files(steps, wanted),
            _ => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One user in one session.
struct Part<'a> {
    context: Rc<WorkerContext>,
    user: u32,
    talk: &'a Talk,
    session: Arc<Session>,
    /// When the user's connections are due, since the start of the run.
    due: Duration,
    /// When the plan takes the user out.
    until: Option<Duration>,
}

impl Part<'_> {
    fn tell(&self, sample: TalkSample) {
        (self.context.sink)(Sample::Talk(sample));
    }

    fn tell_error(&self, error: ErrorKind) {
        (self.context.sink)(Sample::Error { error });
    }

    /// The run, or the user's part in it, is over.
    fn is_over(&self) -> bool {
        let now = self.context.now();
        *self.context.state.borrow() >= RunState::Draining
            || self.until.is_some_and(|until| now >= until)
    }

    /// How long to wait for what is under way at the end.
    fn patience(&self) -> Duration {
        self.context.plan.message_timeout + LAST_WORDS
    }
}

impl User {
    /// Takes part in a session until the step, the user's part in the plan, or the run is over. The first user is
    /// also its host, and stays until all speakers have ended.
    pub(super) async fn talk(&mut self, talk: &Talk) -> Result<(), Stop> {
        let context = Rc::clone(&self.context);
        let session = context.talks.enter(context.run, talk, self.start.user);
        let due = self.due.take();
        let part = Part {
            user: self.start.user,
            talk,
            due: due.unwrap_or_else(|| context.now()),
            until: self.start.until,
            session: Arc::clone(&session),
            context: Rc::clone(&context),
        };
        let hosting = async {
            match session.take_host() {
                true => Box::pin(part.host()).await,
                false => Ok(()),
            }
        };
        let taking_part = async {
            let (_, speaks) = talk.place_of(part.user);
            let ended = match speaks {
                true => part.speak().await,
                false => part.listen().await,
            };
            session.leave(speaks);
            ended
        };
        let (hosted, ended) = tokio::join!(hosting, taking_part);
        self.connections += 1;
        match (ended, hosted) {
            (Ok(()), Ok(())) if self.is_over() => Err(Stop::Over),
            (Ok(()), Ok(())) => Ok(()),
            // At the end of the run, a session that another user ends is no fault.
            (Err(Stop::Failed), Ok(())) if self.is_over() => Err(Stop::Over),
            (Err(stop), _) | (_, Err(stop)) => Err(stop),
        }
    }
}

/// Waits until the run drains, or this long.
async fn pause(context: &WorkerContext, time: Duration) {
    tokio::select! {
        () = sleep(time) => {}
        () = super::run_state::reached(&context.state, RunState::Draining) => {}
    }
}
