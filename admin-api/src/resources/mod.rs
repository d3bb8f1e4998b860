//! What there is: one module for each resource, with its types, the trait that a broker implements, and its routes.

#![allow(unused_qualifications, reason = "the macros of utoipa write whole paths")]

pub mod blocks;
pub mod closes;
pub mod connections;
pub mod keys;
pub mod limits;
pub mod messages;
pub mod nodes;
pub mod openapi;
pub mod policies;
pub mod presence;
pub mod records;
pub mod revocations;
pub mod tokens;
pub mod topics;
pub mod trace;
pub mod transfer;
pub mod users;
pub mod webhooks;
pub mod whoami;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderValue};

use crate::audit::Audit;
use crate::console;
use crate::gatekeeper::Gatekeeper;
use crate::problem::Problem;
use crate::query;
use crate::route::Route;

use blocks::Blocks;
use closes::Closes;
use connections::Connections;
use keys::Keys;
use limits::Limits;
use messages::Messages;
use nodes::Nodes;
use policies::Policies;
use presence::Presence;
use records::Records;
use revocations::Revocations;
use tokens::Tokens;
use topics::Topics;
use trace::Trace;
use transfer::Transfer;
use users::Users;
use webhooks::Webhooks;

/// Everything that operators see and do: the traits of all resources.
pub trait Control:
    Audit
    + Blocks
    + Closes
    + Connections
    + Keys
    + Limits
    + Messages
    + Nodes
    + Policies
    + Presence
    + Records
    + Revocations
    + Tokens
    + Topics
    + Trace
    + Transfer
    + Users
    + Webhooks
    + Send
    + Sync
    + 'static
{
}

impl<T> Control for T where
    T: Audit
        + Blocks
        + Closes
        + Connections
        + Keys
        + Limits
        + Messages
        + Nodes
        + Policies
        + Presence
        + Records
        + Revocations
        + Tokens
        + Topics
        + Trace
        + Transfer
        + Users
        + Webhooks
        + Send
        + Sync
        + 'static
{
}

/// The broker, as handlers have it.
pub type Shared = Arc<dyn Control>;

/// Every route of the API, with the role that it needs.
#[must_use]
pub fn table() -> Vec<Route<Shared>> {
    let resources = [
        whoami::routes(),
        nodes::routes(),
        connections::routes(),
        users::routes(),
        presence::routes(),
        closes::routes(),
        trace::routes(),
        blocks::routes(),
        revocations::routes(),
        policies::routes(),
        limits::routes(),
        keys::routes(),
        tokens::routes(),
        webhooks::routes(),
        records::routes(),
        topics::routes(),
        messages::routes(),
        transfer::routes(),
        openapi::routes(),
    ];
    resources.into_iter().flatten().collect()
}

/// Answers the requests of administrators: the console at `/`, the API below `/v1/`, and a problem on every other path.
pub fn router(control: Shared, gatekeeper: &Arc<dyn Gatekeeper>) -> Router {
    let mut router = console::routes();
    for route in table() {
        let (path, handler) = route.gated(gatekeeper);
        router = router.route(&path, handler);
    }
    router
        .method_not_allowed_fallback(|request: Request| async move {
            Problem::method_not_allowed(request.method())
        })
        .fallback(|| async {
            Problem::not_found("there is nothing here: GET /v1/openapi.json says what there is")
        })
        .with_state(control)
        .layer(from_fn(judge))
}

/// Refuses what is no text, and says what holds for all answers.
async fn judge(request: Request, next: Next) -> Response {
    let mut response = match query::check(request.uri()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
