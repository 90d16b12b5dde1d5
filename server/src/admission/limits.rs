//! Who may be connected: the limits on connections, in all and for each address.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};

use crate::metrics::Metrics;

/// Refused connections that are told why at the same time; more are just closed.
const MAX_REFUSALS: usize = 256;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct PermitConfig {
    /// Connections in all; 0: no limit.
    pub max_connections: usize,
    /// Connections from one address; 0: no limit.
    pub max_connections_per_address: usize,
    /// Whether loopback addresses count too.
    pub limit_loopback: bool,
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many connections as there may be.
    Full,
    /// As many connections from this address as there may be.
    AddressFull,
}

impl Refusal {
    /// What to tell the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::Full => "the server is full; try again later",
            Self::AddressFull => "too many connections from your address; close some first",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Full => "max_connections",
            Self::AddressFull => "max_connections_per_address",
        }
    }
}

/// Who is connected, counted.
pub struct Door {
    config: PermitConfig,
    open: AtomicUsize,
    refusing: AtomicUsize,
    addresses: DashMap<IpAddr, usize>,
    /// Connections on each worker.
    workers: Box<[AtomicUsize]>,
    metrics: Arc<Metrics>,
}

/// The right to be connected, given back when dropped.
pub struct Permit {
    door: Arc<Door>,
    /// Counted under this address.
    address: Option<IpAddr>,
    /// Counted on this worker.
    worker: Option<usize>,
    refusal: Option<Refusal>,
}

impl Door {
    /// Nobody is connected.
    pub fn new(config: PermitConfig, workers: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            config,
            open: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            addresses: DashMap::new(),
            workers: (0..workers.max(1)).map(|_| AtomicUsize::new(0)).collect(),
            metrics,
        })
    }

    /// Lets a connection in. One over a limit gets a permit to be told so; `None`: not even that.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Permit> {
        let max = self.config.max_connections;
        if max > 0 && self.open.load(Ordering::Relaxed) >= max {
            return self.refuse(Refusal::Full);
        }
        let address = self.counted_address(peer);
        if let Some(address) = address {
            let mut count = self.addresses.entry(address).or_insert(0);
            if *count >= self.config.max_connections_per_address {
                drop(count);
                return self.refuse(Refusal::AddressFull);
            }
            *count += 1;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections_open.inc();
        self.metrics.connections_total.inc();
        Some(Permit {
            door: self.clone(),
            address,
            worker: None,
            refusal: None,
        })
    }

    fn refuse(self: &Arc<Self>, refusal: Refusal) -> Option<Permit> {
        self.metrics.limit_hit(refusal.label());
        if self.refusing.fetch_add(1, Ordering::Relaxed) >= MAX_REFUSALS {
            self.refusing.fetch_sub(1, Ordering::Relaxed);
            self.metrics.refused("refusals_busy");
            return None;
        }
        self.metrics.refused(refusal.label());
        Some(Permit {
            door: self.clone(),
            address: None,
            worker: None,
            refusal: Some(refusal),
        })
    }

    /// The address under which a peer is counted: an IPv6 user has a /64 network to themself.
    fn counted_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if self.config.max_connections_per_address == 0
            || (peer.is_loopback() && !self.config.limit_loopback)
        {
            return None;
        }
        Some(match peer {
            IpAddr::V4(_) => peer,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

impl Permit {
    /// Counts the connection on the worker that has the fewest, and returns which.
    pub fn choose_worker(&mut self) -> usize {
        let loads = self.door.workers.iter().enumerate();
        let fewest = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        let worker = fewest.map_or(0, |(worker, _)| worker);
        self.door.workers[worker].fetch_add(1, Ordering::Relaxed);
        self.worker = Some(worker);
        worker
    }

    /// Set if the connection is only there to be told that it is turned away.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let door = &self.door;
        if let Some(worker) = self.worker {
            door.workers[worker].fetch_sub(1, Ordering::Relaxed);
        }
        if self.refusal.is_some() {
            door.refusing.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        door.open.fetch_sub(1, Ordering::Relaxed);
        door.metrics.connections_open.dec();
        if let Some(address) = self.address
            && let Entry::Occupied(mut count) = door.addresses.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
