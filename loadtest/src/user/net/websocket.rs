//! The WebSocket client: one connection with little memory, which reads while it writes.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use hyper::HeaderMap;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message, Utf8Bytes,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    measure::sample::ErrorKind,
    user::net::{connection::Event, endpoint::Endpoint, handshake::handshake, stream::Stream},
};

const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The most bytes that may wait to be sent when the server does not read.
const MAX_UNSENT_BYTES: usize = 1 << 20;
/// The read buffer of each connection: 10,000 users cost 20 MB. A longer message makes it grow, or takes more reads.
const READ_BUFFER_BYTES: usize = 2048;
/// How long the close handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection.
pub struct Connection {
    socket: WebSocketStream<Stream>,
    unflushed: bool,
}

impl Connection {
    /// Opens a connection for the user with this index: TCP, TLS for `wss`, and the WebSocket handshake with this path
    /// and these headers.
    ///
    /// # Errors
    /// What failed. The caller limits the time.
    pub async fn open(
        endpoint: &Endpoint,
        user: u32,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Self, ErrorKind> {
        let stream = endpoint.open(user).await?;
        let (mut stream, read) = handshake(stream, path, headers).await?;
        stream.follow_frames(&read);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_UNSENT_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let role = Role::Client;
        let socket =
            WebSocketStream::from_partially_read(stream, read.into(), role, Some(config)).await;
        Ok(Self {
            socket,
            unflushed: false,
        })
    }

    /// Sends as much of a text message as the socket takes now. [`Self::next`] sends the rest.
    ///
    /// # Errors
    /// The server does not read, or the connection is gone.
    pub fn send(&mut self, text: String) -> Result<(), ErrorKind> {
        self.start(Message::text(text))
    }

    /// Like [`Self::send`], for a binary message.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), ErrorKind> {
        self.start(Message::binary(bytes))
    }

    fn start(&mut self, message: Message) -> Result<(), ErrorKind> {
        self.unflushed = true;
        self.socket.start_send_unpin(message).map_err(kind_of)
    }

    /// The next message. Cancel-safe. Answers pings.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn next(&mut self) -> Result<Event, ErrorKind> {
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Some(Ok(Message::Text(text))) => return Ok(Event::Text(text)),
                Some(Ok(Message::Binary(bytes))) => return Ok(Event::Binary(bytes)),
                Some(Ok(Message::Close(frame))) => return Err(self.closed(frame)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(kind_of(error)),
                None => return Err(ErrorKind::Ended),
            }
        }
    }

    fn closed(&self, frame: Option<CloseFrame>) -> ErrorKind {
        let code = frame.map_or(CloseCode::Status, |frame| frame.code);
        // The library replaces a forbidden code by 1002.
        let sent = self.socket.get_ref().close_code();
        match (code, sent) {
            (CloseCode::Protocol, Some(sent)) if !CloseCode::from(sent).is_allowed() => {
                ErrorKind::CloseCodeInvalid(sent)
            }
            _ => ErrorKind::ClosedByServer(code.into()),
        }
    }

    /// Reads while it writes: a user who stopped reading in order to write, and a server that
    /// does the same, would wait for each other forever.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, WsError>>> {
        if self.unflushed {
            match self.socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {}
            }
        }
        self.socket.poll_next_unpin(cx)
    }

    /// Sends a close frame, and reads until the server's close frame.
    ///
    /// # Errors
    /// The server did not answer in time, or not with a close frame.
    pub async fn close(mut self) -> Result<(), ErrorKind> {
        let handshake = async {
            // Without this code a session that outlives its connections would wait for the user.
            let normal = CloseFrame {
                code: CloseCode::Normal,
                reason: Utf8Bytes::default(),
            };
            self.socket.close(Some(normal)).await.map_err(kind_of)?;
            while let Some(message) = self.socket.next().await {
                if message.map_err(kind_of)?.is_close() {
                    break;
                }
            }
            // The server closes TCP first (RFC 6455, section 7.1.1), so that the TIME_WAIT, and with it
            // the local port, is not ours.
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok(())
        };
        tokio::time::timeout(CLOSE_TIMEOUT, handshake)
            .await
            .unwrap_or(Err(ErrorKind::CloseTimeout))
    }
}

fn kind_of(error: WsError) -> ErrorKind {
    match error {
        WsError::Io(error) => ErrorKind::of_io(&error, true),
        WsError::WriteBufferFull(_) => ErrorKind::ServerNotReading,
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ) => ErrorKind::Ended,
        WsError::Capacity(_) => ErrorKind::MessageTooLong,
        _ => ErrorKind::FrameInvalid,
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::error::CapacityError;

    use super::*;

    #[test]
    fn a_long_message_is_no_broken_frame() {
        let too_long = CapacityError::MessageTooLong {
            size: MAX_MESSAGE_BYTES + 1,
            max_size: MAX_MESSAGE_BYTES,
        };
        let kind = kind_of(WsError::Capacity(too_long));
        assert_eq!(kind, ErrorKind::MessageTooLong);
        let broken = WsError::Protocol(ProtocolError::InvalidOpcode(3));
        assert_eq!(kind_of(broken), ErrorKind::FrameInvalid);
    }
}
