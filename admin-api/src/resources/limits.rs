//! `/v1/limits`: limits of the settings that hold otherwise while nodes run.

use axum::extract::State;
use bongsu_protocol::position::Position;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::etag::{Condition, ETag};
use crate::problem::Problem;
use crate::query::{self, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::Tag;
use crate::time::Timestamp;

/// Limits that operators change.
pub trait Limits {
    /// The limits, as the store has them now.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the store does not answer.
    fn limits(&self) -> BoxFuture<'_, Result<LimitList, Error>>;

    /// Lets these hold instead of those of the settings, if the version is the one expected.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`], [`Error::Unavailable`].
    fn put_limits(
        &self,
        by: String,
        expected: Position,
        limits: Map<String, Value>,
    ) -> BoxFuture<'_, Result<LimitList, Error>>;
}

/// The limits of the section `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitList {
    /// Those that hold instead of what the settings say, on every node.
    #[schema(value_type = Object, example = json!({ "requests_in_flight": 16 }))]
    pub limits: Map<String, Value>,
    /// What holds on the node that answers, each as its settings file would say it.
    #[schema(value_type = Object)]
    pub effective: Map<String, Value>,
    /// Those that can be changed while nodes run. The others hold from a node's start.
    pub live: Vec<String>,
    /// Which version this is, as the `ETag` says it too.
    #[schema(example = "1-42")]
    pub version: String,
    /// Where it was written.
    #[serde(skip)]
    pub position: Position,
    /// Who made this version; empty where nobody ever made one.
    pub by: String,
    /// When it was made; `null` where it never was.
    pub time: Option<Timestamp>,
}

/// Limits that somebody wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedLimits {
    /// Each as the settings file would say it. What is left out holds as the settings of each node say.
    #[schema(value_type = Object)]
    pub limits: Map<String, Value>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Viewer, __path_show, show), Route::change(Role::Admin, __path_put, put)]
}

/// The limits
#[utoipa::path(get, path = "/v1/limits", operation_id = "get_limits", tag = "limits", params(query::None),
    responses((status = 200, description = "The limits, with their version as `ETag`.", body = LimitList)))]
async fn show(
    State(control): State<Shared>,
    _: Query<query::None>,
) -> Result<(ETag, Json<LimitList>), Problem> {
    let limits = control.limits().await?;
    Ok((ETag(limits.position), Json(limits)))
}

/// Let limits hold instead of those of the settings
///
/// They hold on this node when this returns, and on every other one within a second, for what begins then. `If-Match` with the version that
/// you have seen is required.
#[utoipa::path(put, path = "/v1/limits", operation_id = "put_limits", tag = "limits",
    params(query::None, ("If-Match" = Tag, Header, description = "The version that you have seen.")),
    request_body = WantedLimits, responses((status = 200, description = "The new version.", body = LimitList)))]
async fn put(
    State(control): State<Shared>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
    Json(wanted): Json<WantedLimits>,
) -> Result<(ETag, Json<LimitList>), Problem> {
    let before = control.limits().await?;
    condition.required()?.check(Some(ETag(before.position)))?;
    let detail = json!({ "before": before.limits, "after": wanted.limits });
    let change = Change::new("limits.replace", "limits").with(detail);
    let act = control.put_limits(asked.actor.name.clone(), before.position, wanted.limits);
    let limits = asked.change(&*control, change, act).await?;
    Ok((ETag(limits.position), Json(limits)))
}
