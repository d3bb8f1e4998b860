//! The connections to other nodes: one to each, HTTP/2 without TLS, for all requests that go there.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ForwardError;
use super::release::Wanted;
use crate::clock;
use crate::limits::{
    NODES_MAX, PEER_CONNECTION_WINDOW_BYTES, PEER_HEADER_BYTES_MAX, PEER_PING_INTERVAL, PEER_PING_TIMEOUT,
    PEER_REQUESTS_MAX, PEER_RESETS_MAX, PEER_RETRY_PAUSE, PEER_STREAM_WINDOW_BYTES,
};

/// Whatever may go wrong with a body.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request on its way.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// The body of an answer that another node gives. Dropping it tells that node at once that nobody wants the rest. It ends early where this
/// node drains and the other does not react.
pub struct Body {
    incoming: Incoming,
    overdue: Option<BoxFuture<'static, ()>>,
    _wanted: Option<Wanted>,
    _place: OwnedSemaphorePermit,
}

impl Body {
    /// Keeps what says that the answer is wanted, and ends the body when something is overdue.
    pub(super) fn keep(
        self,
        wanted: Option<Wanted>,
        overdue: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { overdue: Some(Box::pin(overdue)), _wanted: wanted, ..self }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").field(&self.incoming).finish()
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(context);
        if frame.is_pending()
            && let Some(overdue) = &mut self.overdue
            && overdue.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(None);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The connections to all other nodes, by incarnation.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Mutex<HashMap<Arc<str>, Arc<Line>>>,
}

/// The connection to one other node.
#[derive(Debug)]
pub(super) struct Line {
    /// Held while it connects: whoever wants to send meanwhile waits for the same connection.
    state: tokio::sync::Mutex<State>,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    sender: Option<SendRequest<Outgoing>>,
    /// When connecting failed last, and why.
    failed: Option<(Duration, String)>,
}

impl Lines {
    /// The line to a node, made where there is none.
    pub(super) fn to(&self, incarnation: &Arc<str>) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(incarnation) {
            return Arc::clone(line);
        }
        if lines.len() >= NODES_MAX {
            // Of nodes that are gone, mostly: a connection that somebody uses lives on, and is only not found again.
            lines.retain(|_, line| line.is_connected());
        }
        if lines.len() >= NODES_MAX {
            lines.clear();
        }
        let line = Arc::new(Line {
            state: tokio::sync::Mutex::default(),
            places: Arc::new(Semaphore::new(PEER_REQUESTS_MAX)),
        });
        Arc::clone(lines.entry(Arc::clone(incarnation)).or_insert(line))
    }
}

impl Line {
    /// Sends a request and takes the head of its answer. `connect` makes a connection where there is none.
    pub(super) async fn send<C>(
        &self,
        request: Request<Outgoing>,
        mut connect: impl FnMut() -> C,
    ) -> Result<Response<Body>, ForwardError>
    where
        C: Future<Output = Result<SendRequest<Outgoing>, ForwardError>>,
    {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ForwardError::Full)?;
        let mut request = request;
        let mut may_repeat = true;
        loop {
            let mut sender = self.sender(&mut connect).await?;
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    return Ok(answer.map(|incoming| Body {
                        incoming,
                        overdue: None,
                        _wanted: None,
                        _place: place,
                    }));
                }
                Err(mut error) => match error.take_message() {
                    // It was not sent: the connection ended just before.
                    Some(unsent) if may_repeat => {
                        request = unsent;
                        may_repeat = false;
                    }
                    Some(_) | None => return Err(ForwardError::Interrupted(error.into_error().to_string())),
                },
            }
        }
    }

    async fn sender<C>(&self, connect: &mut impl FnMut() -> C) -> Result<SendRequest<Outgoing>, ForwardError>
    where
        C: Future<Output = Result<SendRequest<Outgoing>, ForwardError>>,
    {
        let mut state = self.state.lock().await;
        if let Some(sender) = state.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        state.sender = None;
        let now = clock::monotonic();
        if let Some((at, reason)) = &state.failed
            && now.saturating_sub(*at) < PEER_RETRY_PAUSE
        {
            return Err(ForwardError::Unreachable(reason.clone()));
        }
        match connect().await {
            Ok(sender) => {
                state.failed = None;
                state.sender = Some(sender.clone());
                Ok(sender)
            }
            Err(error) => {
                state.failed = Some((clock::monotonic(), error.to_string()));
                Err(error)
            }
        }
    }

    fn is_connected(&self) -> bool {
        // Whoever holds the lock connects.
        self.state
            .try_lock()
            .map_or(true, |state| state.sender.as_ref().is_some_and(|sender| !sender.is_closed()))
    }
}

/// Connects to a node's port. It has not proved to be one yet.
pub(super) async fn dial(url: &str) -> Result<SendRequest<Outgoing>, String> {
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream =
        TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.map_err(|error| error.to_string())?;
    // Without it, a small chunk may wait 40 ms for the acknowledgment of the one before.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PEER_PING_INTERVAL)
        .keep_alive_timeout(PEER_PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(PEER_STREAM_WINDOW_BYTES as usize)
        .max_header_list_size(u32::try_from(PEER_HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(PEER_RESETS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // Ends with the last of its senders and requests, or when the other side is gone.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to another node ended");
        }
    });
    Ok(sender)
}
