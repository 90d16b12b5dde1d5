//! A user's stay in a named room. Towards each other member the ledger has a room of two.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::json;
use voicematch_protocol::ServerView;

use super::{Stop, Until, User};
use crate::{
    measure::{
        ledger::{Inbox, Stay},
        sample::{Direction, ErrorKind, Kind, Route, Sample},
    },
    plan::{flow::JoinRoom, template::Frame},
    user::{
        steps::call::Pending,
        tag::{Tag, room_key},
    },
};

/// A stay in a named room.
#[derive(Default)]
pub struct NamedRoom {
    /// A hash of the room's id; `None`: the user has only asked to join.
    room: Option<u64>,
    /// The user, as the others know them.
    me: u64,
    /// Messages that the user sent to all.
    sent: u32,
    /// The others.
    peers: Vec<Peer>,
}

/// Another member.
struct Peer {
    id: u64,
    stay: Stay,
}

/// What is read of the messages about a room.
#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    room_id: Cow<'a, str>,
    #[serde(borrow, default)]
    you: Option<Me<'a>>,
    #[serde(borrow, default)]
    members: Vec<Member<'a>>,
    #[serde(borrow, default)]
    peer_id: Option<Cow<'a, str>>,
    #[serde(default)]
    offer: bool,
}

#[derive(Deserialize)]
struct Me<'a> {
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Member<'a> {
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
    #[serde(default)]
    offer: bool,
}

impl NamedRoom {
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Nothing is under way any more.
    pub fn settle(&mut self) {
        for peer in &mut self.peers {
            peer.stay.settled = true;
        }
    }
}

impl User {
    /// Asks to join the room of this user's number, and waits until the user is in it.
    pub(super) async fn join_room(&mut self, step: &JoinRoom) -> Result<(), Stop> {
        self.expecting.forget();
        let now = self.context.now();
        let number = self.start.user / step.members.max(1);
        let room = format!("{}-{:x}-{number}", step.name, self.context.run);
        let call = self.call_id(JoinRoom::CALL);
        self.named = Some(Box::default());
        let lateness = Duration::ZERO;
        self.tell(Sample::CallSent { call, lateness });
        let answer = "room_joined".to_owned();
        let pending = Pending::of_type(call, answer, now, step.within);
        self.pending.push_back(pending);
        let text = json!({ "type": "join_room", "room": room }).to_string();
        self.send(Frame::Text, text).map_err(Stop::Broken)?;
        self.listen_until(Until::Holds(|user| user.pending.is_empty()))
            .await?;
        match self.named.as_ref().and_then(|named| named.room) {
            Some(_) => Ok(()),
            None => {
                self.named = None;
                Err(Stop::Failed)
            }
        }
    }

    /// Takes what a message says about the room.
    pub(super) fn on_named_room(&mut self, now: Duration, text: &str) {
        let Ok(about) = serde_json::from_str::<About<'_>>(text) else {
            return;
        };
        let Some(named) = &mut self.named else { return };
        let peer = about.peer_id.as_deref().map(room_key);
        match (&*about.kind, about.you, peer) {
            ("room_joined", Some(me), _) if named.room.is_none() => {
                named.room = Some(room_key(&about.room_id));
                named.me = room_key(&me.peer_id);
                self.tell(Sample::RoomJoined);
                for member in about.members {
                    self.meet(now, room_key(&member.peer_id), member.offer);
                }
            }
            ("peer_joined", _, Some(peer)) => self.meet(now, peer, about.offer),
            ("peer_left", _, Some(peer)) => {
                let found = named.peers.iter().position(|known| known.id == peer);
                match found {
                    Some(place) => {
                        let mut stay = named.peers.swap_remove(place).stay;
                        stay.partner_left = true;
                        stay.left = now;
                        self.tell(Sample::Parted(Box::new(stay)));
                    }
                    None => self.tell_error(ErrorKind::WrongRoom),
                }
            }
            _ => {}
        }
    }

    /// Another member is in the room with the user from now on.
    fn meet(&mut self, now: Duration, peer: u64, offers: bool) {
        let user = self.start.user;
        let timeout = self.context.plan.message_timeout;
        let Some(named) = &mut self.named else { return };
        let Some(room) = named.room else { return };
        if peer == named.me || named.peers.iter().any(|known| known.id == peer) {
            return self.tell(Sample::DoubleMatch);
        }
        let pair = room_key(&format!(
            "{room:x} {:x} {:x}",
            peer.min(named.me),
            peer.max(named.me)
        ));
        let direction = Direction::of_sender(offers);
        let stay = Stay {
            session: Some(named.me),
            peer: Some(peer),
            inbox: Inbox::from_any(),
            ..Stay::new(pair, user, direction, now, timeout)
        };
        named.peers.push(Peer { id: peer, stay });
    }

    /// The tag of the next message to all members.
    pub(super) fn next_tag_to_all(
        &mut self,
        kind: Kind,
        due: Duration,
        lateness: Duration,
        len: usize,
    ) -> Option<Tag> {
        let named = self.named.as_mut()?;
        let (room, seq) = (named.room?, named.sent);
        named.sent += 1;
        for peer in &mut named.peers {
            peer.stay.sent[kind.index()] += 1;
            peer.stay.latest.sent(due + lateness);
        }
        let routes = named.peers.iter().map(|peer| Route {
            kind,
            direction: peer.stay.direction,
        });
        for route in routes.collect::<Vec<_>>() {
            self.tell(Sample::Sent { route, lateness });
        }
        Some(Tag {
            run: self.context.run,
            room,
            sender: self.start.user,
            seq,
            nth: seq,
            route: Route {
                kind,
                direction: Direction::OffererToAnswerer,
            },
            due,
            lateness,
            len,
        })
    }

    /// Checks a message of another member.
    pub(super) fn on_relay_in_room(
        &mut self,
        now: Duration,
        kind: Kind,
        view: &ServerView<'_>,
        tag: Option<Tag>,
    ) {
        let (Some(payload), Some(tag)) = (view.payload, tag) else {
            return self.tell_error(ErrorKind::BadMessage);
        };
        if tag.run != self.context.run {
            return self.tell(Sample::Foreign);
        }
        let took = self.context.waited(tag.due + tag.lateness, now);
        let timeout = self.context.plan.message_timeout;
        let from = view.from.as_deref().map(room_key);
        let Some(named) = &mut self.named else { return };
        let in_room = named.room == Some(tag.room);
        let peer = named.peers.iter_mut().find(|peer| Some(peer.id) == from);
        let Some(peer) = peer.filter(|_| in_room) else {
            return self.tell(Sample::WrongPeer { route: tag.route });
        };
        let route = Route {
            kind: tag.route.kind,
            direction: peer.stay.direction.reverse(),
        };
        let receipt = (peer.stay.inbox).receive(tag.sender, tag.seq, route.kind, tag.nth);
        peer.stay.inbox.slow = took > timeout / 2;
        let altered = route.kind != kind || tag.altered(payload.get());
        self.tell_gap(receipt);
        self.heard_partner(now);
        self.on_receipt(now, Tag { route, ..tag }, receipt, altered);
    }

    /// The user is out of the room. Returns which it was.
    pub(super) fn leave_named_room(&mut self, cut_off: bool) -> Option<u64> {
        let named = self.named.take()?;
        let now = self.context.now();
        for Peer { mut stay, .. } in named.peers {
            stay.cut_off |= cut_off;
            stay.left = now;
            self.tell(Sample::Parted(Box::new(stay)));
        }
        if named.room.is_some() {
            self.tell(Sample::NamedRoomLeft);
        }
        named.room
    }
}
