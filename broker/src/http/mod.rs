//! The ways in by plain HTTP: the same logs at the same offsets as every other reader has.
//!
//! | path | what |
//! |---|---|
//! | `/v1/stream/{topic}` | the Durable Streams protocol: see `stream` |
//! | `/v1/poll` | what is new on several topics: see `poll` |
//! | `/v1/events` | server-sent events and lines of JSON: see `events` |
//! | `/v1/publish` | messages of back ends: see `publish` |
//! | `/v1/tickets` | what takes a token's place in a URL: see `tickets` |
//!
//! No request needs the node that answered the one before: what a reader has seen is in its own hands, and everything else in logs.

mod asked;
mod body;
mod door;
mod events;
mod parking;
mod poll;
mod problem;
mod publish;
mod reader;
mod stream;
mod tickets;
mod time;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use crate::node::Node;
use crate::websocket::handshake::{Origins, OwnHosts};

pub use body::Bodies;
pub use events::tail;

use door::Door;
use problem::Problem;
use stream::Streams;

pub use parking::{Parking, Waiting};
pub use stream::{forks_of, register_of};

/// Why a connection has no place on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The node has as many as it takes.
    Full,
    /// They come faster than it takes them.
    TooFast,
    /// Its address has as many as one may have.
    AddressFull,
    /// Those of its address come faster than one may have them.
    AddressTooFast,
}

/// What answers every request of connections that have no place, in the request's own words: an event source is told to come back by what
/// it understands, all others by a status and `Retry-After`.
pub fn turned_away(node: &Arc<Node>, origins: Origins, own_hosts: OwnHosts, why: Why) -> Router<Arc<Node>> {
    let door = Arc::new(Door::new(Arc::clone(node), origins, own_hosts));
    let problem = match why {
        Why::Full => Problem::busy("this node has as many connections as it takes"),
        Why::TooFast => Problem::too_fast("connections come faster than this node takes them"),
        Why::AddressFull => Problem::too_many("this address has as many connections as one may have"),
        Why::AddressTooFast => Problem::too_fast("connections of this address come too fast"),
    };
    Router::new().fallback(move |request: Request| {
        let (door, problem) = (Arc::clone(&door), problem.clone());
        async move { door.pass(request, |_, _| async { Err(problem) }).await }
    })
}

/// The routes by which programs and pages use plain HTTP.
pub fn routes(
    node: &Arc<Node>,
    origins: Origins,
    own_hosts: OwnHosts,
    bodies: &Arc<Bodies>,
) -> Router<Arc<Node>> {
    let door = Arc::new(Door::new(Arc::clone(node), origins, own_hosts));
    let bodies = Arc::clone(bodies);
    let streams = Streams::begin(Arc::clone(node), Arc::clone(&bodies));
    let stream = {
        let door = Arc::clone(&door);
        let streams = Arc::clone(&streams);
        any(move |request: Request| stream::answer(Arc::clone(&door), Arc::clone(&streams), request))
    };
    let events = {
        let (door, streams, bodies) = (Arc::clone(&door), Arc::clone(&streams), Arc::clone(&bodies));
        any(move |request: Request| {
            events::answer(Arc::clone(&door), Arc::clone(&streams), Arc::clone(&bodies), request)
        })
    };
    let poll = {
        let (door, bodies) = (Arc::clone(&door), Arc::clone(&bodies));
        any(move |request: Request| {
            poll::answer(Arc::clone(&door), Arc::clone(&streams), Arc::clone(&bodies), request)
        })
    };
    let tickets = {
        let (door, node) = (Arc::clone(&door), Arc::clone(node));
        any(move |request: Request| tickets::answer(Arc::clone(&door), Arc::clone(&node), request))
    };
    let publish = {
        let node = Arc::clone(node);
        any(move |request: Request| {
            publish::answer(Arc::clone(&door), Arc::clone(&node), Arc::clone(&bodies), request)
        })
    };
    Router::new()
        .route("/v1/stream/{*topic}", stream)
        .route("/v1/poll", poll)
        .route("/v1/events", events)
        .route("/v1/publish", publish)
        .route("/v1/tickets", tickets)
}
