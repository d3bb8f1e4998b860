//! Requests and events, written as JSON straight from the nouns.
//!
//! Empty texts, empty lists of headers or positions, false and what is absent are left out; numbers are not.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::payload::{Form, embeddable};
use crate::codec::event::reconnect_name;
use crate::command::{Command, HistoryQuery, HistoryRange, Request, Start, Subscription};
use crate::event::{Event, Lost, Member, Page, Published, Reply, Subscribed, TokenExpiring, Welcome};
use crate::message::{Delivery, Message, NewMessage};
use crate::position::Position;
use crate::reason::{Error, Goodbye};
use crate::topic::Topic;

/// A noun in its JSON form.
pub(super) struct Json<'a, T: ?Sized>(pub(super) &'a T);

/// Nouns in an array.
pub(super) struct List<'a, T>(pub(super) &'a [T]);

/// An object with one entry.
pub(super) const fn named<'a, T: Serialize>(name: &'static str, value: &'a T) -> Named<'a, T> {
    Named { name, value }
}

pub(super) struct Named<'a, T> {
    name: &'static str,
    value: &'a T,
}

/// `{}`
struct Nothing;

/// Bytes as a string of base64.
struct Base64<'a>(&'a [u8]);

/// The info of a member: JSON as it is, other bytes as base64.
struct Info<'a>(&'a [u8]);

struct Headers<'a>(&'a [(String, String)]);

impl<'a, T> Serialize for List<'a, T>
where
    Json<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Json))
    }
}

impl<T: Serialize> Serialize for Named<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.name, self.value)])
    }
}

impl Serialize for Nothing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

impl Serialize for Info<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match embeddable(self.0) {
            Some(value) => value.serialize(serializer),
            None => Base64(self.0).serialize(serializer),
        }
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Json<'_, Position> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("epoch", self.0.epoch.0), ("offset", self.0.offset.0)])
    }
}

impl Serialize for Json<'_, (Topic, Position)> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.0.0.as_str())?;
        map.serialize_entry("position", &Json(&self.0.1))?;
        map.end()
    }
}

impl Serialize for Json<'_, Request> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.0.id.0)?;
        match &self.0.command {
            Command::Authenticate(token) => {
                map.serialize_entry("authenticate", &named("token", &token.0.as_str()))?;
            }
            Command::Subscribe(list) => {
                map.serialize_entry("subscribe", &named("subscriptions", &List(list)))?;
            }
            Command::Unsubscribe(filters) => {
                let filters: Vec<_> = filters.iter().map(|filter| filter.as_str()).collect();
                map.serialize_entry("unsubscribe", &named("filters", &filters))?;
            }
            Command::Publish(list) => map.serialize_entry("publish", &named("messages", &List(list)))?,
            Command::History(query) => map.serialize_entry("history", &Json(query))?,
            Command::Enter { topic, info } => map.serialize_entry("enter", &Enter { topic, info })?,
            Command::Leave { topic } => map.serialize_entry("leave", &named("topic", &topic.as_str()))?,
            Command::Members { topic } => {
                map.serialize_entry("members", &named("topic", &topic.as_str()))?;
            }
            Command::Ping => map.serialize_entry("ping", &Nothing)?,
        }
        map.end()
    }
}

impl Serialize for Json<'_, Subscription> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("filter", self.0.filter.as_str())?;
        if self.0.from != Start::Latest {
            map.serialize_entry("from", &Json(&self.0.from))?;
        }
        if !self.0.seen.is_empty() {
            map.serialize_entry("seen", &List(&self.0.seen))?;
        }
        map.end()
    }
}

impl Serialize for Json<'_, Start> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Start::Latest => serializer.serialize_str("latest"),
            Start::Earliest => serializer.serialize_str("earliest"),
            Start::Last(n) => named("last", n).serialize(serializer),
            Start::After(position) => named("after", &Json(position)).serialize(serializer),
            Start::Time(time) => named("time", &time.0).serialize(serializer),
        }
    }
}

impl Serialize for Json<'_, NewMessage> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NewMessage { topic, message, expect } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", topic.as_str())?;
        let form = Form::exactly(message);
        put_form(&form, &mut map)?;
        // Where the form stands for this very type, it goes without saying.
        if message.content_type != form.default_type() {
            map.serialize_entry("type", &message.content_type)?;
        }
        put_rest(message, &mut map)?;
        if let Some(offset) = expect {
            map.serialize_entry("expect", &offset.0)?;
        }
        map.end()
    }
}

fn put_form<M: SerializeMap>(form: &Form<'_>, map: &mut M) -> Result<(), M::Error> {
    match form {
        Form::Data(data) => map.serialize_entry("data", data),
        Form::Text(text) => map.serialize_entry("text", text),
        Form::Bytes(bytes) => map.serialize_entry("bytes", &Base64(bytes)),
    }
}

/// What of a message comes behind its payload and content type.
fn put_rest<M: SerializeMap>(message: &Message, map: &mut M) -> Result<(), M::Error> {
    if !message.headers.is_empty() {
        map.serialize_entry("headers", &Headers(&message.headers))?;
    }
    put_text("id", &message.id, map)
}

fn put_text<M: SerializeMap>(name: &'static str, text: &str, map: &mut M) -> Result<(), M::Error> {
    if text.is_empty() { Ok(()) } else { map.serialize_entry(name, text) }
}

impl Serialize for Json<'_, HistoryQuery> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.0.topic.as_str())?;
        match &self.0.range {
            HistoryRange::Forward(start) => map.serialize_entry("from", &Json(start))?,
            HistoryRange::Backward(None) => map.serialize_entry("before", "latest")?,
            HistoryRange::Backward(Some(position)) => map.serialize_entry("before", &Json(position))?,
        }
        map.serialize_entry("limit", &self.0.limit)?;
        map.end()
    }
}

struct Enter<'a> {
    topic: &'a Topic,
    info: &'a [u8],
}

impl Serialize for Enter<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic.as_str())?;
        if !self.info.is_empty() {
            map.serialize_entry("info", &Info(self.info))?;
        }
        map.end()
    }
}

impl Serialize for Json<'_, Event> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Event::Welcome(welcome) => named("welcome", &Json(welcome)).serialize(serializer),
            Event::Reply { id, result } => named("reply", &Answer { id: id.0, result }).serialize(serializer),
            Event::Delivery(delivery) => named("delivery", &Json(&**delivery)).serialize(serializer),
            Event::Lost(lost) => named("lost", &Json(lost)).serialize(serializer),
            Event::Reset { topic, epoch } => {
                named("reset", &Reset { topic, epoch: epoch.0 }).serialize(serializer)
            }
            Event::Unsubscribed { filter, error } => {
                named("unsubscribed", &Unsubscribed { filter: filter.as_str(), error }).serialize(serializer)
            }
            Event::Heartbeat => named("heartbeat", &Nothing).serialize(serializer),
            Event::TokenExpiring(expiring) => named("tokenExpiring", &Json(expiring)).serialize(serializer),
            Event::Goodbye(goodbye) => named("goodbye", &Json(goodbye)).serialize(serializer),
        }
    }
}

impl Serialize for Json<'_, Welcome> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("session", &self.0.session)?;
        map.serialize_entry("node", &self.0.node)?;
        put_text("subject", &self.0.subject, &mut map)?;
        map.serialize_entry("time", &self.0.time.0)?;
        map.serialize_entry("heartbeatMs", &self.0.heartbeat_ms)?;
        map.serialize_entry("frameBytesMax", &self.0.frame_bytes_max)?;
        map.end()
    }
}

struct Answer<'a> {
    id: u64,
    result: &'a Result<Reply, Error>,
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        match self.result {
            Err(error) => map.serialize_entry("error", &Json(error))?,
            Ok(Reply::Authenticated { subject }) => {
                map.serialize_entry("authenticated", &named("subject", subject))?;
            }
            Ok(Reply::Subscribed(list)) => {
                map.serialize_entry("subscribed", &named("results", &List(list)))?;
            }
            Ok(Reply::Unsubscribed) => map.serialize_entry("unsubscribed", &Nothing)?,
            Ok(Reply::Published(list)) => {
                map.serialize_entry("published", &named("results", &List(list)))?;
            }
            Ok(Reply::History(page)) => map.serialize_entry("history", &Json(page))?,
            Ok(Reply::Entered) => map.serialize_entry("entered", &Nothing)?,
            Ok(Reply::Left) => map.serialize_entry("left", &Nothing)?,
            Ok(Reply::Members { members, total }) => {
                map.serialize_entry("members", &Members { members, total: *total })?;
            }
            Ok(Reply::Pong { time }) => map.serialize_entry("pong", &named("time", &time.0))?,
        }
        map.end()
    }
}

impl Serialize for Json<'_, Result<Subscribed, Error>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ok(subscribed) => named("subscribed", &Json(subscribed)).serialize(serializer),
            Err(error) => named("error", &Json(error)).serialize(serializer),
        }
    }
}

impl Serialize for Json<'_, Subscribed> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("filter", self.0.filter.as_str())?;
        map.serialize_entry("since", &self.0.since.0)?;
        if !self.0.positions.is_empty() {
            map.serialize_entry("positions", &List(&self.0.positions))?;
        }
        map.end()
    }
}

impl Serialize for Json<'_, Result<Published, Error>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ok(published) => named("published", &Json(published)).serialize(serializer),
            Err(error) => named("error", &Json(error)).serialize(serializer),
        }
    }
}

impl Serialize for Json<'_, Published> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(position) = &self.0.position {
            map.serialize_entry("position", &Json(position))?;
        }
        if self.0.duplicate {
            map.serialize_entry("duplicate", &true)?;
        }
        map.end()
    }
}

impl Serialize for Json<'_, Page> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let messages: Vec<_> = self.0.messages.iter().map(|delivery| Json(&**delivery)).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("messages", &messages)?;
        map.serialize_entry("first", &Json(&self.0.first))?;
        map.serialize_entry("head", &Json(&self.0.head))?;
        map.serialize_entry("more", &self.0.more)?;
        map.end()
    }
}

struct Members<'a> {
    members: &'a [Member],
    total: u64,
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("members", &List(self.members))?;
        map.serialize_entry("total", &self.total)?;
        map.end()
    }
}

impl Serialize for Json<'_, Member> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("session", &self.0.session)?;
        put_text("subject", &self.0.subject, &mut map)?;
        if !self.0.info.is_empty() {
            map.serialize_entry("info", &Info(&self.0.info))?;
        }
        map.serialize_entry("since", &self.0.since.0)?;
        map.end()
    }
}

impl Serialize for Json<'_, Delivery> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Delivery { topic, position, time, publisher, message, erased } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", topic.as_str())?;
        if let Some(position) = position {
            map.serialize_entry("epoch", &position.epoch.0)?;
            map.serialize_entry("offset", &position.offset.0)?;
        }
        map.serialize_entry("time", &time.0)?;
        put_text("publisher", publisher, &mut map)?;
        if *erased {
            map.serialize_entry("erased", &true)?;
        } else {
            put_form(&Form::of(message), &mut map)?;
        }
        put_text("type", &message.content_type, &mut map)?;
        put_rest(message, &mut map)?;
        map.end()
    }
}

impl Serialize for Json<'_, Lost> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.0.topic.as_str())?;
        if let Some(range) = &self.0.range {
            map.serialize_entry("epoch", &range.epoch.0)?;
            map.serialize_entry("from", &range.from.0)?;
            map.serialize_entry("until", &range.until.0)?;
        }
        map.serialize_entry("count", &self.0.count)?;
        map.end()
    }
}

struct Reset<'a> {
    topic: &'a Topic,
    epoch: u64,
}

impl Serialize for Reset<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic.as_str())?;
        map.serialize_entry("epoch", &self.epoch)?;
        map.end()
    }
}

struct Unsubscribed<'a> {
    filter: &'a str,
    error: &'a Error,
}

impl Serialize for Unsubscribed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("filter", self.filter)?;
        map.serialize_entry("error", &Json(self.error))?;
        map.end()
    }
}

impl Serialize for Json<'_, Error> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.0.code.as_str())?;
        map.serialize_entry("text", &self.0.text)?;
        put_retry_after(self.0.retry_after_ms, &mut map)?;
        if let Some(head) = &self.0.head {
            map.serialize_entry("head", &Json(head))?;
        }
        map.end()
    }
}

fn put_retry_after<M: SerializeMap>(retry_after_ms: Option<u64>, map: &mut M) -> Result<(), M::Error> {
    retry_after_ms.map_or(Ok(()), |milliseconds| map.serialize_entry("retryAfterMs", &milliseconds))
}

impl Serialize for Json<'_, TokenExpiring> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("expiresAt", &self.0.expires_at.0)?;
        map.serialize_entry("inMs", &self.0.in_ms)?;
        map.end()
    }
}

impl Serialize for Json<'_, Goodbye> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("reason", self.0.reason.as_str())?;
        map.serialize_entry("text", &self.0.text)?;
        map.serialize_entry("reconnect", reconnect_name(self.0.reason.reconnect()))?;
        put_retry_after(self.0.retry_after_ms, &mut map)?;
        map.end()
    }
}
