//! Whole logs as lines of JSON, out and in; and what is published, as it comes.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::header::{self, HeaderName, HeaderValue};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use super::messages::StartAt;
use super::topics::{changeable, topic_of};
use crate::audit::Change;
use crate::error::Error;
use crate::lines::{Exported, Progress};
use crate::number;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{self, TopicName};
use crate::time::Timestamp;

/// Bytes as they come, until the end or what went wrong.
pub type Lines = BoxStream<'static, Result<Bytes, Error>>;

/// Brings whole logs out and in.
pub trait Transfer {
    /// A topic's messages, oldest first, as [lines](crate::lines), up to an offset or to where the log ended when this began. Nothing is read
    /// ahead of whoever takes the lines.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is no log; [`Error::Unavailable`].
    fn export<'a>(
        &'a self,
        topic: &'a Topic,
        start: StartAt,
        until: Option<u64>,
    ) -> BoxFuture<'a, Result<Lines, Error>>;

    /// Publishes the messages of [lines](crate::lines) on a topic, and tells how far it is. Ends at the first line that is none, after it
    /// stored those before; lines that were imported before store nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the topic keeps no history.
    fn import<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        lines: Lines,
    ) -> BoxFuture<'a, Result<Lines, Error>>;

    /// What is published on a topic from a place on, as server-sent events: each `data` is what a line of an export is. Whoever takes them
    /// slowly is served from the log.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn tail<'a>(&'a self, topic: &'a Topic, start: StartAt) -> BoxFuture<'a, Result<Lines, Error>>;
}

/// The parameters of an export.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Parameters {
    /// The offset to begin with; without it, the oldest message that is kept.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "positive")]
    from: Option<u64>,
    /// Begin with the first message of this time or later.
    since: Option<Timestamp>,
    /// The offset to end with; without it, the newest message there is.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "positive")]
    until: Option<u64>,
}

/// A line of an export, as the document has it.
struct ExportLine;

impl PartialSchema for ExportLine {
    fn schema() -> RefOr<Schema> {
        let delivery =
            ObjectBuilder::new().description(Some("A message as the JSON protocol shows it to readers."));
        schema::one_of(
            "A message, or the end.",
            [
                schema::shape("a message", [("delivery", delivery.into())], []),
                schema::shape("the end", [("exported", schema::of::<Exported>())], []),
            ],
        )
    }
}

impl ToSchema for ExportLine {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Exported::name().into_owned(), Exported::schema()));
        Exported::schemas(schemas);
    }
}

/// The parameters of a tail.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TailParameters {
    /// The offset to begin with; without it, what comes from now on.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "positive")]
    from: Option<u64>,
}

/// An offset: they begin at 1.
fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = number::optional(deserializer)?;
    if number == Some(0) { Err(D::Error::custom("offsets begin at 1")) } else { Ok(number) }
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Operator, __path_export, export),
        Route::change(Role::Admin, __path_import, import),
        Route::read(Role::Operator, __path_tail, tail),
    ]
}

/// Export a topic's messages
///
/// As lines of JSON, `{"delivery":{…}}` with each message as the JSON protocol shows it, oldest first; the last line is `{"exported":{…}}`.
/// An export that was cut off goes on with `from`: the offset behind the last one that came.
#[utoipa::path(get, path = "/v1/topics/{topic}/export", operation_id = "export_messages", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), Parameters),
    responses((status = 200, description = "Lines of messages.", body = ExportLine, content_type = "application/x-ndjson")))]
async fn export(
    State(control): State<Shared>,
    Path(topic): Path<String>,
    Query(asked): Query<Parameters>,
) -> Result<Response, Problem> {
    let topic = topic_of(&topic)?;
    let start = match (asked.from, asked.since) {
        (Some(_), Some(_)) => return Err(Error::invalid("from", "give one of from and since").into()),
        (Some(offset), None) => StartAt::Offset(offset),
        (None, Some(Timestamp(time))) => StartAt::Since(time),
        (None, None) => StartAt::Earliest,
    };
    Ok(streamed(control.export(&topic, start, asked.until).await?, "application/x-ndjson"))
}

/// Import messages into a topic
///
/// Lines of JSON: those of an export, or messages by themselves. It may take as long as it takes, and tells each second how far it is. It ends
/// at the first line that is wrong and says which. The same lines again, within a day, store nothing.
#[utoipa::path(post, path = "/v1/topics/{topic}/import", operation_id = "import_messages", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), query::None),
    request_body(content = Option<serde_json::Value>, content_type = "application/x-ndjson"),
    responses((status = 200, description = "How far it is, line by line; the last one says `done` or `failed`.", body = Progress,
        content_type = "application/x-ndjson")))]
async fn import(
    State(control): State<Shared>,
    asked: Asked,
    Path(topic): Path<String>,
    _: Query<query::None>,
    body: Body,
) -> Result<Response, Problem> {
    let topic = changeable(&topic)?;
    let ended = |error: axum::Error| Error::invalid("body", format!("it ended early: {error}"));
    let lines = body.into_data_stream().map(move |chunk| chunk.map_err(ended)).boxed();
    let by = asked.actor.name.clone();
    let change = Change::new("messages.import", topic.as_str());
    let progress = asked.change(&*control, change, control.import(&by, &topic, lines)).await?;
    Ok(streamed(progress, "application/x-ndjson"))
}

/// Follow a topic
///
/// Messages as they are published, as server-sent events; the `data` of each is a line of an export.
#[utoipa::path(get, path = "/v1/topics/{topic}/tail", operation_id = "tail_messages", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), TailParameters),
    responses((status = 200, description = "Events until the client goes.", body = String, content_type = "text/event-stream")))]
async fn tail(
    State(control): State<Shared>,
    Path(topic): Path<String>,
    Query(asked): Query<TailParameters>,
) -> Result<Response, Problem> {
    let topic = topic_of(&topic)?;
    let start = asked.from.map_or(StartAt::Latest, StartAt::Offset);
    Ok(streamed(control.tail(&topic, start).await?, "text/event-stream"))
}

/// An answer that comes as it is taken. What goes wrong on the way cuts it off: its end is what says that it is whole.
fn streamed(lines: Lines, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // So that nginx passes each line on at once.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
