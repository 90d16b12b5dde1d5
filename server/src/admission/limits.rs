//! The limits on connections: in total and for each address.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use dashmap::{DashMap, Entry};

use voicematch_core::{live::Live, metrics::Metrics, session::HeldAddress};

use super::guard::Guard;

/// Refused connections that get an answer at the same time; more are closed without one.
const MAX_REFUSALS: usize = 256;

/// The same of one address: who is refused may have a token, and must not be kept from showing it by others.
const MAX_REFUSALS_OF_ADDRESS: usize = MAX_REFUSALS / 8;

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitConfig {
    /// Connections in total; 0: no limit.
    pub max_connections: usize,
    /// Connections from one address; 0: no limit.
    pub max_connections_per_address: usize,
    /// Whether loopback addresses count too.
    pub limit_loopback: bool,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `max_connections` is reached.
    Full,
    /// `max_connections_per_address` is reached.
    AddressFull,
    /// The process has run out of file descriptors.
    NoDescriptors,
}

impl Refusal {
    /// The text for the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::Full | Self::NoDescriptors => "the server is full; try again later",
            Self::AddressFull => "too many connections from your address; close some first",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Full => "max_connections",
            Self::AddressFull => "max_connections_per_address",
            Self::NoDescriptors => "descriptors",
        }
    }
}

/// Counts open connections against the limits.
pub struct Admission {
    config: Live<LimitConfig>,
    /// Bounds the attempts with forged tokens and tickets.
    guard: Guard,
    open: AtomicUsize,
    refusing: AtomicUsize,
    addresses: DashMap<IpAddr, usize>,
    /// Connections by which sessions speak that count already.
    carrying: DashMap<IpAddr, usize>,
    /// Connections that are being refused.
    refused: DashMap<IpAddr, usize>,
    /// Connections on each worker.
    workers: Box<[AtomicUsize]>,
    metrics: Arc<Metrics>,
}

/// Connections of an address that only carry requests of sessions, for each session that it may have: one to hear, one to
/// speak, and as many again while they are exchanged.
const CARRYING_PER_SESSION: usize = 4;

/// Under which address a connection counts, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Nowhere,
    /// As a session, or one that may begin.
    Session(IpAddr),
    /// As one by which sessions speak.
    Carrying(IpAddr),
    /// As one that is refused.
    Refused(IpAddr),
}

/// One counted connection; dropping it ends the count.
pub struct Permit {
    admission: Arc<Admission>,
    /// Counted under this address: from the start, or once the user behind a proxy is known; until a session that
    /// outlives the connection takes the count over.
    address: Mutex<Counted>,
    /// Counted on this worker.
    worker: Option<u32>,
    refusal: Option<Refusal>,
    /// Not refused after all.
    admitted: AtomicBool,
}

impl Admission {
    /// No connection is open yet.
    pub fn new(
        config: LimitConfig,
        guard: Guard,
        workers: usize,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config: Live::new(config),
            guard,
            open: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            addresses: DashMap::new(),
            carrying: DashMap::new(),
            refused: DashMap::new(),
            workers: (0..workers.max(1)).map(|_| AtomicUsize::new(0)).collect(),
            metrics,
        })
    }

    /// The limits, which can be replaced.
    pub fn config(&self) -> &Live<LimitConfig> {
        &self.config
    }

    /// What bounds the attempts with forged tokens and tickets.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Counts a new connection. `address`: its user's; `None`: known later, as the connection is that of a
    /// proxy. One over a limit gets a permit to send a refusal; `None`: close it at once.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Permit> {
        let address = address.and_then(|address| self.counted_address(address));
        if self.is_full() {
            return self.refuse(Refusal::Full, address);
        }
        if address.is_some_and(|address| !self.count(address)) {
            return self.refuse(Refusal::AddressFull, address);
        }
        self.count_open();
        Some(Permit {
            admission: self.clone(),
            address: Mutex::new(address.map_or(Counted::Nowhere, Counted::Session)),
            worker: None,
            refusal: None,
            admitted: AtomicBool::new(false),
        })
    }

    fn is_full(&self) -> bool {
        let max = self.config.get().max_connections;
        max > 0 && self.open.load(Ordering::Relaxed) >= max
    }

    fn count_open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections_open.inc();
        self.metrics.connections_total.inc();
    }

    /// Counts one more connection of an address; false if there may be no more.
    fn count(&self, address: IpAddr) -> bool {
        add_one(
            &self.addresses,
            address,
            self.config.get().max_connections_per_address,
        )
    }

    fn forget(&self, counted: Counted) {
        match counted {
            Counted::Nowhere => {}
            Counted::Session(address) => take_one(&self.addresses, address),
            Counted::Carrying(address) => take_one(&self.carrying, address),
            Counted::Refused(address) => take_one(&self.refused, address),
        }
    }

    /// Refuses a connection of `address`, if that counts; `None` if it is to be closed without an answer.
    pub fn refuse(self: &Arc<Self>, refusal: Refusal, address: Option<IpAddr>) -> Option<Permit> {
        self.metrics.limit_hit(refusal.label());
        let fits = self.refusing.fetch_add(1, Ordering::Relaxed) < MAX_REFUSALS
            && address
                .is_none_or(|address| add_one(&self.refused, address, MAX_REFUSALS_OF_ADDRESS));
        if !fits {
            self.refusing.fetch_sub(1, Ordering::Relaxed);
            self.metrics.refused("refusals_busy");
            return None;
        }
        self.metrics.refused(refusal.label());
        Some(Permit {
            admission: self.clone(),
            address: Mutex::new(address.map_or(Counted::Nowhere, Counted::Refused)),
            worker: None,
            refusal: Some(refusal),
            admitted: AtomicBool::new(false),
        })
    }

    fn counted_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let is_limited = self.config.get().max_connections_per_address > 0;
        counted_address(peer, self.config.get().limit_loopback).filter(|_| is_limited)
    }
}

/// Counts one more; false if there may be no more.
fn add_one(counts: &DashMap<IpAddr, usize>, address: IpAddr, most: usize) -> bool {
    let mut count = counts.entry(address).or_insert(0);
    let fits = *count < most;
    *count += usize::from(fits);
    fits
}

fn take_one(counts: &DashMap<IpAddr, usize>, address: IpAddr) {
    if let Entry::Occupied(mut count) = counts.entry(address) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The address under which a peer is counted; `None`: it is loopback, which is exempt. An IPv6 user usually has a whole
/// /64 network.
pub fn counted_address(peer: IpAddr, limit_loopback: bool) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    match peer {
        _ if peer.is_loopback() && !limit_loopback => None,
        IpAddr::V4(_) => Some(peer),
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
    }
}

impl Permit {
    /// Counts the connection on the worker that has the fewest, and returns which.
    pub fn choose_worker(&mut self) -> usize {
        let loads = self.admission.workers.iter().enumerate();
        let fewest = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        let worker = fewest.map_or(0, |(worker, _)| worker);
        self.admission.workers[worker].fetch_add(1, Ordering::Relaxed);
        self.worker = u32::try_from(worker).ok();
        worker
    }

    /// Counts the connection under the address of its user, unless it is: the user may be behind a proxy, and a session
    /// may have taken the count over.
    pub fn count_user(&self, user: IpAddr) -> Result<(), Refusal> {
        let admission = &self.admission;
        let Some(address) = admission.counted_address(user) else {
            return Ok(());
        };
        if *self.lock() == Counted::Session(address) {
            return Ok(());
        }
        if !admission.count(address) {
            return Err(self.address_full());
        }
        self.count_as(Counted::Session(address));
        Ok(())
    }

    /// The connection carries requests of a session that counts already. It counts among others of the kind, so that one
    /// token does not open any number of connections.
    pub fn carry(&self, user: IpAddr) -> Result<(), Refusal> {
        match self.carries(user) {
            true => Ok(()),
            false => Err(self.address_full()),
        }
    }

    /// The same; false if there may be no more of the kind.
    fn carries(&self, user: IpAddr) -> bool {
        let admission = &self.admission;
        let Some(address) = admission.counted_address(user) else {
            return true;
        };
        if *self.lock() == Counted::Carrying(address) {
            return true;
        }
        let most = admission.config.get().max_connections_per_address * CARRYING_PER_SESSION;
        let fits = add_one(&admission.carrying, address, most);
        if fits {
            self.count_as(Counted::Carrying(address));
        }
        fits
    }

    fn count_as(&self, counted: Counted) {
        let before = std::mem::replace(&mut *self.lock(), counted);
        self.admission.forget(before);
    }

    fn address_full(&self) -> Refusal {
        let refusal = Refusal::AddressFull;
        self.admission.metrics.limit_hit(refusal.label());
        self.admission.metrics.refused(refusal.label());
        refusal
    }

    /// The user of a connection that was counted under no address is known now: it counts under theirs, or is refused.
    /// `None`: close it at once.
    pub fn enter_user(self, user: IpAddr) -> Option<Self> {
        let admission = self.admission.clone();
        let Some(address) = admission.counted_address(user) else {
            return Some(self);
        };
        if self.refusal.is_some() || admission.count(address) {
            if self.refusal.is_none() {
                self.count_as(Counted::Session(address));
            }
            return Some(self);
        }
        drop(self);
        admission.refuse(Refusal::AddressFull, Some(address))
    }

    /// Whether one more session may begin that no connection carries: there may be as many sessions as connections.
    pub fn may_begin(&self) -> Result<(), Refusal> {
        let max = i64::try_from(self.admission.config.get().max_connections).unwrap_or(i64::MAX);
        let metrics = &self.admission.metrics;
        if max == 0 || metrics.sessions_open.get() < max {
            return Ok(());
        }
        metrics.limit_hit(Refusal::Full.label());
        metrics.refused(Refusal::Full.label());
        Err(Refusal::Full)
    }

    /// Gives the count of the address away, to the session that the connection carries: a session has one connection
    /// after another, or several requests at a time, and counts once.
    pub fn take_address(&self) -> Option<AddressCount> {
        let mut counted = self.lock();
        let Counted::Session(address) = *counted else {
            return None;
        };
        *counted = Counted::Nowhere;
        let admission = self.admission.clone();
        Some(AddressCount { admission, address })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What bounds the attempts with forged tokens and tickets.
    pub fn guard(&self) -> &Guard {
        &self.admission.guard
    }

    /// Set if the connection may only receive this refusal.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
            .filter(|_| !self.admitted.load(Ordering::Relaxed))
    }

    /// Lets a connection in whose address has as many as it may: it carries on a session of `user` that counts already.
    /// False: there are too many of the kind, or the server is full.
    pub fn admit(&self, user: IpAddr) -> bool {
        let admission = &self.admission;
        let is_address_full = self.refusal() == Some(Refusal::AddressFull);
        if !is_address_full || admission.is_full() || !self.carries(user) {
            return false;
        }
        self.admitted.store(true, Ordering::Relaxed);
        admission.refusing.fetch_sub(1, Ordering::Relaxed);
        admission.count_open();
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let admission = &self.admission;
        if let Some(worker) = self.worker {
            admission.workers[worker as usize].fetch_sub(1, Ordering::Relaxed);
        }
        let counted = *self.lock();
        admission.forget(counted);
        if self.refusal().is_some() {
            admission.refusing.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        admission.open.fetch_sub(1, Ordering::Relaxed);
        admission.metrics.connections_open.dec();
    }
}

/// One count of an address; dropping it ends the count.
pub struct AddressCount {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl HeldAddress for AddressCount {
    fn forged(&self, now: Instant) {
        self.admission.guard.charge(Some(self.address), now);
    }
}

impl Drop for AddressCount {
    fn drop(&mut self) {
        self.admission.forget(Counted::Session(self.address));
    }
}
