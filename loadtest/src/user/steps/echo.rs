//! Messages that the server sends back to their sender.

use std::time::Duration;

use crate::{
    measure::{
        ledger::Stay,
        reach::NodeId,
        sample::{Direction, Kind, Route, Sample},
    },
    user::{
        User,
        tag::{Tag, room_key},
    },
};

/// A user's exchange with the server itself: counted like a stay in a room for one.
pub struct Echo {
    pub stay: Box<Stay>,
}

impl User {
    /// The tag of the next message; the server must, or may, send it back.
    pub fn next_echo_tag(
        &mut self,
        due: Duration,
        lateness: Duration,
        len: usize,
        some_come_back: bool,
    ) -> Tag {
        let (run, user, now) = (self.context.run, self.start.user, self.context.now());
        let connection = self.connections;
        let echo = self.echo.get_or_insert_with(|| Echo {
            stay: Box::new(Stay::new(
                room_key(&format!("{run:x} {user} {connection}")),
                user,
                Direction::ToServer,
                now,
                self.context.plan.message_timeout,
            )),
        });
        let stay = &mut echo.stay;
        stay.some_come_back |= some_come_back;
        let kind = Kind::ECHO;
        let tag = Tag {
            run,
            room: stay.room,
            sender: user,
            node: NodeId::default(),
            seq: stay.sent_in_all(),
            nth: stay.sent[kind.index()],
            route: Route {
                kind,
                direction: Direction::ToServer,
            },
            due,
            lateness,
            len,
        };
        stay.sent[kind.index()] += 1;
        stay.latest.sent(now);
        tag
    }

    /// Whether an echo is still missing.
    pub fn awaits_echo(&self) -> bool {
        let stay = self.echo.as_ref().map(|echo| &echo.stay);
        stay.is_some_and(|stay| stay.inbox.received() < stay.sent_in_all())
    }

    pub fn on_echo(&mut self, now: Duration, tag: Tag, text: &str) {
        let route = tag.route;
        if tag.run != self.context.run {
            return self.tell(Sample::Foreign);
        }
        let Some(echo) = &mut self.echo else {
            return self.tell(Sample::WrongPeer { route });
        };
        if tag.room != echo.stay.room || tag.sender != self.start.user {
            return self.tell(Sample::WrongPeer { route });
        }
        let receipt = (echo.stay.inbox).receive(tag.sender, tag.seq, route.kind, tag.nth);
        if !echo.stay.some_come_back {
            self.tell_gap(receipt);
        }
        self.on_receipt(now, tag, receipt, tag.altered(text));
    }

    /// An echo whose tag was changed on the way.
    pub fn on_unreadable_echo(&mut self) {
        let Some(echo) = &mut self.echo else { return };
        echo.stay.inbox.receive_unreadable(Kind::ECHO);
        let (kind, direction) = (Kind::ECHO, Direction::ToServer);
        let route = Route { kind, direction };
        self.tell(Sample::Unreadable { route });
    }

    pub fn end_echo(&mut self, cut_off: bool) {
        if let Some(mut echo) = self.echo.take() {
            echo.stay.cut_off |= cut_off;
            echo.stay.left = self.context.now();
            self.tell(Sample::RoomLeft(echo.stay));
        }
    }
}
