//! `POST /v1/tickets`: a ticket for one handshake, to whoever shows a token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use super::door::{Caller, Door};
use super::problem::Problem;
use crate::node::Node;

/// Answers a request for a ticket: `{"ticket": "ticket-…", "expires_at": milliseconds since 1970}`.
pub(super) async fn answer(door: Arc<Door>, node: Arc<Node>, request: Request) -> Response {
    let work = |caller: Caller, request: Request| async move {
        if request.method() != Method::POST {
            return Err(Problem::method_not_allowed("POST, OPTIONS"));
        }
        let ticket = node.authenticator().mint_ticket(&caller.identity).await?;
        let body = json!({ "ticket": ticket.text, "expires_at": ticket.expires_at.0 }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    };
    door.pass(request, work).await
}
