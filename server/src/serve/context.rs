//! What all sessions share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

use voicematch_core::{
    directory::Directory,
    events::Listener,
    live::Live,
    matchmaker::Matchmaker,
    memory::Memory,
    metrics::Metrics,
    room::{Shared, named::NamedRooms, pending::PendingRooms, ticket::RoomKeys},
    session::{Context, Persons, Resumables, Takes, close_log::CloseLog},
    trace::Trace,
};

use super::upkeep::show_limits;
#[cfg(feature = "cluster")]
use crate::cluster::Node;
use crate::{
    admission::auth::{Auth, Renewal},
    config::Config,
    trace::Tracer,
};

/// What it is made of.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) metrics: Arc<Metrics>,
    pub(super) keys: RoomKeys,
    pub(super) auth: Option<Arc<Auth>>,
    pub(super) events: Option<Arc<dyn Listener>>,
    pub(super) tracer: Option<Arc<Tracer>>,
    #[cfg(feature = "cluster")]
    pub(super) node: Option<Arc<Node>>,
}

impl Parts<'_> {
    pub(super) fn context(self) -> Arc<Context> {
        let (config, metrics) = (self.config, self.metrics);
        metrics.limit("max_rooms", config.max_rooms);
        metrics.limit("max_buffered_bytes", config.max_buffered_bytes);
        show_limits(&metrics, config);
        #[cfg(feature = "cluster")]
        let person_key = config.cluster.as_ref().map(|cluster| cluster.person_key());
        #[cfg(not(feature = "cluster"))]
        let person_key = None;
        let keys = Arc::new(self.keys);
        let (blocks, told) = (config.max_blocks, self.events);
        let shared = Shared::new(metrics.clone(), keys.clone(), blocks, told, person_key);
        let trace = self.tracer.map(|tracer| tracer as Arc<dyn Trace>);
        let memory = Memory::new(config.max_buffered_bytes, metrics.buffered_bytes.clone());
        // A ticket brings back a room of two; this many wait for their second member at the most.
        let max_pending = (config.limits.max_connections / 4).max(1);
        let pending_rooms = Arc::new(PendingRooms::new(max_pending, shared.clone()));
        let matchmaker = Matchmaker::new(config.matchmaker, shared.clone()).traced(trace.clone());
        let named_rooms = NamedRooms::new(config.max_rooms, shared.clone());
        #[cfg(feature = "cluster")]
        let (matchmaker, named_rooms) = match &self.node {
            Some(node) => (
                matchmaker.joined(node.cluster(), pending_rooms.clone()),
                named_rooms.joined(node.rooms(memory.clone())),
            ),
            None => (matchmaker, named_rooms),
        };
        Arc::new(Context {
            config: Live::new(config.session.clone()),
            matchmaker,
            directory: Directory::default(),
            persons: Persons::new(config.sessions_per_user),
            identify: self.auth.map(|auth| Arc::new(Renewal(auth)) as _),
            named_rooms,
            resumables: Resumables::default(),
            takes: Takes::default(),
            detached: AtomicUsize::new(0),
            pending_rooms,
            shared,
            room_keys: keys,
            metrics,
            memory,
            close_log: CloseLog::default(),
            trace,
            draining: AtomicBool::new(false),
        })
    }
}
