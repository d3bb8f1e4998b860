//! Requests that take frames.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::sockjs::{Close, Transport};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::Desk;
use super::answer;
use super::caller::Caller;
use super::elsewhere::{Reply, Unforwarded};
use super::sessions::Found;
use crate::clock;
use crate::connection::{self, Framing, Io, Opened};
use crate::limits::{OWNER_DEADLINE, OWNER_POLL_INTERVAL, TURNED_AWAY_RETRY_SECONDS};
use crate::metrics::{self, METRICS};
use crate::peers::{Claim, Claimed, Destination, Forwarded};
use crate::relay::{Receiving, Relay};

impl Desk {
    /// Attaches the request to its session, which begins with the first of them.
    pub(super) async fn receive(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        transport: Transport,
        request: Request,
    ) -> Reply {
        let relay = match self.sessions.find(name, &caller.principal) {
            Found::Own(relay) => relay,
            Found::Foreign => return Reply::Here(answer::not_found()),
            Found::Nothing => match self.begin_unless_elsewhere(name, caller, &transport).await {
                Begun::Here(relay) => relay,
                Begun::Foreign => return Reply::Here(answer::not_found()),
                Begun::Full => return Reply::Here(busy()),
                Begun::Lost => return Reply::Here(lost(&transport)),
                Begun::Elsewhere(destination) => {
                    return match self.forward(name, &destination, request).await {
                        Ok(response) => Reply::Elsewhere(response),
                        Err(Unforwarded::Lost) => Reply::Here(lost(&transport)),
                        Err(Unforwarded::Busy) => Reply::Here(busy()),
                    };
                }
            },
        };
        let wanted_back = request.extensions().get::<Forwarded>().cloned();
        // What is left of it would be held as long as the answer lasts.
        drop(request);
        let prelude = transport.prelude();
        let response = match relay.receive(transport.clone(), self.service.response_bytes) {
            Err(refusal) => Response::new(body_of([prelude, refusal.bytes])),
            Ok(receiving) => {
                let mut frames = Frames { receiving, wanted_back };
                if transport.is_polling() {
                    Response::new(Body::from(frames.next().await.unwrap_or_default()))
                } else {
                    Response::new(Body::from_stream(frames.into_stream(prelude)))
                }
            }
        };
        Reply::Here(typed(response, &transport))
    }

    /// Begins a session here, unless another node has it.
    async fn begin_unless_elsewhere(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        transport: &Transport,
    ) -> Begun {
        let claim = match self.node.peers().claim(&self.key(name)).await {
            Claimed::Here(claim) | Claimed::Unknown(claim) => claim,
            Claimed::Elsewhere(destination) => return Begun::Elsewhere(destination),
            Claimed::Lost => return Begun::Lost,
            // Another request is just beginning it, or it is just ending.
            Claimed::Already => return self.await_session(name, caller).await,
        };
        let begin = || self.begin(name, caller, transport, claim);
        match self.sessions.open(name, &caller.principal, begin) {
            Some(Found::Own(relay)) => Begun::Here(relay),
            Some(Found::Foreign | Found::Nothing) => Begun::Foreign,
            None => Begun::Full,
        }
    }

    async fn await_session(&self, name: &str, caller: &Caller) -> Begun {
        let begun = clock::monotonic();
        while clock::monotonic() - begun < OWNER_DEADLINE {
            match self.sessions.find(name, &caller.principal) {
                Found::Own(relay) => return Begun::Here(relay),
                Found::Foreign => return Begun::Foreign,
                Found::Nothing => tokio::time::sleep(OWNER_POLL_INTERVAL).await,
            }
        }
        Begun::Full
    }

    /// Begins a session: a connection with a relay in the place of its socket. `None`: the node has no place for it.
    fn begin(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        transport: &Transport,
        claim: Claim,
    ) -> Option<Arc<Relay>> {
        // Whose requests come by connections of their own has one more among those of its address, as a WebSocket of it would have.
        let admission = self.node.admit()?.at(self.node.quotas(), caller.peer.ip()).ok()?;
        let (relay, line) = Relay::new(self.service.timing, self.node.timing().write_timeout);
        let opened = Opened {
            io: Io::Relay(line),
            read_ahead: Bytes::new(),
            language: self.service.language.clone(),
            framing: Framing::Relay(counted_as(transport)),
            identity: caller.identity.clone(),
            peer: caller.peer,
            admission,
        };
        let (desk, name, shared) = (Arc::clone(self), name.to_owned(), Arc::clone(&relay));
        tokio::spawn(async move {
            Box::pin(connection::run(Arc::clone(&desk.node), opened)).await;
            shared.linger().await;
            desk.sessions.forget(&name, &shared);
            // From here on its name is free for every node.
            drop(claim);
        });
        Some(relay)
    }
}

/// Where a session is that was not known here.
enum Begun {
    Here(Arc<Relay>),
    /// It is somebody else's.
    Foreign,
    Elsewhere(Destination),
    /// It was on a node that is gone.
    Lost,
    /// The node has no place for it.
    Full,
}

/// The frames of one answer.
struct Frames {
    receiving: Receiving,
    /// Another node sent the request, and may want it back.
    wanted_back: Option<Forwarded>,
}

impl Frames {
    async fn next(&mut self) -> Option<Bytes> {
        let Self { receiving, wanted_back } = self;
        if let Some(forwarded) = wanted_back {
            tokio::select! {
                biased;
                frame = poll_fn(|cx| receiving.poll_next(cx)) => return frame,
                () = forwarded.released() => {
                    receiving.release();
                    *wanted_back = None;
                }
            }
        }
        poll_fn(|cx| receiving.poll_next(cx)).await
    }

    /// Each frame is a write of its own.
    fn into_stream(self, prelude: Bytes) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold((Some(prelude), self), |(prelude, mut frames)| async move {
            let bytes = match prelude {
                Some(prelude) => prelude,
                None => frames.next().await?,
            };
            Some((Ok(bytes), (None, frames)))
        })
    }
}

/// What a client is told whose session is nowhere any more.
fn lost(transport: &Transport) -> Response {
    let frame = transport.frame(&Close::interrupted().frame());
    typed(Response::new(body_of([transport.prelude(), frame])), transport)
}

fn typed(mut response: Response, transport: &Transport) -> Response {
    let kind = HeaderValue::from_static(transport.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
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

/// The node has as many connections as it takes.
pub(super) fn busy() -> Response {
    METRICS.turned_away.add(1);
    let mut response =
        answer::text(StatusCode::SERVICE_UNAVAILABLE, "this node has as many connections as it takes\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(TURNED_AWAY_RETRY_SECONDS));
    response
}
