//! Users: the subjects that are connected, and their end.

use axum::extract::State;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::connections::{Target, checked_reason};
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::page::{After, Limit};
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::Subject;

/// Bytes of a subject that is named, at most: 256, as many as a block or a revocation takes.
const SUBJECT_BYTES_MAX: usize = 256;

/// The subjects that are connected.
pub trait Users {
    /// A page of them, by name.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the place makes no sense.
    fn users(&self, query: UsersQuery) -> BoxFuture<'_, Result<UserPage, Error>>;

    /// One of them.
    ///
    /// # Errors
    /// [`Error::NotFound`]: nobody of that name is connected, and every node says so. [`Error::Unavailable`]: not every node does.
    fn user(&self, subject: String) -> BoxFuture<'_, Result<UserDetail, Error>>;
}

/// Which page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// What `next` of the page before says.
    pub after: Option<After>,
    /// How many at most.
    pub limit: Option<Limit>,
}

/// A page of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserPage {
    /// By subject. The empty one is that of all anonymous clients.
    pub users: Vec<User>,
    /// What to give as `after` for those that follow; `null`: none do.
    pub next: Option<String>,
    /// Nodes that did not answer in time; their connections are not counted.
    pub missing: Vec<String>,
}

/// A subject that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The subject.
    #[schema(example = "ada")]
    pub subject: String,
    /// How many connections it has.
    pub connections: u64,
    /// The nodes that have them.
    pub nodes: Vec<String>,
}

/// A subject, and how many connections it has on which node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserDetail {
    /// The subject.
    #[schema(example = "ada")]
    pub subject: String,
    /// How many connections it has. `GET /v1/connections?subject=…` lists them.
    pub connections: u64,
    /// On which nodes, by name.
    pub nodes: Vec<UserNode>,
    /// Nodes that did not answer in time.
    pub missing: Vec<String>,
}

/// How many connections of a subject a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserNode {
    /// The node.
    pub node: String,
    /// How many.
    pub connections: u64,
}

/// Why, in an operator's words.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    /// What the clients are told, and what stands in the audit log: at most 200 bytes.
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::read(Role::Viewer, __path_inspect, inspect),
        Route::change(Role::Operator, __path_disconnect, disconnect),
    ]
}

/// Subjects that are connected
///
/// By name, over all nodes.
#[utoipa::path(get, path = "/v1/users", operation_id = "list_users", tag = "users", params(UsersQuery),
    responses((status = 200, description = "A page.", body = UserPage)))]
async fn list(
    State(control): State<Shared>,
    Query(query): Query<UsersQuery>,
) -> Result<Json<UserPage>, Problem> {
    Ok(Json(control.users(query).await?))
}

/// One subject
#[utoipa::path(get, path = "/v1/users/{subject}", operation_id = "get_user", tag = "users",
    params(("subject" = Subject, Path, description = "The subject."), query::None),
    responses((status = 200, description = "The subject.", body = UserDetail)))]
async fn inspect(
    State(control): State<Shared>,
    Path(subject): Path<String>,
    _: Query<query::None>,
) -> Result<Json<UserDetail>, Problem> {
    Ok(Json(control.user(subject).await?))
}

/// Ends all connections of a subject
///
/// Those that there are when this is asked, on every node; it may connect again. Nothing is looked up: it concerns also connections of nodes
/// that do not answer now.
#[utoipa::path(post, path = "/v1/users/{subject}/disconnect", operation_id = "disconnect_user", tag = "users",
    params(("subject" = Subject, Path, description = "The subject."), query::None), request_body = Disconnect,
    responses((status = 204, description = "They end.")))]
async fn disconnect(
    State(control): State<Shared>,
    asked: Asked,
    Path(subject): Path<String>,
    _: Query<query::None>,
    Json(body): Json<Disconnect>,
) -> Result<StatusCode, Problem> {
    let reason = checked_reason(body.reason)?;
    if subject.len() > SUBJECT_BYTES_MAX {
        return Err(Error::invalid("subject", format!("it takes at most {SUBJECT_BYTES_MAX} bytes")).into());
    }
    let change = Change::new("users.disconnect", &subject).because(&reason);
    let act = control.disconnect(asked.actor.name.clone(), Target::Subject(subject), reason);
    asked.change(&*control, change, act).await?;
    Ok(StatusCode::NO_CONTENT)
}
