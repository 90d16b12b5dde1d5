//! The public listener: permits, accept, back-off, one task a connection.
//!
//! One loop accepts for all workers and deals the connections out in turn: each worker is a runtime of
//! its own on a thread of its own, and a connection stays where it was dealt.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    http::{self, Public},
    metrics::Metrics,
};

/// Connections that the kernel keeps for us until we accept them. With less, a burst of connects loses
/// packets and waits a second for the client to try again.
const BACKLOG: i32 = 4096;

/// Refused connections that are told why at the same time; more are just closed.
const MAX_REFUSALS: usize = 256;

/// How long to wait before accepting again, after the descriptors have run out.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// How the listener behaves.
#[derive(Debug, Clone, Copy)]
pub struct ListenConfig {
    /// Connections in all; 0: no limit.
    pub max_connections: usize,
    /// Connections from one address; 0: no limit.
    pub max_connections_per_address: usize,
    /// Whether loopback addresses count too.
    pub limit_loopback: bool,
    /// Connections a second; 0: no limit.
    pub max_accepts_per_second: u32,
}

/// Binds a listener that is not blocking.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: relayed messages are small and must not wait for each other.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
    config: ListenConfig,
    open: AtomicUsize,
    refusing: AtomicUsize,
    addresses: DashMap<IpAddr, usize>,
    metrics: Arc<Metrics>,
}

/// The right to be connected, given back when dropped.
pub struct Permit {
    door: Arc<Door>,
    /// Counted under this address.
    address: Option<IpAddr>,
    refusal: Option<Refusal>,
}

impl Door {
    /// Nobody is connected.
    pub fn new(config: ListenConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        let (open, refusing) = Default::default();
        Arc::new(Self {
            config,
            open,
            refusing,
            addresses: DashMap::new(),
            metrics,
        })
    }

    /// Lets a connection in. One over a limit gets a permit to be told so; `None`: not even that.
    fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Permit> {
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
    /// Set if the connection is only there to be told that it is turned away.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let door = &self.door;
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

/// Accepts until `stop`, dealing connections out to `workers`. To be run on the first of them.
pub async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    workers: Vec<Handle>,
    public: Arc<Public>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut pace = Pace::new(door.config.max_accepts_per_second);
    let mut back_off = BACK_OFF[0];
    let mut turns = (0..workers.len()).cycle();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            accepted = async { pace.wait(&door.metrics).await; listener.accept().await } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                back_off = BACK_OFF[0];
                pace.count();
                let Some(permit) = door.enter(peer.ip()) else {
                    continue;
                };
                let worker = turns.next().unwrap_or(0);
                deal(stream, permit, worker, &workers, &public);
            }
            Err(error) => {
                if !describe_failure(&error, &door.metrics) {
                    continue;
                }
                tokio::select! {
                    () = &mut stop => return Ok(()),
                    () = sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(BACK_OFF[1]);
            }
        }
    }
}

/// Hands a connection to a worker; a worker other than this one watches the socket anew.
fn deal(
    stream: TcpStream,
    permit: Permit,
    worker: usize,
    workers: &[Handle],
    public: &Arc<Public>,
) {
    let public = public.clone();
    if worker == 0 {
        tokio::spawn(http::serve(stream, permit, public));
        return;
    }
    let stream = stream.into_std();
    workers[worker].spawn(async move {
        match stream.and_then(TcpStream::from_std) {
            Ok(stream) => http::serve(stream, permit, public).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be watched and was dropped")
            }
        }
    });
}

/// Counts a failed accept; true if accepting again at once would fail again.
fn describe_failure(error: &io::Error, metrics: &Metrics) -> bool {
    use rustix::io::Errno;
    let out_of_descriptors = matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    );
    if out_of_descriptors {
        metrics.refused("descriptors");
        tracing::warn!(%error, "cannot accept; raise the limit on open files or lower --max-connections");
    } else {
        // The client was gone before we came to it, or the network had a fault.
        metrics.refused("accept_error");
        tracing::debug!(%error, "a connection was lost before it was accepted");
    }
    out_of_descriptors
}

/// Spreads accepts over time: at most so many in each tenth of a second.
struct Pace {
    per_tick: u32,
    left: u32,
    tick_ends: Instant,
}

impl Pace {
    const TICK: Duration = Duration::from_millis(100);

    fn new(per_second: u32) -> Self {
        let per_tick = per_second.div_ceil(10);
        Self {
            per_tick,
            left: per_tick,
            tick_ends: Instant::now() + Self::TICK,
        }
    }

    async fn wait(&mut self, metrics: &Metrics) {
        if self.per_tick == 0 || self.left > 0 {
            return;
        }
        if Instant::now() < self.tick_ends {
            metrics.limit_hit("max_accepts_per_second");
            sleep_until(self.tick_ends).await;
        }
        self.left = self.per_tick;
        self.tick_ends = Instant::now() + Self::TICK;
    }

    fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
