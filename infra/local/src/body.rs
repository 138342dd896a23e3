//! The body of a response, which is complete or is written piece by piece by another task.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// How many pieces may be queued for a slow client before the writer has to wait.
const WAITING: usize = 16;

/// A body. The default is empty.
#[derive(Debug, Default)]
pub struct Body {
    first: Option<Bytes>,
    /// The pieces after `first`, if there are any.
    rest: Option<mpsc::Receiver<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    Last,
}

/// Writes the pieces of a body. If it is dropped before [`Writer::end`], the body is cut off.
#[derive(Debug)]
pub struct Writer(mpsc::Sender<Piece>);

/// The client disconnected, and the body has no reader any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left;

/// The body ended before it was complete.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body was cut off")]
pub struct Cut;

/// Returns a body and its writer.
#[must_use]
pub fn channel() -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let body = Body {
        first: None,
        rest: Some(receiver),
    };
    (Writer(sender), body)
}

impl Writer {
    /// Sends a piece. The client gets it at once, in a chunk of its own.
    ///
    /// # Errors
    /// Fails if the client has disconnected.
    pub async fn send(&self, data: Bytes) -> Result<(), Left> {
        self.0.send(Piece::Data(data)).await.map_err(|_| Left)
    }

    /// Marks the body as complete.
    pub async fn end(self) {
        // This fails if the body has no reader any more.
        let _ = self.0.send(Piece::Last).await;
    }

    /// Waits until the client disconnects.
    pub async fn left(&self) {
        self.0.closed().await;
    }
}

impl Body {
    /// Returns this body with `first` in front.
    #[must_use]
    pub fn preceded_by(self, first: Bytes) -> Self {
        Self {
            first: Some(first).filter(|first| !first.is_empty()),
            ..self
        }
    }

    /// Returns the next piece, or `None` at the end.
    ///
    /// # Errors
    /// Fails if the body was cut off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(Ok(None));
        };
        rest.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(data)) => Ok(Some(data)),
            Some(Piece::Last) => {
                self.rest = None;
                Ok(None)
            }
            None => Err(Cut),
        })
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        Self::default().preceded_by(data)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let next = self.get_mut().poll_next(context);
        next.map(|next| next.transpose().map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.rest {
            None => {
                let length = self.first.as_ref().map_or(0, Bytes::len);
                hyper::body::SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Some(_) => hyper::body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropped_writer_cuts_body_off() {
        let (writer, mut body) = channel();
        writer.send("a".into()).await.unwrap();
        writer.send("b".into()).await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "a");
        assert_eq!(body.next().await.unwrap().unwrap(), "b");
        let mut body = body.preceded_by("first".into());
        writer.end().await;
        assert_eq!(body.next().await.unwrap().unwrap(), "first");
        assert!(body.next().await.unwrap().is_none());
        assert!(body.next().await.unwrap().is_none(), "the body stays ended");

        let (writer, mut body) = channel();
        writer.send("a".into()).await.unwrap();
        drop(writer);
        assert_eq!(body.next().await.unwrap().unwrap(), "a");
        assert!(body.next().await.is_err());
    }

    #[tokio::test]
    async fn writer_notices_dropped_reader() {
        let (writer, body) = channel();
        drop(body);
        writer.left().await;
        assert_eq!(writer.send("a".into()).await, Err(Left));
    }
}
