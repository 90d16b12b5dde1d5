//! What carries messages between a user and their session: a WebSocket ([`ws`]) or an event stream ([`sse`]) by a task of
//! its own, or requests, which are in `http`.
//!
//! A task that carries a session owes a session this much:
//! 1. it opens the session with a [`Link`](voicematch_core::outbox::Link), through which anyone may write to the user;
//! 2. it gives [`Session::receive`](voicematch_core::session::Session::receive) each whole text message, in order,
//!    with the time at which it was read, and calls [`Session::flush`](voicematch_core::session::Session::flush) at
//!    the end of each read;
//! 3. in each poll it asks [`Outbox::status`](voicematch_core::outbox::Outbox::status) what there is to do: write
//!    what is queued, or close for the reason given;
//! 4. it calls [`Session::on_deadline`](voicematch_core::session::Session::on_deadline) at
//!    [`Session::deadline`](voicematch_core::session::Session::deadline);
//! 5. it finds out whether the user is still there, and calls
//!    [`Session::lose`](voicematch_core::session::Session::lose) with the reason when they are not: a session that
//!    outlives its connection goes on then, with a [`keeper`] in place of the task.

pub mod attachment;
pub mod keeper;
pub mod sse;
pub mod ws;
