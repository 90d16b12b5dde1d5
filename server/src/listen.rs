//! The public listener: accept, back-off, one task a connection.
//!
//! One loop accepts for all workers and gives each connection to the one that has the fewest. A worker is
//! a runtime of its own on a thread of its own, and a connection stays where it was dealt.

mod address;
mod bind;

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    admission::limits::{Admission, Permit},
    http::{self, Public},
    io::{Detached, Peer, Stream},
    metrics::Metrics,
};
pub use address::Address;
pub use bind::{Bound, BoundAddress, Listener, SocketFile, bind};

/// How long to wait before accepting again, after the descriptors have run out.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// Accepts until `stop`, dealing connections out to `workers`. To be run on the first of them.
pub async fn accept(
    listener: Listener,
    admission: Arc<Admission>,
    max_per_second: u32,
    workers: Vec<Handle>,
    public: Arc<Public>,
    stop: impl Future<Output = ()>,
) {
    let metrics = &*public.context.metrics;
    let mut pace = Pace::new(max_per_second);
    let mut back_off = BACK_OFF[0];
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = async { pace.wait(metrics).await; listener.accept().await } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                back_off = BACK_OFF[0];
                // The connections of a proxy are its users', who are known with their requests.
                let address = (!public.proxies.trusts(peer)).then(|| peer.address());
                let Some(permit) = admission.enter(address) else {
                    continue;
                };
                if permit.refusal().is_none() {
                    pace.count();
                }
                deal(stream, peer, permit, &workers, &public);
            }
            Err(error) => {
                if !describe_failure(&error, metrics) {
                    continue;
                }
                tokio::select! {
                    () = &mut stop => return,
                    () = sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(BACK_OFF[1]);
            }
        }
    }
}

/// Hands a connection to the worker that has the fewest; one other than this watches the socket anew.
fn deal(stream: Stream, peer: Peer, mut permit: Permit, workers: &[Handle], public: &Arc<Public>) {
    let public = public.clone();
    let worker = permit.choose_worker();
    if worker == 0 {
        tokio::spawn(http::serve(stream, peer, permit, public));
        return;
    }
    let stream = stream.detach();
    workers[worker].spawn(async move {
        match stream.and_then(Detached::attach) {
            Ok(stream) => http::serve(stream, peer, permit, public).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be watched and was dropped")
            }
        }
    });
}

/// Counts a failed accept; true if accepting again at once might fail again and again. The others are
/// faults of the one connection that was to be accepted (accept(2), "Error handling").
fn describe_failure(error: &io::Error, metrics: &Metrics) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    if let Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) = errno {
        metrics.refused("descriptors");
        tracing::warn!(%error, "cannot accept; raise the limit on open files or lower --max-connections");
        return true;
    }
    metrics.refused("accept_error");
    tracing::debug!(%error, "a connection was lost before it was accepted");
    !matches!(
        errno,
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
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
