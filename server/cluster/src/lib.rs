//! Several nodes as one service, over Redis >= 7.0 or Valkey >= 7.2.
//!
//! This crate talks to the *engine* (the Redis or Valkey server) and knows nothing of users' sockets. It decides no match:
//! the engine's index of who waits may be wrong or lost at any moment, and the node that owns a waiting session decides.
//!
//! ```text
//! index     who waits, in one order for all nodes
//! bus       ordered messages between nodes, which tells its gaps
//! members   which nodes live -> nodes, the rules of that without I/O
//! engine    two connections, their supervisor, the typed scripts
//! ```

mod bus;
mod engine;
pub mod frames;
mod id;
mod index;
mod members;
mod metrics;
pub mod nodes;
mod scripts;
mod settings;

pub use bus::{Bus, Deliver, Delivery, Link, NotTaken};
pub use engine::{
    BlocksRead, Call, CallError, Engine, Foreign, Inbox, KeptApart, KeptOut, Message, MostBlocks,
    PoolSeen, SomeBlocks, State, Word,
};
pub use id::{NodeId, POOL_BYTES, TicketId};
pub use index::{Index, Sought, Told};
pub use members::{Changes, Members};
pub use metrics::ClusterMetrics;
pub use scripts::{Answer, BeatReply, Found, Op, Stands, Wish};
pub use settings::{Settings, SettingsError};
