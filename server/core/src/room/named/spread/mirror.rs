//! What a node does whose users are in a room that has its home elsewhere.

use std::{sync::Arc, time::Duration};

use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{
    super::{EventKind, NamedRoom, roster::Numbered},
    Act, Home, Joiner, LOST, Who,
    frames::{Members, Seated},
};
use crate::cluster::NodeId;

/// That of a member who has moved to another room, until they have the one of there.
const UNNUMBERED: u32 = u32::MAX;

/// What a roster changes.
#[derive(Default)]
struct Change {
    members: Vec<Numbered>,
    /// Those of this node whose number is new to them, with the `id` of their request, if they wait for it.
    told: Vec<(SessionId, Option<Box<serde_json::value::RawValue>>)>,
    /// Those of other nodes that are new here, and those that are no more.
    came: Vec<SessionId>,
    gone: Vec<(SessionId, LeaveReason)>,
    /// Those of this node that have left before.
    stale: Vec<(SessionId, u64)>,
    /// Those of this node whose users are here with another session.
    replaced: Vec<Numbered>,
    /// The roster lacks somebody of this node.
    lacks: bool,
    /// It has somebody whose node has died.
    keeps: bool,
}

fn is_same(member: &Numbered, seated: &Seated) -> bool {
    member.member.id == seated.person.session && member.seat == seated.person.seat
}

impl Act<'_> {
    /// The home of a room, or who takes itself for that, says who is in it.
    pub(super) fn roster_came(&mut self, node: NodeId, id: RoomId, members: &Members) {
        let home = self.judge.names.get(&members.name).map(|name| name.home);
        if home != Some(Home::There(node)) {
            return self.strange_roster(node, id, members);
        }
        let Some(entry) = self.judge.names.get_mut(&members.name) else {
            return;
        };
        let before = entry.room.clone();
        let mut waiting = std::mem::take(&mut entry.waiting);
        let room = match before.clone().filter(|room| room.id == id) {
            Some(room) => room,
            None => {
                let age = Duration::from_millis(members.age_ms);
                let opened = self.now.checked_sub(age).unwrap_or(self.now);
                NamedRoom::new(id, &members.name, opened)
            }
        };
        let old = match before.filter(|before| before.id != id) {
            Some(before) => self.move_out(&before, &room, members, &mut waiting),
            None => std::mem::take(&mut room.roster_mut().members),
        };
        let (mut change, waiting) = self.change_of(&room, members, old, waiting);
        if let Some(entry) = self.judge.names.get_mut(&members.name) {
            entry.waiting = waiting;
            self.judge.restless.insert(members.name.clone());
        }
        if change.keeps {
            self.note_kept(&members.name);
        }
        let (stale, lacks) = (change.stale.clone(), change.lacks);
        let replaced = std::mem::take(&mut change.replaced);
        let is_empty = self.apply(&room, change, members.next);
        for member in replaced {
            self.replace(&room, &member.member);
        }
        for who in stale {
            self.say_left(node, id, &members.name, who, LeaveReason::Left);
        }
        self.keep(&room);
        if is_empty {
            self.drop_mirror(&room);
            self.forget(&members.name);
        } else {
            if lacks {
                self.say_here(node, &room);
            }
            self.release(&room);
        }
    }

    /// Somebody says that they are home of a room, and this node does not know it.
    fn strange_roster(&mut self, node: NodeId, id: RoomId, members: &Members) {
        let me = self.spread.me();
        let entry = self.judge.names.get(&members.name);
        let room = entry.and_then(|entry| entry.room.clone());
        let is_here = |session: SessionId, seat: u64| {
            let waits = entry.into_iter().flat_map(|entry| &entry.waiting);
            let mut waits = waits.filter(|joiner| matches!(joiner.who, Who::Here { .. }));
            let roster = room.as_ref().map(|room| room.roster());
            let is_seated = roster.is_some_and(|roster| {
                let mut here = roster.here();
                here.any(|member| member.member.id == session && member.seat == seat)
            });
            is_seated || waits.any(|joiner| joiner.seat == seat)
        };
        let mine = members.people.iter().filter(|it| it.node() == me);
        let mine = mine.map(|it| (it.person.session, it.person.seat));
        let (here, stale): (Vec<_>, Vec<_>) = mine.partition(|who| is_here(who.0, who.1));
        for who in stale {
            self.say_left(node, id, &members.name, who, LeaveReason::Left);
        }
        if !here.is_empty() {
            self.ask(&members.name);
        }
    }

    /// The users of this node go from one room to the one that takes its place, or wait to be let in there. Returns the former.
    fn move_out(
        &mut self,
        from: &Arc<NamedRoom>,
        to: &Arc<NamedRoom>,
        members: &Members,
        waiting: &mut Vec<Joiner>,
    ) -> Vec<Numbered> {
        let all = {
            let mut roster = from.roster_mut();
            roster.nodes.clear();
            std::mem::take(&mut roster.members)
        };
        self.spread.rooms.remove(&from.id);
        let me = self.spread.me();
        let peers: Vec<_> = all.iter().map(|member| member.member.id).collect();
        let mut moved = Vec::new();
        for mut member in all.into_iter().filter(|member| member.there.is_none()) {
            for &peer in peers.iter().filter(|peer| **peer != member.member.id) {
                member.hear_left(from, peer, LOST);
            }
            self.rooms
                .tell(EventKind::RoomLeft, from, &member.member, Some(LOST));
            // Whom the home still has from an earlier life of this node is to be let in anew.
            let mut seated = members.people.iter();
            let is_listed = seated.any(|it| is_same(&member, it) && it.node() == me);
            let is_here = match is_listed {
                true => member.member.change_seat(from, to),
                false => member.member.wait_again(from, member.seat),
            };
            if is_here && is_listed {
                member.n = UNNUMBERED;
                moved.push(member);
                continue;
            }
            self.rooms.shared.metrics.named_members.dec();
            // Else they are leaving: they find the old room without themselves.
            if is_here {
                self.judge.joining.insert(member.seat, from.name.clone());
                waiting.push(Joiner {
                    seat: member.seat,
                    n: None,
                    was: member.was,
                    since: self.now,
                    who: Who::Here {
                        member: member.member,
                        id: None,
                        from: Some(from.id),
                    },
                });
            }
        }
        moved
    }

    fn change_of(
        &self,
        room: &Arc<NamedRoom>,
        members: &Members,
        mut old: Vec<Numbered>,
        mut waiting: Vec<Joiner>,
    ) -> (Change, Vec<Joiner>) {
        let me = self.spread.me();
        let mut change = Change::default();
        // Users of an earlier life of this node are here, or have gone.
        let is_former = |node: NodeId| node.process == me.process && node != me;
        for seated in members.people.iter().filter(|it| !is_former(it.node())) {
            let known = old.iter().position(|member| {
                is_same(member, seated)
                    && member.there.as_ref().map_or(me, |there| there.node) == seated.node()
            });
            let known = known.map(|at| old.remove(at));
            if seated.node() == me {
                self.own(room, seated, known, &mut waiting, &mut change);
            } else {
                self.others(room, seated, known, &mut change);
            }
        }
        // Those of this node stay: the home is told of them.
        for member in old {
            let id = member.member.id;
            let is_here = member.there.is_none();
            let mut seated = members.people.iter();
            let has_heir = seated.any(|it| it.person.was == Some(id));
            if is_here && !has_heir {
                change.lacks = true;
                change.members.push(member);
                continue;
            }
            // Who has come back into their seat was not away, as the others see it.
            let is_new = |session| {
                let told = change.told.iter().map(|(told, _)| *told);
                told.chain(change.came.iter().copied())
                    .any(|new| new == session)
            };
            let has_seat =
                |it: &Numbered| it.was == Some(id) && it.n == member.n && is_new(it.member.id);
            let is_told = change.gone.iter().any(|(gone, _)| *gone == id);
            if !is_told && !change.members.iter().any(has_seat) {
                change.gone.push((id, members.reason(id)));
            }
            if is_here {
                change.replaced.push(member);
            }
        }
        (change, waiting)
    }

    /// One of this node.
    fn own(
        &self,
        room: &Arc<NamedRoom>,
        seated: &Seated,
        known: Option<Numbered>,
        waiting: &mut Vec<Joiner>,
        change: &mut Change,
    ) {
        let (session, seat) = (seated.person.session, seated.person.seat);
        if let Some(mut known) = known {
            if known.n != seated.n() {
                // With another number they are somebody else to the others.
                if known.n != UNNUMBERED {
                    change.gone.push((session, LOST));
                }
                known.n = seated.n();
                change.told.push((session, None));
            }
            change.members.push(known);
            return;
        }
        let waits = waiting
            .iter()
            .position(|joiner| joiner.seat == seat && matches!(joiner.who, Who::Here { .. }));
        let joiner = waits.map(|at| waiting.remove(at));
        let Some(Joiner {
            was,
            who: Who::Here { member, id, .. },
            ..
        }) = joiner
        else {
            change.stale.push((session, seat));
            return;
        };
        if !member.take_promised_seat(room, seat) {
            change.stale.push((session, seat));
            return;
        }
        let mut newcomer = Numbered::here(&member, None, seat);
        (newcomer.n, newcomer.was) = (seated.n(), was);
        change.told.push((session, id));
        change.members.push(newcomer);
    }

    /// One of another node.
    fn others(
        &self,
        room: &Arc<NamedRoom>,
        seated: &Seated,
        known: Option<Numbered>,
        change: &mut Change,
    ) {
        let session = seated.person.session;
        match known {
            Some(known) if known.n == seated.n() => return change.members.push(known),
            Some(_) => change.gone.push((session, LOST)),
            None => {}
        }
        let person = &seated.person;
        let node = seated.node();
        let Some(there) = self.there(node, person.mate.resumable) else {
            return;
        };
        let member = self.member_there(node, room.id, session, &person.mate);
        if there.is_kept() {
            member.set_away(true);
            change.keeps = true;
        }
        change.came.push(session);
        change.members.push(Numbered {
            n: seated.n(),
            member,
            was: person.was,
            seat: person.seat,
            there: Some(there),
        });
    }

    /// Carries out what a roster changes, and tells the users who are here. Returns whether there are none.
    fn apply(&mut self, room: &Arc<NamedRoom>, change: Change, next: u32) -> bool {
        let mut roster = room.roster_mut();
        roster.members = change.members;
        roster.next = roster.next.max(next);
        roster.find_ways(|node| self.spread.cluster.bus.link(node));
        let is_told = |member: &Numbered| {
            let mut told = change.told.iter();
            told.any(|(id, _)| *id == member.member.id)
        };
        for member in roster.here().filter(|member| !is_told(member)) {
            for (id, reason) in &change.gone {
                member.hear_left(room, *id, *reason);
            }
            let new = roster
                .members
                .iter()
                .filter(|other| change.came.contains(&other.member.id) || is_told(other));
            new.for_each(|other| member.hear_of(room, other));
        }
        for (id, request) in &change.told {
            let Some(at) = roster.position(*id) else {
                continue;
            };
            let member = &roster.members[at];
            if self.judge.joining.remove(&member.seat).is_some() {
                self.rooms.shared.metrics.named_members.inc();
            }
            roster.tell_joined(
                room,
                &member.member,
                &self.rooms.shared.keys,
                request.as_deref(),
            );
            self.rooms
                .tell(EventKind::RoomJoined, room, &member.member, None);
        }
        roster.here().next().is_none()
    }

    /// A home may have no users of its own; a mirror may not, as nobody would tell it anything.
    pub(super) fn drop_if_strange(&mut self, room: &Arc<NamedRoom>) {
        if room.roster().here().next().is_none() {
            self.drop_mirror(room);
        }
    }

    /// Nobody of this node is in the room any more.
    pub(super) fn drop_mirror(&mut self, room: &Arc<NamedRoom>) {
        let entry = self.judge.names.get_mut(&room.name);
        if let Some(entry) = entry
            && entry
                .room
                .as_ref()
                .is_some_and(|own| Arc::ptr_eq(own, room))
        {
            entry.room = None;
            self.spread.rooms.remove(&room.id);
            self.rooms.rooms.remove(&room.name);
        }
        self.forget(&room.name);
    }
}
