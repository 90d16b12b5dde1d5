//! What each worker counts in a stretch of time, without a lock; slices add up.

pub mod calls;

use std::{fmt, time::Duration};

use derive_more::AddAssign;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};

use crate::{
    measure::{
        failures::Errors,
        histogram::{dense::Latencies, sparse::Spread},
        ledger::Stay,
        message::{Across, Delivered, Direction, Kind, Route},
        nodes::{Fault, FaultKind, NodeCounts, Torn},
        reach::{NodeId, Reach},
        sample::{CallId, Sample, Unmatched},
        series::{Cell, Counts, Gauges},
        slice::calls::CallCounts,
        talk::{TalkCounts, TalkSample},
    },
    plan::{Transport, limits::MAX_NAMES},
};

/// The samples of a stretch of time, counted.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Slice {
    pub people: People,
    pub routes: [[RouteCounts; Direction::ALL.len()]; Kind::MAX],
    /// Messages received from another load test.
    pub foreign: u64,
    /// Messages answered with `not_in_room`.
    pub refused: u64,
    /// Messages that were overtaken and have not come.
    #[serde(default)]
    pub missed: i64,
    /// From the planned start to the greeting.
    pub connect: Latencies,
    /// From asking for a partner to the match.
    pub matching: Latencies,
    /// From the moment due to the receipt.
    pub message: Latencies,
    /// The same by [`Reach`]; empty if there is one server.
    #[serde(default)]
    pub reach: [Latencies; Reach::ALL.len()],
    /// From sending to the receipt.
    pub as_sent: Latencies,
    /// How late the generator itself sent.
    pub lateness: Latencies,
    /// The longest time that a worker did not run.
    pub pause: Duration,
    /// By the number of the call.
    #[serde(deserialize_with = "few")]
    pub calls: Vec<CallCounts>,
    /// By the number of the flow: completed, and not.
    pub flows: Vec<[u64; 2]>,
    pub storm: Storm,
    #[serde(default)]
    pub failover: Failover,
    #[serde(default)]
    pub talk: TalkCounts,
    pub errors: Errors,
    /// Connections by server; empty if there is one.
    #[serde(skip)]
    pub nodes: Vec<NodeCounts>,
    /// Whether they count is known later.
    #[serde(skip)]
    pub faults: Vec<Fault>,
    /// Users who lost their partner with a server.
    #[serde(skip)]
    pub torn: Vec<Torn>,
    /// Their latency is known once the offset of the clocks is.
    #[serde(skip)]
    pub across: Vec<Across>,
    /// For the ledger.
    #[serde(skip)]
    pub stays: Vec<Stay>,
    /// To be classified: failed, or nobody was there to find.
    #[serde(skip)]
    pub unmatched: Vec<Unmatched>,
}

/// Reads at most as many calls as a plan can have: each takes much more memory than its text.
fn few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CallCounts>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<CallCounts>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{MAX_NAMES} calls at the most")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut calls = Vec::new();
            while let Some(call) = list.next_element()? {
                if calls.len() == MAX_NAMES {
                    return Err(A::Error::invalid_length(calls.len() + 1, &self));
                }
                calls.push(call);
            }
            Ok(calls)
        }
    }
    from.deserialize_seq(Few)
}

/// Counts of users who connect, search, meet and leave.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct People {
    pub attempted: u64,
    pub reconnects: u64,
    /// Attempts under way when the run ended.
    pub abandoned: u64,
    pub connected: u64,
    #[serde(default)]
    pub not_connected: u64,
    pub dropped: u64,
    pub closed: u64,
    pub searches: u64,
    pub rematches: u64,
    pub matched: u64,
    pub unmatched: u64,
    pub rooms_joined: u64,
    pub rooms_left: u64,
    pub double_matches: u64,
    pub self_matches: u64,
}

/// Messages of one type in one direction.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCounts {
    pub sent: u64,
    pub received: u64,
    pub late: u64,
    pub duplicate: u64,
    pub reordered: u64,
    pub wrong_peer: u64,
    pub altered: u64,
}

/// Users dropped at once, and back.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Storm {
    pub dropped: u64,
    /// Of these, users with a partner or searching for one.
    pub paired: u64,
    pub first_at: Option<Duration>,
    pub connected: Latencies,
    pub matched: Latencies,
}

/// Sessions that lost their connection and were to go on.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Failover {
    pub lost: u64,
    /// Of these, how many the plan cut.
    pub planned: u64,
    pub not_resumed: u64,
    /// Went back to the preferred transport, without a gap.
    pub moved_back: u64,
    /// From the end of a session whose server drained until everything was as before at another one.
    pub moved: Latencies,
    /// Lost the session or the room then.
    pub not_moved: u64,
    /// From the loss to the first message, by the transport that carries the session then.
    pub resumed: [Latencies; Transport::ALL.len()],
    /// From the loss to the first message of the partner.
    pub heard_again: Latencies,
}

impl Failover {
    /// Over all transports together.
    pub fn all_resumed(&self) -> Latencies {
        let mut all = Latencies::default();
        self.resumed.iter().for_each(|one| all.merge(one));
        all
    }

    fn merge(&mut self, other: &Self) {
        let Self {
            lost,
            planned,
            not_resumed,
            moved_back,
            moved,
            not_moved,
            resumed,
            heard_again,
        } = other;
        self.lost += lost;
        self.planned += planned;
        self.not_resumed += not_resumed;
        self.moved_back += moved_back;
        self.moved.merge(moved);
        self.not_moved += not_moved;
        for (mine, theirs) in self.resumed.iter_mut().zip(resumed) {
            mine.merge(theirs);
        }
        self.heard_again.merge(heard_again);
    }
}

impl Slice {
    /// Counts a sample that came at `at`, since the start of the run. Each kind has its arm: a new one that is
    /// counted nowhere does not compile.
    pub fn add(&mut self, at: Duration, sample: Sample) {
        let people = &mut self.people;
        match sample {
            Sample::Connecting { again } => {
                people.attempted += 1;
                people.reconnects += u64::from(again);
            }
            Sample::Connected { latency } => {
                people.connected += 1;
                self.connect.record(latency);
            }
            Sample::NotConnected { error } => {
                people.not_connected += 1;
                self.errors.add(error, 1, at);
            }
            Sample::ConnectingEnded => people.abandoned += 1,
            Sample::Dropped { error } => {
                people.dropped += 1;
                self.errors.add(error, 1, at);
            }
            Sample::Closed => people.closed += 1,
            // For the progress of the run only.
            Sample::StoppedSending => {}
            Sample::Error { error } => self.errors.add(error, 1, at),
            Sample::Paused { time } => self.pause = self.pause.max(time),
            Sample::Searching { again } => {
                people.searches += 1;
                people.rematches += u64::from(again);
            }
            Sample::Matched { latency } => {
                people.matched += 1;
                self.matching.record(latency);
            }
            Sample::Unmatched(search) => {
                people.unmatched += 1;
                self.unmatched.push(search);
            }
            Sample::RoomJoined => people.rooms_joined += 1,
            Sample::RoomLeft(stay) => {
                people.rooms_left += 1;
                self.stays.push(*stay);
            }
            Sample::Parted(stay) => self.stays.push(*stay),
            Sample::NamedRoomLeft => people.rooms_left += 1,
            Sample::DoubleMatch => people.double_matches += 1,
            Sample::SelfMatch => people.self_matches += 1,
            Sample::Sent { route, lateness } => {
                self.route(route).sent += 1;
                self.lateness.record(lateness);
            }
            Sample::Delivered(message) => self.delivered(&message),
            Sample::DeliveredAcross(message) => self.delivered_across(message),
            Sample::Gap { missed } => self.missed += missed,
            Sample::Unreadable { route } => {
                let route = self.route(route);
                route.received += 1;
                route.altered += 1;
                // A later message shows a gap in its place.
                self.missed -= 1;
            }
            Sample::Duplicate { route } => self.route(route).duplicate += 1,
            Sample::WrongPeer { route } => self.route(route).wrong_peer += 1,
            Sample::Foreign => self.foreign += 1,
            Sample::Refused => self.refused += 1,
            Sample::CallSent { call, lateness } => {
                self.call(call).sent += 1;
                self.lateness.record(lateness);
            }
            Sample::CallAnswered {
                call,
                latency,
                as_sent,
            } => {
                let call = self.call(call);
                call.answered += 1;
                call.took(latency, as_sent);
            }
            Sample::CallTimedOut { call, waited } => {
                let call = self.call(call);
                call.timed_out += 1;
                call.took(waited, waited);
            }
            Sample::CallFailed { call, waited } => {
                let call = self.call(call);
                call.failed += 1;
                call.took(waited, waited);
            }
            Sample::CallWrong { call } => self.call(call).wrong += 1,
            Sample::FlowEnded { flow, completed } => {
                at_place(&mut self.flows, flow.0)[usize::from(!completed)] += 1;
            }
            Sample::StormDropped { paired, resumes } => {
                people.closed += u64::from(!resumes);
                self.storm.dropped += 1;
                self.storm.paired += u64::from(paired);
                self.storm.first_at = Some(self.storm.first_at.map_or(at, |first| first.min(at)));
            }
            Sample::StormConnected { after } => self.storm.connected.record(after),
            Sample::StormMatched { after } => self.storm.matched.record(after),
            Sample::ConnectionLost { planned } => {
                self.failover.lost += 1;
                self.failover.planned += u64::from(planned);
            }
            Sample::Resumed { via, after } => self.failover.resumed[via as usize].record(after),
            Sample::NotResumed => self.failover.not_resumed += 1,
            Sample::MovedBack => self.failover.moved_back += 1,
            Sample::Moved { after } => self.failover.moved.record(after),
            Sample::NotMoved => self.failover.not_moved += 1,
            Sample::HeardAgain { after } => self.failover.heard_again.record(after),
            Sample::Arrived { node, changed } => {
                let node = self.node(node);
                node.arrived += 1;
                node.changed += u64::from(changed);
            }
            Sample::Departed { node, broke } => self.node(node).depart(at, broke),
            Sample::Fault { node, kind, error } => {
                match kind {
                    FaultKind::NotConnected => people.not_connected += 1,
                    FaultKind::Dropped => people.dropped += 1,
                    FaultKind::NotResumed => self.failover.not_resumed += 1,
                    FaultKind::NotMoved => self.failover.not_moved += 1,
                    FaultKind::Error | FaultKind::AfterLoss => {}
                }
                self.faults.push(Fault {
                    node,
                    at,
                    kind,
                    error,
                });
            }
            Sample::Torn(torn) => self.torn.push(torn),
            Sample::Talk(sample) => {
                if let TalkSample::Spoken { lateness, .. } = sample {
                    self.lateness.record(lateness);
                }
                self.talk.add(sample);
            }
        }
    }

    fn node(&mut self, node: NodeId) -> &mut NodeCounts {
        at_place(&mut self.nodes, u16::from(node.0))
    }

    fn call(&mut self, call: CallId) -> &mut CallCounts {
        at_place(&mut self.calls, call.0)
    }

    fn delivered(&mut self, message: &Delivered) {
        self.message.record(message.latency);
        self.as_sent.record(message.as_sent);
        if let Some(reach) = message.reach {
            self.reach[reach as usize].record(message.latency);
        }
        let route = self.route(message.route);
        route.received += 1;
        route.late += u64::from(message.late);
        route.reordered += u64::from(!message.in_order);
        route.altered += u64::from(message.altered);
    }

    fn delivered_across(&mut self, message: Across) {
        let route = self.route(message.route);
        route.received += 1;
        route.reordered += u64::from(!message.in_order);
        route.altered += u64::from(message.altered);
        self.across.push(message);
    }

    pub fn route(&mut self, route: Route) -> &mut RouteCounts {
        &mut self.routes[route.kind.index()][route.direction as usize]
    }

    /// Adds another slice, except what is still to be settled.
    pub fn merge(&mut self, other: &Self) {
        // Without `..`: a new field that is not added does not compile.
        let Self {
            people,
            routes,
            foreign,
            refused,
            missed,
            connect,
            matching,
            message,
            reach,
            as_sent,
            lateness,
            pause,
            calls,
            flows,
            storm,
            failover,
            talk,
            errors,
            nodes,
            faults: _,
            torn: _,
            across: _,
            stays: _,
            unmatched: _,
        } = other;
        self.people += *people;
        for (mine, theirs) in self
            .routes
            .iter_mut()
            .flatten()
            .zip(routes.iter().flatten())
        {
            *mine += *theirs;
        }
        self.foreign += foreign;
        self.refused += refused;
        self.missed = self.missed.saturating_add(*missed);
        self.connect.merge(connect);
        self.matching.merge(matching);
        self.message.merge(message);
        for (mine, theirs) in self.reach.iter_mut().zip(reach) {
            mine.merge(theirs);
        }
        self.as_sent.merge(as_sent);
        self.lateness.merge(lateness);
        self.pause = self.pause.max(*pause);
        for (call, theirs) in (0..).zip(calls) {
            at_place(&mut self.calls, call).merge(theirs);
        }
        for (flow, theirs) in (0..).zip(flows) {
            let mine = at_place(&mut self.flows, flow);
            mine[0] += theirs[0];
            mine[1] += theirs[1];
        }
        self.storm.merge(storm);
        self.failover.merge(failover);
        self.talk.merge(talk);
        self.errors.merge(errors);
        for (node, theirs) in (0..).zip(nodes) {
            at_place(&mut self.nodes, node).merge(theirs);
        }
    }

    /// The window of the series from `start` to `end`. Failures, failed matches and lost messages are left at 0: the
    /// books settle them.
    pub fn to_cell(&self, start: Duration, end: Duration, now: Gauges) -> Cell {
        let (people, messages) = (&self.people, self.messages());
        Cell {
            start,
            length: end.saturating_sub(start),
            counts: Counts {
                attempts: people.attempted,
                connects: people.connected,
                failed_connects: people.not_connected,
                drops: people.dropped,
                matches: people.matched,
                sent: messages.sent,
                delivered: messages.received,
                refused: self.refused,
                misdelivered: messages.misdelivered(),
                answered: self.calls.iter().map(|call| call.answered).sum(),
                resumed: self.failover.all_resumed().count(),
                ..Counts::default()
            },
            now,
            connect: Spread::of(&self.connect),
            matching: Spread::of(&self.matching),
            message: Spread::of(&self.message),
            reach: [&self.reach[0], &self.reach[1]].map(Spread::of),
            across: Spread::default(),
            across_by_reach: Default::default(),
            as_sent: Spread::of(&self.as_sent),
            lateness: Spread::of(&self.lateness),
            calls: self
                .calls
                .iter()
                .map(|call| Spread::of(&call.latency))
                .collect(),
        }
    }

    /// All routes together.
    pub fn messages(&self) -> RouteCounts {
        let mut all = RouteCounts::default();
        self.routes.iter().flatten().for_each(|route| all += *route);
        all
    }
}

fn at_place<T: Default>(list: &mut Vec<T>, place: u16) -> &mut T {
    let place = usize::from(place);
    if list.len() <= place {
        list.resize_with(place + 1, T::default);
    }
    &mut list[place]
}

impl People {
    /// Attempts to connect that succeeded or failed.
    pub fn tried(&self) -> u64 {
        self.attempted.saturating_sub(self.abandoned)
    }

    pub fn connected_now(&self) -> u64 {
        self.connected.saturating_sub(self.dropped + self.closed)
    }

    pub fn searching_now(&self) -> u64 {
        self.searches.saturating_sub(self.matched + self.unmatched)
    }

    pub fn in_rooms_now(&self) -> u64 {
        self.rooms_joined.saturating_sub(self.rooms_left)
    }
}

impl RouteCounts {
    /// Messages that did not arrive once, in order, unchanged and at the partner.
    pub fn misdelivered(&self) -> u64 {
        self.duplicate + self.reordered + self.wrong_peer + self.altered
    }
}

impl Storm {
    fn merge(&mut self, other: &Self) {
        let Self {
            dropped,
            paired,
            first_at,
            connected,
            matched,
        } = other;
        self.dropped += dropped;
        self.paired += paired;
        self.first_at = match (self.first_at, *first_at) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.connected.merge(connected);
        self.matched.merge(matched);
    }
}
