//! `/v1/revocations`: tokens that are taken back before they run out.

use std::borrow::Cow;

use axum::extract::State;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::page::{After, Limit};
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{self, Subject, Word};
use crate::time::Timestamp;

/// Tokens that are taken back.
pub trait Revocations {
    /// Revocations that hold, by their ids, after this one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn revocations(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<RevocationList, Error>>;

    /// Takes tokens back, in somebody's name. The same once more changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`] where there are as many as there may be, [`Error::Unavailable`].
    fn revoke(&self, by: String, wanted: Wanted) -> BoxFuture<'_, Result<Revocation, Error>>;

    /// Takes a revocation away: what it was about is good again until it runs out.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    fn remove_revocation(&self, by: String, id: String) -> BoxFuture<'_, Result<(), Error>>;
}

/// Tokens that are taken back: one, or a subject's from before a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    /// Its name here: `token:` and the token's id, or `subject:` and the subject.
    #[schema(example = "subject:ada")]
    pub id: String,
    /// The id of the token (`jti`, or the name of one of the settings).
    pub token: Option<String>,
    /// Whose tokens.
    pub subject: Option<String>,
    /// Of a subject's tokens those that were issued before; those that do not say when they were count as older.
    pub issued_before: Option<Timestamp>,
    /// Why, as whoever shows such a token is told. May be empty.
    pub reason: String,
    /// Until when it is kept; `null`: until somebody deletes it.
    pub until: Option<Timestamp>,
    /// When it was last written.
    pub since: Timestamp,
    /// Who wrote it.
    pub by: String,
}

/// What is to be taken back: `token` or `subject`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The id of one token.
    #[serde(default)]
    pub token: Option<String>,
    /// Whose tokens.
    #[serde(default)]
    pub subject: Option<String>,
    /// Of a subject's tokens those that were issued before; without it, before now.
    #[serde(default)]
    pub issued_before: Option<Timestamp>,
    /// Why, as whoever shows such a token is told: at most 256 bytes.
    #[serde(default)]
    pub reason: String,
    /// Until when it is to be kept: when the last token that it is about has run out. Without it, until somebody deletes it.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl PartialSchema for Wanted {
    fn schema() -> RefOr<Schema> {
        let reason = ObjectBuilder::new().schema_type(Type::String).max_length(Some(256));
        let reason =
            reason.description(Some("Why, as whoever shows such a token is told: at most 256 bytes."));
        let common = [("reason", reason.into()), ("until", schema::or_null::<Timestamp>())];
        let token = [("subject", schema::null()), ("issued_before", schema::null())]
            .into_iter()
            .chain(common.clone());
        let subject = [("token", schema::null()), ("issued_before", schema::or_null::<Timestamp>())]
            .into_iter()
            .chain(common);
        schema::one_of(
            "What is to be taken back: one token by its id, or all of a subject that were issued before a time, which is now where it is not said. \
             It is kept `until` then, or until somebody deletes it.",
            [
                schema::shape("a token", [("token", schema::of::<Subject>())], token),
                schema::shape("a subject", [("subject", schema::of::<Subject>())], subject),
            ],
        )
    }
}

impl ToSchema for Wanted {
    fn name() -> Cow<'static, str> {
        "WantedRevocation".into()
    }
}

/// Tokens that are taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevocationList {
    /// By id.
    pub revocations: Vec<Revocation>,
    /// Where the next page begins; `null`: there is none.
    pub next: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pages {
    /// Revocations of a page.
    #[serde(default)]
    limit: Limit,
    /// What `next` of the page before says.
    after: Option<After>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::change(Role::Operator, __path_revoke, revoke),
        Route::change(Role::Operator, __path_delete, delete),
    ]
}

/// Tokens that are taken back
#[utoipa::path(get, path = "/v1/revocations", operation_id = "list_revocations", tag = "access", params(Pages),
    responses((status = 200, description = "A page of revocations.", body = RevocationList)))]
async fn list(
    State(control): State<Shared>,
    Query(pages): Query<Pages>,
) -> Result<Json<RevocationList>, Problem> {
    let after = pages.after.map(|after| after.text().map(str::to_owned)).transpose()?;
    Ok(Json(control.revocations(after, pages.limit.get()).await?))
}

/// Take a token back, or all of a user's from before a time
///
/// What lives by such a token ends on this node before this returns, and on every other one within a second. The same once more changes
/// nothing; of a user's revocation, the later time counts.
#[utoipa::path(post, path = "/v1/revocations", operation_id = "revoke", tag = "access", params(query::None),
    request_body = Wanted, responses((status = 200, description = "The revocation.", body = Revocation)))]
async fn revoke(
    State(control): State<Shared>,
    _: Query<query::None>,
    asked: Asked,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Revocation>, Problem> {
    let target = match (&wanted.token, &wanted.subject) {
        (Some(token), None) => format!("token:{token}"),
        (None, Some(subject)) => format!("subject:{subject}"),
        _ => return Err(Error::invalid("token", "it takes either `token` or `subject`").into()),
    };
    if target.chars().any(char::is_control) {
        // Nobody could name it in a path again.
        return Err(Error::invalid("token", "names have no control characters").into());
    }
    if wanted.token.is_some() && wanted.issued_before.is_some() {
        return Err(Error::invalid("issued_before", "it goes with `subject`: one token is one token").into());
    }
    let change = Change::new("revocations.create", target).because(&wanted.reason);
    let change = change.with(json!({ "issued_before": wanted.issued_before, "until": wanted.until }));
    let act = control.revoke(asked.actor.name.clone(), wanted);
    Ok(Json(asked.change(&*control, change, act).await?))
}

/// Let tokens be good again
///
/// Until they run out.
#[utoipa::path(delete, path = "/v1/revocations/{id}", operation_id = "delete_revocation", tag = "access",
    params(("id" = Word, Path, description = "Such as `subject:ada`."), query::None),
    responses((status = 204, description = "It is gone.")))]
async fn delete(
    State(control): State<Shared>,
    Path(id): Path<String>,
    _: Query<query::None>,
    asked: Asked,
) -> Result<StatusCode, Problem> {
    let change = Change::new("revocations.delete", &id);
    let act = control.remove_revocation(asked.actor.name.clone(), id);
    asked.change(&*control, change, act).await?;
    Ok(StatusCode::NO_CONTENT)
}
