//! How a node that drains hands back the requests that wait for an answer of another node, without ending their sessions.
//!
//! A request without a body is forwarded with one that is empty and does not end. When it ends, the owner is asked to end its answer, as
//! after the last of a reader's share of bytes: the client asks again, through another node. Giving the request up instead would look to the
//! owner as if the client had gone.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::sync::{Mutex, oneshot, watch};

use super::line::BodyError;
use crate::chance;
use crate::drain::Phase;
use crate::limits::PEER_RELEASE_PATIENCE;

/// When this node gives back what it has another one answer.
#[derive(Debug, Clone)]
pub(super) struct Drained {
    pub(super) phase: watch::Receiver<Phase>,
    /// Over which time.
    pub(super) spread: Duration,
}

impl Drained {
    /// For a node that never drains.
    pub(super) fn never() -> Self {
        Self { phase: watch::channel(Phase::Running).1, spread: Duration::ZERO }
    }

    /// Waits until the drain has begun and a part of the spread is over, which is another one each time.
    pub(super) async fn begun(mut self) {
        self.draining().await;
        tokio::time::sleep(chance::range(Duration::ZERO..=self.spread)).await;
    }

    /// Waits until every owner has had time to end its answers.
    pub(super) async fn overdue(mut self) {
        self.draining().await;
        tokio::time::sleep(self.spread + PEER_RELEASE_PATIENCE).await;
    }

    async fn draining(&mut self) {
        if self.phase.wait_for(|phase| *phase == Phase::Draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// An empty body that ends when this node drains.
pub(super) struct Held {
    drained: BoxFuture<'static, ()>,
    wanted: oneshot::Receiver<Infallible>,
}

/// As long as this lives, somebody wants the answer to a request with a held body.
pub(super) type Wanted = oneshot::Sender<Infallible>;

impl Held {
    pub(super) fn until(drained: Drained) -> (Self, Wanted) {
        let (sender, wanted) = oneshot::channel();
        (Self { drained: Box::pin(drained.begun()), wanted }, sender)
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The other side hears that a request is given up when both halves of it are.
        if Pin::new(&mut self.wanted).poll(context).is_ready() {
            return Poll::Ready(Some(Err("nobody wants the answer any more".into())));
        }
        ready!(self.drained.as_mut().poll(context));
        Poll::Ready(None)
    }
}

/// Whether the node that forwarded a request wants it back.
#[derive(Clone)]
pub(super) struct Release(Option<Arc<Mutex<Incoming>>>);

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release")
    }
}

impl Release {
    /// Of a request that is never wanted back.
    pub(super) const fn never() -> Self {
        Self(None)
    }

    /// Of a request with a held body.
    pub(super) fn at_end_of(body: Incoming) -> Self {
        Self(Some(Arc::new(Mutex::new(body))))
    }

    pub(super) async fn requested(&self) {
        if let Some(body) = &self.0 {
            let mut body = body.lock().await;
            loop {
                match body.frame().await {
                    // Nothing is in it.
                    Some(Ok(_)) => {}
                    None => return,
                    // The other node went away, which ends the request by itself.
                    Some(Err(_)) => break,
                }
            }
        }
        std::future::pending().await
    }
}
