//! Interviews in memory: each behind one lock, as many as fit, the least used ones out first.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::Limits;
use crate::{
    record::RowId,
    survey::{
        error::ToolError,
        log::Log,
        state::{Attempts, State},
    },
};

/// What is known of an interview.
#[derive(Default)]
pub(super) struct Held {
    /// None until it has been read.
    pub(super) state: Option<State>,
    /// Whether the store may have another one.
    pub(super) doubtful: bool,
    pub(super) attempts: Attempts,
    pub(super) bucket: Bucket,
}

/// The place of an interview. It stays in the map while anybody holds it, so that there are never two of one interview.
#[derive(Clone)]
pub(super) struct Slot {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Arc<AsyncMutex<Held>>,
    /// When it was used, by the map's own count.
    used: AtomicU64,
    /// Whether some of it may be in the spill only.
    spilled: AtomicBool,
}

impl Slot {
    pub(super) async fn lock(&self) -> OwnedMutexGuard<Held> {
        Arc::clone(&self.shared.held).lock_owned().await
    }

    /// Notes that some of it is in the spill: it stays in memory until the log has caught up.
    pub(super) fn spilled(&self) {
        self.shared.spilled.store(true, Relaxed);
    }

    /// Whether some of it is in the spill, and not yet in the store.
    pub(super) fn only_spilled(&self, log: &dyn Log) -> bool {
        let spilled = self.shared.spilled.load(Relaxed) && log.behind();
        self.shared.spilled.store(spilled, Relaxed);
        spilled
    }
}

#[derive(Default)]
pub(super) struct Interviews {
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    slots: HashMap<RowId, Slot>,
    /// By survey and respondent.
    respondents: HashMap<(String, String), RowId>,
    names: HashMap<RowId, (String, String)>,
    /// By transcription session: the one that began last.
    sessions: HashMap<RowId, RowId>,
    held_in: HashMap<RowId, RowId>,
    uses: u64,
}

impl Interviews {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of an interview, empty if it is not in memory.
    pub(super) fn get(&self, id: RowId, most: usize, log: &dyn Log) -> Result<Slot, ToolError> {
        let mut map = self.map();
        map.uses += 1;
        let uses = map.uses;
        if let Some(slot) = map.slots.get(&id) {
            slot.shared.used.store(uses, Relaxed);
            return Ok(slot.clone());
        }
        if map.slots.len() >= most {
            map.make_room(most, log.behind());
        }
        if map.slots.len() >= most {
            tracing::warn!(most, "all interviews in memory wait for the database");
            return Err(ToolError::StorageUnavailable);
        }
        let slot = Slot {
            shared: Arc::default(),
        };
        slot.shared.used.store(uses, Relaxed);
        map.slots.insert(id, slot.clone());
        Ok(slot)
    }

    /// Gives the place of an interview back that could not be read, unless somebody else waits for it.
    pub(super) fn forget(&self, id: RowId, slot: Slot) {
        let mut map = self.map();
        drop(slot);
        let empty = |slot: &Slot| {
            slot.idle()
                && slot
                    .shared
                    .held
                    .try_lock()
                    .is_ok_and(|held| held.state.is_none())
        };
        if map.slots.get(&id).is_some_and(empty) {
            map.remove(id);
        }
    }

    pub(super) fn of(&self, respondent: &(String, String)) -> Option<RowId> {
        self.map().respondents.get(respondent).copied()
    }

    pub(super) fn name(&self, respondent: Option<(String, String)>, id: RowId) {
        let Some(key) = respondent else { return };
        let mut map = self.map();
        map.respondents.insert(key.clone(), id);
        map.names.insert(id, key);
    }
}

impl Interviews {
    /// The interview that is held in a transcription session, if it is known here.
    pub(super) fn within(&self, session: RowId) -> Option<RowId> {
        self.map().sessions.get(&session).copied()
    }

    /// Notes in which transcription session an interview is held.
    pub(super) fn hold(&self, id: RowId, session: Option<RowId>) {
        let Some(session) = session else { return };
        let mut map = self.map();
        map.sessions.insert(session, id);
        map.held_in.insert(id, session);
    }
}

impl Slot {
    /// Whether only the map has it. Clones are made under the map's lock alone.
    fn idle(&self) -> bool {
        Arc::strong_count(&self.shared) == 1 && Arc::strong_count(&self.shared.held) == 1
    }
}

impl Map {
    /// Takes a tenth out, the least used first.
    fn make_room(&mut self, most: usize, behind: bool) {
        let may_go = |slot: &Slot| slot.idle() && !(behind && slot.shared.spilled.load(Relaxed));
        let uses = |(id, slot): (&RowId, &Slot)| (slot.shared.used.load(Relaxed), *id);
        let mut idle: Vec<(u64, RowId)> = self
            .slots
            .iter()
            .filter(|(_, slot)| may_go(slot))
            .map(uses)
            .collect();
        let count = most.div_ceil(10).min(idle.len());
        if count < idle.len() {
            idle.select_nth_unstable(count);
        }
        for (_, id) in idle.into_iter().take(count) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: RowId) {
        self.slots.remove(&id);
        if let Some(key) = self.names.remove(&id) {
            self.respondents.remove(&key);
        }
        if let Some(session) = self.held_in.remove(&id)
            && self.sessions.get(&session) == Some(&id)
        {
            self.sessions.remove(&session);
        }
    }
}

/// How many calls an interview may still make: tokens that come back with time.
pub(super) struct Bucket {
    tokens: Option<f64>,
    filled: Instant,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            tokens: None,
            filled: Instant::now(),
        }
    }
}

impl Bucket {
    pub(super) fn take(&mut self, limits: &Limits, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        let tokens = self.tokens.unwrap_or(limits.burst) + since * limits.calls_per_second;
        let tokens = tokens.min(limits.burst);
        self.filled = now;
        let enough = tokens >= 1.0;
        self.tokens = Some(if enough { tokens - 1.0 } else { tokens });
        enough
    }
}
