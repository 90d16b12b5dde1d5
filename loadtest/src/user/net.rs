//! The way to the server: addresses, credentials, TLS, WebSocket, HTTP.

mod close_code;
pub mod connection;
pub mod credentials;
pub mod endpoint;
mod handshake;
pub mod http;
mod ip_list;
mod requests;
pub mod servers;
mod source_pool;
mod stream;
pub mod target;
mod tls;
pub mod websocket;
