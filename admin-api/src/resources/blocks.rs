//! `/v1/blocks`: users who are kept out, whatever they show.

use axum::extract::State;
use bongsu_protocol::position::Position;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::etag::{Condition, ETag};
use crate::page::{After, Limit};
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::Subject;
use crate::time::Timestamp;

/// Users who are kept out.
pub trait Blocks {
    /// Blocks that hold, by subject, after this one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn blocks(&self, after: Option<String>, limit: usize) -> BoxFuture<'_, Result<BlockList, Error>>;

    /// The block of a subject.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    fn block(&self, subject: String) -> BoxFuture<'_, Result<Block, Error>>;

    /// Blocks a subject, in somebody's name; `expected`: since when the block that is there holds, `Some(None)` where there must be none.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`], [`Error::TooLarge`] where there are as many as there may be, [`Error::Unavailable`].
    fn put_block(
        &self,
        by: String,
        subject: String,
        wanted: Wanted,
        expected: Option<Option<Timestamp>>,
    ) -> BoxFuture<'_, Result<Block, Error>>;

    /// Lets a subject in again.
    ///
    /// # Errors
    /// As of [`put_block`](Self::put_block), and [`Error::NotFound`].
    fn remove_block(
        &self,
        by: String,
        subject: String,
        expected: Option<Option<Timestamp>>,
    ) -> BoxFuture<'_, Result<(), Error>>;
}

/// A user who is kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    /// Whom tokens name so.
    #[schema(example = "ada")]
    pub subject: String,
    /// Why, as they are told. May be empty.
    pub reason: String,
    /// Until when; `null`: until somebody deletes it.
    pub until: Option<Timestamp>,
    /// When it was last written.
    pub since: Timestamp,
    /// Who wrote it.
    pub by: String,
}

/// How somebody is to be blocked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WantedBlock)]
pub struct Wanted {
    /// Why, as they are told: at most 256 bytes.
    #[serde(default)]
    #[schema(max_length = 256)]
    pub reason: String,
    /// Until when; without it, until somebody deletes the block.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// Users who are kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockList {
    /// By subject.
    pub blocks: Vec<Block>,
    /// Where the next page begins; `null`: there is none.
    pub next: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pages {
    /// Blocks of a page.
    #[serde(default)]
    limit: Limit,
    /// What `next` of the page before says.
    after: Option<After>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::read(Role::Viewer, __path_show, show),
        Route::change(Role::Operator, __path_put, put),
        Route::change(Role::Operator, __path_delete, delete),
    ]
}

/// The version of one block: when it was written.
const fn tag(block: &Block) -> ETag {
    ETag(Position::new(1, block.since.0.0))
}

/// Users who are kept out
#[utoipa::path(get, path = "/v1/blocks", operation_id = "list_blocks", tag = "access", params(Pages),
    responses((status = 200, description = "A page of blocks.", body = BlockList)))]
async fn list(State(control): State<Shared>, Query(pages): Query<Pages>) -> Result<Json<BlockList>, Problem> {
    let after = pages.after.map(|after| after.text().map(str::to_owned)).transpose()?;
    Ok(Json(control.blocks(after, pages.limit.get()).await?))
}

/// The block of a user
#[utoipa::path(get, path = "/v1/blocks/{subject}", operation_id = "get_block", tag = "access",
    params(("subject" = Subject, Path, description = "Whom tokens name so."), query::None),
    responses((status = 200, description = "The block, with its version as `ETag`.", body = Block)))]
async fn show(
    State(control): State<Shared>,
    Path(subject): Path<String>,
    _: Query<query::None>,
) -> Result<(ETag, Json<Block>), Problem> {
    let block = control.block(subject).await?;
    Ok((tag(&block), Json(block)))
}

/// Keep a user out
///
/// Their sessions end on this node before this returns, and on every other one within a second; no token lets them in. The same block once
/// more changes nothing.
#[utoipa::path(put, path = "/v1/blocks/{subject}", operation_id = "put_block", tag = "access",
    params(("subject" = Subject, Path, description = "Whom tokens name so."), query::None),
    request_body = Wanted, responses((status = 200, description = "The block.", body = Block)))]
async fn put(
    State(control): State<Shared>,
    Path(subject): Path<String>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
    Json(wanted): Json<Wanted>,
) -> Result<(ETag, Json<Block>), Problem> {
    let expected = expected(&control, &subject, &condition).await?;
    let change = Change::new("blocks.put", &subject).because(&wanted.reason);
    let change = change.with(json!({ "until": wanted.until }));
    let act = control.put_block(asked.actor.name.clone(), subject, wanted, expected);
    let block = asked.change(&*control, change, act).await?;
    Ok((tag(&block), Json(block)))
}

/// Let a user in again
#[utoipa::path(delete, path = "/v1/blocks/{subject}", operation_id = "delete_block", tag = "access",
    params(("subject" = Subject, Path, description = "Whom tokens name so."), query::None),
    responses((status = 204, description = "They may come.")))]
async fn delete(
    State(control): State<Shared>,
    Path(subject): Path<String>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
) -> Result<StatusCode, Problem> {
    let expected = expected(&control, &subject, &condition).await?;
    let change = Change::new("blocks.delete", &subject);
    let act = control.remove_block(asked.actor.name.clone(), subject, expected);
    asked.change(&*control, change, act).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What must still be there when the change is made, for a request that says so.
async fn expected(
    control: &Shared,
    subject: &str,
    condition: &Condition,
) -> Result<Option<Option<Timestamp>>, Problem> {
    if *condition == Condition::None {
        return Ok(None);
    }
    let block = match control.block(subject.to_owned()).await {
        Ok(block) => Some(block),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    condition.check(block.as_ref().map(tag))?;
    Ok(Some(block.map(|block| block.since)))
}
