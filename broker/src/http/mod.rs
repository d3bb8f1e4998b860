//! The ways in by plain HTTP: the same logs at the same offsets as every other reader has.
//!
//! | path | what |
//! |---|---|
//! | `/v1/stream/{topic}` | the Durable Streams protocol: see [`stream`] |
//!
//! No request needs the node that answered the one before: what a reader has seen is in its own hands, and everything else in logs.

mod door;
mod problem;
mod reader;
mod stream;
mod time;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use crate::node::Node;
use crate::websocket::handshake::{Origins, OwnHosts};

use door::Door;
use stream::Streams;

/// The routes by which programs and pages use plain HTTP.
pub fn routes(node: &Arc<Node>, origins: Origins, own_hosts: OwnHosts) -> Router<Arc<Node>> {
    let door = Arc::new(Door::new(Arc::clone(node), origins, own_hosts));
    let streams = Streams::begin(Arc::clone(node));
    let stream_door = Arc::clone(&door);
    let stream =
        any(move |request: Request| stream::answer(Arc::clone(&stream_door), Arc::clone(&streams), request));
    Router::new().route("/v1/stream/{*topic}", stream)
}
