//! A connection to `/transcribe`, and what comes over it.

use std::{borrow::Cow, rc::Rc, time::Duration};

use hyper::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    measure::sample::{ErrorKind, Sample, ServerCode},
    user::{
        WorkerContext,
        net::{
            connection::{Event, beside},
            websocket::Connection,
        },
    },
};

/// What the server says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told {
    Ready,
    AudioAck {
        ms: u64,
    },
    Partial {
        text: String,
    },
    Final {
        seq: i64,
        speaker: String,
        start_ms: i64,
        text: String,
    },
    Gap {
        speaker: String,
        from_ms: i64,
        to_ms: i64,
    },
    Stored {
        through: i64,
    },
    ToolResult {
        ok: bool,
        #[serde(default)]
        result: serde_json::Value,
        #[serde(default)]
        code: Option<String>,
    },
    Pong,
    Ended {
        segments: i64,
    },
    Error {
        code: String,
    },
    #[serde(other)]
    Other,
}

/// An open connection. Dropping it without [`Line::close`] counts as nothing: who drops it tells why.
pub struct Line {
    context: Rc<WorkerContext>,
    connection: Connection,
}

impl Line {
    /// Connects with this token, and waits for `ready` unless it is that of an interview. Tells how it went, but not why it
    /// failed. `from`: when it was due.
    ///
    /// # Errors
    /// What failed.
    pub async fn open(
        context: &Rc<WorkerContext>,
        user: u32,
        token: &str,
        query: &str,
        from: Duration,
        greets: bool,
    ) -> Result<Self, ErrorKind> {
        (context.sink)(Sample::Connecting { again: false });
        let own = context.servers.own();
        let mut headers = own.headers(user);
        // The session's token is the only one that counts here.
        headers.remove(AUTHORIZATION);
        let offer = HeaderValue::try_from(format!("voicematch.1, token.{token}"));
        let offer = offer.map_err(|_unusable| ErrorKind::HandshakeInvalid)?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offer);
        let path = beside(&own.path, "transcribe");
        let path = match path.split_once('?') {
            Some((path, _)) => Cow::from(path),
            None => Cow::from(&path),
        };
        let path = format!("{path}{query}");
        let connecting = async {
            let connection = Connection::open(own, user, &path, headers).await?;
            let mut line = Self {
                context: Rc::clone(context),
                connection,
            };
            if greets {
                match line.next().await? {
                    Told::Ready => {}
                    Told::Error { code } => {
                        return Err(ErrorKind::ServerError(ServerCode::new(&code)));
                    }
                    _ => return Err(ErrorKind::NoSession),
                }
            }
            Ok(line)
        };
        let connected = timeout(context.plan.connect_timeout, connecting).await;
        let line = connected.unwrap_or(Err(ErrorKind::ConnectTimeout))?;
        let latency = context.now().saturating_sub(from);
        (context.sink)(Sample::Connected { latency });
        Ok(line)
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn next(&mut self) -> Result<Told, ErrorKind> {
        loop {
            let Event::Text(text) = self.connection.next().await? else {
                (self.context.sink)(Sample::Error {
                    error: ErrorKind::BinaryFrame,
                });
                continue;
            };
            match serde_json::from_str(&text) {
                Ok(told) => return Ok(told),
                Err(_bad) => (self.context.sink)(Sample::Error {
                    error: ErrorKind::BadMessage,
                }),
            }
        }
    }

    /// # Errors
    /// The server does not read, or the connection is gone.
    pub fn say(&mut self, text: &str) -> Result<(), ErrorKind> {
        self.connection.send(text.to_owned())
    }

    /// # Errors
    /// As for [`Self::say`].
    pub fn audio(&mut self, chunk: Vec<u8>) -> Result<(), ErrorKind> {
        self.connection.send_binary(chunk)
    }

    /// The user wants to go.
    pub async fn close(self) {
        let context = Rc::clone(&self.context);
        (context.sink)(Sample::StoppedSending);
        if let Err(error) = self.connection.close().await {
            (context.sink)(Sample::Error { error });
        }
        (context.sink)(Sample::Closed);
    }

    /// The server has ended the session, and closes.
    pub async fn closed(mut self) {
        (self.context.sink)(Sample::StoppedSending);
        let ended = async {
            loop {
                if let Err(error) = self.next().await {
                    return error;
                }
            }
        };
        match timeout(Duration::from_secs(5), ended).await {
            Ok(ErrorKind::ClosedByServer(1000)) => {}
            Ok(error) => (self.context.sink)(Sample::Error { error }),
            Err(_) => (self.context.sink)(Sample::Error {
                error: ErrorKind::CloseTimeout,
            }),
        }
        (self.context.sink)(Sample::Closed);
    }
}
