//! `/v1/topics`: the logs of topics, and what is removed from them as a whole.

use axum::extract::State;
use bongsu_protocol::limits::TOPIC_BYTES_MAX;
use bongsu_protocol::topic::{Topic as Name, TopicFilter};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::number;
use crate::page::{After, Limit};
use crate::position::Position;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{FilterText, Prefix, TopicName};
use crate::time::Timestamp;

/// What is known of topics.
pub trait Topics {
    /// The topics that have a log, by name. One call looks at a bounded number of names: a page may have fewer topics than asked for, even
    /// none, and still say where to go on.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the store does not answer.
    fn topics(&self, wanted: ListTopics) -> BoxFuture<'_, Result<TopicList, Error>>;

    /// One topic: one that has a log, or that somebody reads.
    ///
    /// # Errors
    /// [`Error::NotFound`]: it is none of these; [`Error::Unavailable`].
    fn topic<'a>(&'a self, topic: &'a Name) -> BoxFuture<'a, Result<Topic, Error>>;

    /// Deletes a topic's log. A later message begins a new one, with a larger epoch.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where something else needs it, [`Error::Unavailable`]: some of it may be gone.
    fn delete_topic<'a>(&'a self, by: &'a str, topic: &'a Name) -> BoxFuture<'a, Result<Removed, Error>>;

    /// Removes a topic's messages up to an offset, or all.
    ///
    /// # Errors
    /// As [`delete_topic`](Self::delete_topic).
    fn purge_topic<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Name,
        until: Option<u64>,
    ) -> BoxFuture<'a, Result<Removed, Error>>;
}

/// Which topics to list.
#[derive(Debug, Clone, Default)]
pub struct ListTopics {
    /// What their names begin with.
    pub prefix: String,
    /// A filter that matches them; `None`: all, and with a prefix also those of the broker's own.
    pub filter: Option<TopicFilter>,
    /// Where the page before ended.
    pub after: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// A page of topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopicList {
    /// By name. There may be fewer than asked for, even none, although `next` says that there is more to look at.
    pub topics: Vec<Topic>,
    /// What to give as `after` for the next page; `null` at the end.
    pub next: Option<String>,
    /// Nodes that did not say in time how many readers they have.
    pub missing: Vec<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    /// Its name.
    #[schema(example = "chat/room/42")]
    pub topic: String,
    /// What its policy says.
    pub kind: Kind,
    /// Messages that are kept.
    pub messages: u64,
    /// Bytes of what is kept: payload, headers, id and content type of each message.
    pub bytes: u64,
    /// The place of the oldest message that is kept; one after `head` if none is.
    pub first: Position,
    /// The place of the newest message, also if it is no longer kept.
    pub head: Position,
    /// Connections that read it now, on all nodes that answered. All HTTP requests that wait for it on a node count as one.
    pub subscribers: u64,
    /// Messages per second since this node was asked for the topic before, at least a second ago; `null` if it was not, or the topic keeps no
    /// history.
    pub messages_per_second: Option<f64>,
    /// When the newest message was published; `null` if there is no log.
    pub published_at: Option<Timestamp>,
}

/// Whether messages of a topic are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// They are.
    Durable,
    /// They are not.
    Live,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// How many messages.
    pub messages: u64,
}

/// The parameters of a list of topics.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Parameters {
    /// What the names begin with; it may end within a level.
    #[param(value_type = Option<Prefix>)]
    prefix: Option<String>,
    /// A topic filter that matches the names: `+` is one level, a last `#` the rest. Without a filter and a prefix: `#`, which
    /// matches none of the broker's own.
    #[param(value_type = Option<FilterText>, example = "chat/+/42")]
    filter: Option<String>,
    /// `next` of the page before.
    after: Option<After>,
    /// How many topics, at most.
    #[serde(default)]
    limit: Limit,
}

/// What a purge takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Purge {
    /// The offset of the last message to go; without it, all go.
    #[serde(default, deserialize_with = "number::optional")]
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64, example = 42)]
    until: Option<u64>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::read(Role::Viewer, __path_show, show),
        Route::change(Role::Admin, __path_delete, delete),
        Route::change(Role::Admin, __path_purge, purge),
    ]
}

/// A topic from its segment of a path.
pub(crate) fn topic_of(segment: &str) -> Result<Name, Error> {
    Name::parse(segment).map_err(|error| Error::invalid("topic", error.to_string()))
}

/// The same for one that a request changes: the broker's own logs are not changed by hand.
pub(crate) fn changeable(segment: &str) -> Result<Name, Error> {
    let topic = topic_of(segment)?;
    if topic.is_reserved() {
        return Err(Error::Conflict(format!("{topic} is the broker's own: nobody changes it by hand")));
    }
    Ok(topic)
}

/// Topics
///
/// Those that have a log, by name, each with what is kept of it and who reads it. A request looks at a bounded number of names: where a filter
/// matches few of many, a page may be short, even empty, and `next` says where to go on.
#[utoipa::path(get, path = "/v1/topics", operation_id = "list_topics", tag = "topics", params(Parameters),
    responses((status = 200, description = "A page of topics.", body = TopicList)))]
async fn list(
    State(control): State<Shared>,
    Query(asked): Query<Parameters>,
) -> Result<Json<TopicList>, Problem> {
    let Parameters { prefix, filter, after, limit } = asked;
    let prefix = prefix.unwrap_or_default();
    if prefix.len() > TOPIC_BYTES_MAX {
        return Err(Error::invalid("prefix", format!("it takes at most {TOPIC_BYTES_MAX} bytes")).into());
    }
    let filter = match filter.as_deref() {
        None if prefix.is_empty() => Some("#"),
        given => given,
    };
    let filter = filter.map(TopicFilter::parse).transpose();
    let filter = filter.map_err(|error| Error::invalid("filter", error.to_string()))?;
    let after = after.map(|after| after.text().map(str::to_owned)).transpose()?;
    let list = control.topics(ListTopics { prefix, filter, after, limit: limit.get() }).await?;
    Ok(Json(list))
}

/// One topic
#[utoipa::path(get, path = "/v1/topics/{topic}", operation_id = "show_topic", tag = "topics",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), query::None),
    responses((status = 200, description = "The topic.", body = Topic)))]
async fn show(
    State(control): State<Shared>,
    Path(topic): Path<String>,
    _: Query<query::None>,
) -> Result<Json<Topic>, Problem> {
    let topic = topic_of(&topic)?;
    Ok(Json(control.topic(&topic).await?))
}

/// Delete a topic's log
///
/// All messages go. A later message begins a new log with a larger epoch, which readers are told as a reset.
#[utoipa::path(delete, path = "/v1/topics/{topic}", operation_id = "delete_topic", tag = "topics",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), query::None),
    responses((status = 200, description = "It is gone.", body = Removed)))]
async fn delete(
    State(control): State<Shared>,
    asked: Asked,
    Path(topic): Path<String>,
    _: Query<query::None>,
) -> Result<Json<Removed>, Problem> {
    let topic = changeable(&topic)?;
    let change = Change::new("topics.delete", topic.as_str());
    let by = asked.actor.name.clone();
    Ok(Json(asked.change(&*control, change, control.delete_topic(&by, &topic)).await?))
}

/// Remove a topic's oldest messages
///
/// The log and its epoch stay. Readers who have not read them are told that they are lost.
#[utoipa::path(post, path = "/v1/topics/{topic}/purge", operation_id = "purge_topic", tag = "topics",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), query::None),
    request_body = Purge,
    responses((status = 200, description = "They are gone.", body = Removed)))]
async fn purge(
    State(control): State<Shared>,
    asked: Asked,
    Path(topic): Path<String>,
    _: Query<query::None>,
    Json(Purge { until }): Json<Purge>,
) -> Result<Json<Removed>, Problem> {
    let topic = changeable(&topic)?;
    if until == Some(0) {
        return Err(Error::invalid("until", "offsets begin at 1").into());
    }
    let change = Change::new("topics.purge", topic.as_str()).with(serde_json::json!({ "until": until }));
    let by = asked.actor.name.clone();
    Ok(Json(asked.change(&*control, change, control.purge_topic(&by, &topic, until)).await?))
}
