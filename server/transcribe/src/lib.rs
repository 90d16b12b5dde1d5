//! Audio in, transcripts and survey answers out, each stored exactly once.
//!
//! This crate knows neither HTTP nor flags: the server hands it connections and calls, and it answers.
//!
//! ```text
//! sessions -> session -> bridge -> provider       audio in, text out
//!                |   \-> deliver                  text to whom it is for
//!                \----> store                     text into the database
//! survey ---------------> store                   answers into the database
//! ```

pub mod bridge;
pub mod deliver;
pub mod export;
mod parts;
pub mod provider;
pub mod record;
pub mod session;
pub mod sessions;
pub mod store;
pub mod survey;
mod survey_log;
mod time;
pub mod track;
