//! The socket of `/transcribe`: from WebSocket messages to the attachment and back.

mod pace;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{FuturesUnordered, SplitSink, SplitStream},
};
use serde_json::value::to_raw_value;
use tokio::{
    io::{self, AsyncRead, AsyncWrite, AsyncWriteExt},
    task::JoinHandle,
    time::{interval, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, Role as Side, WebSocketConfig, frame::coding::CloseCode},
    },
};
use voicematch_core::metrics::Metrics;
use voicematch_protocol::transcribe::{EndReason, Role, Told, TranscribeError};
use voicematch_transcribe::{
    deliver::Closing,
    record::RowId,
    session::{Attachment, Out, Reaction, Tool},
    sessions::Refusal,
    track::MAX_FRAME_BYTES,
};

use self::pace::Pace;
use super::{
    Opened, Opens, Transcribe,
    survey::{self, Leads, Request},
};

/// A text is no longer than a binary frame: of audio in base64 that is three quarters.
const MAX_MESSAGE_BYTES: usize = MAX_FRAME_BYTES;

/// A client that takes nothing for this long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a client is pinged; without a word for twice that it is lost.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// How long a client may take to read the last words and to stop.
const LINGER: Duration = Duration::from_secs(2);

/// Calls of tools by one connection at the same time; more wait, and nothing is read meanwhile.
const MAX_CALLS: usize = 8;

/// Close codes: `decisions` of the wire are in `server/README.md`.
mod code {
    pub(super) const TOO_LARGE: u16 = 1009;
    pub(super) const DRAINING: u16 = 4000;
    pub(super) const SLOW_CONSUMER: u16 = 4002;
    pub(super) const MOVED: u16 = 4005;
    pub(super) const RATE_LIMITED: u16 = 4500;
    pub(super) const REPLACED: u16 = 4501;
    pub(super) const SESSION_ENDED: u16 = 4504;
    pub(super) const TOKEN: u16 = 4505;
}

type Sink<S> = SplitSink<WebSocketStream<S>, Message>;
type Source<S> = SplitStream<WebSocketStream<S>>;

/// Whom a socket is for.
#[derive(Debug)]
pub struct Visit {
    /// What the token opens, and until when.
    pub opened: Opened,
    /// The number of the last segment that the client has.
    pub after: Option<i64>,
}

/// Serves a socket until it ends. `reply`: the answer to the handshake, which the client has not been sent yet; `early`:
/// what the client sent behind its request.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut stream: S,
    reply: Vec<u8>,
    early: Vec<u8>,
    visit: Visit,
    transcribe: Arc<Transcribe>,
) {
    if stream.write_all(&reply).await.is_err() {
        return;
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(1024 * 1024);
    let socket =
        WebSocketStream::from_partially_read(stream, early, Side::Server, Some(config)).await;
    let until = visit.opened.until;
    match visit.opened.opens {
        Opens::Session {
            slug, participant, ..
        } => {
            let attached = transcribe
                .sessions
                .attach(&slug, participant, visit.after)
                .await;
            match attached {
                Ok(attachment) => session(socket, attachment, &slug, until, &transcribe).await,
                Err(refusal) => refuse(socket, &refusal, &transcribe).await,
            }
        }
        Opens::Interview { id } => interview(socket, id, until, &transcribe).await,
    }
}

/// Says why nothing can be done for this client, and closes.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    refusal: &Refusal,
    transcribe: &Transcribe,
) {
    transcribe.session_metrics.refused(refusal.code);
    let (mut sink, source) = socket.split();
    let told = match &refusal.url {
        Some(url) => Told::Moved { url },
        None => Told::Error {
            code: refusal.code,
            message: &refusal.message,
            measured_hz: None,
        },
    };
    let text = serde_json::to_string(&told).unwrap_or_default();
    let code = match refusal.code {
        TranscribeError::Moved => code::MOVED,
        TranscribeError::SessionEnded | TranscribeError::UnknownSession => code::SESSION_ENDED,
        _ => code::DRAINING,
    };
    if send(&mut sink, Message::text(text)).await.is_ok() {
        close(sink, source, code, refusal.code.as_str()).await;
    }
}

/// Carries a participant of a session, whose token is good `until` then.
async fn session<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    mut attachment: Attachment,
    slug: &str,
    until: Instant,
    transcribe: &Arc<Transcribe>,
) {
    let (mut sink, mut source) = socket.split();
    let mut pace = Pace::new();
    let mut calls = FuturesUnordered::new();
    let mut ending = None;
    let mut beats = interval(HEARTBEAT);
    let mut heard = Instant::now();
    let mut read_after = Instant::now();
    let mut expired = pin!(sleep_until(until.into()));
    loop {
        let closed = tokio::select! {
            biased;
            () = &mut expired => Some(EXPIRED),
            out = attachment.next() => match out {
                Ok(Out::Text(messages)) => write_all(&mut sink, messages).await.err(),
                Ok(Out::Close(closing)) => Some(closing_code(closing)),
                Err(error) => {
                    tracing::warn!(%error, "old segments could not be read");
                    Some((code::DRAINING, "storage_unavailable"))
                }
            },
            Some(answer) = calls.next(), if !calls.is_empty() => {
                send(&mut sink, Message::text::<String>(answer)).await.err()
            }
            refusal = ended(&mut ending), if ending.is_some() => {
                ending = None;
                if let Some(refusal) = refusal {
                    attachment.error(refusal.code, &refusal.message);
                }
                None
            }
            () = sleep_until(read_after.into()), if read_after > Instant::now() => None,
            message = source.next(), if read_after <= Instant::now() && calls.len() < MAX_CALLS => {
                heard = Instant::now();
                match message {
                    Some(Ok(message)) => match pace.take(heard) {
                        true => {
                            let reaction = match message {
                                Message::Binary(frame) => attachment.audio(frame, heard),
                                Message::Text(text) => attachment.text(&text, heard),
                                Message::Pong(_) => {
                                    attachment.is_alive(heard);
                                    Reaction::default()
                                }
                                Message::Close(_) => return linger(sink).await,
                                _ => Reaction::default(),
                            };
                            read_after = heard + reaction.wait;
                            if let Some(reason) = reaction.end {
                                ending.get_or_insert_with(|| end(slug, reason, transcribe));
                            }
                            if let Some(tool) = reaction.tool {
                                calls.push(lead(&attachment, tool, transcribe));
                            }
                            None
                        }
                        false => Some((code::RATE_LIMITED, "rate_limited")),
                    },
                    Some(Err(error)) => Some(fault(&error)),
                    None => return,
                }
            },
            _ = beats.tick() => match heard.elapsed() > 2 * HEARTBEAT {
                true => return,
                false => send(&mut sink, Message::Ping(Default::default())).await.err(),
            },
        };
        if let Some((code, reason)) = closed {
            count(&transcribe.metrics, code);
            return close(sink, source, code, reason).await;
        }
    }
}

/// An end that has begun; why it was refused.
type Ending = JoinHandle<Option<Refusal>>;

/// Ends the session in a task of its own: the host is heard meanwhile, and may leave.
fn end(slug: &str, reason: EndReason, transcribe: &Arc<Transcribe>) -> Ending {
    let (slug, transcribe) = (slug.to_owned(), transcribe.clone());
    tokio::spawn(async move { transcribe.sessions.end(&slug, reason).await.err() })
}

async fn ended(ending: &mut Option<Ending>) -> Option<Refusal> {
    ending.as_mut()?.await.ok()?
}

/// A call of a tool by a participant: the host leads the interviews that are held in the session.
fn lead(
    attachment: &Attachment,
    tool: Tool,
    transcribe: &Arc<Transcribe>,
) -> impl Future<Output = String> + use<> {
    let (role, session) = (attachment.role(), attachment.session());
    let transcribe = transcribe.clone();
    async move {
        let result = match role {
            Role::Host => transcribe.call_tool(Leads::HeldIn(session), &tool).await,
            _ => Err((
                TranscribeError::RoleForbidden.as_str().to_owned(),
                "the host leads the interview; or connect with the interview's own token"
                    .to_owned(),
            )),
        };
        tool_result(&tool, result)
    }
}

/// Carries a respondent, who calls tools and nothing else, and whose token is good `until` then.
async fn interview<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    id: RowId,
    until: Instant,
    transcribe: &Arc<Transcribe>,
) {
    let (mut sink, mut source) = socket.split();
    let mut pace = Pace::new();
    let mut calls = FuturesUnordered::new();
    let mut beats = interval(HEARTBEAT);
    let mut heard = Instant::now();
    let mut expired = pin!(sleep_until(until.into()));
    loop {
        let closed = tokio::select! {
            () = &mut expired => Some(EXPIRED),
            Some(answer) = calls.next(), if !calls.is_empty() => {
                send(&mut sink, Message::text::<String>(answer)).await.err()
            }
            message = source.next(), if calls.len() < MAX_CALLS => {
                heard = Instant::now();
                match message {
                    Some(Ok(_)) if !pace.take(heard) => Some((code::RATE_LIMITED, "rate_limited")),
                    Some(Ok(Message::Text(text))) => match survey::read(&text) {
                        Ok(Request::Tool(tool)) => {
                            let transcribe = transcribe.clone();
                            calls.push(async move {
                                let result = transcribe.call_tool(Leads::One(id), &tool).await;
                                tool_result(&tool, result)
                            });
                            None
                        }
                        Ok(Request::Answer(answer)) => {
                            send(&mut sink, Message::text(answer)).await.err()
                        }
                        Err(refusal) => {
                            let told = error(&refusal, transcribe);
                            send(&mut sink, Message::text(told)).await.err()
                        }
                    },
                    Some(Ok(Message::Binary(_))) => {
                        let message = "a survey's token takes no audio; join a session for that";
                        let refusal = Refusal::new(TranscribeError::RoleForbidden, message);
                        let told = error(&refusal, transcribe);
                        send(&mut sink, Message::text(told)).await.err()
                    }
                    Some(Ok(Message::Close(_))) => return linger(sink).await,
                    Some(Ok(_)) => None,
                    Some(Err(error)) => Some(fault(&error)),
                    None => return,
                }
            }
            _ = beats.tick() => match heard.elapsed() > 2 * HEARTBEAT {
                true => return,
                false => send(&mut sink, Message::Ping(Default::default())).await.err(),
            },
            () = transcribe.stopping() => Some((code::DRAINING, "draining")),
        };
        if let Some((code, reason)) = closed {
            count(&transcribe.metrics, code);
            return close(sink, source, code, reason).await;
        }
    }
}

/// An `error` message.
fn error(refusal: &Refusal, transcribe: &Transcribe) -> String {
    transcribe.session_metrics.refused(refusal.code);
    let told = Told::Error {
        code: refusal.code,
        message: &refusal.message,
        measured_hz: None,
    };
    serde_json::to_string(&told).unwrap_or_default()
}

/// The answer to a call of a tool.
fn tool_result(tool: &Tool, result: Result<serde_json::Value, (String, String)>) -> String {
    let (value, refused) = match result {
        Ok(value) => (to_raw_value(&value).ok(), None),
        Err(refused) => (None, Some(refused)),
    };
    let told = Told::ToolResult {
        id: tool.id.as_deref(),
        ok: refused.is_none(),
        result: value.as_deref(),
        code: refused.as_ref().map(|(code, _)| &**code),
        message: refused.as_ref().map(|(_, message)| &**message),
    };
    serde_json::to_string(&told).unwrap_or_default()
}

/// What the peer is told with the close frame: a code and a reason.
type Closed = (u16, &'static str);

/// The token that has opened the connection is good no longer.
const EXPIRED: Closed = (code::TOKEN, "token_expired");

async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut Sink<S>,
    messages: Vec<String>,
) -> Result<(), Closed> {
    for message in messages {
        let fed = timeout(WRITE_TIMEOUT, sink.feed(Message::text(message))).await;
        sent(fed)?;
    }
    sent(timeout(WRITE_TIMEOUT, sink.flush()).await)
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut Sink<S>,
    message: Message,
) -> Result<(), Closed> {
    sent(timeout(WRITE_TIMEOUT, sink.send(message)).await)
}

fn sent(outcome: Result<Result<(), Error>, tokio::time::error::Elapsed>) -> Result<(), Closed> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(fault(&error)),
        Err(_) => Err((code::SLOW_CONSUMER, "slow_consumer")),
    }
}

/// The close code for what a client has done.
fn fault(error: &Error) -> Closed {
    match error {
        Error::Capacity(_) => (code::TOO_LARGE, "too_large"),
        Error::Utf8(_) => (1007, "bad_text"),
        _ => (1002, "protocol_error"),
    }
}

/// Counts the limit for which a connection is closed with this code, if it is for one.
fn count(metrics: &Metrics, code: u16) {
    match code {
        code::TOO_LARGE => metrics.limit_hit("max_message_bytes"),
        code::SLOW_CONSUMER => metrics.limit_hit("outbox_messages"),
        code::RATE_LIMITED => metrics.limit_hit("max_messages_per_second"),
        _ => {}
    }
}

fn closing_code(closing: Closing) -> Closed {
    match closing {
        Closing::Replaced => (code::REPLACED, "replaced"),
        Closing::SlowReader => (code::SLOW_CONSUMER, "slow_consumer"),
        Closing::Ended => (1000, "ended"),
        Closing::Draining => (code::DRAINING, "draining"),
        Closing::Moved => (code::MOVED, "moved"),
    }
}

/// Says why, and reads what is still coming: what is unread when a socket is closed takes with it what was sent.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: Sink<S>,
    source: Source<S>,
    code: u16,
    reason: &'static str,
) {
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    };
    let _ = timeout(LINGER, sink.send(Message::Close(Some(frame)))).await;
    let Ok(mut socket) = sink.reunite(source) else {
        return;
    };
    let stream = socket.get_mut();
    let read = async {
        stream.shutdown().await?;
        io::copy(stream, &mut io::sink()).await
    };
    let _ = timeout(LINGER, read).await;
}

/// The client has closed: the answer is on its way.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut sink: Sink<S>) {
    let _ = timeout(LINGER, sink.close()).await;
}
