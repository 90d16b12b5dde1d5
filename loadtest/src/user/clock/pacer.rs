//! Waits until a moment, to about ten microseconds.
//!
//! The runtime's timers have a resolution of a millisecond, more than a fast server's latency. Here all
//! users of a worker share one timer of the kernel (timerfd), set to the earliest moment that a user waits for.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io,
    os::fd::OwnedFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{io::unix::AsyncFd, time::Instant};

/// Abandoned waits are removed when there are this many.
const FORGOTTEN: usize = 1024;

/// The waits of one worker's users. They end only while [`Pacer::run`] is polled.
#[derive(Debug)]
pub struct Pacer {
    timer: AsyncFd<OwnedFd>,
    /// The moment that the timer is set to.
    set_to: Cell<Option<Instant>>,
    /// The moments of all waits, the earliest on top; abandoned waits may be among them.
    moments: RefCell<BinaryHeap<Reverse<(Instant, u64)>>>,
    waiting: RefCell<HashMap<u64, Waker>>,
    next_id: Cell<u64>,
}

impl Pacer {
    /// Must be called on the worker's runtime, with its I/O driver enabled.
    ///
    /// # Errors
    /// The system refuses a timer.
    pub fn new() -> io::Result<Rc<Self>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd keeps its descriptor open until it is dropped"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Rc::new(Self {
            timer,
            set_to: Cell::new(None),
            moments: RefCell::default(),
            waiting: RefCell::default(),
            next_id: Cell::new(0),
        }))
    }

    /// Ready at `moment`. Cancel-safe.
    pub fn until(self: &Rc<Self>, moment: Instant) -> Until {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        Until {
            pacer: Rc::clone(self),
            moment,
            id,
        }
    }

    /// Wakes the waits that are due, for as long as it is polled.
    ///
    /// # Errors
    /// The timer failed.
    pub async fn run(&self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0_u8; 8];
            // Nothing to read: the timer was set again in the meantime.
            let _ = rustix::io::read(self.timer.get_ref(), &mut expirations);
            ready.clear_ready();
            self.set_to.set(None);
            self.wake_due(Instant::now());
            self.set_for_earliest()?;
        }
    }

    fn add(&self, moment: Instant, id: u64) {
        let mut moments = self.moments.borrow_mut();
        moments.push(Reverse((moment, id)));
        let waiting = self.waiting.borrow();
        // Abandoned waits must not fill the memory until their moment comes.
        if moments.len() > 2 * waiting.len() + FORGOTTEN {
            moments.retain(|Reverse((_, id))| waiting.contains_key(id));
        }
    }

    fn wake_due(&self, now: Instant) {
        let mut moments = self.moments.borrow_mut();
        while let Some(Reverse((moment, id))) = moments.peek().copied() {
            if moment > now {
                return;
            }
            moments.pop();
            if let Some(waker) = self.waiting.borrow_mut().remove(&id) {
                waker.wake();
            }
        }
    }

    fn set_for_earliest(&self) -> io::Result<()> {
        let mut moments = self.moments.borrow_mut();
        while let Some(Reverse((moment, id))) = moments.peek().copied() {
            if self.waiting.borrow().contains_key(&id) {
                return self.set(moment);
            }
            moments.pop();
        }
        Ok(())
    }

    fn set(&self, moment: Instant) -> io::Result<()> {
        if self.set_to.get().is_some_and(|earlier| earlier <= moment) {
            return Ok(());
        }
        // Zero would turn the timer off.
        let left = moment.saturating_duration_since(Instant::now());
        let it_value = timespec(left.max(Duration::from_nanos(1)));
        let it_interval = timespec(Duration::ZERO);
        let once = Itimerspec {
            it_interval,
            it_value,
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.set_to.set(Some(moment));
        Ok(())
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// A wait until a moment.
#[derive(Debug)]
pub struct Until {
    pacer: Rc<Pacer>,
    moment: Instant,
    id: u64,
}

impl Until {
    pub fn moment(&self) -> Instant {
        self.moment
    }
}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (pacer, moment, id) = (&self.pacer, self.moment, self.id);
        if moment <= Instant::now() {
            pacer.waiting.borrow_mut().remove(&id);
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        if pacer.waiting.borrow_mut().insert(id, waker).is_none() {
            pacer.add(moment, id);
            // If the timer cannot be set, `Pacer::run` returns the error.
            let _ = pacer.set(moment);
        }
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.pacer.waiting.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{JoinSet, LocalSet};

    use super::*;

    async fn with_pacer<T>(act: impl AsyncFnOnce(&Rc<Pacer>) -> T) -> T {
        let pacer = Pacer::new().expect("a timer");
        tokio::select! {
            ran = pacer.run() => panic!("the pacer ended: {ran:?}"),
            done = act(&pacer) => done,
        }
    }

    #[tokio::test]
    async fn all_wait_until_their_moment_in_whichever_order_they_came() {
        let users = async |pacer: &Rc<Pacer>| {
            let start = Instant::now();
            let mut waits = JoinSet::new();
            for user in [7_u64, 2, 9, 1, 5, 0] {
                let pacer = Rc::clone(pacer);
                waits.spawn_local(async move {
                    let moment = start + Duration::from_millis(user * 3);
                    pacer.until(moment).await;
                    assert!(Instant::now() >= moment);
                    user
                });
            }
            let mut order = Vec::new();
            while let Some(user) = waits.join_next().await {
                order.push(user.expect("no panic"));
            }
            order
        };
        let order = LocalSet::new().run_until(with_pacer(users)).await;
        assert_eq!(order, [0, 1, 2, 5, 7, 9]);
    }

    #[tokio::test]
    async fn who_no_longer_waits_leaves_nothing_behind() {
        with_pacer(async |pacer| {
            let soon = Instant::now() + Duration::from_millis(5);
            tokio::select! {
                biased;
                () = pacer.until(soon) => panic!("too early"),
                () = std::future::ready(()) => {}
            }
            drop(pacer.until(soon));
            pacer.until(soon).await;
            pacer.until(Instant::now() + Duration::from_millis(1)).await;
            assert!(pacer.waiting.borrow().is_empty());
            assert!(pacer.moments.borrow().len() <= 1, "the last is about to go");
            let late = Instant::now() + Duration::from_secs(3600);
            for _ in 0..10 * FORGOTTEN {
                tokio::select! {
                    biased;
                    () = pacer.until(late) => panic!("too early"),
                    () = std::future::ready(()) => {}
                }
            }
            assert!(pacer.moments.borrow().len() <= FORGOTTEN + 2);
        })
        .await;
    }
}
