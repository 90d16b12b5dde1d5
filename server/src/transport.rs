//! What carries messages between a user and their session.
//!
//! A transport owes a session this much:
//! 1. it opens the session with a [`Link`](crate::outbox::Link), through which anyone may write to the user;
//! 2. it gives [`Session::receive`](crate::session::Session::receive) each whole text message, in order,
//!    with the time at which it was read, and calls [`Session::flush`](crate::session::Session::flush) at
//!    the end of each read;
//! 3. in each poll it asks [`Outbox::status`](crate::outbox::Outbox::status) what there is to do: write
//!    what is queued, or close for the reason given;
//! 4. it calls [`Session::on_deadline`](crate::session::Session::on_deadline) at
//!    [`Session::deadline`](crate::session::Session::deadline);
//! 5. it finds out whether the user is still there, and calls
//!    [`Session::leave`](crate::session::Session::leave) with the reason when they are not.

pub mod ws;
