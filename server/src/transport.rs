//! What carries messages between a user and their session.
//!
//! A transport owes a session this much:
//! 1. it opens the session with a [`Link`](voicematch_core::outbox::Link), through which anyone may write to the user;
//! 2. it gives [`Session::receive`](voicematch_core::session::Session::receive) each whole text message, in order,
//!    with the time at which it was read, and calls [`Session::flush`](voicematch_core::session::Session::flush) at
//!    the end of each read;
//! 3. in each poll it asks [`Outbox::status`](voicematch_core::outbox::Outbox::status) what there is to do: write
//!    what is queued, or close for the reason given;
//! 4. it calls [`Session::on_deadline`](voicematch_core::session::Session::on_deadline) at
//!    [`Session::deadline`](voicematch_core::session::Session::deadline);
//! 5. it finds out whether the user is still there, and calls
//!    [`Session::leave`](voicematch_core::session::Session::leave) with the reason when they are not.

pub mod ws;
