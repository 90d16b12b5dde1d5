//! What the fake servers have in common: faults, one set for each connection.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt, future::pending};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{CloseFrame, Message},
};

/// What goes wrong with a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Closes with this code after so many frames.
    pub close_after: Option<(usize, u16)>,
    /// Drops the TCP connection after so many frames.
    pub drop_after: Option<usize>,
    /// Neither reads nor answers after so many frames; TCP stays open.
    pub stall_after: Option<usize>,
    /// Acknowledges no frames after so many, which it hears.
    pub unacknowledged_after: Option<usize>,
    /// Says nothing after so many frames, which it hears.
    pub mute_after: Option<usize>,
    /// Does not close at the end of the audio.
    pub ignores_end: bool,
    /// Closes with this code at the end of the audio, and says nothing before.
    pub close_at_end: Option<u16>,
    /// Says something without meaning after each so manieth frame.
    pub garbage_each: Option<usize>,
    /// Refuses the handshake of the WebSocket with this status.
    pub refuse: Option<u16>,
}

/// The faults of the connections to come. The last ones are those of all that follow.
#[derive(Clone, Default)]
pub(crate) struct Plan(Arc<Mutex<VecDeque<Faults>>>);

impl Plan {
    pub(crate) fn new(faults: impl IntoIterator<Item = Faults>) -> Self {
        Self(Arc::new(Mutex::new(faults.into_iter().collect())))
    }

    pub(crate) fn next(&self) -> Faults {
        let mut plan = self.0.lock().expect("nobody panics with it");
        let faults = if plan.len() > 1 {
            plan.pop_front()
        } else {
            plan.front().cloned()
        };
        faults.unwrap_or_default()
    }
}

pub(crate) type Ws = WebSocketStream<TcpStream>;

/// Whether the connection goes on after the `frame`-th frame.
pub(crate) async fn suffer(faults: &Faults, frame: usize, ws: &mut Ws, garbage: &[String]) -> bool {
    if let Some(each) = faults.garbage_each
        && frame.is_multiple_of(each)
    {
        let text = garbage[frame / each % garbage.len()].clone();
        let _ = ws.send(Message::text(text)).await;
    }
    if let Some((after, code)) = faults.close_after
        && frame >= after
    {
        close(ws, code).await;
        return false;
    }
    if faults.stall_after.is_some_and(|after| frame >= after) {
        pending::<()>().await;
    }
    faults.drop_after.is_none_or(|after| frame < after)
}

/// Closes with this code.
pub(crate) async fn close(ws: &mut Ws, code: u16) {
    let close = CloseFrame {
        code: code.into(),
        reason: "a fault".into(),
    };
    let _ = ws.close(Some(close)).await;
    // Until the other side has closed too.
    while let Some(Ok(_)) = ws.next().await {}
}

/// Text that means nothing to anybody, and a megabyte of it.
pub(crate) fn garbage() -> Vec<String> {
    vec![
        "{".to_owned(),
        "[]".to_owned(),
        "\u{0}".to_owned(),
        format!("{{\"text\":\"{}\"}}", "x".repeat(1_000_000)),
    ]
}
