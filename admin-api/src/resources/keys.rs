//! `/v1/keys`: keys of administrators that are made and revoked while nodes run.

use axum::extract::State;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::etag::Condition;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::Name;
use crate::time::Timestamp;

/// Keys of administrators.
pub trait Keys {
    /// The keys by name, as the store has them now.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the store does not answer.
    fn keys(&self) -> BoxFuture<'_, Result<KeyList, Error>>;

    /// Makes a key, in the place of the one of that name if `replace` says so. The answer is the only thing that ever holds its secret.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`] where there is one of that name and `replace` says no, or the other way round,
    /// [`Error::Conflict`] where there are too many, [`Error::Unavailable`].
    fn make_key(
        &self,
        by: String,
        name: String,
        wanted: WantedKey,
        replace: Replace,
    ) -> BoxFuture<'_, Result<NewKey, Error>>;

    /// Revokes a key: no node takes it a second later.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    fn revoke_key(&self, by: String, name: String) -> BoxFuture<'_, Result<(), Error>>;
}

/// What to do where there is a key of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Put the new one in its place, or make the first.
    Either,
    /// Refuse.
    No,
    /// Put the new one in its place, and refuse where there is none.
    Only,
}

/// The keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// By name.
    pub keys: Vec<Key>,
}

/// A key, without its secret, which nobody has but whom it was given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Its name, which the audit log says of what is done with it.
    #[schema(example = "deploy")]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How its secret begins, to tell keys apart.
    #[schema(example = "bongsu_key_Gx3k")]
    pub begins: String,
    /// When it was made.
    pub made: Timestamp,
    /// Who made it.
    pub by: String,
    /// When it ends; `null`: never.
    pub expires: Option<Timestamp>,
    /// When it was used last, to about a minute; `null`: it was not.
    pub used: Option<Timestamp>,
}

/// A key that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedKey {
    /// What it may do.
    pub role: Role,
    /// When it ends; without, it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A key that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKey {
    /// The key.
    pub key: Key,
    /// Its secret, shown this once: the token to send as `Authorization: Bearer`.
    #[schema(example = "bongsu_key_Gx3kJmW8…")]
    pub secret: String,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Admin, __path_list, list),
        Route::read(Role::Admin, __path_show, show),
        Route::change(Role::Admin, __path_put, put),
        Route::change(Role::Admin, __path_delete, delete),
    ]
}

/// The keys of administrators
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "keys", params(query::None),
    responses((status = 200, description = "The keys, without their secrets.", body = KeyList)))]
async fn list(State(control): State<Shared>, _: Query<query::None>) -> Result<Json<KeyList>, Problem> {
    Ok(Json(control.keys().await?))
}

/// One key
#[utoipa::path(get, path = "/v1/keys/{name}", operation_id = "get_key", tag = "keys",
    params(("name" = Name, Path, description = "The key's name."), query::None),
    responses((status = 200, description = "The key, without its secret.", body = Key)))]
async fn show(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
) -> Result<Json<Key>, Problem> {
    let key = control.keys().await?.keys.into_iter().find(|key| key.name == name);
    key.map(Json).ok_or_else(|| Problem::not_found(format!("there is no key {name}")))
}

/// Make a key
///
/// Its secret is in this answer and nowhere else. One of the same name is replaced, at once and on every node within a second; with
/// `If-None-Match: *` that is refused.
#[utoipa::path(put, path = "/v1/keys/{name}", operation_id = "put_key", tag = "keys",
    params(("name" = Name, Path, description = "Letters, digits, `-`, `_` and `.`, at most 64."), query::None),
    request_body = WantedKey, responses((status = 200, description = "The key and its secret.", body = NewKey)))]
async fn put(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
    Json(wanted): Json<WantedKey>,
) -> Result<Json<NewKey>, Problem> {
    let replace = match condition {
        Condition::None => Replace::Either,
        Condition::Missing => Replace::No,
        Condition::Exists => Replace::Only,
        Condition::Match(_) => return Err(Problem::bad_request("keys have no version: it takes `*`")),
    };
    let detail = json!({ "after": { "role": wanted.role, "expires": wanted.expires } });
    let change = Change::new("keys.put", name.clone()).with(detail);
    let act = control.make_key(asked.actor.name.clone(), name, wanted, replace);
    Ok(Json(asked.change(&*control, change, act).await?))
}

/// Revoke a key
#[utoipa::path(delete, path = "/v1/keys/{name}", operation_id = "delete_key", tag = "keys",
    params(("name" = Name, Path, description = "The key's name."), query::None),
    responses((status = 204, description = "It is gone.")))]
async fn delete(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
    asked: Asked,
) -> Result<StatusCode, Problem> {
    let change = Change::new("keys.delete", name.clone());
    asked.change(&*control, change, control.revoke_key(asked.actor.name.clone(), name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
