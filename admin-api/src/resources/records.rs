//! `GET /v1/audit`: what administrators changed.

use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::audit::Record;
use crate::body::Json;
use crate::error::Error;
use crate::page::{After, Limit};
use crate::problem::Problem;
use crate::query::Query;
use crate::role::Role;
use crate::route::Route;
use crate::schema::Line;
use crate::time::Timestamp;

/// What was written down.
pub trait Records {
    /// The records that are wanted, newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Invalid`] where `after` is none of this list's.
    fn records(&self, wanted: Wanted) -> BoxFuture<'_, Result<RecordList, Error>>;
}

/// Which records, and which page of them.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only what this administrator did.
    #[param(value_type = Option<Line>)]
    pub actor: Option<String>,
    /// Only this action, such as `policies.put`, or those of a resource, such as `policies`.
    #[param(value_type = Option<Line>)]
    pub action: Option<String>,
    /// Only what was done from this time on.
    pub since: Option<Timestamp>,
    /// Records of a page. A page may have fewer though there are more.
    #[serde(default)]
    pub limit: Limit,
    /// What `next` of the page before says.
    pub after: Option<After>,
}

/// A page of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordList {
    /// Newest first.
    pub records: Vec<Kept>,
    /// Where the next page begins; `null`: there is none.
    pub next: Option<String>,
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// Its number in the log.
    pub number: u64,
    /// When it was written down, which is before what it tells of.
    pub time: Timestamp,
    /// The node that did it.
    pub node: String,
    /// What it says.
    #[serde(flatten)]
    pub record: Record,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Operator, __path_list, list)]
}

/// What administrators changed
///
/// Each record was written before the change that it tells of; one with `failed` follows where that was not made after all.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit", tag = "audit", params(Wanted),
    responses((status = 200, description = "A page of records.", body = RecordList)))]
async fn list(
    State(control): State<Shared>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<RecordList>, Problem> {
    Ok(Json(control.records(wanted).await?))
}
