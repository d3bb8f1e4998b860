//! `/v1/topics/{topic}/messages`: to read messages, to search them, to publish, and to erase.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::limits::{INTEGER_MAX, MESSAGE_ID_BYTES_MAX};
use bongsu_protocol::message::{Delivery, Message as Content, Time};
use bongsu_protocol::position::Position as Place;
use bongsu_protocol::topic::Topic;
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use super::topics::{Removed, changeable, topic_of};
use crate::audit::Change;
use crate::body::{Json, receive_json};
use crate::error::Error;
use crate::lines::decode;
use crate::number::Whole;
use crate::page::{After, Limit};
use crate::position::Position;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{self, Base64, IdempotencyKey, MediaType, MessageId, NewId, TopicName};
use crate::time::Timestamp;

/// What is known of messages.
pub trait Messages {
    /// Messages of one topic's log. A search looks at a bounded number of messages: the answer may have fewer than asked for, even none, and
    /// still say where to go on.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is no log; [`Error::Changed`]: it was made anew since the page before; [`Error::Unavailable`].
    fn messages(&self, wanted: ListMessages) -> BoxFuture<'_, Result<MessageList, Error>>;

    /// One message.
    ///
    /// # Errors
    /// [`Error::NotFound`]: it is not kept, or was never there; [`Error::Unavailable`].
    fn message<'a>(&'a self, topic: &'a Topic, offset: u64) -> BoxFuture<'a, Result<Message, Error>>;

    /// Publishes a message, as its topic's policy has it. The same id within the topic's window stores nothing again, and is answered with
    /// the place of the first.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::TooMany`], [`Error::Unavailable`]: it may have been stored all the same, and can be repeated with its id.
    fn publish<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        content: Content,
    ) -> BoxFuture<'a, Result<Published, Error>>;

    /// Publishes a message once more, on its topic or another one, with headers that say where it is from.
    ///
    /// # Errors
    /// As [`message`](Self::message) and [`publish`](Self::publish); [`Error::Conflict`]: it was erased.
    fn republish<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        offset: u64,
        wanted: Republish,
    ) -> BoxFuture<'a, Result<Published, Error>>;

    /// Takes a message's content away; its place, time and id stay.
    ///
    /// # Errors
    /// [`Error::NotFound`]: it is not kept, or was never there; [`Error::Unavailable`]: it may be gone.
    fn erase<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        offset: u64,
    ) -> BoxFuture<'a, Result<Removed, Error>>;
}

/// Which messages.
#[derive(Debug, Clone)]
pub struct ListMessages {
    /// Whose log.
    pub topic: Topic,
    /// Where to begin, and in which direction.
    pub start: StartAt,
    /// Text that payload, headers, id, publisher or content type have.
    pub search: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// Where a list of messages begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest that is kept, oldest first.
    Earliest,
    /// With the newest, newest first.
    Latest,
    /// With this offset, oldest first.
    Offset(u64),
    /// With the first message of this time or later, oldest first.
    Since(Time),
    /// With the one before this offset, newest first.
    Before(u64),
    /// With the one after this, oldest first: the page before ended there.
    After(Place),
    /// With the one before this, newest first: the page before ended there.
    Below(Place),
}

/// Messages of a log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MessageList {
    /// Oldest first or newest first, as asked.
    pub messages: Vec<Message>,
    /// The place of the oldest message that is kept; one after `head` if none is.
    pub first: Position,
    /// The place of the newest message.
    pub head: Position,
    /// How many messages were looked at.
    pub looked_at: u64,
    /// What to give as `after` to go on; `null` at the end of the log.
    pub next: Option<String>,
}

/// A message. Its payload is one of `data`, `text` and `bytes`, as in the JSON protocol.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its place in the log.
    pub position: Position,
    /// When it was published.
    pub time: Timestamp,
    /// The subject of its publisher; empty for anonymous ones.
    pub publisher: String,
    /// Its id, which refuses a second message for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The media type of its payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Bytes of payload, headers, id and content type.
    pub size: u64,
    /// Whether its content was taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// A payload that is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Box<RawValue>>,
    /// A payload that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Any other payload, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// A value that is there, also where it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

impl Message {
    /// A message as readers of the JSON protocol see it.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Payload {
            #[serde(deserialize_with = "present")]
            data: Option<Box<RawValue>>,
            text: Option<String>,
            bytes: Option<String>,
        }
        #[derive(Deserialize)]
        struct Shown {
            delivery: Payload,
        }
        let mut frame = BytesMut::new();
        codec::encode_delivery(Format::Json, delivery, &mut frame);
        // It was just made by an encoder.
        let payload =
            serde_json::from_slice(&frame).map_or_else(|_| Payload::default(), |shown: Shown| shown.delivery);
        let message = &delivery.message;
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            topic: delivery.topic.as_str().to_owned(),
            position: delivery.position.unwrap_or_default().into(),
            time: delivery.time.into(),
            publisher: delivery.publisher.clone(),
            id: text(&message.id),
            r#type: text(&message.content_type),
            headers: message.headers.iter().cloned().collect(),
            size: message.size_bytes() as u64,
            erased: delivery.erased,
            data: payload.data,
            text: payload.text,
            bytes: payload.bytes,
        }
    }
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// Its place; `null` on a topic that keeps no history.
    pub position: Option<Position>,
    /// A message with this id was stored there before, and nothing was stored now.
    pub duplicate: bool,
}

/// Where a message is published once more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Republish {
    /// The topic; without it, the message's own.
    #[serde(default)]
    #[schema(value_type = Option<TopicName>)]
    pub to: Option<String>,
    /// The id of the new message, which makes a retry safe. Without it, it has none.
    #[serde(default)]
    #[schema(value_type = Option<MessageId>)]
    pub id: Option<String>,
}

/// A message to be published, as the JSON protocol has it: with one of `data`, `text` and `bytes`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// A payload that is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    /// A payload that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// A payload of bytes, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    /// Its media type; without it, the one that goes with the form of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// Its id; `Idempotency-Key` is another way to say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl PartialSchema for NewMessage {
    fn schema() -> RefOr<Schema> {
        let any = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
        let common = || {
            [
                ("type", schema::or_null::<MediaType>()),
                ("headers", schema::headers().into()),
                ("id", schema::or_null::<NewId>()),
            ]
        };
        let shape = |title: &str, payload: (&'static str, RefOr<Schema>)| {
            let others = ["text", "bytes"].into_iter().filter(|other| *other != payload.0);
            let others: Vec<_> = others.map(|other| (other, schema::null())).chain(common()).collect();
            schema::shape(title, [payload], others)
        };
        let text = ObjectBuilder::new().schema_type(Type::String);
        let shapes = [
            shape("JSON", ("data", any.into())),
            shape("text", ("text", text.into())),
            shape("bytes", ("bytes", schema::of::<Base64>())),
        ];
        schema::one_of(
            "A message: its payload as one of `data` (JSON), `text` and `bytes` (in base64).",
            shapes,
        )
    }
}

impl ToSchema for NewMessage {}

/// The parameters of a list of messages. Of `from`, `since`, `before` and `after` there is one at most.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Parameters {
    /// `earliest` or an offset: from there on, oldest first. `latest`, as without it: from the newest, newest first.
    #[param(pattern = "^(earliest|latest|[0-8]?[0-9]{1,15})$", example = "earliest")]
    from: Option<String>,
    /// From the first message of this time or later, oldest first.
    since: Option<Timestamp>,
    /// From the message before this offset, newest first.
    before: Option<Whole>,
    /// Only messages that have this text, letter by letter, in payload, headers, id, publisher or content type. A request looks at a bounded
    /// number of messages, and `next` says where to go on.
    #[param(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    search: Option<String>,
    /// `next` of the page before.
    after: Option<After>,
    /// How many messages, at most.
    #[serde(default)]
    limit: Limit,
}

impl Parameters {
    fn start(&self) -> Result<StartAt, Error> {
        let given = [self.from.is_some(), self.since.is_some(), self.before.is_some(), self.after.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(Error::invalid("from", "give one of from, since, before and after"));
        }
        if let Some(after) = &self.after {
            return StartAt::read(after.text()?).ok_or_else(After::strange);
        }
        if let Some(Timestamp(time)) = self.since {
            return Ok(StartAt::Since(time));
        }
        if let Some(Whole(before)) = self.before {
            return Ok(StartAt::Before(before));
        }
        match self.from.as_deref() {
            None | Some("latest") => Ok(StartAt::Latest),
            Some("earliest") => Ok(StartAt::Earliest),
            Some(offset) => {
                let is_short = offset.len() <= 16 && offset.bytes().all(|byte| byte.is_ascii_digit());
                let offset = offset.parse().ok().filter(|offset| *offset <= INTEGER_MAX && is_short);
                offset
                    .map(StartAt::Offset)
                    .ok_or_else(|| Error::invalid("from", "it takes earliest, latest or an offset"))
            }
        }
    }
}

impl StartAt {
    /// What a page says of where it ended; `None` for other starts.
    #[must_use]
    pub fn written(self) -> Option<String> {
        match self {
            Self::After(place) => Some(After::written(&format!("a:{place}"))),
            Self::Below(place) => Some(After::written(&format!("b:{place}"))),
            _ => None,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (direction, place) = text.split_once(':')?;
        let (epoch, offset) = place.split_once(':')?;
        let place = Place::new(epoch.parse().ok()?, offset.parse().ok()?);
        match direction {
            "a" => Some(Self::After(place)),
            "b" => Some(Self::Below(place)),
            _ => None,
        }
    }
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Operator, __path_list, list),
        Route::change(Role::Operator, __path_publish, publish),
        Route::read(Role::Operator, __path_show, show),
        Route::change(Role::Admin, __path_erase, erase),
        Route::change(Role::Operator, __path_republish, republish),
    ]
}

/// Messages of a topic
///
/// Newest first, or oldest first from a place or a time on; all of them, or those that have a text.
#[utoipa::path(get, path = "/v1/topics/{topic}/messages", operation_id = "list_messages", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), Parameters),
    responses((status = 200, description = "A page of messages.", body = MessageList)))]
async fn list(
    State(control): State<Shared>,
    Path(topic): Path<String>,
    Query(asked): Query<Parameters>,
) -> Result<Json<MessageList>, Problem> {
    let topic = topic_of(&topic)?;
    let start = asked.start()?;
    if asked.search.as_ref().is_some_and(|text| text.is_empty() || text.len() > 256) {
        return Err(Error::invalid("search", "it takes 1 to 256 bytes").into());
    }
    let wanted = ListMessages { topic, start, search: asked.search, limit: asked.limit.get() };
    Ok(Json(control.messages(wanted).await?))
}

/// One message
#[utoipa::path(get, path = "/v1/topics/{topic}/messages/{offset}", operation_id = "show_message", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."),
        ("offset" = Whole, Path, description = "The message's offset."), query::None),
    responses((status = 200, description = "The message.", body = Message)))]
async fn show(
    State(control): State<Shared>,
    Path((topic, Whole(offset))): Path<(String, Whole)>,
    _: Query<query::None>,
) -> Result<Json<Message>, Problem> {
    let topic = topic_of(&topic)?;
    Ok(Json(control.message(&topic, offset).await?))
}

/// Publish a message
///
/// With `Idempotency-Key`, or an `id`, a retry is safe: the same key gives the same answer, marked as a duplicate.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages", operation_id = "publish_message", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."), query::None,
        ("Idempotency-Key" = Option<IdempotencyKey>, Header, description = "The message's id, which makes a retry safe.")),
    request_body = NewMessage,
    responses((status = 200, description = "It was published.", body = Published)))]
async fn publish(
    State(control): State<Shared>,
    asked: Asked,
    Path(topic): Path<String>,
    _: Query<query::None>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, Problem> {
    let topic = changeable(&topic)?;
    let body = receive_json(&headers, body).await?;
    let mut content = content(&topic, &body)?;
    if let Some(key) = idempotency_key(&headers)? {
        if !content.id.is_empty() && content.id != key {
            return Err(Error::invalid("Idempotency-Key", "it is not the message's id").into());
        }
        content.id = key;
    }
    let size = content.size_bytes();
    let change = Change::new("messages.publish", topic.as_str())
        .with(serde_json::json!({ "bytes": size, "id": content.id }));
    let by = asked.actor.name.clone();
    Ok(Json(asked.change(&*control, change, control.publish(&by, &topic, content)).await?))
}

/// Publish a message once more
///
/// With its content, on its own topic or another one; the header `republished-from` says where it is from.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages/{offset}/republish", operation_id = "republish_message", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."),
        ("offset" = Whole, Path, description = "The message's offset."), query::None),
    request_body = Republish,
    responses((status = 200, description = "It was published.", body = Published)))]
async fn republish(
    State(control): State<Shared>,
    asked: Asked,
    Path((topic, Whole(offset))): Path<(String, Whole)>,
    _: Query<query::None>,
    Json(wanted): Json<Republish>,
) -> Result<Json<Published>, Problem> {
    let topic = topic_of(&topic)?;
    let to = wanted.to.as_deref().unwrap_or(topic.as_str());
    changeable(to)?;
    if wanted.id.as_ref().is_some_and(|id| !is_id(id)) {
        return Err(Error::invalid("id", no_id()).into());
    }
    let change = Change::new("messages.republish", topic.as_str())
        .with(serde_json::json!({ "offset": offset, "to": to }));
    let by = asked.actor.name.clone();
    Ok(Json(asked.change(&*control, change, control.republish(&by, &topic, offset, wanted)).await?))
}

/// Erase a message
///
/// Its content goes, from the store and from every node's memory; its place, time and id stay, and readers see that it was erased.
#[utoipa::path(delete, path = "/v1/topics/{topic}/messages/{offset}", operation_id = "erase_message", tag = "messages",
    params(("topic" = TopicName, Path, description = "The topic, in percent-encoding."),
        ("offset" = Whole, Path, description = "The message's offset."), query::None),
    responses((status = 200, description = "It is erased.", body = Removed)))]
async fn erase(
    State(control): State<Shared>,
    asked: Asked,
    Path((topic, Whole(offset))): Path<(String, Whole)>,
    _: Query<query::None>,
) -> Result<Json<Removed>, Problem> {
    let topic = changeable(&topic)?;
    let change = Change::new("messages.erase", topic.as_str()).with(serde_json::json!({ "offset": offset }));
    let by = asked.actor.name.clone();
    Ok(Json(asked.change(&*control, change, control.erase(&by, &topic, offset)).await?))
}

/// Reads a message as the JSON protocol does, whose decoder checks all limits.
pub(crate) fn content(topic: &Topic, body: &[u8]) -> Result<Content, Problem> {
    let wrong = |error: serde_json::Error| Problem::bad_request(format!("the body is wrong: {error}"));
    let message: NewMessage = serde_json::from_slice(body).map_err(wrong)?;
    let message = serde_json::to_string(&message).map_err(wrong)?;
    Ok(decode(topic, &message)?)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    // A draft of the IETF quotes it, most clients do not.
    let key = value.to_str().ok().map(|key| key.trim().trim_matches('"'));
    let key = key.filter(|key| is_id(key) && values.next().is_none());
    key.map(|key| Some(key.to_owned())).ok_or_else(|| Error::invalid("Idempotency-Key", no_id()))
}

fn is_id(text: &str) -> bool {
    (1..=MESSAGE_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn no_id() -> String {
    format!("it takes 1 to {MESSAGE_ID_BYTES_MAX} bytes without control characters")
}
