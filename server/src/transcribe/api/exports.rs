//! Files that are sent while they are made: how many at a time, and which part of what there is.

use std::{fmt::Display, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use voicematch_protocol::transcribe::TranscribeError;
use voicematch_transcribe::sessions::Refusal;

use super::Body;
use crate::transcribe::Transcribe;

/// How long a request waits for others before it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place for one file, until it has been sent.
pub(super) struct Place(OwnedSemaphorePermit);

impl Place {
    /// Waits for one.
    pub(super) async fn wait_for(transcribe: &Transcribe) -> Result<Self, Refusal> {
        let place = timeout(PATIENCE, transcribe.exports.clone().acquire_owned()).await;
        place.ok().and_then(Result::ok).map(Self).ok_or_else(|| {
            Refusal::new(
                TranscribeError::RateLimited,
                "as many files as this server sends at once are on their way to others; try again later",
            )
        })
    }

    /// The body of an answer that has these pieces.
    pub(super) fn send<E: Display + Send + 'static>(
        self,
        pieces: impl Stream<Item = Result<String, E>> + Send + 'static,
    ) -> Body {
        let (to, body) = mpsc::channel(1);
        tokio::spawn(async move {
            let _place = self.0;
            if let Err(error) = send(pieces, to).await {
                tracing::warn!(%error, "a file of a transcript or of answers ends before its end");
            }
        });
        Body::Pieces(body)
    }
}

/// Sends all pieces, or as many as the client takes.
async fn send<E>(
    pieces: impl Stream<Item = Result<String, E>>,
    to: mpsc::Sender<Option<Bytes>>,
) -> Result<(), E> {
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.next().await {
        if to.send(Some(piece?.into())).await.is_err() {
            return Ok(());
        }
    }
    let _ = to.send(None).await;
    Ok(())
}

/// The number behind which the file begins; 0: all of it.
pub(super) fn after(query: &str) -> Result<i64, Refusal> {
    let mut pairs = query.split('&');
    let after = pairs.find_map(|pair| pair.strip_prefix("after="));
    let after = after.map(str::parse).transpose().map_err(|_| {
        let message =
            "after is a number, as in after=41: that of a segment, or the id of an interview";
        Refusal::new(TranscribeError::BadMessage, message)
    })?;
    Ok(after.unwrap_or(0))
}
