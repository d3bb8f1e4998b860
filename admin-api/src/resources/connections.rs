//! Connections of clients: all of them, one of them, and its end.

use std::net::IpAddr;

use axum::extract::State;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::page::{After, Limit};
use crate::position::Position;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{Address, Line, TopicName, TransportName, Word};
use crate::time::Timestamp;

/// Bytes of a reason that an operator gives, at most: 200, of which a client of WebSocket sees the first hundred.
pub const REASON_BYTES_MAX: usize = 200;

/// The connections of all nodes.
pub trait Connections {
    /// A page of those that are wanted, by node and in the order in which they began.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a filter or the place makes no sense.
    fn connections(&self, query: ConnectionsQuery) -> BoxFuture<'_, Result<ConnectionPage, Error>>;

    /// One of them, with all that its node knows of it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Unavailable`]: its node does not answer.
    fn connection(&self, session: String) -> BoxFuture<'_, Result<ConnectionDetail, Error>>;

    /// Has every node end a session, with a reason that its client is told. It is carried out within a second of the answer, and by a node
    /// that is away when it is back.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may happen all the same.
    fn disconnect(&self, issuer: String, target: Target, reason: String) -> BoxFuture<'_, Result<(), Error>>;
}

/// Whom a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The session of this name.
    Session(String),
    /// All sessions of this subject.
    Subject(String),
}

/// Which connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConnectionFilter {
    /// Those of this subject; the empty one is that of all anonymous clients.
    pub subject: Option<String>,
    /// Those from this address.
    #[param(value_type = Option<String>, example = "10.0.0.7")]
    pub address: Option<IpAddr>,
    /// Those over this transport, such as `websocket-json`.
    pub transport: Option<String>,
    /// Those that read this topic.
    pub topic: Option<String>,
    /// Those of the node with this name.
    pub node: Option<String>,
}

/// A page of which connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConnectionsQuery {
    /// Those of this subject; the empty one is that of all anonymous clients.
    #[param(value_type = Option<Line>)]
    pub subject: Option<String>,
    /// Those from this address.
    #[param(value_type = Option<Address>, example = "10.0.0.7")]
    pub address: Option<IpAddr>,
    /// Those over this transport, such as `websocket-json`.
    #[param(value_type = Option<TransportName>)]
    pub transport: Option<String>,
    /// Those that read this topic.
    #[param(value_type = Option<TopicName>)]
    pub topic: Option<String>,
    /// Those of the node with this name.
    #[param(value_type = Option<Line>)]
    pub node: Option<String>,
    /// What `next` of the page before says.
    pub after: Option<After>,
    /// How many at most.
    pub limit: Option<Limit>,
}

impl ConnectionsQuery {
    /// The same without the page.
    #[must_use]
    pub fn filter(&self) -> ConnectionFilter {
        let Self { subject, address, transport, topic, node, .. } = self.clone();
        ConnectionFilter { subject, address, transport, topic, node }
    }
}

/// A page of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPage {
    /// By node, and in the order in which they began.
    pub connections: Vec<Connection>,
    /// What to give as `after` for those that follow; `null`: none do.
    pub next: Option<String>,
    /// Nodes that did not answer in time; their connections are not among these.
    pub missing: Vec<String>,
}

/// A client's connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The name of its session, which no other ever had.
    #[schema(example = "n1-19a2b3c4d5e-2f")]
    pub session: String,
    /// Whose it is; empty for an anonymous client.
    #[schema(example = "ada")]
    pub subject: String,
    /// The node that has it.
    #[schema(example = "n1")]
    pub node: String,
    /// Where it comes from, as far as that is known.
    #[schema(example = "10.0.0.7:51112")]
    pub address: Option<String>,
    /// What carries it.
    #[schema(example = "websocket-json")]
    pub transport: String,
    /// When it began.
    pub began: Timestamp,
    /// The name of the token that it showed, if that has one.
    pub token_id: Option<String>,
    /// When that token ends.
    pub expires: Option<Timestamp>,
    /// How many filters it subscribes to.
    pub subscriptions: u64,
    /// Bytes that wait for its socket.
    pub waiting_bytes: u64,
    /// What went over it.
    pub traffic: Traffic,
}

/// What went over a connection since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Frames of the client.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames for the client.
    pub frames_out: u64,
    /// Bytes for the client, as far as a socket took them.
    pub bytes_out: u64,
}

/// A connection with all that its node knows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionDetail {
    /// What the list says of it.
    #[serde(flatten)]
    pub connection: Connection,
    /// Whether its socket takes no more for now.
    pub blocked: bool,
    /// Requests that wait for their reply.
    pub requests_in_flight: u64,
    /// What it subscribes to.
    pub filters: Vec<Subscription>,
    /// The topics that it reads, by name: the first 1,000.
    pub topics: Vec<Reading>,
    /// How many there are.
    pub topics_total: u64,
    /// The last error that its client was told.
    pub last_error: Option<Told>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// The filter.
    #[schema(example = "chat/#")]
    pub filter: String,
    /// Whether its client was told that it is there.
    pub active: bool,
}

/// A topic as one connection reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reading {
    /// The topic.
    pub topic: String,
    /// The last message that was handed out; `null` on a topic without history, or as long as that is not known.
    pub position: Option<Position>,
    /// The newest message that this reader knows of.
    pub head: Option<Position>,
    /// How many messages it is behind.
    pub lag: u64,
}

/// An error that a client was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Told {
    /// Its code.
    #[schema(example = "forbidden")]
    pub code: String,
    /// In a sentence.
    pub text: String,
}

/// Why, in an operator's words.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReasonQuery {
    /// What the client is told, and what stands in the audit log: at most 200 bytes.
    #[param(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::read(Role::Viewer, __path_inspect, inspect),
        Route::change(Role::Operator, __path_disconnect, disconnect),
    ]
}

/// The text of a reason, if it is one.
///
/// # Errors
/// It is too long, or has characters that no client could show.
pub(super) fn checked_reason(reason: Option<String>) -> Result<String, Error> {
    let reason = reason.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(Error::invalid("reason", "it takes at most 200 bytes, without control characters"));
    }
    Ok(reason)
}

/// Connections of all nodes
///
/// By node, and in the order in which they began. What begins or ends meanwhile may be in a later page or not; nothing comes twice.
#[utoipa::path(get, path = "/v1/connections", operation_id = "list_connections", tag = "connections", params(ConnectionsQuery),
    responses((status = 200, description = "A page.", body = ConnectionPage)))]
async fn list(
    State(control): State<Shared>,
    Query(query): Query<ConnectionsQuery>,
) -> Result<Json<ConnectionPage>, Problem> {
    Ok(Json(control.connections(query).await?))
}

/// One connection
///
/// With its subscriptions, the topics that it reads and how far it is behind.
#[utoipa::path(get, path = "/v1/connections/{session}", operation_id = "get_connection", tag = "connections",
    params(("session" = Word, Path, description = "The name of its session."), query::None),
    responses((status = 200, description = "The connection.", body = ConnectionDetail)))]
async fn inspect(
    State(control): State<Shared>,
    Path(session): Path<String>,
    _: Query<query::None>,
) -> Result<Json<ConnectionDetail>, Problem> {
    Ok(Json(control.connection(session).await?))
}

/// Ends a connection
///
/// Its client is told the reason and not to come back at once. It ends within a second of the answer.
#[utoipa::path(delete, path = "/v1/connections/{session}", operation_id = "disconnect_connection", tag = "connections",
    params(("session" = Word, Path, description = "The name of its session."), ReasonQuery),
    responses((status = 204, description = "It ends.")))]
async fn disconnect(
    State(control): State<Shared>,
    asked: Asked,
    Path(session): Path<String>,
    Query(query): Query<ReasonQuery>,
) -> Result<StatusCode, Problem> {
    let reason = checked_reason(query.reason)?;
    // Whoever is not there cannot be ended, and would fill the log of commands.
    let found = control.connection(session.clone()).await?;
    let change = Change::new("connections.disconnect", &session)
        .because(&reason)
        .with(serde_json::json!({ "subject": found.connection.subject, "node": found.connection.node }));
    let act = control.disconnect(asked.actor.name.clone(), Target::Session(session), reason);
    asked.change(&*control, change, act).await?;
    Ok(StatusCode::NO_CONTENT)
}
