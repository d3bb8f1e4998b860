//! Events, read from JSON.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::parts::{Bounded, Headers, Text, present};
use super::{malformed, payload, text};
use crate::codec::{Malformed, bad_request, event, pb, shared};
use crate::event::Event;
use crate::limits::{FILTERS_PER_REQUEST_MAX, MEMBERS_MAX, MESSAGES_PER_PUBLISH_MAX, PAGE_MESSAGES_MAX};
use crate::reason::Error;

pub(in crate::codec) fn decode_events(frame: &Bytes) -> Result<Vec<Event>, Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(text(frame)?);
    let events = Frame(frame).deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(events)
}

/// Reads one event or an array of them, each into its noun at once, so that unknown ones occupy nothing.
struct Frame<'f>(&'f Bytes);

impl<'de> DeserializeSeed<'de> for Frame<'_> {
    type Value = Vec<Event>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Event>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Frame<'_> {
    type Value = Vec<Event>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event or an array of events")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Event>, A::Error> {
        let mut events = Vec::new();
        events.extend(One(self.0).visit_map(map)?);
        Ok(events)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<Event>, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = array.next_element_seed(One(self.0))? {
            events.extend(event);
        }
        Ok(events)
    }
}

/// Reads one event; `None` if it is not known.
struct One<'f>(&'f Bytes);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Option<Event>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Event>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Option<Event>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Event>, A::Error> {
        let read = AnyEvent::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let tree = read.into_tree(self.0).map_err(|error| A::Error::custom(error.text))?;
        match tree.map(event::event) {
            None => Ok(None),
            Some(Ok(event)) => Ok(event),
            Some(Err(malformed)) => Err(A::Error::custom(malformed)),
        }
    }
}

/// Every event under its name; the one that is there counts.
#[derive(Deserialize, Default)]
#[serde(default)]
struct AnyEvent<'a> {
    welcome: Option<pb::Welcome>,
    #[serde(borrow)]
    reply: Option<Reply<'a>>,
    #[serde(borrow)]
    delivery: Option<Delivery<'a>>,
    lost: Option<pb::Lost>,
    reset: Option<pb::Reset>,
    unsubscribed: Option<pb::Unsubscribed>,
    heartbeat: Option<Nothing>,
    #[serde(rename = "tokenExpiring")]
    token_expiring: Option<pb::TokenExpiring>,
    goodbye: Option<pb::Goodbye>,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reply<'a> {
    id: u64,
    error: Option<pb::Error>,
    authenticated: Option<pb::Authenticated>,
    subscribed: Option<Results<SubscribeResult, FILTERS_PER_REQUEST_MAX>>,
    unsubscribed: Option<Nothing>,
    published: Option<Results<PublishResult, MESSAGES_PER_PUBLISH_MAX>>,
    #[serde(borrow)]
    history: Option<Page<'a>>,
    entered: Option<Nothing>,
    left: Option<Nothing>,
    #[serde(borrow)]
    members: Option<Members<'a>>,
    pong: Option<pb::Pong>,
}

#[derive(Deserialize)]
struct Results<T, const N: usize> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    results: Bounded<T, N>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum SubscribeResult {
    Subscribed(pb::Subscribed),
    Error(pb::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum PublishResult {
    Published(pb::Published),
    Error(pb::Error),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Bounded<Delivery<'a>, PAGE_MESSAGES_MAX>,
    first: Option<pb::Position>,
    head: Option<pb::Position>,
    more: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    members: Bounded<Member<'a>, MEMBERS_MAX>,
    total: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Member<'a> {
    session: String,
    subject: String,
    #[serde(borrow, deserialize_with = "present")]
    info: Option<&'a RawValue>,
    since: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delivery<'a> {
    topic: String,
    epoch: Option<u64>,
    offset: Option<u64>,
    time: u64,
    publisher: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    bytes: Option<Text<'a>>,
    #[serde(rename = "type")]
    content_type: String,
    headers: Headers,
    id: String,
    erased: bool,
}

impl AnyEvent<'_> {
    fn into_tree(self, frame: &Bytes) -> Result<Option<pb::event::Event>, Error> {
        use pb::event::Event as Tree;
        if let Some(delivery) = self.delivery {
            return delivery.into_tree(frame).map(Tree::Delivery).map(Some);
        }
        let reply = self.reply.map(|reply| reply.into_tree(frame)).transpose()?;
        let known = [
            reply.map(Tree::Reply),
            self.welcome.map(Tree::Welcome),
            self.lost.map(Tree::Lost),
            self.reset.map(Tree::Reset),
            self.unsubscribed.map(Tree::Unsubscribed),
            self.heartbeat.map(|_| Tree::Heartbeat(pb::Heartbeat {})),
            self.token_expiring.map(Tree::TokenExpiring),
            self.goodbye.map(Tree::Goodbye),
        ];
        Ok(known.into_iter().flatten().next())
    }
}

impl Reply<'_> {
    fn into_tree(self, frame: &Bytes) -> Result<pb::Reply, Error> {
        use pb::reply::Result as Tree;
        let history = self.history.map(|page| page.into_tree(frame)).transpose()?;
        let empty = |_| pb::Empty {};
        let known = [
            self.error.map(Tree::Error),
            self.authenticated.map(Tree::Authenticated),
            self.subscribed.map(|list| Tree::Subscribed(list.into())),
            self.unsubscribed.map(empty).map(Tree::Unsubscribed),
            self.published.map(|list| Tree::Published(list.into())),
            history.map(Tree::History),
            self.entered.map(empty).map(Tree::Entered),
            self.left.map(empty).map(Tree::Left),
            self.members.map(|members| Tree::Members(members.into_tree(frame))),
            self.pong.map(Tree::Pong),
        ];
        let result = known.into_iter().flatten().next();
        Ok(pb::Reply { id: self.id, result })
    }
}

impl<const N: usize> From<Results<SubscribeResult, N>> for pb::SubscribeResults {
    fn from(list: Results<SubscribeResult, N>) -> Self {
        use pb::subscribe_result::Result as Tree;
        let results = list.results.0.into_iter().map(|result| match result {
            SubscribeResult::Subscribed(subscribed) => Tree::Subscribed(subscribed),
            SubscribeResult::Error(error) => Tree::Error(error),
        });
        Self { results: results.map(|result| pb::SubscribeResult { result: Some(result) }).collect() }
    }
}

impl<const N: usize> From<Results<PublishResult, N>> for pb::PublishResults {
    fn from(list: Results<PublishResult, N>) -> Self {
        use pb::publish_result::Result as Tree;
        let results = list.results.0.into_iter().map(|result| match result {
            PublishResult::Published(published) => Tree::Published(published),
            PublishResult::Error(error) => Tree::Error(error),
        });
        Self { results: results.map(|result| pb::PublishResult { result: Some(result) }).collect() }
    }
}

impl Page<'_> {
    fn into_tree(self, frame: &Bytes) -> Result<pb::Page, Error> {
        let messages = self.messages.0.into_iter().map(|delivery| delivery.into_tree(frame));
        Ok(pb::Page {
            messages: messages.collect::<Result<_, _>>()?,
            first: self.first,
            head: self.head,
            more: self.more,
        })
    }
}

impl Members<'_> {
    fn into_tree(self, frame: &Bytes) -> pb::Members {
        let members = self.members.0.into_iter().map(|member| member.into_tree(frame));
        pb::Members { members: members.collect(), total: self.total }
    }
}

impl Member<'_> {
    pub(super) fn into_tree(self, frame: &Bytes) -> pb::Member {
        pb::Member {
            session: self.session,
            subject: self.subject,
            info: self.info.map_or_else(Bytes::new, |info| shared(frame, info.get().as_bytes())),
            since: self.since,
        }
    }
}

impl Delivery<'_> {
    fn into_tree(self, frame: &Bytes) -> Result<pb::Delivery, Error> {
        let payload = match (self.data, self.text, self.bytes) {
            (Some(data), None, None) => payload::from_data(frame, data)?,
            (None, Some(text), None) => payload::from_text(frame, text),
            (None, None, Some(bytes)) => payload::from_base64(&bytes)?,
            // Erased.
            (None, None, None) => Bytes::new(),
            _ => return Err(bad_request("a delivery has one of `data`, `text` and `bytes`")),
        };
        let position = match (self.epoch, self.offset) {
            (Some(epoch), Some(offset)) => Some(pb::Position { epoch, offset }),
            (None, None) => None,
            _ => return Err(bad_request("a delivery has both of `epoch` and `offset`, or neither")),
        };
        Ok(pb::Delivery {
            topic: self.topic,
            position,
            time: self.time,
            publisher: self.publisher,
            payload,
            content_type: self.content_type,
            headers: self.headers.0,
            id: self.id,
            erased: self.erased,
        })
    }
}
