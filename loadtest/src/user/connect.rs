//! How a user's connection begins and ends.

use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Stop, User, WorkerContext, inbound, next_event};
use crate::{
    measure::sample::{ErrorKind, Sample},
    plan::Greeting,
    user::{
        net::websocket::{Connection, Event},
        run_state::{RunState, reached},
        tag::room_key,
    },
};

impl User {
    /// Opens a connection and reads the greeting.
    pub(super) async fn connect(&mut self) -> Result<(), Stop> {
        let context = Rc::clone(&self.context);
        self.tell(Sample::Connecting {
            again: self.connections > 0,
        });
        // Connect latency starts at the planned start (or the forced drop), so failed attempts count.
        let from = self
            .dropped_at
            .or(self.due)
            .unwrap_or_else(|| context.now());
        let joined = tokio::select! {
            biased;
            () = reached(&context.state, RunState::Draining) => {
                self.tell(Sample::ConnectingEnded);
                return Err(Stop::Over);
            }
            // Boxed, because it is large: otherwise it would be part of every user's state.
            joined = Box::pin(join(self.start.user, self.path.as_deref(), &context)) => joined,
        };
        let (connection, session_id) = joined.map_err(Stop::NotConnected)?;
        self.connection = Some(connection);
        self.session_id = session_id;
        self.connections += 1;
        self.due = None;
        let latency = context.now().saturating_sub(from);
        self.tell(Sample::Connected { latency });
        if self.dropped_at.take().is_some() {
            self.tell(Sample::StormConnected { after: latency });
        }
        Ok(())
    }

    /// Records what ends with the connection.
    pub(super) fn end_talk(&mut self, cut_off: bool) {
        if let Some(stay) = &mut self.room {
            stay.cut_off |= cut_off;
        }
        self.leave_room(false);
        self.end_echo(cut_off);
        // Open calls are neither answered nor failed.
        self.pending.clear();
        self.end_search();
        self.expecting.forget();
        self.leaving = None;
    }

    /// The connection is lost, or is dropped without a close frame.
    pub(super) fn drop_connection(&mut self, sample: Sample) {
        self.tell(Sample::StoppedSending);
        self.end_talk(true);
        self.connection = None;
        self.tell(sample);
    }

    /// Waits for the echoes of messages under way, then closes with a close frame.
    pub(super) async fn close(&mut self) {
        if let Err(error) = self.await_echoes().await {
            self.end_talk(true);
            self.connection = None;
            return self.tell(Sample::Dropped { error });
        }
        let Some(connection) = self.connection.take() else {
            return;
        };
        self.end_talk(false);
        if let Err(error) = connection.close().await {
            self.tell_error(error);
        }
        self.tell(Sample::Closed);
    }

    /// Listens until the server has sent every echo back, but no longer than messages may take.
    async fn await_echoes(&mut self) -> Result<(), ErrorKind> {
        let context = Rc::clone(&self.context);
        let deadline = Instant::now() + context.plan.message_timeout;
        // At the end of the run, all users have waited together already.
        let mut end = pin!(reached(&context.state, RunState::Closing));
        while self.awaits_echo() {
            tokio::select! {
                biased;
                () = &mut end => break,
                () = sleep_until(deadline) => break,
                event = next_event(&mut self.connection) => self.on_event(event?, false)?,
            }
        }
        if let Some(echo) = &mut self.echo {
            echo.stay.settled = true;
        }
        Ok(())
    }

    /// Waits for messages under way, then closes with a close frame.
    pub(super) async fn leave(&mut self) {
        if self.connection.is_none() {
            return;
        }
        self.tell(Sample::StoppedSending);
        let context = Rc::clone(&self.context);
        if *context.state.borrow() >= RunState::Draining {
            if let Err(error) = self.listen(&context).await {
                self.end_talk(true);
                return self.tell(Sample::Dropped { error });
            }
            if let Some(stay) = &mut self.room {
                stay.settled = true;
            }
            self.take_turns().await;
        }
        self.close().await;
    }

    /// Spreads the users' closes over a time.
    async fn take_turns(&self) {
        const BETWEEN_CLOSES: Duration = Duration::from_micros(100);
        let turn = self.start.user / self.context.plan.shard.count.max(1);
        sleep((BETWEEN_CLOSES * turn).min(Duration::from_secs(2))).await;
    }
}

/// Connects and reads the greeting. Returns the session id in it, too.
async fn join(
    user: u32,
    path: Option<&str>,
    context: &WorkerContext,
) -> Result<(Connection, Option<u64>), ErrorKind> {
    let connected = Cell::new(false);
    let joining = async {
        let mut connection = Connection::open(&context.servers.own, user, path).await?;
        connected.set(true);
        let Greeting::Type(greeting) = &context.plan.greeting else {
            return Ok((connection, None));
        };
        loop {
            if let Event::Text(text) = connection.next().await?
                && let Some((kind, id)) = inbound::greeting(&text)
                && kind == *greeting
            {
                return Ok((connection, id.as_deref().map(room_key)));
            }
        }
    };
    let mut joining = pin!(joining);
    let mut time = context.plan.connect_timeout;
    while !time.is_zero() {
        let from = context.now();
        if let Ok(joined) = timeout(time, &mut joining).await {
            return joined;
        }
        // A pause of this process is not the server's time.
        time = context.pulse.paused(from, context.now());
    }
    Err(match connected.get() {
        true => ErrorKind::NoSession,
        false => ErrorKind::ConnectTimeout,
    })
}
