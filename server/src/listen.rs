//! The public listener: accept, back-off, one task a connection.
//!
//! One loop accepts for all workers and gives each connection to the one that has the fewest. A worker is
//! a runtime of its own on a thread of its own, and a connection stays where it was dealt.

pub mod activated;
mod address;
mod bind;
pub mod certificate;

use std::{io, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    admission::limits::{Admission, Permit, Refusal},
    http::{self, Public},
    io::{Detached, Peer, Stream},
    machine::descriptors::{self, Reserve},
};
pub use address::Address;
pub use bind::{Bound, BoundAddress, Listener, Listeners, SocketFile, bind, inherit};
use voicematch_core::metrics::Metrics;

/// How long to wait before accepting again after an accept that failed: at first, and at the most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

/// Descriptors kept back for health checks, and for the answers to newcomers.
const RESERVE: usize = 32;

/// Accepts for ever, dealing connections out to `workers`. To be run on the first of them.
pub async fn accept(
    mut listeners: Listeners,
    admission: Arc<Admission>,
    max_per_second: u32,
    workers: Vec<Handle>,
    public: Arc<Public>,
) {
    let metrics = &*public.context.metrics;
    let mut pace = Pace::new(max_per_second);
    let mut back_off = BACK_OFF[0];
    let mut reserve = Reserve::new(RESERVE);
    let mut scarce = false;
    loop {
        pace.wait(metrics).await;
        match listeners.accept().await {
            Ok((stream, peer)) => {
                back_off = BACK_OFF[0];
                scarce = scarce && !reserve.is_whole();
                let permit = if scarce {
                    admission.refuse(Refusal::NoDescriptors, None)
                } else {
                    // A proxy's connections count for its users, who are known only with their requests.
                    let is_known = !public.settings.get().proxies.trusts(peer);
                    admission.enter((is_known && peer != Peer::Successor).then(|| peer.address()))
                };
                let Some(permit) = permit else {
                    continue;
                };
                if permit.refusal().is_none() {
                    pace.count();
                }
                deal(stream, peer, permit, &workers, &public);
            }
            Err(error) if descriptors::have_run_out(&error) => {
                scarce = true;
                if !reserve.lend(&error, 2) {
                    sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF[1]);
                }
            }
            Err(error) => {
                metrics.refused("accept_error");
                tracing::debug!(%error, "a connection was lost before it was accepted");
                if !is_of_the_connection(&error) {
                    sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF[1]);
                }
            }
        }
    }
}

/// Hands a connection to the worker that has the fewest; if that is another worker, the socket is registered there.
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
                public.context.metrics.refused("accept_error");
                tracing::debug!(%error, "a connection could not be watched and was dropped");
            }
        }
    });
}

/// Whether a failed accept is a fault of the connection that was to be accepted (accept(2), "Error handling"):
/// then the next may be accepted at once.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
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

/// Spreads accepts over time: a tenth of the rate in each tenth of a second.
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
