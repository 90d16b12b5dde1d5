//! A session without a WebSocket: it hears by an event stream or by polls, and speaks by requests.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use hyper::{
    HeaderMap, Method, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_stream::SseByteStream;
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    measure::{sample::ErrorKind, server_code::ServerCode},
    plan::Transport,
    user::net::{
        connection::{Event, Session, Wanted, beside, with_query},
        endpoint::Endpoint,
        http::{KeptConnection, collect, kind_of},
    },
};

/// The most messages of one request, and their bytes; the server takes 64 and 256 KiB.
const MAX_BATCH: usize = 64;
const MAX_BATCH_BYTES: usize = 128 << 10;
/// The most bytes that may wait to be sent.
const MAX_UNSENT_BYTES: usize = 1 << 20;
/// The longest event, and the longest answer to a poll.
const MAX_BYTES: usize = 1 << 20;
/// How long a poll is held, in seconds; and how long its answer may take.
const POLL_SECONDS: u64 = 25;
const POLL_TIMEOUT: Duration = Duration::from_secs(POLL_SECONDS + 10);
/// How long the answer to what was sent may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a user whom the server told to be slower waits.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// How long the end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A request under way. It is part of the state, so that the one who waits for it may stop waiting.
type UnderWay<T> = Pin<Box<dyn Future<Output = Result<T, ErrorKind>>>>;

/// Where requests go, and what they show.
struct Line {
    server: Arc<Endpoint>,
    user: u32,
    path: Box<str>,
    /// Empty until the session has begun.
    token: String,
}

/// Such a session's connections.
pub struct Requests {
    line: Line,
    hearing: Hearing,
    /// What is to be sent, the oldest first, with the numbers.
    outgoing: VecDeque<(Option<u64>, String)>,
    outgoing_bytes: usize,
    /// How many of them are in the request that is under way.
    in_request: usize,
    sending: Option<UnderWay<(KeptConnection, Answer)>>,
    /// The connection for the next request.
    idle: Option<KeptConnection>,
    not_before: Option<Instant>,
    /// What is to be told before anything else.
    told: Option<Event>,
    /// The session has ended, and it is to be told next.
    ended: Option<ErrorKind>,
}

enum Hearing {
    Stream {
        events: SseByteStream<Chunks>,
        /// The bytes since the last event.
        unread: Rc<Cell<usize>>,
    },
    Polls(Polls),
}

#[derive(Default)]
struct Polls {
    asking: Option<UnderWay<(KeptConnection, Answer)>>,
    idle: Option<KeptConnection>,
    /// What the next poll says that it has, as the server named it.
    position: Option<HeaderValue>,
    /// Messages of the last answer.
    heard: VecDeque<Utf8Bytes>,
}

/// An answer to a request.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Deserialize)]
struct Polled<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    received: u64,
}

/// What the answer to a refused or accepted request may have in it.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    received: Option<u64>,
    /// A close code where the session has ended, else a word.
    #[serde(default)]
    code: serde_json::Value,
}

impl Requests {
    /// Opens the connection by which the user hears.
    ///
    /// # Errors
    /// What failed. The caller limits the time.
    pub async fn open(server: &Arc<Endpoint>, wanted: Wanted<'_>) -> Result<Self, ErrorKind> {
        let (token, arrived) = match wanted.session {
            Session::Plain | Session::Begin => ("", None),
            Session::Resume { token, arrived } => (token, Some(arrived)),
        };
        let line = Line {
            server: Arc::clone(server),
            user: wanted.user,
            path: wanted.path.into(),
            token: token.to_owned(),
        };
        let hearing = if wanted.transport == Transport::EventStream {
            open_stream(&line, arrived).await?
        } else {
            let position = arrived.map(|arrived| format!("\"{arrived}\""));
            let mut polls = Polls {
                position: position.and_then(|text| text.try_into().ok()),
                ..Polls::default()
            };
            if arrived.is_some() {
                // An answer at once shows that the session goes on.
                let (connection, answer) = polls.ask(&line, 0).await?;
                polls.take(connection, &answer)?;
            }
            Hearing::Polls(polls)
        };
        Ok(Self {
            line,
            hearing,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            in_request: 0,
            sending: None,
            idle: None,
            not_before: None,
            told: None,
            ended: None,
        })
    }

    /// What the user shows from now on.
    pub fn show(&mut self, token: &str) {
        token.clone_into(&mut self.line.token);
    }

    /// Puts a message with the others that are to be sent.
    ///
    /// # Errors
    /// The server does not take them.
    pub fn send(&mut self, number: Option<u64>, text: String) -> Result<(), ErrorKind> {
        self.outgoing_bytes += text.len();
        if self.outgoing_bytes > MAX_UNSENT_BYTES {
            return Err(ErrorKind::ServerNotReading);
        }
        self.outgoing.push_back((number, text));
        Ok(())
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn next(&mut self) -> Result<Event, ErrorKind> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ErrorKind>> {
        if let Some(event) = self.told.take() {
            return Poll::Ready(Ok(event));
        }
        if let Some(error) = self.ended.take() {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(event) = self.poll_send(cx) {
            return Poll::Ready(event);
        }
        self.poll_hear(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ErrorKind>> {
        loop {
            if let Some(sending) = &mut self.sending {
                let (connection, answer) = ready!(sending.as_mut().poll(cx))?;
                self.sending = None;
                self.idle = Some(connection);
                return Poll::Ready(self.sent(&answer));
            }
            if self.outgoing.is_empty() || self.line.token.is_empty() {
                return Poll::Pending;
            }
            self.sending = Some(self.request());
        }
    }

    /// A request with the oldest messages.
    fn request(&mut self) -> UnderWay<(KeptConnection, Answer)> {
        let mut body = String::from("[");
        self.in_request = 0;
        for (_, text) in self.outgoing.iter().take(MAX_BATCH) {
            if self.in_request > 0 && body.len() + text.len() > MAX_BATCH_BYTES {
                break;
            }
            if self.in_request > 0 {
                body.push(',');
            }
            body.push_str(text);
            self.in_request += 1;
        }
        body.push(']');
        let mut headers = self.line.headers();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let ask = Ask {
            method: Method::POST,
            path: beside(&self.line.path, "send"),
            headers,
            body: body.into(),
            within: SEND_TIMEOUT,
            not_before: self.not_before.take(),
        };
        Box::pin(ask.answer(
            Arc::clone(&self.line.server),
            self.line.user,
            self.idle.take(),
        ))
    }

    /// Takes the answer to a request with messages.
    fn sent(&mut self, answer: &Answer) -> Result<Event, ErrorKind> {
        let said = answer.said();
        let in_request = std::mem::take(&mut self.in_request);
        let received = match (answer.status, said.received) {
            (StatusCode::OK, Some(received)) => {
                for _ in 0..in_request {
                    self.forget_oldest();
                }
                received
            }
            (StatusCode::TOO_MANY_REQUESTS, Some(received)) => {
                self.not_before = Some(Instant::now() + AFTER_REFUSAL);
                let taken = |entry: &(Option<u64>, _)| entry.0.is_some_and(|n| n <= received);
                while self.outgoing.front().is_some_and(taken) {
                    self.forget_oldest();
                }
                self.told = Some(Event::Received(received));
                let code = said.code.as_str().unwrap_or_default();
                return Ok(Event::Trouble(ErrorKind::ServerError(ServerCode::new(
                    code,
                ))));
            }
            // The session has ended, or is about to: what was not taken is for the next one.
            (StatusCode::GONE | StatusCode::SERVICE_UNAVAILABLE, Some(received)) => {
                self.outgoing.clear();
                self.outgoing_bytes = 0;
                if answer.status == StatusCode::GONE {
                    self.ended = Some(answer.refusal());
                }
                received
            }
            _ => return Err(answer.refusal()),
        };
        Ok(Event::Received(received))
    }

    fn forget_oldest(&mut self) {
        if let Some((_, text)) = self.outgoing.pop_front() {
            self.outgoing_bytes -= text.len();
        }
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ErrorKind>> {
        match &mut self.hearing {
            Hearing::Stream { events, unread } => loop {
                let Some(event) = ready!(events.poll_next_unpin(cx)) else {
                    return Poll::Ready(Err(ErrorKind::Ended));
                };
                let event = event.map_err(|error| broken(&error))?;
                unread.set(0);
                let Some(data) = event.data else {
                    continue;
                };
                if event.event.as_deref() == Some("close") {
                    return Poll::Ready(Err(closed(&data)));
                }
                return Poll::Ready(Ok(Event::Text(data.into())));
            },
            Hearing::Polls(polls) => loop {
                if let Some(text) = polls.heard.pop_front() {
                    return Poll::Ready(Ok(Event::Text(text)));
                }
                let mut asking = match polls.asking.take() {
                    Some(asking) => asking,
                    None => polls.ask(&self.line, POLL_SECONDS),
                };
                let Poll::Ready(asked) = asking.as_mut().poll(cx) else {
                    polls.asking = Some(asking);
                    return Poll::Pending;
                };
                let (connection, answer) = asked?;
                if answer.status == StatusCode::GONE
                    && let Some(received) = answer.said().received
                {
                    self.ended = Some(answer.refusal());
                    return Poll::Ready(Ok(Event::Received(received)));
                }
                if let Some(received) = polls.take(connection, &answer)? {
                    return Poll::Ready(Ok(Event::Received(received)));
                }
            },
        }
    }

    /// Sends what is left, and that the user leaves.
    ///
    /// # Errors
    /// The server did not answer in time, or refused.
    pub async fn close(mut self) -> Result<(), ErrorKind> {
        // It has no number: nothing can come after it.
        self.send(None, r#"{"type":"leave"}"#.to_owned())?;
        let sent = async {
            while !self.outgoing.is_empty() {
                match poll_fn(|cx| self.poll_send(cx)).await {
                    Ok(_) => {}
                    // The session ended before the server could answer.
                    Err(ErrorKind::ClosedByServer(1000)) => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let sent = timeout(CLOSE_TIMEOUT, sent).await;
        sent.unwrap_or(Err(ErrorKind::CloseTimeout))
    }
}

impl Polls {
    /// Asks for messages, which may take so many seconds to come.
    fn ask(&mut self, line: &Line, wait: u64) -> UnderWay<(KeptConnection, Answer)> {
        let mut headers = line.headers();
        if let Some(position) = &self.position {
            headers.insert(header::IF_NONE_MATCH, position.clone());
        }
        let ask = Ask {
            method: Method::GET,
            path: with_query(&beside(&line.path, "poll"), &format!("wait={wait}")),
            headers,
            body: Bytes::new(),
            within: POLL_TIMEOUT,
            not_before: None,
        };
        Box::pin(ask.answer(Arc::clone(&line.server), line.user, self.idle.take()))
    }

    /// Takes the messages of an answer. Returns what the server has received; `None`: nothing is new.
    fn take(
        &mut self,
        connection: KeptConnection,
        answer: &Answer,
    ) -> Result<Option<u64>, ErrorKind> {
        self.idle = Some(connection);
        if let Some(tag) = answer.headers.get(header::ETAG) {
            self.position = Some(tag.clone());
        }
        match answer.status {
            StatusCode::OK => {
                let polled: Polled<'_> =
                    serde_json::from_slice(&answer.body).map_err(|_bad| ErrorKind::BadMessage)?;
                let texts = polled.messages.iter();
                let texts = texts.map(|text| Utf8Bytes::from(text.get()));
                self.heard.extend(texts);
                Ok(Some(polled.received))
            }
            StatusCode::NOT_MODIFIED => Ok(None),
            _ => Err(answer.refusal()),
        }
    }
}

impl Line {
    fn headers(&self) -> HeaderMap {
        let mut headers = self.server.headers(self.user);
        if !self.token.is_empty()
            && let Ok(bearer) = HeaderValue::try_from(format!("Bearer {}", self.token))
        {
            headers.insert(header::AUTHORIZATION, bearer);
        }
        headers
    }
}

async fn open_stream(line: &Line, arrived: Option<u64>) -> Result<Hearing, ErrorKind> {
    let mut headers = line.headers();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::ACCEPT, kind);
    if let Some(arrived) = arrived {
        headers.insert(LAST_EVENT_ID, arrived.into());
    }
    let mut connection = KeptConnection::open(&line.server, line.user).await?;
    let path = beside(&line.path, "events");
    let request = connection.ask(Method::GET, &path, headers, Bytes::new());
    let (head, body) = request.await?.into_parts();
    if head.status != StatusCode::OK {
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body: collect(body, MAX_BYTES).await?,
        };
        return Err(answer.refusal());
    }
    let unread = Rc::<Cell<usize>>::default();
    let chunks = Chunks {
        body,
        unread: Rc::clone(&unread),
    };
    Ok(Hearing::Stream {
        events: SseByteStream::new(chunks),
        unread,
    })
}

/// A request to be made.
struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    within: Duration,
    not_before: Option<Instant>,
}

impl Ask {
    /// Makes the request over a connection, or a new one. A connection that was kept may be closed by the server in the
    /// same moment: then the request goes over a new one, as browsers do; the numbers keep messages from counting twice.
    async fn answer(
        self,
        server: Arc<Endpoint>,
        user: u32,
        kept: Option<KeptConnection>,
    ) -> Result<(KeptConnection, Answer), ErrorKind> {
        if let Some(moment) = self.not_before {
            sleep_until(moment).await;
        }
        let asking = async {
            if let Some(mut kept) = kept {
                match self.once(&mut kept).await {
                    Err(ErrorKind::Ended | ErrorKind::Reset) => {}
                    done => return Ok((kept, done?)),
                }
            }
            let mut connection = KeptConnection::open(&server, user).await?;
            let answer = self.once(&mut connection).await?;
            Ok((connection, answer))
        };
        let asked = timeout(self.within, asking).await;
        asked.unwrap_or(Err(ErrorKind::Silent))
    }

    async fn once(&self, connection: &mut KeptConnection) -> Result<Answer, ErrorKind> {
        let (method, headers) = (self.method.clone(), self.headers.clone());
        let answer = connection.ask(method, &self.path, headers, self.body.clone());
        let (head, body) = answer.await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: collect(body, MAX_BYTES).await?,
        })
    }
}

impl Answer {
    fn said(&self) -> Said {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What an answer means that was not the wanted one.
    fn refusal(&self) -> ErrorKind {
        let said = self.said();
        let close_code = said.code.as_u64().and_then(|code| code.try_into().ok());
        match (self.status, close_code, said.code.as_str()) {
            (StatusCode::GONE, Some(code), _) => ErrorKind::ClosedByServer(code),
            (StatusCode::CONFLICT, _, Some(code)) => ErrorKind::ServerError(ServerCode::new(code)),
            (status, _, _) => ErrorKind::HttpStatus(status.as_u16()),
        }
    }
}

/// The code in the last event of a stream.
fn closed(data: &str) -> ErrorKind {
    let said: Said = serde_json::from_str(data).unwrap_or_default();
    let code = said.code.as_u64().and_then(|code| code.try_into().ok());
    ErrorKind::ClosedByServer(code.unwrap_or(1005))
}

/// The bytes of a stream.
struct Chunks {
    body: Incoming,
    unread: Rc<Cell<usize>>,
}

#[derive(Debug, Error)]
enum ChunkError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("an event is too long")]
    TooLong,
}

impl Stream for Chunks {
    type Item = Result<Bytes, ChunkError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            let data = match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_trailers)) => continue,
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            };
            self.unread.set(self.unread.get() + data.len());
            return Poll::Ready(Some(match self.unread.get() > MAX_BYTES {
                true => Err(ChunkError::TooLong),
                false => Ok(data),
            }));
        }
    }
}

fn broken(error: &sse_stream::Error) -> ErrorKind {
    let sse_stream::Error::Body(source) = error else {
        return ErrorKind::BadMessage;
    };
    match source.downcast_ref::<ChunkError>() {
        Some(ChunkError::TooLong) => ErrorKind::MessageTooLong,
        Some(ChunkError::Http(error)) => kind_of(error, ErrorKind::HttpInvalid),
        None => ErrorKind::Ended,
    }
}
