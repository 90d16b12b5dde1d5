//! Ports for programs that cannot choose one themselves.

use std::net::{SocketAddr, TcpListener};

/// How often a program is started whose port another one has got before.
pub(crate) const TRIES: usize = 20;

/// Addresses on loopback that were free a moment ago, all of them different.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let [address] = free_addresses();
    address.port()
}
