//! The content of a response: whole, or in pieces that are made while the client takes them.

#[cfg(not(feature = "transcribe"))]
use std::convert::Infallible;
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
#[cfg(feature = "transcribe")]
use {super::stream::Hold, std::task::ready, tokio::sync::mpsc};

/// See [`content`](self).
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// The next piece is made when there is room for it.
    #[cfg(feature = "transcribe")]
    Pieces(Pieces),
}

/// A file on its way.
#[cfg(feature = "transcribe")]
#[derive(Debug)]
pub struct Pieces {
    pieces: mpsc::Receiver<Option<Bytes>>,
    hold: Option<Hold>,
}

/// Who makes the pieces has stopped before the end: the connection is closed, so that the client does not take a part for all.
#[cfg(feature = "transcribe")]
#[derive(Debug, thiserror::Error)]
#[error("the rest of the answer could not be made")]
pub struct Cut;

#[cfg(not(feature = "transcribe"))]
type Cut = Infallible;

impl Content {
    /// What of it is there already.
    pub fn whole(&self) -> &[u8] {
        match self {
            Self::Whole(all) => all,
            #[cfg(feature = "transcribe")]
            Self::Pieces(_) => &[],
        }
    }

    /// These pieces, with `None` behind the last one.
    #[cfg(feature = "transcribe")]
    pub fn in_pieces(pieces: mpsc::Receiver<Option<Bytes>>) -> Self {
        Self::Pieces(Pieces { pieces, hold: None })
    }

    /// The owner of the connection is told of each piece that the client has room for.
    #[cfg(feature = "transcribe")]
    pub(super) fn tell(&mut self, owner: &Hold) {
        if let Self::Pieces(pieces) = self {
            pieces.hold = Some(owner.clone());
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(all: T) -> Self {
        Self::Whole(all.into())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Cut;

    #[cfg_attr(
        not(feature = "transcribe"),
        expect(unused_variables, reason = "nothing is waited for")
    )]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(all) if all.is_empty() => Poll::Ready(None),
            Self::Whole(all) => Poll::Ready(Some(Ok(Frame::data(mem::take(all))))),
            #[cfg(feature = "transcribe")]
            Self::Pieces(pieces) => {
                let piece = ready!(pieces.pieces.poll_recv(cx)).ok_or(Cut).transpose();
                if let Some(hold) = &pieces.hold {
                    hold.took_piece();
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(all) if all.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(all) => SizeHint::with_exact(all.len() as u64),
            #[cfg(feature = "transcribe")]
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
