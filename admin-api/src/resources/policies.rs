//! `/v1/policies`: what holds for topics, changed while nodes run.
//!
//! The list is one document: whoever changes it says which version they have seen. What a policy may say is the broker's to judge, by the
//! declaration of its settings; here it is an object with a name.

use axum::extract::State;
use bongsu_protocol::position::Position;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
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
use crate::schema::{self, FilterText, Name, NamedPolicy, Tag, VersionText};
use crate::time::Timestamp;

/// A policy as it was given: its `name`, its `filter`, and what an entry of `[[topics]]` may say.
pub type Policy = Map<String, Value>;

/// How often a change of one policy is tried again where somebody else changed another one meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// Policies that operators change.
pub trait Policies {
    /// The policies, as the store has them now.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the store does not answer.
    fn policies(&self) -> BoxFuture<'_, Result<PolicyList, Error>>;

    /// Puts these in the place of all, if the list is the one expected.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`], [`Error::Conflict`] where a topic would lose its history, [`Error::TooLarge`],
    /// [`Error::Unavailable`].
    fn put_policies(
        &self,
        by: String,
        expected: Position,
        policies: Vec<Policy>,
    ) -> BoxFuture<'_, Result<PolicyList, Error>>;

    /// Judges a list as [`put_policies`](Self::put_policies) does, and changes nothing.
    ///
    /// # Errors
    /// As there, but for [`Error::Changed`].
    fn validate_policies(&self, policies: Vec<Policy>) -> BoxFuture<'_, Result<(), Error>>;

    /// What a filter hits.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Unavailable`].
    fn preview_policies(&self, filter: String, limit: usize) -> BoxFuture<'_, Result<Preview, Error>>;

    /// The versions of the list, newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Invalid`] where `after` is none of this list's.
    fn policy_versions(
        &self,
        after: Option<After>,
        limit: usize,
    ) -> BoxFuture<'_, Result<VersionList, Error>>;

    /// One of the versions.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is not kept any more, [`Error::Unavailable`].
    fn policy_version(&self, version: String) -> BoxFuture<'_, Result<PolicyList, Error>>;
}

/// The policies in order: the first whose filter matches a topic holds for it. They go before those of the settings file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyList {
    /// Each with its `name` and what an entry of `[[topics]]` may say.
    #[schema(value_type = Vec<Object>, example = json!([{ "name": "rooms", "filter": "room/#", "retention": { "age": "1h" } }]))]
    pub policies: Vec<Policy>,
    /// Which version of the list this is, as the `ETag` says it too.
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

/// A policy with what it comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OnePolicy {
    /// The policy as it was given.
    #[schema(value_type = Object)]
    pub policy: Policy,
    /// Its place in the list, from 0.
    pub place: usize,
    /// The version of the list.
    pub version: String,
}

/// A list of policies that somebody wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WantedPolicies)]
pub struct Wanted {
    /// The policies in order.
    #[schema(value_type = Vec<schema::Policy>)]
    pub policies: Vec<Policy>,
}

/// A filter to look at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewOf {
    /// Which topics.
    #[schema(value_type = FilterText, example = "room/#")]
    pub filter: String,
    /// How many of them are listed.
    #[serde(default)]
    pub limit: Limit,
}

/// What a filter hits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// The filter.
    pub filter: String,
    /// Topics with history that were found. Topics without one leave nothing that could be found.
    pub topics: u64,
    /// Messages that they keep.
    pub messages: u64,
    /// Sessions with a subscription that could match a topic under the filter, on the nodes that answered.
    pub subscribers: u64,
    /// The first of the topics, by name.
    pub first: Vec<Hit>,
    /// Whether all topics were looked at; there may be more.
    pub complete: bool,
    /// Nodes that did not say how many subscribers they have.
    pub missing: Vec<String>,
}

/// A topic that a filter hits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hit {
    /// Its name.
    pub topic: String,
    /// Messages that it keeps.
    pub messages: u64,
    /// The filter of the policy that holds for it now; `null` for that of all topics that nothing matches.
    pub policy: Option<String>,
    /// Whether it keeps history by that policy.
    pub durable: bool,
}

/// Versions of the list of policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<Version>,
    /// Where the next page begins; `null`: there is none.
    pub next: Option<String>,
}

/// A version of the list of policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Which.
    #[schema(example = "1-42")]
    pub version: String,
    /// When it was made.
    pub time: Timestamp,
    /// Who made it.
    pub by: String,
    /// Bytes of the list.
    pub bytes: u64,
}

/// Back to an earlier version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Which.
    #[schema(value_type = VersionText, example = "1-42")]
    pub version: String,
}

/// Whether a list would be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Validated {
    /// It would: a list that would not is answered with a problem.
    pub valid: bool,
}

/// Which page of the versions.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pages {
    /// Versions of a page.
    #[serde(default)]
    limit: Limit,
    /// What `next` of the page before says.
    after: Option<After>,
}

/// Where a new policy goes.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Place {
    /// The name of the policy that it goes before. Without one it goes to the end, and one that is there stays in its place.
    #[param(value_type = Option<Name>)]
    before: Option<String>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::change(Role::Admin, __path_replace, replace),
        Route::read(Role::Viewer, __path_validate, validate),
        Route::read(Role::Viewer, __path_preview, preview),
        Route::read(Role::Viewer, __path_versions, versions),
        Route::read(Role::Viewer, __path_version, version),
        Route::change(Role::Admin, __path_roll_back, roll_back),
        Route::read(Role::Viewer, __path_show, show),
        Route::change(Role::Admin, __path_put, put),
        Route::change(Role::Admin, __path_delete, delete),
    ]
}

type Answer = Result<(ETag, Json<PolicyList>), Problem>;

fn answer(list: PolicyList) -> (ETag, Json<PolicyList>) {
    (ETag(list.position), Json(list))
}

/// The policies that go before those of the settings file
#[utoipa::path(get, path = "/v1/policies", operation_id = "list_policies", tag = "policies", params(query::None),
    responses((status = 200, description = "The policies, with the version of the list as `ETag`.", body = PolicyList)))]
async fn list(State(control): State<Shared>, _: Query<query::None>) -> Answer {
    Ok(answer(control.policies().await?))
}

/// Put a list of policies in the place of all
///
/// It holds on this node when this returns, and on every other one within a second. `If-Match` with the version that you have seen is required.
/// A change under which topics that keep history would keep none is refused with 409: delete those topics first, or leave them out.
#[utoipa::path(put, path = "/v1/policies", operation_id = "put_policies", tag = "policies",
    params(query::None, ("If-Match" = Tag, Header, description = "The version that you have seen.")),
    request_body = Wanted, responses((status = 200, description = "The new version.", body = PolicyList)))]
async fn replace(
    State(control): State<Shared>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
    Json(wanted): Json<Wanted>,
) -> Answer {
    let before = control.policies().await?;
    condition.required()?.check(Some(ETag(before.position)))?;
    control.validate_policies(wanted.policies.clone()).await?;
    let change = Change::new("policies.replace", "policies").with(difference(&before, &wanted.policies));
    let by = asked.actor.name.clone();
    let act = control.put_policies(by, before.position, wanted.policies);
    Ok(answer(asked.change(&*control, change, act).await?))
}

/// Whether a list of policies would be taken
///
/// Everything that is wrong is listed, each with the place where it stands.
#[utoipa::path(post, path = "/v1/policies/validate", operation_id = "validate_policies", tag = "policies", params(query::None),
    request_body = Wanted, responses((status = 200, description = "It would be taken.", body = Validated)))]
async fn validate(
    State(control): State<Shared>,
    _: Query<query::None>,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Validated>, Problem> {
    control.validate_policies(wanted.policies).await?;
    Ok(Json(Validated { valid: true }))
}

/// What a filter would hit
///
/// Bounded: `complete` says whether every topic was looked at.
#[utoipa::path(post, path = "/v1/policies/preview", operation_id = "preview_policy", tag = "policies", params(query::None),
    request_body = PreviewOf, responses((status = 200, description = "What it hits.", body = Preview)))]
async fn preview(
    State(control): State<Shared>,
    _: Query<query::None>,
    Json(of): Json<PreviewOf>,
) -> Result<Json<Preview>, Problem> {
    Ok(Json(control.preview_policies(of.filter, of.limit.get()).await?))
}

/// The versions of the list of policies
///
/// Newest first. The newest thousand are kept.
#[utoipa::path(get, path = "/v1/policies/versions", operation_id = "list_policy_versions", tag = "policies", params(Pages),
    responses((status = 200, description = "A page of versions.", body = VersionList)))]
async fn versions(
    State(control): State<Shared>,
    Query(pages): Query<Pages>,
) -> Result<Json<VersionList>, Problem> {
    Ok(Json(control.policy_versions(pages.after, pages.limit.get()).await?))
}

/// One version of the list of policies
#[utoipa::path(get, path = "/v1/policies/versions/{version}", operation_id = "get_policy_version", tag = "policies",
    params(("version" = VersionText, Path, description = "Such as `1-42`."), query::None),
    responses((status = 200, description = "The policies as they were.", body = PolicyList)))]
async fn version(
    State(control): State<Shared>,
    Path(version): Path<String>,
    _: Query<query::None>,
) -> Answer {
    Ok(answer(control.policy_version(version).await?))
}

/// Go back to an earlier version
///
/// The earlier list becomes a new version. Without `If-Match` it takes the place of whatever there is.
#[utoipa::path(post, path = "/v1/policies/rollback", operation_id = "roll_back_policies", tag = "policies", params(query::None),
    request_body = Rollback, responses((status = 200, description = "The new version.", body = PolicyList),
        (status = 404, description = "That version is not kept.", body = crate::problem::Document<'static>, content_type = "application/problem+json")))]
async fn roll_back(
    State(control): State<Shared>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
    Json(to): Json<Rollback>,
) -> Answer {
    let earlier = control.policy_version(to.version.clone()).await?;
    let before = control.policies().await?;
    condition.check(Some(ETag(before.position)))?;
    let mut detail = difference(&before, &earlier.policies);
    detail["to_version"] = to.version.into();
    let change = Change::new("policies.rollback", "policies").with(detail);
    let by = asked.actor.name.clone();
    let act = control.put_policies(by, before.position, earlier.policies);
    Ok(answer(asked.change(&*control, change, act).await?))
}

/// One policy
#[utoipa::path(get, path = "/v1/policies/{name}", operation_id = "get_policy", tag = "policies",
    params(("name" = Name, Path, description = "The policy's name."), query::None),
    responses((status = 200, description = "The policy, with the version of the list as `ETag`.", body = OnePolicy)))]
async fn show(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
) -> Result<(ETag, Json<OnePolicy>), Problem> {
    one(&control.policies().await?, &name)
}

/// Make or change one policy
///
/// The body is the policy; its name may be left out. One that is there keeps its place, unless `before` says another.
#[utoipa::path(put, path = "/v1/policies/{name}", operation_id = "put_policy", tag = "policies",
    params(("name" = Name, Path, description = "The policy's name."), Place),
    request_body = NamedPolicy, responses((status = 200, description = "The policy.", body = OnePolicy)))]
async fn put(
    State(control): State<Shared>,
    Path(name): Path<String>,
    Query(place): Query<Place>,
    condition: Condition,
    asked: Asked,
    Json(mut policy): Json<Policy>,
) -> Result<(ETag, Json<OnePolicy>), Problem> {
    let said = policy.entry("name").or_insert_with(|| name.clone().into());
    if said.as_str() != Some(&*name) {
        return Err(Error::invalid("name", "it is not the one of the path").into());
    }
    let edit = |list: &PolicyList| {
        let mut policies = list.policies.clone();
        let old = place_of(&policies, &name);
        condition.check(old.map(|_| ETag(list.position)))?;
        let old = old.map(|old| (old, policies.remove(old)));
        let new = match (&place.before, &old) {
            (Some(before), _) => place_of(&policies, before)
                .ok_or_else(|| Error::invalid("before", format!("there is no policy {before}")))?,
            (None, Some((old, _))) => *old,
            (None, None) => policies.len(),
        };
        policies.insert(new, policy.clone());
        Ok((policies, json!({ "before": old.map(|(_, policy)| policy), "after": policy })))
    };
    let list = edit_one(&control, &asked, "policies.put", &name, edit).await?;
    one(&list, &name)
}

/// Delete one policy
#[utoipa::path(delete, path = "/v1/policies/{name}", operation_id = "delete_policy", tag = "policies",
    params(("name" = Name, Path, description = "The policy's name."), query::None),
    responses((status = 204, description = "It is gone.")))]
async fn delete(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
    condition: Condition,
    asked: Asked,
) -> Result<(ETag, StatusCode), Problem> {
    let edit = |list: &PolicyList| {
        let mut policies = list.policies.clone();
        let place = place_of(&policies, &name).ok_or_else(|| missing(&name))?;
        condition.check(Some(ETag(list.position)))?;
        let policy = policies.remove(place);
        Ok((policies, json!({ "before": policy })))
    };
    let list = edit_one(&control, &asked, "policies.delete", &name, edit).await?;
    Ok((ETag(list.position), StatusCode::NO_CONTENT))
}

/// Changes one policy of the list; again where somebody else changed another one meanwhile.
async fn edit_one(
    control: &Shared,
    asked: &Asked,
    action: &'static str,
    name: &str,
    edit: impl Fn(&PolicyList) -> Result<(Vec<Policy>, Value), Problem>,
) -> Result<PolicyList, Problem> {
    for _ in 0..ATTEMPTS_MAX {
        let list = control.policies().await?;
        let (policies, detail) = edit(&list)?;
        // Nothing that is wrong gets as far as the audit log.
        control.validate_policies(policies.clone()).await?;
        let change = Change::new(action, name).with(detail);
        let act = control.put_policies(asked.actor.name.clone(), list.position, policies);
        match asked.change(&**control, change, act).await {
            Err(problem) if problem.code() == "changed" => {}
            outcome => return outcome,
        }
    }
    Err(Error::Conflict("others change the policies at the same time: try again".to_owned()).into())
}

fn place_of(policies: &[Policy], name: &str) -> Option<usize> {
    policies.iter().position(|policy| name_of(policy) == Some(name))
}

fn name_of(policy: &Policy) -> Option<&str> {
    policy.get("name")?.as_str()
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format!("there is no policy {name}"))
}

fn one(list: &PolicyList, name: &str) -> Result<(ETag, Json<OnePolicy>), Problem> {
    let place = place_of(&list.policies, name).ok_or_else(|| missing(name))?;
    let policy = list.policies[place].clone();
    Ok((ETag(list.position), Json(OnePolicy { policy, place, version: list.version.clone() })))
}

/// What the audit log says of a change of the whole list: the policies that are not the same, and the order.
fn difference(before: &PolicyList, after: &[Policy]) -> Value {
    let changed = |from: &[Policy], to: &[Policy]| -> Vec<Policy> {
        from.iter().filter(|policy| !to.contains(policy)).cloned().collect()
    };
    let names: Vec<_> = after.iter().filter_map(name_of).collect();
    json!({
        "version": before.version,
        "before": changed(&before.policies, after),
        "after": changed(after, &before.policies),
        "order": names,
    })
}
