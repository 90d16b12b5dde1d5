//! The cluster on a real engine: Debian's redis-server, or what `CLUSTER_ENGINE` names, such as a valkey-server.

mod bans;
mod blocks;
mod cluster;
mod connecting;
mod failover;
mod living;
mod matching;
mod naming;
mod proxy;
mod relaying;
mod server;
mod strangers;
mod support;
mod table;
mod waiting;
