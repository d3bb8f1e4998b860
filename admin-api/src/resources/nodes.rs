//! `GET /v1/nodes`: the nodes of the cluster, and how each is.

use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::body::Json;
use crate::error::Error;
use crate::problem::Problem;
use crate::query::{self, Query};
use crate::role::Role;
use crate::route::Route;
use crate::time::Timestamp;

/// What is known of nodes.
pub trait Nodes {
    /// The nodes that are alive, by name. Each is asked how it is; who does not answer in time is named.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it is not known now who is alive.
    fn nodes(&self) -> BoxFuture<'_, Result<NodeList, Error>>;
}

/// The nodes of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// Those that answered, by name.
    pub nodes: Vec<Node>,
    /// The names of those that are alive as far as is known, and did not answer in time.
    pub missing: Vec<String>,
}

/// A node, as it says itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    #[schema(example = "n1")]
    pub name: String,
    /// Where its clients connect.
    #[schema(example = "10.0.0.1:8080")]
    pub address: String,
    /// Its version.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// When its process started.
    pub started: Timestamp,
    /// Connections that it has now.
    pub connections: u64,
    /// Connections that it takes at most.
    pub connections_max: u64,
    /// Readers that wait for a page of a log now, since they are behind.
    pub readers_behind: u64,
    /// Work queues that its clients consume now.
    pub queues: u64,
    /// What it has counted since it started. Rates are differences.
    pub counters: Counters,
    /// Whether its store answers.
    pub store: Part,
    /// Whether it hears other nodes; `null` on a node that is alone.
    pub bus: Option<Part>,
    /// Whether it is about to end and sends its clients away.
    pub draining: bool,
}

/// What a node has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Messages that its clients wanted to publish.
    pub messages_in: u64,
    /// Messages that it offered to readers: one for each message and each of its readers.
    pub messages_out: u64,
    /// Messages that were refused by policy.
    pub messages_refused: u64,
    /// Bytes that the sockets of its sessions brought.
    pub bytes_in: u64,
    /// Bytes that the sockets of its sessions took.
    pub bytes_out: u64,
    /// Connections that it accepted.
    pub accepted: u64,
    /// Connections that it turned away: too many, or too fast.
    pub turned_away: u64,
    /// Handshakes that it refused.
    pub handshakes_refused: u64,
    /// Sessions that began.
    pub sessions_began: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// Sessions that operators ended.
    pub kicked: u64,
    /// Calls to the store that failed.
    pub store_errors: u64,
}

/// How something is that a node needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// How it is.
    pub status: Status,
    /// Why it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took to answer when it was asked last, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It answers.
    Ok,
    /// Something is amiss that clients feel as slowness at most.
    Degraded,
    /// It does not answer.
    Unavailable,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Viewer, __path_list, list)]
}

/// The nodes of the cluster
///
/// Each as it says itself. A node that is alive as far as is known and does not answer in time is named in `missing`.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "nodes", params(query::None),
    responses((status = 200, description = "The nodes.", body = NodeList)))]
async fn list(State(control): State<Shared>, _: Query<query::None>) -> Result<Json<NodeList>, Problem> {
    Ok(Json(control.nodes().await?))
}
