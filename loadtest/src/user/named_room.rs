//! A user's stay in a named room. Towards each other member the ledger has a room of two, which goes on where both move to
//! another server.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::json;
use voicematch_protocol::{CloseReason, ServerView};

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

/// Why a member leaves whose server drains.
const DRAINED: &str = CloseReason::Draining.as_str();

/// A stay in a named room.
pub struct NamedRoom {
    name: Box<str>,
    /// Where the user is; `None`: they have only asked to join.
    place: Option<Place>,
    /// Messages that the user sent to all.
    sent: u32,
    /// The others.
    peers: Vec<Peer>,
}

/// Hashes of ids, which are others at another server.
struct Place {
    room: u64,
    /// The user, as the others know them.
    me: u64,
}

/// Another member.
struct Peer {
    id: u64,
    stay: Stay,
    /// They have moved to another server, and the user has not seen them there.
    away: bool,
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
    #[serde(borrow, default)]
    was: Option<Cow<'a, str>>,
    #[serde(default)]
    offer: bool,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
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
    #[serde(borrow, default)]
    was: Option<Cow<'a, str>>,
    #[serde(default)]
    offer: bool,
}

impl NamedRoom {
    fn new(name: String) -> Self {
        Self {
            name: name.into(),
            place: None,
            sent: 0,
            peers: Vec::new(),
        }
    }

    /// Whether the user is in it.
    pub fn is_joined(&self) -> bool {
        self.place.is_some()
    }

    /// A hash of its name, which is the same at each server.
    pub fn room(&self) -> Option<u64> {
        self.is_joined().then(|| room_key(&self.name))
    }

    /// All go to another server.
    pub fn moves(&mut self) {
        for peer in &mut self.peers {
            peer.away = true;
        }
    }

    /// All who went are back.
    pub fn is_gathered(&self) -> bool {
        !self.peers.iter().any(|peer| peer.away)
    }

    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// The user's stays, one with each of the others.
    pub fn stays(&mut self) -> impl Iterator<Item = &mut Stay> {
        self.peers.iter_mut().map(|peer| &mut peer.stay)
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
        let name = format!("{}-{:x}-{number}", step.name, self.context.run);
        let call = self.call_id(JoinRoom::CALL);
        self.named = Some(Box::new(NamedRoom::new(name)));
        let lateness = Duration::ZERO;
        self.tell(Sample::CallSent { call, lateness });
        let answer = "room_joined".to_owned();
        let pending = Pending::of_type(call, answer, now, step.within);
        self.pending.push_back(pending);
        self.ask_to_join().map_err(Stop::Broken)?;
        self.listen_until(Until::Holds(|user| user.pending.is_empty()))
            .await?;
        if self.named.as_ref().is_some_and(|named| named.is_joined()) {
            return Ok(());
        }
        self.named = None;
        Err(Stop::Failed)
    }

    /// Asks to join the room that the user wants to be in.
    pub(super) fn ask_to_join(&mut self) -> Result<(), ErrorKind> {
        let Some(named) = &self.named else {
            return Ok(());
        };
        let text = json!({ "type": "join_room", "room": named.name }).to_string();
        self.send(Frame::Text, text)
    }

    /// Takes what a message says about the room.
    pub(super) fn on_named_room(&mut self, now: Duration, text: &str) -> Result<(), ErrorKind> {
        let Ok(about) = serde_json::from_str::<About<'_>>(text) else {
            return Ok(());
        };
        let rejoins = self.is_rejoining();
        let Some(named) = &mut self.named else {
            return Ok(());
        };
        let peer = about.peer_id.as_deref().map(room_key);
        match (&*about.kind, about.you, peer) {
            ("room_joined", Some(me), _) if rejoins || !named.is_joined() => {
                named.place = Some(Place {
                    room: room_key(&about.room_id),
                    me: room_key(&me.peer_id),
                });
                if !rejoins {
                    self.tell(Sample::RoomJoined);
                    self.together_again(now);
                }
                for member in about.members {
                    let was = member.was.as_deref().map(room_key);
                    self.meet(now, room_key(&member.peer_id), was, member.offer);
                }
                return self.on_room_rejoined(now);
            }
            ("peer_joined", _, Some(peer)) => {
                self.meet(now, peer, about.was.as_deref().map(room_key), about.offer);
            }
            // They come back at another server.
            ("peer_left", _, _) if self.resume.is_some() && about.reason == DRAINED => {}
            ("peer_left", _, Some(peer)) => match named.peers.iter().position(|it| it.id == peer) {
                Some(place) => {
                    let peer = named.peers.swap_remove(place);
                    self.part(now, peer);
                }
                None => self.tell_error(ErrorKind::WrongRoom),
            },
            _ => {}
        }
        self.go_on_if_gathered(now)
    }

    /// Waits no longer for those who have not come back.
    pub(super) fn part_from_away(&mut self, now: Duration) {
        let Some(named) = &mut self.named else { return };
        let away: Vec<_> = named.peers.extract_if(.., |peer| peer.away).collect();
        for peer in away {
            self.part(now, peer);
        }
    }

    /// Another member has left.
    fn part(&self, now: Duration, peer: Peer) {
        let mut stay = peer.stay;
        stay.partner_left = true;
        stay.left = now;
        self.tell(Sample::Parted(Box::new(stay)));
    }

    /// Another member is in the room with the user from now on. `was`: how the user knew them at another server.
    fn meet(&mut self, now: Duration, id: u64, was: Option<u64>, offers: bool) {
        let (user, node) = (self.start.user, self.node());
        let timeout = self.context.plan.message_timeout;
        let Some(named) = &mut self.named else { return };
        let Some(Place { room, me }) = named.place else {
            return;
        };
        if id == me || named.peers.iter().any(|known| known.id == id) {
            return self.tell(Sample::DoubleMatch);
        }
        let mut peers = named.peers.iter_mut();
        if let Some(peer) = peers.find(|peer| peer.away && Some(peer.id) == was) {
            (peer.id, peer.away) = (id, false);
            (peer.stay.session, peer.stay.peer) = (Some(me), Some(id));
            return;
        }
        let pair = room_key(&format!("{room:x} {:x} {:x}", id.min(me), id.max(me)));
        let stay = Stay {
            node,
            session: Some(me),
            peer: Some(id),
            inbox: Inbox::from_any(),
            ..Stay::new(pair, user, Direction::of_sender(offers), now, timeout)
        };
        let away = false;
        named.peers.push(Peer { id, stay, away });
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
        let (room, seq) = (named.room()?, named.sent);
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
            node: self.node(),
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
        let in_room = named.room() == Some(tag.room);
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
        let (now, room) = (self.context.now(), named.room());
        for Peer { mut stay, .. } in named.peers {
            stay.cut_off |= cut_off;
            stay.left = now;
            self.tell(Sample::Parted(Box::new(stay)));
        }
        if room.is_some() {
            self.tell(Sample::NamedRoomLeft);
        }
        room
    }
}
