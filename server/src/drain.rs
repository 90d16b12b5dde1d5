//! The drain: who has to go is told when, and goes then; nobody is cut off in the middle of a word.
//!
//! ```text
//!  0            spread                    timeout - spread      timeout
//!  |-- early ------|                            |---- late --------|
//! ```
//!
//! Early go users outside rooms, and then rooms that a successor takes over: those of which all members can come back with
//! their room tickets. All other rooms may end by themselves until it is late. Users who ask for a match or a room, which only
//! the next server makes, go at once.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use voicematch_protocol::{CloseReason, RoomId, ServerMessage};

use voicematch_core::{
    room::{Member, Place, Room},
    session::Context,
};

/// The longest time over which users are spread.
const MAX_SPREAD: Duration = Duration::from_secs(10);

/// How long clients may take to confirm what they were sent.
const CONFIRM: Duration = Duration::from_secs(1);

/// How often it is looked at who has to go: each time few of all.
const TICK: Duration = Duration::from_millis(20);

/// Users who go together: the members of a room, or one user.
struct Group {
    members: Vec<Arc<Member>>,
    in_room: bool,
    /// Other nodes take their sessions; a successor does not.
    elsewhere: bool,
    /// When they have to go, from the start of the drain.
    at: Duration,
    /// Until when they may confirm what they were sent; `None`: they do not go yet.
    until: Option<Duration>,
}

/// Sends `draining` to all users and closes them one after the other, the last of them after `timeout` or when `stop` is
/// ready. `succeeded`: another process listens where this one did. Returns how many had to be closed at the very end.
pub async fn drain(
    context: &Context,
    timeout: Duration,
    succeeded: bool,
    stop: impl Future<Output = ()>,
) -> usize {
    context.draining.store(true, Ordering::Relaxed);
    context.metrics.draining.set(1);
    context.matchmaker.drain();
    tokio::select! {
        () = all_go(context, timeout, succeeded) => {}
        () = stop => {}
    }
    let rest = context.directory.members();
    for member in &rest {
        member.outbox.close(CloseReason::Draining);
    }
    rest.len()
}

/// Waits until all have left, at most for `timeout`.
async fn all_go(context: &Context, timeout: Duration, succeeded: bool) {
    let mut groups = plan(context.directory.members(), timeout, succeeded);
    for group in &groups {
        let reconnect_in_ms = u64::try_from(group.at.as_millis()).unwrap_or(u64::MAX);
        for member in &group.members {
            // A refusal means that they are leaving already.
            let _ = member
                .outbox
                .send(&ServerMessage::Draining { reconnect_in_ms });
        }
    }
    let begun = Instant::now();
    while begun.elapsed() < timeout && !context.directory.is_empty() {
        groups.retain_mut(|group| group.goes_on(context, begun.elapsed()));
        sleep(TICK).await;
    }
}

/// Who goes when: evenly spread, those who wait for a match first, as they lose time, and those in rooms last.
fn plan(members: Vec<Arc<Member>>, timeout: Duration, succeeded: bool) -> Vec<Group> {
    let (mut waiting, mut idle) = (Vec::new(), Vec::new());
    let mut rooms = HashMap::<RoomId, Vec<Arc<Member>>>::new();
    for member in members {
        match (member.room_id(), member.place()) {
            (Some(room), _) => rooms.entry(room).or_default().push(member),
            (None, Place::Waiting) => waiting.push(vec![member]),
            (None, _) => idle.push(vec![member]),
        }
    }
    // One of them may be on another node.
    let comes_back = |members: &Vec<Arc<Member>>| {
        members.iter().all(|member| {
            let room = member.room();
            let partner_comes_back = |room: &Arc<Room>| room.peer_of(member.id).is_resumable();
            member.is_resumable() && room.as_ref().is_none_or(partner_comes_back)
        })
    };
    let rooms = rooms.into_values();
    let (moving, staying): (Vec<_>, Vec<_>) =
        rooms.partition(|members| succeeded && comes_back(members));
    let spread = (timeout / 2).min(MAX_SPREAD);
    let early = waiting.into_iter().chain(idle).chain(moving).collect();
    let mut groups = spread_over(early, Duration::ZERO, spread);
    let last = timeout.saturating_sub(CONFIRM.min(spread));
    groups.append(&mut spread_over(staying, timeout - spread, last));
    for group in &mut groups {
        group.elsewhere = !succeeded;
    }
    groups
}

/// Groups whose users go evenly between `from` and `to`.
fn spread_over(groups: Vec<Vec<Arc<Member>>>, from: Duration, to: Duration) -> Vec<Group> {
    let count = |users: usize| u32::try_from(users).unwrap_or(u32::MAX);
    let users = groups.iter().map(Vec::len).sum();
    let step = (to - from) / count(users).max(1);
    let mut before = 0;
    let groups = groups.into_iter().map(|members| {
        let at = from + step * before;
        before += count(members.len());
        Group {
            in_room: members[0].place() == Place::InRoom,
            elsewhere: false,
            members,
            at,
            until: None,
        }
    });
    groups.collect()
}

impl Group {
    /// Does what is due; false: all have gone.
    fn goes_on(&mut self, context: &Context, elapsed: Duration) -> bool {
        self.members.retain(|member| member.place() != Place::Gone);
        let session = |member: &Arc<Member>| context.resumables.get(member.id);
        let now = Instant::now();
        match self.until {
            None if self.at <= elapsed || self.is_over() || self.asked_in_vain() => {
                self.bring_partners();
                // All of them, before the first one goes: who is still there must not speak to one who has gone.
                let sessions = self.members.iter().filter_map(session);
                sessions.for_each(|session| session.stop_taking(now));
                self.until = Some(elapsed + CONFIRM);
            }
            None => return true,
            Some(_) => {}
        }
        let (absent, present): (Vec<_>, Vec<_>) = (self.members.iter().cloned())
            .partition(|member| session(member).is_some_and(|session| session.is_out_of_reach()));
        let confirmed = present.iter().all(|member| member.outbox.is_confirmed());
        if !confirmed && self.until.is_some_and(|until| elapsed < until) {
            return true;
        }
        for member in present {
            match session(&member) {
                Some(session) => session.send_away(self.elsewhere, now),
                None => member.outbox.close(CloseReason::Draining),
            }
        }
        // Who comes back meanwhile gets what they have missed, and goes then.
        (self.members, self.until) = (absent, None);
        !self.members.is_empty()
    }

    /// Whether one of them has asked for what only the next server begins.
    fn asked_in_vain(&self) -> bool {
        self.members.iter().any(|member| member.asked_in_vain())
    }

    /// A match that was under way at the start of the drain has put two groups into one room: both go now.
    fn bring_partners(&mut self) {
        if self.in_room {
            return;
        }
        let rooms = self
            .members
            .iter()
            .filter_map(|member| Some((member.id, member.room()?)));
        let partners = rooms.map(|(id, room)| room.peer_of(id).clone());
        let here: Vec<_> = partners
            .filter(|partner| partner.is_resumable() && !partner.is_there())
            .filter(|partner| self.members.iter().all(|member| member.id != partner.id))
            .collect();
        self.members.extend(here);
    }

    /// A room that has ended by itself.
    fn is_over(&self) -> bool {
        let in_room = |member: &Arc<Member>| member.place() == Place::InRoom;
        self.in_room && !self.members.iter().any(in_room)
    }
}
