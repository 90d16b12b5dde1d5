//! A server of the app's, which publishes keys and says who may come in.

use std::net::SocketAddr;

use serde_json::Value;

use super::receiver::{Answer, Receiver};

/// Such a server. It ends when this is dropped.
pub(crate) struct App(Receiver);

/// The status and the body of an answer to this body; status 0: none comes.
fn answers(
    answer: impl Fn(&Value) -> (u16, String) + Send + 'static,
) -> impl Fn(usize, &[u8]) -> Answer + Send + 'static {
    move |_, body| match answer(&serde_json::from_slice(body).unwrap_or_default()) {
        (0, _) => Answer::Hang,
        (status, body) => Answer::Body(status, body),
    }
}

impl App {
    /// Answers like this.
    pub(crate) async fn start(answer: impl Fn(&Value) -> (u16, String) + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    /// The same, at this address.
    pub(crate) async fn start_at(
        address: SocketAddr,
        answer: impl Fn(&Value) -> (u16, String) + Send + 'static,
    ) -> Self {
        Self(Receiver::start_at(address, answers(answer)).await)
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, answer: impl Fn(&Value) -> (u16, String) + Send + 'static) {
        self.0.answers(answers(answer));
    }

    /// The bodies of all requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        let posted = self.0.posted().into_iter();
        let bodies = posted.map(|posted| serde_json::from_slice(&posted.body));
        bodies.map(Result::unwrap_or_default).collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/app", self.0.url())
    }
}
