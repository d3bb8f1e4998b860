//! Requests that bring messages.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::sockjs::{SessionPath, parse_jsonp_send, parse_xhr_send};
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::Desk;
use super::answer;
use super::caller::Caller;
use super::elsewhere::{Reply, Unforwarded};
use super::sessions::Found;
use crate::limits::SOCKJS_OWNER_PATIENCE;
use crate::metrics::METRICS;
use crate::peers::{Forwarded, Owner};
use crate::relay::{Relay, Unsent};

impl Desk {
    /// Hands the request's messages to its session.
    pub(super) async fn send(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        path: SessionPath,
        request: Request,
    ) -> Reply {
        let relay = match self.sessions.find(name, &caller.principal) {
            Found::Own(relay) => relay,
            Found::Foreign => return Reply::Here(answer::not_found()),
            Found::Nothing => return self.send_elsewhere(name, request).await,
        };
        Reply::Here(self.send_to(&relay, path, request).await)
    }

    /// Forwards to the node that has the session, if there is one.
    async fn send_elsewhere(&self, name: &str, request: Request) -> Reply {
        let is_forwarded = request.extensions().get::<Forwarded>().is_some();
        // Its claim may be under way: the client heard of the session before Redis did.
        let owner = if is_forwarded {
            Owner::Nobody
        } else {
            self.node.peers().owner_within(&self.key(name), SOCKJS_OWNER_PATIENCE).await
        };
        let sent = match owner {
            Owner::Elsewhere(destination) => self.forward(name, &destination, request).await,
            Owner::Unknown => Err(Unforwarded::Busy),
            // What this node has is known here.
            Owner::Here | Owner::Lost | Owner::Nobody => Err(Unforwarded::Lost),
        };
        match sent {
            Ok(response) => Reply::Elsewhere(response),
            Err(Unforwarded::Lost) => Reply::Here(answer::not_found()),
            Err(Unforwarded::Busy) => {
                let text = "this node cannot say now which one has the session\n";
                Reply::Here(answer::text(StatusCode::SERVICE_UNAVAILABLE, text))
            }
        }
    }

    async fn send_to(&self, relay: &Relay, path: SessionPath, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = match self.bodies.take(&parts.headers, body).await {
            Ok(body) => body,
            Err(status) => return answer::text(status, status.canonical_reason().unwrap_or_default()),
        };
        METRICS.bytes_in.add(body.len() as u64);
        let messages = if path == SessionPath::JsonpSend {
            let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            parse_jsonp_send(kind.unwrap_or_default(), &body)
        } else {
            parse_xhr_send(&body)
        };
        let messages = match messages {
            Ok(messages) => messages,
            Err(invalid) => {
                METRICS.malformed.add(1);
                let status = StatusCode::from_u16(invalid.status());
                return answer::text(
                    status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                    &invalid.to_string(),
                );
            }
        };
        // Clients send nothing now and then, to be heard of.
        let sent = if messages.is_empty() { Ok(()) } else { relay.send(messages).await };
        match sent {
            Ok(()) if path == SessionPath::JsonpSend => answer::text(StatusCode::OK, "ok"),
            Ok(()) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
                response
            }
            Err(Unsent::Closed) => answer::not_found(),
            Err(late @ Unsent::Late) => {
                let mut response = answer::text(StatusCode::SERVICE_UNAVAILABLE, &format!("{late}\n"));
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }
}
