//! A vosk-server that hears numbered audio. As the original does, it answers each frame once, takes the configuration from
//! the first message, and compares the end of the audio as a string.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::{
    ear::{Ear, Told},
    server::{Plan, Ws, close, garbage, suffer},
};

pub(crate) struct VoskServer {
    pub url: String,
    pub seen: Arc<Seen>,
    _task: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    pub frames: AtomicUsize,
    /// What the other side did wrong.
    pub mistakes: Mutex<Vec<String>>,
}

impl VoskServer {
    pub(crate) async fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::new(Seen::default());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, plan, Arc::clone(&seen)));
        Self {
            url: format!("ws://{address}"),
            seen,
            _task: task,
        }
    }
}

async fn serve(listener: TcpListener, plan: Plan, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (plan, seen) = (plan.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            let Ok(ws) = accept_async(tcp).await else {
                return;
            };
            // In this order: who sees it counted sees it open, until it is gone.
            seen.open.fetch_add(1, SeqCst);
            seen.connections.fetch_add(1, SeqCst);
            talk(ws, &plan, &seen).await;
            seen.open.fetch_sub(1, SeqCst);
        });
    }
}

async fn talk(mut ws: Ws, plan: &Plan, seen: &Seen) {
    let faults = plan.next();
    let (mut ear, mut frame, mut is_configured) = (Ear::default(), 0, false);
    while let Some(Ok(message)) = ws.next().await {
        match message {
            Message::Text(text) if text.as_str() == r#"{"eof" : 1}"# => {
                if faults.ignores_end {
                    continue;
                }
                if let Some(code) = faults.close_at_end {
                    return close(&mut ws, code).await;
                }
                let last = ear.last();
                let _ = ws.send(Message::text(answer(&last, true))).await;
                break;
            }
            Message::Text(text) => {
                let config: Value = serde_json::from_str(&text).unwrap_or_default();
                is_configured =
                    config["config"]["sample_rate"] == 16_000 && config["config"]["words"] == true;
            }
            Message::Binary(pcm) => {
                if !is_configured {
                    seen.mistakes
                        .lock()
                        .expect("nobody panics with it")
                        .push("audio before the configuration".to_owned());
                }
                frame += 1;
                seen.frames.fetch_add(1, SeqCst);
                let told = ear.hear(&pcm);
                if ws.send(Message::text(answer(&told, false))).await.is_err() {
                    return;
                }
                if !suffer(&faults, frame, &mut ws, &garbage()).await {
                    return;
                }
            }
            _ => {}
        }
    }
    let _ = ws.close(None).await;
    while let Some(Ok(_)) = ws.next().await {}
}

fn answer(told: &Told, is_last: bool) -> String {
    match told {
        Told::Final(said) => json!({"result": said.words("conf"), "text": said.text}).to_string(),
        Told::Partial(said) => json!({"partial": said.text}).to_string(),
        Told::Nothing if is_last => json!({"text": ""}).to_string(),
        Told::Nothing => json!({"partial": ""}).to_string(),
    }
}
