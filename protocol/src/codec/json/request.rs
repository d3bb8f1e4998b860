//! Requests, read from JSON.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::parts::{Bounded, Headers, Object, Text, present};
use super::{explain, malformed, payload};
use crate::codec::{Malformed, Refused, bad_request, pb, request as tree, unsupported};
use crate::command::{Request, RequestId};
use crate::limits::{
    FILTERS_PER_REQUEST_MAX, INTEGER_MAX, MESSAGES_PER_PUBLISH_MAX, REQUESTS_PER_FRAME_MAX, SEEN_MAX,
};
use crate::reason::Error;

/// A request of which only the id is known to be right.
pub(super) struct Envelope<'a> {
    id: Option<u64>,
    command: Option<(Text<'a>, &'a RawValue)>,
    /// The name of a second command or of anything else beside it.
    extra: Option<Text<'a>>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Envelope<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a request: an object with an `id` and a command")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope { id: None, command: None, extra: None };
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    if name.0 == "id" {
                        if envelope.id.replace(map.next_value()?).is_some() {
                            return Err(de::Error::duplicate_field("id"));
                        }
                        continue;
                    }
                    let value = map.next_value()?;
                    if envelope.command.is_none() {
                        envelope.command = Some((name, value));
                    } else {
                        envelope.extra = Some(name);
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Splits a frame into its requests.
pub(super) fn envelopes(frame: &str) -> Result<Vec<Envelope<'_>>, Malformed> {
    let is_array = frame.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[');
    let envelopes = if is_array {
        serde_json::from_str::<Bounded<_, REQUESTS_PER_FRAME_MAX>>(frame).map_err(malformed)?.0
    } else {
        vec![serde_json::from_str(frame).map_err(malformed)?]
    };
    if envelopes.is_empty() {
        return Err(Malformed::Structure("a frame has at least one request".to_owned()));
    }
    Ok(envelopes)
}

/// Reads one request.
pub(super) fn request(frame: &Bytes, envelope: Envelope<'_>) -> Result<Result<Request, Refused>, Malformed> {
    let id = match envelope.id {
        Some(id @ 1..=INTEGER_MAX) => RequestId(id),
        _ => return Err(Malformed::Structure(format!("a request has an id from 1 to {INTEGER_MAX}"))),
    };
    let command = match (envelope.command, envelope.extra) {
        (None, _) => Err(unsupported("the request has no command")),
        (Some((name, value)), None) => read_command(frame, &name.0, value).and_then(tree::command),
        (Some((name, _)), Some(extra)) => Err(bad_request(format!(
            "a request is an id and one command, this one also has `{}` beside `{}`",
            extra.0, name.0
        ))),
    };
    Ok(command.map(|command| Request { id, command }).map_err(|error| Refused { id, error }))
}

fn read_command(frame: &Bytes, name: &str, value: &RawValue) -> Result<pb::request::Command, Error> {
    use pb::request::Command as Tree;
    Ok(match name {
        "authenticate" => {
            // An unknown field is named in errors, which are logged, and it could be a token in the wrong place.
            let hidden = |_| bad_request("authenticate: an object with a string `token` is wanted");
            let Authenticate { token } = read(name, value).map_err(hidden)?;
            Tree::Authenticate(pb::Authenticate { token })
        }
        "subscribe" => {
            let Subscribe { subscriptions } = read(name, value)?;
            let subscriptions = subscriptions.0.into_iter().map(|one| one.0.into()).collect();
            Tree::Subscribe(pb::Subscribe { subscriptions })
        }
        "unsubscribe" => {
            let Unsubscribe { filters } = read(name, value)?;
            Tree::Unsubscribe(pb::Unsubscribe { filters: filters.0 })
        }
        "publish" => {
            let Publish { messages } = read(name, value)?;
            let messages = messages.0.into_iter().enumerate().map(|(idx, message)| {
                let in_place = |error: Error| bad_request(format!("messages[{idx}]: {}", error.text));
                message.0.into_tree(frame).map_err(in_place)
            });
            Tree::Publish(pb::Publish { messages: messages.collect::<Result<_, _>>()? })
        }
        "history" => Tree::History(read::<History>(name, value)?.into_tree()?),
        "enter" => {
            let Enter { topic, info } = read(name, value)?;
            let info = info.map_or(Ok(Bytes::new()), |info| payload::from_data(frame, info))?;
            Tree::Enter(pb::Enter { topic, info })
        }
        "leave" => Tree::Leave(pb::Leave { topic: read::<TopicOnly>(name, value)?.topic }),
        "members" => Tree::Members(pb::MembersQuery { topic: read::<TopicOnly>(name, value)?.topic }),
        "ping" => {
            let Nothing {} = read(name, value)?;
            Tree::Ping(pb::Ping {})
        }
        other => return Err(unsupported(format!("unknown command `{other}`"))),
    })
}

fn read<'a, T: Deserialize<'a>>(name: &str, value: &'a RawValue) -> Result<T, Error> {
    match serde_json::from_str::<Object<T>>(value.get()) {
        Ok(object) => Ok(object.0),
        Err(error) => Err(bad_request(format!("{name}: {}", explain(&error)))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authenticate {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    subscriptions: Bounded<Object<Subscription>, FILTERS_PER_REQUEST_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscription {
    filter: String,
    #[serde(default, deserialize_with = "present")]
    from: Option<Start>,
    #[serde(default)]
    seen: Bounded<Object<TopicPosition>, SEEN_MAX>,
}

/// Where reading starts.
struct Start(pb::start::Start);

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use pb::start::Start as Tree;
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Start;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    r#""latest", "earliest", {"last":n}, {"after":position} or {"time":milliseconds}"#,
                )
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Start, E> {
                match text {
                    "latest" => Ok(Start(Tree::Latest(pb::Empty {}))),
                    "earliest" => Ok(Start(Tree::Earliest(pb::Empty {}))),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Start, A::Error> {
                let name = map.next_key::<Text<'de>>()?;
                let start = match name.as_ref().map(|name| name.0.as_ref()) {
                    Some("last") => Tree::Last(map.next_value()?),
                    Some("after") => Tree::After(map.next_value::<Object<Position>>()?.0.into()),
                    Some("time") => Tree::Time(map.next_value()?),
                    _ => return Err(de::Error::invalid_value(de::Unexpected::Map, &self)),
                };
                match map.next_key::<Text<'de>>()? {
                    None => Ok(Start(start)),
                    Some(_) => Err(de::Error::custom("one start has one key")),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    epoch: u64,
    offset: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicPosition {
    topic: String,
    position: Object<Position>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    filters: Bounded<String, FILTERS_PER_REQUEST_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    #[serde(borrow)]
    messages: Bounded<Object<NewMessage<'a>>, MESSAGES_PER_PUBLISH_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage<'a> {
    topic: String,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    bytes: Option<Text<'a>>,
    #[serde(rename = "type", default, deserialize_with = "present")]
    content_type: Option<String>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    id: String,
    #[serde(default, deserialize_with = "present")]
    expect: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    topic: String,
    #[serde(default, deserialize_with = "present")]
    from: Option<Start>,
    #[serde(default, deserialize_with = "present")]
    before: Option<Before>,
    #[serde(default)]
    limit: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enter<'a> {
    topic: String,
    #[serde(borrow, default, deserialize_with = "present")]
    info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicOnly {
    topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Where a page that runs backward begins.
enum Before {
    Latest,
    Position(Position),
}

impl<'de> Deserialize<'de> for Before {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Before;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"latest\" or a position")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Before, E> {
                match text {
                    "latest" => Ok(Before::Latest),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Before, A::Error> {
                Position::deserialize(de::value::MapAccessDeserializer::new(map)).map(Before::Position)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl From<Position> for pb::Position {
    fn from(Position { epoch, offset }: Position) -> Self {
        Self { epoch, offset }
    }
}

impl From<Start> for pb::Start {
    fn from(start: Start) -> Self {
        Self { start: Some(start.0) }
    }
}

impl From<Subscription> for pb::Subscription {
    fn from(subscription: Subscription) -> Self {
        let seen = subscription.seen.0.into_iter().map(|Object(TopicPosition { topic, position })| {
            pb::TopicPosition { topic, position: Some(position.0.into()) }
        });
        Self { filter: subscription.filter, seen: seen.collect(), from: subscription.from.map(Into::into) }
    }
}

impl NewMessage<'_> {
    fn into_tree(self, frame: &Bytes) -> Result<pb::NewMessage, Error> {
        let (payload, default_type) = match (self.data, self.text, self.bytes) {
            (Some(data), None, None) => (payload::from_data(frame, data)?, payload::JSON_TYPE),
            (None, Some(text), None) => (payload::from_text(frame, text), payload::TEXT_TYPE),
            (None, None, Some(bytes)) => (payload::from_base64(&bytes)?, ""),
            _ => return Err(bad_request("a message has one of `data`, `text` and `bytes`")),
        };
        Ok(pb::NewMessage {
            topic: self.topic,
            payload,
            content_type: self.content_type.unwrap_or_else(|| default_type.to_owned()),
            headers: self.headers.0,
            id: self.id,
            expect: self.expect,
        })
    }
}

impl History {
    fn into_tree(self) -> Result<pb::HistoryQuery, Error> {
        use pb::history_query::Range;
        let range = match (self.from, self.before) {
            (None, None) => None,
            (Some(from), None) => Some(Range::Forward(from.into())),
            (None, Some(Before::Latest)) => Some(Range::Backward(pb::Position::default())),
            (None, Some(Before::Position(before))) => Some(Range::Backward(before.into())),
            (Some(_), Some(_)) => return Err(bad_request("history has `from` or `before`, not both")),
        };
        // A limit past the largest means the largest, also where it is past what the tree holds.
        let limit = u32::try_from(self.limit).unwrap_or(u32::MAX);
        Ok(pb::HistoryQuery { topic: self.topic, limit, range })
    }
}
