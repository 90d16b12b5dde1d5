//! The simulation: events in order of time, one at a time, from one seed.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use voicematch_protocol::SessionId;

use super::super::claim_protocol::{
    Action, Answer, BeatAnswer, Call, ClaimProtocol, Frame, NodeId, Now, Rule, TicketId,
};
use super::{
    MS, NODES, Profile, SECOND, Time, USERS,
    checks::Checks,
    engine::{Data, Engine},
    network::Network,
    users::{Place, User, View, micros, pause},
};

/// What a node asks the engine.
#[derive(Clone)]
pub(super) enum Request {
    Beat {
        me: NodeId,
        number: u64,
        sent: Now,
    },
    Bury {
        node: NodeId,
        value: Option<u64>,
        generation: u64,
    },
    Call(Call),
    Probe(u64),
}

/// What comes to a node.
#[derive(Clone)]
pub(super) enum Input {
    Beat {
        me: NodeId,
        sent: Now,
        answer: BeatAnswer,
    },
    Buried {
        node: NodeId,
        buried: bool,
    },
    Call {
        number: u64,
        answers: Option<Vec<Answer>>,
    },
    Probe(u64),
    Disconnected,
    Frame {
        from: NodeId,
        to: NodeId,
        frame: Frame,
    },
}

pub(super) enum Event {
    Wake(usize, u64),
    ToEngine(usize, u64, Request),
    ToNode(usize, u64, Input),
    Act(usize),
    /// A wait's own timer: pools widen, or somebody may be met again.
    Look(usize, TicketId),
    Fault,
    Thaw(usize, u64),
    Start(usize),
    Check,
}

/// A place for a node, and the process that runs there.
pub(super) struct Node {
    pub(super) process: u64,
    pub(super) protocol: Option<ClaimProtocol>,
    born: Time,
    pub(super) frozen_until: Time,
    pub(super) thawed_at: Time,
    pub(super) cut_until: Time,
    /// What came while it was frozen.
    held: Vec<Input>,
    wake_at: Time,
    late_accepts: u64,
}

impl Node {
    pub(super) fn runs(&self, now: Time) -> bool {
        self.protocol.is_some() && now >= self.frozen_until
    }

    pub(super) fn local(&self, now: Time) -> Now {
        micros(now - self.born)
    }

    /// Runs, reaches the engine and has a lease.
    pub(super) fn is_well(&self, now: Time) -> bool {
        let leased = |p: &ClaimProtocol| p.has_lease(self.local(now));
        self.runs(now) && now >= self.cut_until && self.protocol.as_ref().is_some_and(leased)
    }
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) rng: SmallRng,
    pub(super) profile: Profile,
    left_out: &'static [Rule],
    events: BTreeMap<(Time, u64), Event>,
    numbers: u64,
    pub(super) engine: Engine,
    /// Commands are refused, or wait (`stalled`), until then.
    pub(super) away_until: Time,
    pub(super) stalled_until: Time,
    /// Until then each way takes so much longer.
    pub(super) slow_until: Time,
    pub(super) slow: Time,
    pub(super) lose_answers_until: Time,
    /// Older states, of which a failover brings one back.
    pub(super) snapshots: Vec<Data>,
    network: Network,
    pub(super) nodes: Vec<Node>,
    pub(super) users: Vec<User>,
    pub(super) checks: Checks,
}

impl World {
    pub(super) fn new(seed: u64, profile: Profile, left_out: &'static [Rule]) -> Self {
        let mut world = Self {
            now: 0,
            rng: SmallRng::seed_from_u64(seed),
            profile,
            left_out,
            events: BTreeMap::new(),
            numbers: 0,
            engine: Engine::new(!left_out.contains(&Rule::CheckPools)),
            away_until: 0,
            stalled_until: 0,
            slow_until: 0,
            slow: 0,
            lose_answers_until: 0,
            snapshots: Vec::new(),
            network: Network::default(),
            nodes: Vec::new(),
            users: (0..USERS).map(User::new).collect(),
            checks: Checks::default(),
        };
        for slot in 0..NODES {
            world.nodes.push(Node {
                process: 0,
                protocol: None,
                born: 0,
                frozen_until: 0,
                thawed_at: 0,
                cut_until: 0,
                held: Vec::new(),
                wake_at: Time::MAX,
                late_accepts: 0,
            });
            world.after(MS, Event::Start(slot));
        }
        for slot in 0..USERS {
            let pause = pause(&mut world.rng);
            world.after(pause, Event::Act(slot));
        }
        world.after(5 * SECOND, Event::Fault);
        world.after(SECOND, Event::Check);
        world
    }

    pub(super) fn after(&mut self, time: Time, event: Event) {
        self.at(self.now + time, event);
    }

    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.numbers += 1;
        self.events
            .insert((time.max(self.now), self.numbers), event);
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn has_faults(&self) -> bool {
        self.now < self.profile.faults_until
    }

    /// Plays to the end, or until a check fails.
    pub(super) fn run(&mut self) -> Result<(), String> {
        while self.now < self.profile.ends_at
            && let Some(((time, _), event)) = self.events.pop_first()
        {
            self.now = time;
            self.play(event);
            self.check_event();
            if let Some(failure) = self.checks.failure.take() {
                let at = self.now / MS;
                return Err(format!("at {at} ms: {failure}"));
            }
        }
        Ok(())
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Wake(slot, process) => self.wake(slot, process),
            Event::ToEngine(slot, process, request) => self.reach_engine(slot, process, request),
            Event::ToNode(slot, process, input) => self.reach_node(slot, process, input),
            Event::Act(slot) => self.act(slot),
            Event::Look(slot, ticket) => self.look(slot, ticket),
            Event::Fault => self.next_fault(),
            Event::Thaw(slot, process) => self.thaw(slot, process),
            Event::Start(slot) => self.start(slot),
            Event::Check => {
                self.snapshots.push(self.engine.data.clone());
                if self.snapshots.len() > 10 {
                    self.snapshots.remove(0);
                }
                self.check_state();
                self.after(super::CHECK_EACH, Event::Check);
            }
        }
    }

    fn start(&mut self, slot: usize) {
        let process = self.number();
        let now = self.now;
        let node = &mut self.nodes[slot];
        node.process = process;
        node.born = now;
        node.protocol = Some(ClaimProtocol::new(
            process,
            process << 32,
            self.left_out,
            Duration::ZERO,
        ));
        node.late_accepts = 0;
        self.step(slot, |protocol, now| protocol.tick(now));
    }

    pub(super) fn kill(&mut self, slot: usize) {
        self.note_counts(slot);
        let node = &mut self.nodes[slot];
        node.protocol = None;
        node.held.clear();
        node.frozen_until = 0;
        for user in self.users.iter_mut().filter(|user| user.node == slot) {
            user.place = Place::Gone;
        }
        let pause = self.rng.random_range(500..3000) * MS;
        self.after(pause, Event::Start(slot));
    }

    /// All connections to the engine break; who is cut off from it learns that afterwards.
    pub(super) fn disconnect(&mut self) {
        for slot in 0..self.nodes.len() {
            let node = &self.nodes[slot];
            let (at, process) = (node.cut_until, node.process);
            self.at(at, Event::ToNode(slot, process, Input::Disconnected));
        }
    }

    pub(super) fn note_counts(&mut self, slot: usize) {
        if let Some(protocol) = &self.nodes[slot].protocol {
            self.checks.add(&protocol.counts());
        }
    }

    pub(super) fn freeze(&mut self, slot: usize, until: Time) {
        let node = &mut self.nodes[slot];
        if node.runs(self.now) {
            let process = node.process;
            node.frozen_until = until;
            self.at(until, Event::Thaw(slot, process));
        }
    }

    /// What came meanwhile and what is due meanwhile are met in either order.
    fn thaw(&mut self, slot: usize, process: u64) {
        let node = &mut self.nodes[slot];
        if node.process != process || self.now < node.frozen_until {
            return;
        }
        node.thawed_at = self.now;
        let held = std::mem::take(&mut node.held);
        let timers_first = self.rng.random_bool(0.5);
        if timers_first {
            self.step(slot, |protocol, now| protocol.tick(now));
        }
        for input in held {
            self.reach_node(slot, process, input);
        }
        self.step(slot, |protocol, now| protocol.tick(now));
    }

    fn wake(&mut self, slot: usize, process: u64) {
        let now = self.now;
        let node = &mut self.nodes[slot];
        if node.process == process && node.wake_at <= now {
            node.wake_at = Time::MAX;
            if node.runs(now) {
                self.step(slot, |protocol, now| protocol.tick(now));
            }
        }
    }

    /// Lets a node's protocol handle one event, and does what follows from it.
    pub(super) fn step(&mut self, slot: usize, event: impl FnOnce(&mut ClaimProtocol, Now)) {
        let now = self.now;
        let node = &mut self.nodes[slot];
        let local = node.local(now);
        let Some(protocol) = &mut node.protocol else {
            return;
        };
        let (me, before) = (protocol.me(), protocol.counts());
        event(protocol, local);
        let (actions, counts) = (protocol.take_actions(), protocol.counts());
        let next = node.born + u64::try_from(protocol.next_tick().as_micros()).unwrap_or(0);
        let is_late = counts.late_accepts > node.late_accepts;
        node.late_accepts = counts.late_accepts;
        let calm = now >= node.thawed_at + 4 * SECOND;
        let (process, next) = (node.process, next.max(now + 1));
        if next < node.wake_at {
            node.wake_at = next;
            self.at(next, Event::Wake(slot, process));
        }
        if counts.handled > before.handled && self.engine.buried.contains(&me) {
            self.checks
                .fail(format!("{me:?} judged a frame when it was buried"));
        }
        if counts.lives > before.lives && self.profile.nobody_is_fenced {
            self.checks
                .fail(format!("{me:?} lives, and was declared dead"));
        }
        if is_late && calm && self.profile.in_time {
            self.checks.fail(format!(
                "{me:?} was accepted too late, and was not frozen itself"
            ));
        }
        for action in actions {
            self.perform(
                slot,
                process,
                action,
                counts.lost_halves > before.lost_halves,
            );
        }
    }

    fn perform(&mut self, slot: usize, process: u64, action: Action, lost: bool) {
        let request = match action {
            Action::Beat { me, number, sent } => Request::Beat { me, number, sent },
            Action::Bury {
                node,
                value,
                generation,
            } => Request::Bury {
                node,
                value,
                generation,
            },
            Action::Call(call) => Request::Call(call),
            Action::Probe(number) => Request::Probe(number),
            Action::Send { to, frame } => return self.publish(slot, to, frame),
            Action::Matched {
                ticket,
                room,
                peer,
                peer_person,
                peer_node,
                initiator,
            } => {
                let view = View {
                    room,
                    peer,
                    peer_node,
                    initiator,
                };
                return self.matched(slot, ticket, view, peer_person);
            }
            Action::Cancelled(ticket) => return self.cancelled(ticket),
            Action::Ended { room, session } => return self.ended(room, session, lost),
        };
        let cut_until = self.nodes[slot].cut_until;
        if self.now >= cut_until {
            let sent = self.now + self.slowness();
            let at = self.network.command(slot, false, sent, &mut self.rng);
            self.at(at, Event::ToEngine(slot, process, request));
        } else if self.rng.random_bool(0.5) {
            // The kernel of a closed connection still has it, and tries again: it overtakes what a new one sends.
            let at = cut_until + self.rng.random_range(0..4 * SECOND);
            self.at(at, Event::ToEngine(slot, process, request));
        }
    }

    /// How much longer a command is on its way there now, and an answer back.
    fn slowness(&self) -> Time {
        match self.now < self.slow_until {
            true => self.slow,
            false => 0,
        }
    }

    fn publish(&mut self, slot: usize, to: NodeId, frame: Frame) {
        let Some(from) = self.nodes[slot].protocol.as_ref().map(ClaimProtocol::me) else {
            return;
        };
        let Some(target) = self
            .nodes
            .iter()
            .position(|node| node.process == to.process)
        else {
            return;
        };
        let reachable = [
            self.away_until,
            self.stalled_until,
            self.nodes[slot].cut_until,
        ];
        let sent = reachable.into_iter().fold(self.now, Time::max) + 2 * self.slowness();
        let profile = self.has_faults().then_some(&self.profile);
        let link = (slot, to.process);
        if let Some(at) = self.network.deliver(link, sent, &mut self.rng, profile) {
            self.at(
                at,
                Event::ToNode(target, to.process, Input::Frame { from, to, frame }),
            );
        }
    }

    fn reach_engine(&mut self, slot: usize, process: u64, request: Request) {
        if self.now < self.away_until {
            return;
        }
        if self.now < self.stalled_until {
            return self.at(self.stalled_until, Event::ToEngine(slot, process, request));
        }
        let now = self.now;
        let input = match request {
            Request::Beat { me, number, sent } => {
                let generation = self.rng.random();
                let answer = self.engine.beat(me, number, generation, now);
                Input::Beat { me, sent, answer }
            }
            Request::Bury {
                node,
                value,
                generation,
            } => {
                let buried = self.engine.bury(node, value, generation, now);
                Input::Buried { node, buried }
            }
            Request::Call(call) => {
                let number = call.number;
                let answers = self.engine.call(&call, now);
                Input::Call { number, answers }
            }
            Request::Probe(number) => Input::Probe(number),
        };
        if let Some(passed) = self.engine.passed_over.take() {
            self.checks.fail(format!("passed over: {passed}"));
        }
        let lost = now < self.lose_answers_until && self.rng.random_bool(0.3);
        if !lost {
            let sent = now + self.slowness();
            let at = self.network.command(slot, true, sent, &mut self.rng);
            self.at(at, Event::ToNode(slot, process, input));
        }
    }

    fn reach_node(&mut self, slot: usize, process: u64, input: Input) {
        let node = &mut self.nodes[slot];
        if node.process != process || node.protocol.is_none() || self.now < node.cut_until {
            return;
        }
        if self.now < node.frozen_until {
            return node.held.push(input);
        }
        if let Input::Frame {
            to,
            frame: Frame::Revoke { room, .. },
            ..
        } = &input
        {
            let leased = node.is_well(self.now);
            let is_me = node.protocol.as_ref().is_some_and(|p| p.me() == *to);
            self.checks.revoked(process, *room, leased && is_me);
        }
        self.step(slot, |protocol, now| match input {
            Input::Beat { me, sent, answer } => protocol.beat_answered(me, sent, answer, now),
            Input::Buried { node, buried } => protocol.bury_answered(node, buried, now),
            Input::Call { number, answers } => protocol.call_answered(number, answers, now),
            Input::Probe(number) => protocol.probe_answered(number, now),
            Input::Disconnected => protocol.disconnected(now),
            Input::Frame { from, to, frame } => protocol.frame(from, to, frame, now),
        });
    }

    pub(super) fn slot_of(&self, session: SessionId) -> Option<usize> {
        let mut users = self.users.iter();
        users.position(|user| user.session == session && user.place != Place::Gone)
    }
}
