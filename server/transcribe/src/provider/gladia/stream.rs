//! A connection to a session of Gladia's.

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::messages::{Begin, Message, Transcript};
use crate::provider::{
    Event, Input, LossReason, OpenError, pcm,
    said::{self, MAX_JSON},
    socket::{Received, Socket},
};

/// Frames are of so many bytes at most: Gladia wants about 100 ms.
const FRAME: usize = 3200;
/// The end of the audio.
const STOP: &str = r#"{"type":"stop_recording"}"#;
/// It has said all that there was.
const NORMAL: u16 = 1000;
/// So much silence is sent when a session goes on, 20 ms: its acknowledgment says what had arrived before.
const PROBE: usize = 640;
/// How many transcripts may come before that.
const MAX_EARLY: usize = 32;

const _: () = assert!(FRAME as u64 == 100 * pcm::BYTES_PER_MS);

/// See [`stream`](self).
pub(super) struct Stream {
    socket: Socket,
    events: Sender<Event>,
    /// Bytes of the session before the audio of this connection.
    start: u64,
    begin: Begin,
    /// What is left of a long input.
    rest: Bytes,
    is_finished: bool,
    is_over: bool,
}

/// Where a session stands, in bytes.
pub(super) struct Position {
    /// All that had arrived before this connection.
    pub(super) before: u64,
    /// Where the audio of this connection begins.
    pub(super) now: u64,
}

impl Stream {
    pub(super) fn new(socket: Socket, events: Sender<Event>) -> Self {
        Self {
            socket,
            events,
            start: 0,
            begin: Begin::default(),
            rest: Bytes::new(),
            is_finished: false,
            is_over: false,
        }
    }

    /// Finds out what had arrived of a session on the connections before this one: acknowledgments may have been lost.
    pub(super) async fn find_position(&mut self) -> Result<Position, OpenError> {
        let mut early = Vec::new();
        let mut has_sent = false;
        let [before, now] = loop {
            if !has_sent && self.socket.has_room() {
                has_sent = true;
                self.socket
                    .send(Frame::Binary(Bytes::from_static(&[0; PROBE])));
            }
            match self.socket.next().await {
                Received::Text(text) => match parse(&text) {
                    Some(Message::AudioChunk {
                        acknowledged: true,
                        data: Some(data),
                    }) => break data.byte_range,
                    Some(Message::Transcript { data }) if early.len() < MAX_EARLY => {
                        early.push(data)
                    }
                    _ => {}
                },
                Received::Flushed => {}
                Received::Closed(Some(1000 | 1001 | 4400..=4499)) => return Err(OpenError::Gone),
                Received::Closed(_) | Received::Broken | Received::HalfOpen => {
                    return Err(OpenError::Unreachable);
                }
            }
        };
        if before > now || now > i64::MAX.unsigned_abs() {
            return Err(OpenError::Gone);
        }
        self.start = now;
        self.begin = Begin {
            before_ms: said::ms_of(before),
            now_ms: said::ms_of(now),
        };
        for transcript in early {
            // There is room: nothing has been said yet.
            let _ = self.events.try_send(self.said(transcript));
        }
        Ok(Position { before, now })
    }

    pub(super) async fn run(mut self, mut audio: Receiver<Input>) {
        if self.events.send(Event::Ready).await.is_err() {
            return;
        }
        let lost = loop {
            if self.socket.has_room() && !self.rest.is_empty() {
                self.send_frame();
            }
            let may_take = !self.is_finished && self.rest.is_empty() && self.socket.has_room();
            tokio::select! {
                input = audio.recv(), if may_take => match input {
                    Some(Input::Pcm(pcm)) => self.rest = pcm,
                    Some(Input::Finish) => {
                        self.is_finished = true;
                        self.socket.send(Frame::text(STOP));
                    }
                    None => break None,
                },
                received = self.socket.next() => match received {
                    Received::Text(text) => {
                        if self.message(&text).await.is_err() {
                            break None;
                        }
                    }
                    Received::Flushed => {}
                    Received::Closed(code) if self.is_finished && (code == Some(NORMAL) || self.is_over) => return,
                    Received::Closed(code) => break Some(LossReason::Closed(code)),
                    Received::Broken => break Some(LossReason::Broken),
                    Received::HalfOpen => break Some(LossReason::HalfOpen),
                },
                () = self.events.closed() => break None,
            }
        };
        if let Some(reason) = lost {
            let _ = self.events.send(Event::Lost(reason)).await;
        }
        self.socket.close().await;
    }

    fn send_frame(&mut self) {
        let frame = self.rest.split_to(FRAME.min(self.rest.len()));
        self.socket.send(Frame::Binary(frame));
    }

    async fn message(&mut self, text: &str) -> Result<(), mpsc::error::SendError<Event>> {
        let event = match parse(text) {
            None => Event::Garbage("a message that is none"),
            Some(Message::StartSession {} | Message::StartRecording {}) => Event::Ready,
            Some(Message::AudioChunk {
                acknowledged: true,
                data: Some(data),
            }) => match data.byte_range[1].checked_sub(self.start) {
                Some(bytes) => Event::Accepted { bytes },
                None => Event::Garbage("a range that cannot be"),
            },
            Some(Message::AudioChunk { .. }) => Event::Garbage("it does not take the audio"),
            Some(Message::Transcript { data }) => self.said(data),
            Some(Message::EndSession {}) => {
                self.is_over = true;
                return Ok(());
            }
            Some(Message::Other) => return Ok(()),
        };
        self.events.send(event).await
    }

    fn said(&self, transcript: Transcript) -> Event {
        let Transcript {
            id,
            is_final,
            utterance,
        } = transcript;
        let said = utterance.utterance(id, self.begin);
        if is_final {
            Event::Final(said)
        } else {
            Event::Partial(said)
        }
    }
}

fn parse(text: &str) -> Option<Message> {
    if text.len() > MAX_JSON {
        None
    } else {
        serde_json::from_str(text).ok()
    }
}
