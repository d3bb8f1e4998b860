//! Connections that ended: why, and what happened before.

use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::connections::{Told, Traffic};
use crate::body::Json;
use crate::error::Error;
use crate::page::{After, Limit};
use crate::problem::Problem;
use crate::query::Query;
use crate::role::Role;
use crate::route::Route;
use crate::schema::Line;
use crate::time::Timestamp;

/// What each node remembers of the connections that ended last.
pub trait Closes {
    /// A page of them, the newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the place makes no sense.
    fn closes(&self, query: ClosesQuery) -> BoxFuture<'_, Result<ClosePage, Error>>;
}

/// Which of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClosesQuery {
    /// Those of this subject; the empty one is that of all anonymous clients.
    #[param(value_type = Option<Line>)]
    pub subject: Option<String>,
    /// That of this session.
    #[param(value_type = Option<Line>)]
    pub session: Option<String>,
    /// Those that ended for this reason, such as `slow_reader`.
    #[param(value_type = Option<Line>)]
    pub reason: Option<String>,
    /// What `next` of the page before says.
    pub after: Option<After>,
    /// How many at most.
    pub limit: Option<Limit>,
}

/// A page of ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClosePage {
    /// The newest first. Each node remembers its last 4,096.
    pub closes: Vec<Close>,
    /// What to give as `after` for earlier ones; `null`: none are remembered.
    pub next: Option<String>,
    /// Nodes that did not answer in time; what they remember is not among these.
    pub missing: Vec<String>,
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Close {
    /// The name of its session.
    pub session: String,
    /// Whose it was; empty for an anonymous client.
    pub subject: String,
    /// The node that had it.
    pub node: String,
    /// Where it came from, as far as that is known.
    pub address: Option<String>,
    /// What carried it.
    pub transport: String,
    /// Why it ended.
    #[schema(example = "kicked")]
    pub reason: String,
    /// What its client was told besides, or would have been.
    pub text: String,
    /// The code of WebSocket for that reason.
    #[schema(example = 4410)]
    pub code: u16,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How many filters it subscribed to.
    pub subscriptions: u64,
    /// Bytes that waited for its socket, and were lost with it. What topics keep, its client reads when it is back.
    pub waiting_bytes: u64,
    /// What went over it.
    pub traffic: Traffic,
    /// How long nothing had come of its client, in milliseconds.
    pub silent_ms: u64,
    /// How long its socket had taken nothing of what waited, in milliseconds; 0 where nothing waited.
    pub stuck_ms: u64,
    /// The last error that its client was told.
    pub last_error: Option<Told>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Viewer, __path_list, list)]
}

/// Connections that ended
///
/// The newest first, over all nodes, as far as each remembers.
#[utoipa::path(get, path = "/v1/closes", operation_id = "list_closes", tag = "connections", params(ClosesQuery),
    responses((status = 200, description = "A page.", body = ClosePage)))]
async fn list(
    State(control): State<Shared>,
    Query(query): Query<ClosesQuery>,
) -> Result<Json<ClosePage>, Problem> {
    Ok(Json(control.closes(query).await?))
}
