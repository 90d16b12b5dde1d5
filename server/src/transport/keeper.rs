//! The task of a session that no connection carries: it keeps the time until one comes, or the session is over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    time::{Sleep, sleep_until},
};
use voicematch_core::session::{Resumable, Resumables, Token};

/// Gives the session a keeper, unless it has one.
pub fn keep(session: Arc<Resumable>) {
    if session.lock_any().take_keeper()
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn(async move {
            let mut timer = std::pin::pin!(sleep_until(Instant::now().into()));
            std::future::poll_fn(|cx| poll(&session, cx, timer.as_mut())).await;
        });
    }
}

/// Keeps the time for a session that could not be carried on: its seat waits for the user's next one.
pub fn keep_vacant(resumables: &Resumables, token: Option<&Token>) {
    if let Some(session) = token.and_then(|token| resumables.get(token.session)) {
        keep(session);
    }
}

/// Ready when a connection carries the session, or it is over.
fn poll(session: &Resumable, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
    loop {
        let mut session = session.lock_any();
        if session.needs_no_keeper() {
            return Poll::Ready(());
        }
        let outbox = &session.member().clone().outbox;
        outbox.register(cx.waker());
        if session.is_moving() {
            // It is woken when the session is to stay, or has gone.
            return Poll::Pending;
        }
        if let Some(reason) = outbox.status().closing {
            session.leave(reason);
            if session.needs_no_keeper() {
                return Poll::Ready(());
            }
        }
        let now = Instant::now();
        if let Some(until) = session.ended_until() {
            timer.as_mut().reset(until.into());
            ready!(timer.as_mut().poll(cx));
            session.forget();
            return Poll::Ready(());
        }
        match session.deadline() {
            Some(deadline) if deadline <= now => {
                if let Err(reason) = session.on_deadline(now)
                    && (session.is_detached() || !session.lose(reason, now))
                {
                    session.leave(reason);
                }
            }
            Some(deadline) => {
                timer.as_mut().reset(deadline.into());
                ready!(timer.as_mut().poll(cx));
            }
            None => return Poll::Pending,
        }
    }
}
