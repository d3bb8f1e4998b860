//! Requests that take frames.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bongsu_protocol::sockjs::Transport;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::Desk;
use super::answer;
use super::caller::Caller;
use super::sessions::Found;
use crate::connection::{self, Framing, Io, Opened};
use crate::limits::TURNED_AWAY_RETRY_SECONDS;
use crate::metrics::{self, METRICS};
use crate::relay::{Receiving, Relay};

impl Desk {
    /// Attaches the request to its session, which begins with the first of them.
    pub(super) async fn receive(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        transport: Transport,
    ) -> Response {
        let begin = || self.begin(name, caller, &transport);
        let relay = match self.sessions.open(name, &caller.principal, begin) {
            Some(Found::Own(relay)) => relay,
            Some(Found::Foreign | Found::Nothing) => return answer::not_found(),
            None => return busy(),
        };
        let prelude = transport.prelude();
        let mut response = match relay.receive(transport.clone(), self.service.response_bytes) {
            Err(refusal) => Response::new(body_of([prelude, refusal.bytes])),
            Ok(receiving) if transport.is_polling() => {
                let mut receiving = receiving;
                let frame = poll_fn(|cx| receiving.poll_next(cx)).await;
                Response::new(Body::from(frame.unwrap_or_default()))
            }
            Ok(receiving) => Response::new(Body::from_stream(frames_of(prelude, receiving))),
        };
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(transport.content_type()));
        response
    }

    /// Begins a session: a connection with a relay in the place of its socket. `None`: the node has no place for it.
    fn begin(self: &Arc<Self>, name: &str, caller: &Caller, transport: &Transport) -> Option<Arc<Relay>> {
        let admission = self.node.admit()?;
        let (relay, line) = Relay::new(self.service.timing, self.node.timing().write_timeout);
        let opened = Opened {
            io: Io::Relay(line),
            read_ahead: Bytes::new(),
            language: self.service.language.clone(),
            framing: Framing::Relay(counted_as(transport)),
            grants: caller.grants.clone(),
            peer: caller.peer,
            admission,
        };
        let (desk, name, shared) = (Arc::clone(self), name.to_owned(), Arc::clone(&relay));
        tokio::spawn(async move {
            Box::pin(connection::run(Arc::clone(&desk.node), opened)).await;
            shared.linger().await;
            desk.sessions.forget(&name, &shared);
        });
        Some(relay)
    }
}

const fn counted_as(transport: &Transport) -> metrics::Transport {
    match transport {
        Transport::WebSocket => metrics::Transport::SockjsWebsocket,
        Transport::XhrPolling => metrics::Transport::SockjsXhrPolling,
        Transport::XhrStreaming => metrics::Transport::SockjsXhrStreaming,
        Transport::EventSource => metrics::Transport::SockjsEventSource,
        Transport::HtmlFile(_) => metrics::Transport::SockjsHtmlFile,
        Transport::JsonpPolling(_) => metrics::Transport::SockjsJsonpPolling,
    }
}

/// Writes that follow one another, each by itself.
fn body_of(parts: [Bytes; 2]) -> Body {
    let parts = parts.into_iter().filter(|part| !part.is_empty()).map(Ok::<_, Infallible>);
    Body::from_stream(stream::iter(parts))
}

/// What a streaming answer is made of: each frame is a write of its own.
fn frames_of(prelude: Bytes, receiving: Receiving) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    let begin = (Some(prelude), receiving);
    stream::unfold(begin, |(prelude, mut receiving)| async move {
        let bytes = match prelude {
            Some(prelude) => prelude,
            None => poll_fn(|cx| receiving.poll_next(cx)).await?,
        };
        Some((Ok(bytes), (None, receiving)))
    })
}

/// The node has as many connections as it takes.
pub(super) fn busy() -> Response {
    METRICS.turned_away.add(1);
    let mut response =
        answer::text(StatusCode::SERVICE_UNAVAILABLE, "this node has as many connections as it takes\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(TURNED_AWAY_RETRY_SECONDS));
    response
}
