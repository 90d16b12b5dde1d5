//! The way to the server: addresses, credentials, TLS, WebSocket, HTTP.

pub mod credentials;
pub mod endpoint_http;
pub mod http;
pub mod ip_list;
pub mod source_pool;
pub mod target;
pub mod tls;
pub mod websocket;
