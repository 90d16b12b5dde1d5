//! A user's connection, over whichever transport.

use std::sync::Arc;

use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};

use crate::{
    measure::sample::ErrorKind,
    plan::Transport,
    user::net::{endpoint::Endpoint, requests::Requests, websocket},
};

/// What a user hears.
#[derive(Debug)]
pub enum Event {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// The server has received the user's messages up to this number.
    Received(u64),
    /// Something went wrong; the connection goes on.
    Trouble(ErrorKind),
}

/// The session that a new connection is to carry.
#[derive(Debug, Clone, Copy)]
pub enum Session<'a> {
    /// One that ends with the connection.
    Plain,
    /// A new one, which outlives the connection.
    Begin,
    /// One that has begun.
    Resume {
        token: &'a str,
        /// The number of the last message that arrived.
        arrived: u64,
    },
}

/// Where and how a user connects.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub user: u32,
    /// The path for a WebSocket; those of the other transports stand beside it.
    pub path: &'a str,
    pub transport: Transport,
    pub session: Session<'a>,
}

/// An open connection.
pub enum Connection {
    WebSocket(Box<websocket::Connection>),
    Requests(Box<Requests>),
}

impl Connection {
    /// Opens a connection. Must be called in a local task set.
    ///
    /// # Errors
    /// What failed. The caller limits the time.
    pub async fn open(server: &Arc<Endpoint>, wanted: Wanted<'_>) -> Result<Self, ErrorKind> {
        if wanted.transport != Transport::WebSocket {
            let requests = Requests::open(server, wanted).await?;
            return Ok(Self::Requests(Box::new(requests)));
        }
        let mut headers = server.headers(wanted.user);
        let begins;
        let path = match wanted.session {
            Session::Plain => wanted.path,
            Session::Begin => {
                begins = with_query(wanted.path, "resume=1");
                &begins
            }
            Session::Resume { token, arrived } => {
                let offer = format!("voicematch.1, resume.{token}.{arrived}");
                let offer = HeaderValue::try_from(offer);
                let offer = offer.map_err(|_bad| ErrorKind::HandshakeInvalid)?;
                headers.append(SEC_WEBSOCKET_PROTOCOL, offer);
                wanted.path
            }
        };
        let opened = websocket::Connection::open(server, wanted.user, path, headers).await?;
        Ok(Self::WebSocket(Box::new(opened)))
    }

    /// Sends a text message, with its number if it has one. [`Self::next`] sends what does not go out now.
    ///
    /// # Errors
    /// The server does not read, or the connection is gone.
    pub fn send(&mut self, number: Option<u64>, text: String) -> Result<(), ErrorKind> {
        match self {
            Self::WebSocket(connection) => connection.send(text),
            Self::Requests(connection) => connection.send(number, text),
        }
    }

    /// Sends a binary message; only over a WebSocket.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), ErrorKind> {
        match self {
            Self::WebSocket(connection) => connection.send_binary(bytes),
            Self::Requests(_) => Err(ErrorKind::BinaryFrame),
        }
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn next(&mut self) -> Result<Event, ErrorKind> {
        match self {
            Self::WebSocket(connection) => connection.next().await,
            Self::Requests(connection) => connection.next().await,
        }
    }

    /// What the user shows from now on.
    pub fn show(&mut self, token: &str) {
        if let Self::Requests(connection) = self {
            connection.show(token);
        }
    }

    /// Ends the session, and with it the connection.
    ///
    /// # Errors
    /// The server did not agree in time.
    pub async fn close(self) -> Result<(), ErrorKind> {
        match self {
            Self::WebSocket(connection) => connection.close().await,
            Self::Requests(connection) => Box::pin(connection.close()).await,
        }
    }
}

/// The path with one more parameter.
pub fn with_query(path: &str, parameter: &str) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    format!("{path}{mark}{parameter}")
}

/// The path beside `path` with this last part, and the same query.
pub fn beside(path: &str, last: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let folder = path.rfind('/').map_or("", |slash| &path[..slash]);
    format!("{folder}/{last}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_transports_are_beside_the_web_socket() {
        assert_eq!(beside("/ws", "events"), "/events");
        assert_eq!(beside("/voice/ws?a=/b", "poll"), "/voice/poll?a=/b");
        assert_eq!(beside("/", "send"), "/send");
        assert_eq!(with_query("/poll?a=b", "wait=25"), "/poll?a=b&wait=25");
        assert_eq!(with_query("/ws", "resume=1"), "/ws?resume=1");
    }
}
