//! Who is present on a topic.

use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::body::Json;
use crate::error::Error;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::Route;
use crate::schema::TopicName;
use crate::time::Timestamp;

/// Who is present where.
pub trait Presence {
    /// The members of a topic, on all nodes.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is no topic. [`Error::NotFound`]: it shows no presence. [`Error::Unavailable`]: it is not known now.
    fn members(&self, topic: String) -> BoxFuture<'_, Result<Members, Error>>;
}

/// The members of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Members {
    /// The topic.
    pub topic: String,
    /// Some of them, in no order: as many as a client may be told of at once.
    pub members: Vec<Member>,
    /// How many there are.
    pub total: u64,
}

/// A session that is present on a topic. What it says of itself is for clients only: it may be a payload like any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The name of the session.
    pub session: String,
    /// Whose it is; empty for an anonymous client.
    pub subject: String,
    /// Since when.
    pub since: Timestamp,
    /// Bytes of what it says of itself.
    pub info_bytes: u64,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Viewer, __path_members, members)]
}

/// Who is present on a topic
#[utoipa::path(get, path = "/v1/presence/{topic}", operation_id = "list_members", tag = "presence",
    params(("topic" = TopicName, Path, description = "The topic, percent-encoded."), query::None),
    responses((status = 200, description = "Its members.", body = Members)))]
async fn members(
    State(control): State<Shared>,
    Path(topic): Path<String>,
    _: Query<query::None>,
) -> Result<Json<Members>, Problem> {
    Ok(Json(control.members(topic).await?))
}
