//! A Gladia that hears numbered audio: `POST`, `GET` and `DELETE` on `/v2/live`, and the WebSocket that a `POST` names, to which
//! a lost connection comes back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role},
    },
};

use super::{
    ear::{Ear, Told},
    server::{Faults, Plan, Ws, garbage, suffer},
};

/// The key that it takes.
pub(crate) const KEY: &str = "planted-key-5f1d9c";
/// What each token of its URLs begins with.
pub(crate) const TOKEN: &str = "planted-token-";

pub(crate) struct GladiaServer {
    pub url: String,
    pub state: Arc<State>,
    _task: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct State {
    plan: Plan,
    sessions: Mutex<HashMap<String, Session>>,
    /// The statuses of the next answers to `POST`, before it works.
    pub refusals: Mutex<VecDeque<u16>>,
    pub posts: AtomicUsize,
    pub connections: AtomicUsize,
    pub deleted: Mutex<Vec<String>>,
    /// What the other side did wrong.
    pub mistakes: Mutex<Vec<String>>,
    pub languages: Mutex<Vec<Value>>,
}

#[derive(Default)]
struct Session {
    ear: Ear,
    /// All that was said.
    utterances: Vec<Value>,
}

impl State {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().expect("nobody panics with it")
    }

    fn mistake(&self, what: impl Into<String>) {
        self.mistakes
            .lock()
            .expect("nobody panics with it")
            .push(what.into());
    }

    /// The bytes of audio that a session has heard.
    pub(crate) fn heard_bytes(&self, id: &str) -> u64 {
        self.sessions()
            .get(id)
            .map_or(0, |session| session.ear.bytes)
    }

    /// It forgets all sessions: nobody can come back.
    pub(crate) fn forget(&self) {
        self.sessions().clear();
    }
}

impl GladiaServer {
    pub(crate) async fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            plan,
            ..State::default()
        });
        let mut task = JoinSet::new();
        task.spawn(serve(
            listener,
            format!("ws://{address}/v2/live"),
            Arc::clone(&state),
        ));
        Self {
            url: format!("http://{address}"),
            state,
            _task: task,
        }
    }
}

async fn serve(listener: TcpListener, ws_url: String, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (ws_url, state) = (ws_url.clone(), Arc::clone(&state));
        connections.spawn(async move { connection(tcp, &ws_url, &state).await });
    }
}

/// A request of HTTP/1.1.
#[derive(Default)]
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

async fn read_request(tcp: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if tcp.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        tcp.read_buf(&mut body).await.ok()?;
    }
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

async fn respond(tcp: &mut TcpStream, status: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = tcp.write_all((head + body).as_bytes()).await;
}

async fn connection(mut tcp: TcpStream, ws_url: &str, state: &State) {
    while let Some(request) = read_request(&mut tcp).await {
        if let Some(key) = request.headers.get("sec-websocket-key") {
            let accept = derive_accept_key(key.as_bytes());
            return websocket(tcp, &request, &accept, state).await;
        }
        if request.headers.get("x-gladia-key").map(String::as_str) != Some(KEY) {
            // Some services repeat what they refuse.
            let key = request
                .headers
                .get("x-gladia-key")
                .cloned()
                .unwrap_or_default();
            respond(
                &mut tcp,
                401,
                &format!("{{\"message\":\"wrong key {key}\"}}"),
            )
            .await;
            continue;
        }
        let (status, body) = match request.method.as_str() {
            "POST" => create(&request, ws_url, state),
            "GET" => result(&request, state),
            _ => {
                let id = request.path.rsplit('/').next().unwrap_or_default();
                let known = state.sessions().remove(id).is_some();
                state
                    .deleted
                    .lock()
                    .expect("nobody panics with it")
                    .push(id.to_owned());
                (if known { 202 } else { 404 }, String::new())
            }
        };
        respond(&mut tcp, status, &body).await;
    }
}

fn create(request: &Request, ws_url: &str, state: &State) -> (u16, String) {
    let number = state.posts.fetch_add(1, SeqCst) + 1;
    if let Some(status) = state
        .refusals
        .lock()
        .expect("nobody panics with it")
        .pop_front()
    {
        return (
            status,
            format!("{{\"statusCode\":{status},\"message\":\"{KEY}\"}}"),
        );
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let wanted =
        json!({"encoding": "wav/pcm", "bit_depth": 16, "sample_rate": 16_000, "channels": 1});
    for (name, value) in wanted.as_object().into_iter().flatten() {
        if body[name] != *value {
            state.mistake(format!("{name} is {}", body[name]));
        }
    }
    for name in [
        "partial_transcripts",
        "final_transcripts",
        "acknowledgments",
        "errors",
        "lifecycle_events",
    ] {
        if body["messages_config"][format!("receive_{name}")] != true {
            state.mistake(format!("{name} are not switched on"));
        }
    }
    state
        .languages
        .lock()
        .expect("nobody panics with it")
        .push(body["language_config"]["languages"].clone());
    let id = format!("job-{number}");
    state.sessions().insert(id.clone(), Session::default());
    let url = format!("{ws_url}?token={TOKEN}{id}");
    (
        201,
        json!({"id": id, "created_at": "2025-01-01T00:00:00.000Z", "url": url}).to_string(),
    )
}

fn result(request: &Request, state: &State) -> (u16, String) {
    let id = request.path.rsplit('/').next().unwrap_or_default();
    match state.sessions().get(id) {
        None => (404, String::new()),
        Some(session) => {
            let result = json!({"transcription": {"full_transcript": "", "languages": ["en"], "utterances": session.utterances}});
            (
                200,
                json!({"id": id, "status": "done", "result": result}).to_string(),
            )
        }
    }
}

async fn websocket(mut tcp: TcpStream, request: &Request, accept: &str, state: &State) {
    let faults = state.plan.next();
    if request.headers.contains_key("x-gladia-key") {
        state.mistake("the key goes to the WebSocket");
    }
    let id = request
        .path
        .split(TOKEN)
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let status = faults.refuse.or(if state.sessions().contains_key(&id) {
        None
    } else {
        Some(404)
    });
    if let Some(status) = status {
        return respond(&mut tcp, status, &format!("token {}", request.path)).await;
    }
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ";
    if tcp
        .write_all(format!("{head}{accept}\r\n\r\n").as_bytes())
        .await
        .is_err()
    {
        return;
    }
    state.connections.fetch_add(1, SeqCst);
    let mut ws = WebSocketStream::from_raw_socket(tcp, Role::Server, None).await;
    let start = json!({"type": "start_session", "session_id": id, "created_at": ""}).to_string();
    let _ = ws.send(Message::text(start)).await;
    talk(ws, &faults, &id, state).await;
}

async fn talk(mut ws: Ws, faults: &Faults, id: &str, state: &State) {
    let mut frame = 0;
    loop {
        let Some(Ok(message)) = ws.next().await else {
            return;
        };
        match message {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap_or_default();
                if message["type"] != "stop_recording" {
                    state.mistake(format!("an unknown message {text}"));
                } else if !faults.ignores_end {
                    break;
                }
            }
            Message::Binary(pcm) => {
                if pcm.len() > 3200 {
                    state.mistake("a frame of more than 100 ms");
                }
                frame += 1;
                let said = hear(&pcm, id, state);
                let is_after = |fault: Option<usize>| fault.is_some_and(|after| frame > after);
                let skip = match (
                    is_after(faults.unacknowledged_after),
                    is_after(faults.mute_after),
                ) {
                    (_, true) => said.len(),
                    (is_unacknowledged, _) => usize::from(is_unacknowledged),
                };
                for message in said.into_iter().skip(skip) {
                    if ws.send(Message::text(message)).await.is_err() {
                        return;
                    }
                }
                if !suffer(faults, frame, &mut ws, &garbage()).await {
                    return;
                }
            }
            _ => {}
        }
    }
    let last = state.sessions().get_mut(id).and_then(|session| {
        let told = session.ear.last();
        transcript(told, session)
    });
    for message in last
        .into_iter()
        .chain([json!({"type": "end_session", "session_id": id}).to_string()])
    {
        let _ = ws.send(Message::text(message)).await;
    }
    let close = CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    };
    let _ = ws.close(Some(close)).await;
    while let Some(Ok(_)) = ws.next().await {}
}

fn hear(pcm: &[u8], id: &str, state: &State) -> Vec<String> {
    let mut sessions = state.sessions();
    let Some(session) = sessions.get_mut(id) else {
        return Vec::new();
    };
    let start = session.ear.bytes;
    let told = session.ear.hear(pcm);
    let range = json!({"byte_range": [start, session.ear.bytes], "time_range": [0.0, 0.0]});
    let ack = json!({"type": "audio_chunk", "session_id": id, "acknowledged": true, "error": null, "data": range});
    [ack.to_string()]
        .into_iter()
        .chain(transcript(told, session))
        .collect()
}

fn transcript(told: Told, session: &mut Session) -> Option<String> {
    let (said, is_final) = match told {
        Told::Nothing => return None,
        Told::Partial(said) => (said, false),
        Told::Final(said) => (said, true),
    };
    let utterance = json!({
        "text": said.text, "start": said.start, "end": said.end, "language": "en", "confidence": 0.9, "channel": 0,
        "words": said.words("confidence"),
    });
    if is_final {
        session.utterances.push(utterance.clone());
    }
    let data = json!({"id": format!("00_{:08}", said.number), "is_final": is_final, "utterance": utterance});
    Some(
        json!({"type": "transcript", "session_id": "", "created_at": "", "data": data}).to_string(),
    )
}
