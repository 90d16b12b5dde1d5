//! A [vosk-server](https://github.com/alphacep/vosk-server): `vosk:ws://HOST:PORT`. It knows no authentication.
//!
//! It answers each frame with what it thinks so far, or with a result when somebody has stopped speaking. Too many streams
//! make it late and no error.

use std::{collections::VecDeque, sync::Arc};

use hyper::Uri;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_tungstenite::tungstenite::Message;

use super::{
    AUDIO_DEPTH, BoxFuture, EVENT_DEPTH, Event, Input, Link, LossReason, OpenError, Provider,
    StreamSpec, Utterance, pcm,
    said::{self, MAX_JSON, TimedWord},
    socket::{self, ConnectError, Reach, Received, Socket},
};

/// Its own default is 8,000 Hz, at which all else is noise.
const CONFIG: &str = r#"{"config":{"sample_rate":16000,"words":true,"max_alternatives":0}}"#;
/// The end of the audio. It compares the text.
const EOF: &str = r#"{"eof" : 1}"#;
/// How many frames may be unanswered: it reads ahead without bound otherwise, and nobody knows how late it is.
const UNDER_WAY: usize = 16;

const _: () = assert!(pcm::SAMPLE_RATE == 16_000);

/// See [`vosk`](self).
pub struct Vosk {
    url: Uri,
    tls: Option<Arc<ClientConfig>>,
    reach: Reach,
}

impl Vosk {
    /// A `wss:` server's certificate is checked against the system's authorities, or those that `SSL_CERT_FILE` names.
    ///
    /// # Errors
    /// It is no URL of a WebSocket.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::new(text, socket::system_tls)
    }

    /// With certificate authorities of the caller's.
    ///
    /// # Errors
    /// It is no URL of a WebSocket.
    pub fn trusting(text: &str, roots: RootCertStore) -> Result<Self, String> {
        Self::new(text, || socket::tls(roots))
    }

    fn new(
        text: &str,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Self, String> {
        let url: Option<Uri> = text.parse().ok();
        let is_websocket =
            |url: &Uri| matches!(url.scheme_str(), Some("ws" | "wss")) && url.host().is_some();
        let url = url
            .filter(is_websocket)
            .ok_or("write vosk as vosk:ws://HOST:PORT")?;
        let tls = if url.scheme_str() == Some("wss") {
            Some(tls()?)
        } else {
            None
        };
        let reach = Reach::default();
        Ok(Self { url, tls, reach })
    }
}

impl Provider for Vosk {
    fn name(&self) -> &'static str {
        "vosk"
    }

    fn open(&self, _spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        Box::pin(async {
            let connected = socket::connect(&self.url, self.tls.as_ref()).await;
            match &connected {
                Err(ConnectError::Unreachable(why)) => self.reach.lost(self.name(), why),
                _ => self.reach.found(),
            }
            let mut socket = connected.map_err(|error| match error {
                ConnectError::Unreachable(_) => OpenError::Unreachable,
                ConnectError::Status(status @ (401..=404)) => OpenError::Refused(status),
                ConnectError::Status(429) => OpenError::Busy(None),
                ConnectError::Status(_) => OpenError::Unreachable,
            })?;
            socket.send(Message::text(CONFIG));
            let (audio, heard) = mpsc::channel(AUDIO_DEPTH);
            let (said, events) = mpsc::channel(EVENT_DEPTH);
            tokio::spawn(Stream::new(socket, said).run(heard));
            Ok(Link {
                audio,
                events,
                job: None,
                resume: None,
                already: 0,
            })
        })
    }
}

struct Stream {
    socket: Socket,
    events: Sender<Event>,
    /// The lengths of the frames that are not answered.
    under_way: VecDeque<u64>,
    /// Bytes of those that are.
    answered: u64,
    /// The end of the last result, in milliseconds.
    told_ms: i64,
    utterance: u32,
    is_finished: bool,
    /// It has answered the end of the audio.
    has_ended: bool,
}

#[derive(Deserialize)]
struct Answer {
    partial: Option<String>,
    text: Option<String>,
    #[serde(default)]
    result: Vec<TimedWord>,
}

impl Stream {
    fn new(socket: Socket, events: Sender<Event>) -> Self {
        Self {
            socket,
            events,
            under_way: VecDeque::new(),
            answered: 0,
            told_ms: 0,
            utterance: 0,
            is_finished: false,
            has_ended: false,
        }
    }

    async fn run(mut self, mut audio: Receiver<Input>) {
        if self.events.send(Event::Ready).await.is_err() {
            return;
        }
        let lost = loop {
            let may_send =
                !self.is_finished && self.under_way.len() < UNDER_WAY && self.socket.has_room();
            tokio::select! {
                input = audio.recv(), if may_send => match input {
                    Some(Input::Pcm(pcm)) => {
                        self.under_way.push_back(pcm.len() as u64);
                        self.socket.send(Message::Binary(pcm));
                    }
                    Some(Input::Finish) => {
                        self.is_finished = true;
                        self.socket.send(Message::text(EOF));
                    }
                    None => break None,
                },
                received = self.socket.next() => match received {
                    Received::Text(text) => {
                        if self.answer(&text).await.is_err() {
                            break None;
                        }
                    }
                    Received::Flushed => {}
                    Received::Closed(code) if self.is_finished && (self.has_ended || is_normal(code)) => return,
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

    /// Each answer but the last one is about one frame.
    async fn answer(&mut self, text: &str) -> Result<(), mpsc::error::SendError<Event>> {
        let answer = if text.len() > MAX_JSON {
            None
        } else {
            serde_json::from_str::<Answer>(text).ok()
        };
        let Some(answer) =
            answer.filter(|answer| answer.partial.is_some() || answer.text.is_some())
        else {
            return self
                .events
                .send(Event::Garbage("an answer that is none"))
                .await;
        };
        self.has_ended |= self.is_finished && self.under_way.is_empty();
        if let Some(length) = self.under_way.pop_front() {
            self.answered += length;
            self.events
                .send(Event::Accepted {
                    bytes: self.answered,
                })
                .await?;
        }
        match (answer.text, answer.partial) {
            (Some(text), _) => {
                let said = self.said(text, answer.result);
                self.told_ms = said.end_ms.clamp(self.told_ms, said::ms_of(self.answered));
                self.utterance += 1;
                self.events.send(Event::Final(said)).await
            }
            (None, Some(text)) if !text.is_empty() => {
                let said = self.said(text, Vec::new());
                self.events.send(Event::Partial(said)).await
            }
            _ => Ok(()),
        }
    }

    fn said(&self, text: String, words: Vec<TimedWord>) -> Utterance {
        let now_ms = said::ms_of(self.answered);
        let start_ms = words
            .first()
            .map_or(self.told_ms, |word| said::ms(word.start));
        let end_ms = words.last().map_or(now_ms, |word| said::ms(word.end));
        let confidences: Vec<f64> = words.iter().filter_map(|word| word.confidence).collect();
        #[expect(clippy::cast_precision_loss, reason = "a message has few words")]
        let confidence = (!confidences.is_empty())
            .then(|| confidences.iter().sum::<f64>() / confidences.len() as f64);
        Utterance {
            id: self.utterance.to_string(),
            start_ms,
            end_ms,
            text,
            language: None,
            confidence,
            words: words.into_iter().map(Into::into).collect(),
        }
    }
}

/// Whether a server closes so that is well. One that stops or fails says something else, and its last result may be missing.
fn is_normal(code: Option<u16>) -> bool {
    matches!(code, None | Some(1000))
}
