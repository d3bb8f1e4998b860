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
use super::sessions::Found;
use crate::metrics::METRICS;
use crate::relay::Unsent;

impl Desk {
    /// Hands the request's messages to its session.
    pub(super) async fn send(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        path: SessionPath,
        request: Request,
    ) -> Response {
        let Found::Own(relay) = self.sessions.find(name, &caller.principal) else {
            return answer::not_found();
        };
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
