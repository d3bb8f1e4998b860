//! What a request for events asks for, in its query or in its body.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Query;
use bongsu_protocol::command::{Start, Subscription};
use bongsu_protocol::eventstream::{Bookmark, Shape};
use bongsu_protocol::limits::EVENT_STREAM_PADDING_BYTES_MAX;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use serde::Deserialize;

use super::problem::Problem;

/// Where a stream goes on; the header of every later attempt of an `EventSource`.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The parameters that say the same, by the names that clients of other servers know.
const START_PARAMETERS: [&str; 5] = ["lastEventId", "last_event_id", "lastEventID", "since", "from"];

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub filters: Vec<TopicFilter>,
    pub start: Bookmark,
    /// Topics that begin elsewhere, of several.
    pub positions: BTreeMap<Topic, Position>,
    /// The bookmark that the client came with says nothing here.
    pub is_lost: bool,
    /// The client was here before.
    pub is_again: bool,
    pub shape: Shape,
    pub padding_bytes: usize,
    /// After what time the answer ends by itself.
    pub max_age: Option<Duration>,
}

/// The body of a POST.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Topics and filters.
    #[serde(default)]
    topics: Vec<String>,
    /// A bookmark for all of them.
    from: Option<String>,
    /// Positions of single topics, which go before it. A topic that is named here need not be named above.
    #[serde(default)]
    positions: BTreeMap<String, String>,
}

impl Wanted {
    /// A topic's messages as whole events, for as long as somebody takes them.
    pub(super) fn whole(filter: TopicFilter, start: Bookmark) -> Self {
        Self {
            filters: vec![filter],
            start,
            positions: BTreeMap::new(),
            is_lost: false,
            is_again: false,
            shape: Shape::Envelope,
            padding_bytes: 0,
            max_age: None,
        }
    }

    /// What the query asks for.
    ///
    /// # Errors
    /// 400 and 406, with the reason.
    pub(super) fn of_query(parts: &Parts) -> Result<Self, Problem> {
        Self::of(parts, &Document::default())
    }

    /// The same, with what a body adds.
    ///
    /// # Errors
    /// 400 and 406, with the reason.
    pub(super) fn of_body(parts: &Parts, body: &Bytes) -> Result<Self, Problem> {
        let document = serde_json::from_slice(body).map_err(|error| {
            Problem::bad_request(format!("{{\"topics\": […], \"from\", \"positions\": {{…}}}}: {error}"))
        })?;
        Self::of(parts, &document)
    }

    fn of(parts: &Parts, document: &Document) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::bad_request("the query is not form-encoded"))?;
        let named = |name: &str| {
            let values = parameters.iter().filter(move |(known, _)| known == name);
            values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let mut filters = Vec::new();
        let texts = named("topic").into_iter().chain(document.topics.iter().map(String::as_str));
        for text in texts.chain(document.positions.keys().map(String::as_str)) {
            let filter = TopicFilter::parse(text)
                .map_err(|invalid| Problem::bad_request(format!("topic {text:?}: {invalid}")))?;
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        if filters.is_empty() {
            return Err(Problem::bad_request("name at least one topic or filter: ?topic=…"));
        }
        let mut positions = positions_of(document)?;
        let in_header = parts.headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or_default());
        let in_query = START_PARAMETERS.iter().flat_map(|name| named(name)).next();
        let text = in_header.or(in_query).or(document.from.as_deref());
        if in_header.is_some() {
            // A client that reconnects says the same again, and where it was.
            positions.clear();
        }
        let start = text.unwrap_or("now").parse::<Bookmark>();
        // A place in one topic says nothing of several.
        let mut start = start.and_then(|start| start.subscriptions(&filters).map(|_| start));
        let is_single = matches!(&filters[..], [filter] if filter.as_topic().is_some());
        if is_single && let Some((_, position)) = positions.pop_first() {
            start = Ok(Bookmark::At(position));
        }
        let padding_bytes = named("padding").first().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let max_age = named("max_age").first().map(|seconds| match seconds.parse::<u32>() {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(u64::from(seconds))),
            _ => Err(Problem::bad_request("max_age is a whole number of seconds, at least 1")),
        });
        let shape = shape_of(&parts.headers, is_single && !named("data").contains(&"envelope"))?;
        Ok(Self {
            shape,
            is_lost: start.is_err(),
            is_again: text.is_some(),
            start: start.unwrap_or(Bookmark::Latest),
            positions,
            filters,
            padding_bytes: padding_bytes.min(EVENT_STREAM_PADDING_BYTES_MAX),
            max_age: max_age.transpose()?,
        })
    }

    /// What to subscribe to.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        // It was checked that the bookmark fits.
        let mut subscriptions = self.start.subscriptions(&self.filters).unwrap_or_default();
        for subscription in &mut subscriptions {
            let topic = subscription.filter.as_topic();
            if let Some(position) = topic.and_then(|topic| self.positions.get(&topic)) {
                subscription.from = Start::After(*position);
            }
        }
        subscriptions
    }
}

fn positions_of(document: &Document) -> Result<BTreeMap<Topic, Position>, Problem> {
    let position = |(topic, position): (&String, &String)| {
        let topic = Topic::parse(topic).map_err(|_| {
            Problem::bad_request(format!("{topic:?} is not one topic, so it has no position"))
        })?;
        let position = position
            .parse()
            .map_err(|_| Problem::bad_request(format!("{position:?} is no position such as 7:42")))?;
        Ok((topic, position))
    };
    document.positions.iter().map(position).collect()
}

/// The first kind that the client names and that is made here (RFC 9110, 12.5.1); without one, server-sent events.
fn shape_of(headers: &HeaderMap, shows_payloads: bool) -> Result<Shape, Problem> {
    let events = if shows_payloads { Shape::Payload } else { Shape::Envelope };
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut kinds = lines.flat_map(|line| line.split(',')).map(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.to_ascii_lowercase()
    });
    if headers.get(header::ACCEPT).is_none() {
        return Ok(events);
    }
    let known = kinds.find_map(|kind| match kind.as_str() {
        "text/event-stream" | "text/*" | "*/*" => Some(events),
        "application/x-ndjson" | "application/ndjson" | "application/*" => Some(Shape::Lines),
        "application/json-seq" => Some(Shape::Sequence),
        _ => None,
    });
    known.ok_or_else(|| {
        let text = "events come as text/event-stream, application/x-ndjson or application/json-seq";
        Problem::new(StatusCode::NOT_ACCEPTABLE, "unsupported", text)
    })
}
