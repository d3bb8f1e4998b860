//! `GET /v1/events`: messages as they come, as server-sent events or as lines of JSON.
//!
//! The reader is a session like a WebSocket's. The next event is made when the socket took the one before, so a slow
//! reader costs its session's outbox and is served from the log. A message's bytes are made once for all readers of the same shape; of a
//! stream of one topic even its `id`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::response::Response;
use bongsu_protocol::event::{Event, Reply, Subscribed};
use bongsu_protocol::eventstream::{Bookmark, Shape, Tracker, encode_bookmark, encode_event, encode_prelude};
use bongsu_protocol::limits::EVENT_STREAM_PADDING_BYTES_MAX;
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::{CloseReason, Error, Goodbye};
use bongsu_protocol::session::Outgoing;
use bongsu_protocol::topic::TopicFilter;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::door::{Caller, Door};
use super::problem::Problem;
use super::reader::{Reader, Woken};
use crate::chance;
use crate::clock;
use crate::delivery::SharedDelivery;
use crate::limits::{
    EVENT_SOURCE_CHECKPOINT_MARGIN_MS, EVENT_SOURCE_HEARTBEAT, EVENT_SOURCE_RETRY_MS, EVENTS_PER_TURN_MAX,
};
use crate::node::Node;

/// Where a stream goes on; the header of every later attempt of an `EventSource`.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The parameters that say the same, by the names that clients of other servers know.
const START_PARAMETERS: [&str; 5] = ["lastEventId", "last_event_id", "lastEventID", "since", "from"];

/// What a request asks for.
#[derive(Debug)]
struct Wanted {
    filters: Vec<TopicFilter>,
    start: Bookmark,
    /// The bookmark that the client came with says nothing here.
    is_lost: bool,
    shape: Shape,
    padding_bytes: usize,
}

/// Answers a request for events.
pub(super) async fn answer(door: Arc<Door>, node: Arc<Node>, request: Request) -> Response {
    let work = |caller, request: Request| async move {
        let (parts, _) = request.into_parts();
        open(&node, &caller, &parts)
    };
    door.pass(request, work).await
}

fn open(node: &Arc<Node>, caller: &Caller, parts: &Parts) -> Result<Response, Problem> {
    if parts.method != Method::GET {
        return Err(Problem::method_not_allowed("GET, OPTIONS"));
    }
    let wanted = Wanted::parse(parts)?;
    for filter in &wanted.filters {
        if !caller.grants.may_subscribe(filter) {
            return Err(caller.denied());
        }
    }
    let shape = wanted.shape;
    let is_lost = wanted.is_lost;
    let stream = Stream::begin(node, caller, wanted);
    let events = futures_util::stream::unfold(stream, |mut stream| async move {
        Some((Ok::<_, Infallible>(stream.next().await?), stream))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(shape.content_type()));
    // Nothing on the way may keep it, or hold it back to compress it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    if parts.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    if is_lost {
        headers.insert(HeaderName::from_static("x-resume"), HeaderValue::from_static("lost"));
    }
    Ok(response)
}

impl Wanted {
    fn parse(parts: &Parts) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::bad_request("the query is not form-encoded"))?;
        let named = |name: &str| {
            let values = parameters.iter().filter(move |(known, _)| known == name);
            values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let mut filters = Vec::new();
        for text in named("topic") {
            let filter = TopicFilter::parse(text)
                .map_err(|invalid| Problem::bad_request(format!("topic {text:?}: {invalid}")))?;
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        if filters.is_empty() {
            return Err(Problem::bad_request("name at least one topic or filter: ?topic=…"));
        }
        let in_header = parts.headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or_default());
        let in_query = START_PARAMETERS.iter().flat_map(|name| named(name)).next();
        let start = in_header.or(in_query).unwrap_or("now").parse::<Bookmark>();
        // A place in one topic says nothing of several.
        let start = start.and_then(|start| start.subscriptions(&filters).map(|_| start));
        let padding_bytes = named("padding").first().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let is_single = matches!(&filters[..], [filter] if filter.as_topic().is_some());
        let shape = shape_of(&parts.headers, is_single && !named("data").contains(&"envelope"))?;
        Ok(Self {
            shape,
            is_lost: start.is_err(),
            start: start.unwrap_or(Bookmark::Latest),
            filters,
            padding_bytes: padding_bytes.min(EVENT_STREAM_PADDING_BYTES_MAX),
        })
    }
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

/// An answer while it lasts.
struct Stream {
    node: Arc<Node>,
    reader: Reader,
    filters: Vec<TopicFilter>,
    start: Bookmark,
    shape: Shape,
    tracker: Tracker,
    /// Whether the bookmark says the same for every reader.
    is_single: bool,
    /// A message was written.
    has_begun: bool,
    /// What is to be written before anything else is looked at: a turn's worth at most.
    pending: VecDeque<Bytes>,
    heartbeat_at: Instant,
    /// When the reader is sent away.
    ends_at: Option<Instant>,
    is_over: bool,
}

impl Stream {
    fn begin(node: &Arc<Node>, caller: &Caller, wanted: Wanted) -> Self {
        let Wanted { filters, start, is_lost, shape, padding_bytes } = wanted;
        // It was checked that the bookmark fits.
        let subscriptions = start.subscriptions(&filters).unwrap_or_default();
        let mut prelude = BytesMut::new();
        if matches!(shape, Shape::Payload | Shape::Envelope) {
            encode_prelude(spread(EVENT_SOURCE_RETRY_MS), padding_bytes, &mut prelude);
            if is_lost {
                // `EventSource` shows no header, and no event without data.
                prelude.extend_from_slice(b"event: gap\ndata: {\"reason\":\"unknown_bookmark\"}\n\n");
            }
        } else if is_lost {
            prelude.extend_from_slice(if shape == Shape::Sequence { b"\x1e" } else { b"" });
            prelude.extend_from_slice(b"{\"gap\":{\"reason\":\"unknown_bookmark\"}}\n");
        }
        let pending = [prelude.freeze()].into_iter().filter(|prelude| !prelude.is_empty()).collect();
        let since = Time(clock::wall().0.saturating_sub(EVENT_SOURCE_CHECKPOINT_MARGIN_MS));
        Self {
            reader: Reader::begin(node, caller.grants.clone(), subscriptions),
            node: Arc::clone(node),
            tracker: Tracker::new(&filters, &start, since),
            is_single: matches!(&filters[..], [filter] if filter.as_topic().is_some()),
            filters,
            start,
            shape,
            has_begun: false,
            pending,
            heartbeat_at: next_heartbeat(),
            ends_at: None,
            is_over: false,
        }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                self.heartbeat_at = next_heartbeat();
                return Some(bytes);
            }
            if self.is_over {
                return None;
            }
            while self.pending.len() < EVENTS_PER_TURN_MAX
                && !self.is_over
                && let Some(outgoing) = self.reader.take()
            {
                self.push(outgoing);
            }
            if self.pending.is_empty() && !self.is_over {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        let until = self.ends_at.map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at));
        match self.reader.wait(until).await {
            Woken::Outgoing => {}
            Woken::Draining => {
                let spread = self.node.settings().drain.spread.mul_f64(chance::range(0.0..=1.0));
                self.ends_at = Some(clock::instant(clock::monotonic() + spread));
            }
            Woken::Due if self.ends_at.is_some_and(|at| at <= clock::instant(clock::monotonic())) => {
                let goodbye = Goodbye::new(CloseReason::GoingAway, "this node is going away");
                let retry_after_ms = Some(self.node.reconnect_after_ms());
                self.end(Goodbye { retry_after_ms, ..goodbye });
            }
            Woken::Due => self.beat(),
        }
    }

    /// A sign of life, and the bookmark that lets a quiet reader come back without reading what it has seen.
    fn beat(&mut self) {
        self.heartbeat_at = next_heartbeat();
        let mut beat = BytesMut::new();
        encode_event(self.shape, &Event::Heartbeat, &mut beat);
        if self.reader.is_at_head() {
            let before = clock::wall().0.saturating_sub(EVENT_SOURCE_CHECKPOINT_MARGIN_MS);
            self.tracker.checkpoint(Time(before));
            self.put_bookmark(&mut beat);
        }
        self.pending.push_back(beat.freeze());
    }

    /// Writes the bookmark by itself: no event, but what the next attempt will say.
    fn put_bookmark(&self, out: &mut BytesMut) {
        if let (Shape::Payload | Shape::Envelope, Some(bookmark)) = (self.shape, self.tracker.bookmark()) {
            encode_bookmark(self.shape, &bookmark, out);
            out.extend_from_slice(b"\n");
        }
    }

    fn push(&mut self, outgoing: Outgoing<SharedDelivery>) {
        match outgoing {
            Outgoing::Delivery(shared) => self.push_delivery(&shared),
            Outgoing::Event(event) => self.push_event(&event),
        }
    }

    fn push_delivery(&mut self, shared: &SharedDelivery) {
        let delivery = &shared.delivery;
        if !self.tracker.pass(&delivery.topic, delivery.position, delivery.time) {
            return;
        }
        self.has_begun = true;
        if self.is_single {
            return self.pending.push_back(shared.event(self.shape));
        }
        if delivery.position.is_some()
            && let Some(bookmark) = self.tracker.bookmark()
        {
            let mut line = BytesMut::new();
            encode_bookmark(self.shape, &bookmark, &mut line);
            if !line.is_empty() {
                self.pending.push_back(line.freeze());
            }
        }
        self.pending.push_back(shared.event_line(self.shape));
    }

    fn push_event(&mut self, event: &Event) {
        match event {
            Event::Reply { result: Ok(Reply::Subscribed(results)), .. } => return self.subscribed(results),
            Event::Reply { result: Err(error), .. } => return self.fail(error),
            Event::Lost(lost) => {
                if let Some(range) = &lost.range {
                    let until = Position { epoch: range.epoch, offset: range.until };
                    self.tracker.skip(&lost.topic, until);
                }
            }
            Event::Reset { topic, epoch } => {
                self.tracker.skip(topic, Position { epoch: *epoch, ..Position::default() });
            }
            Event::Goodbye(goodbye) => return self.end(goodbye.clone()),
            _ => {}
        }
        let mut bytes = BytesMut::new();
        encode_event(self.shape, event, &mut bytes);
        if !bytes.is_empty() {
            self.pending.push_back(bytes.freeze());
        }
    }

    /// The subscriptions were made: from here on the reader has a bookmark, even if nothing comes.
    fn subscribed(&mut self, results: &[Result<Subscribed, Error>]) {
        if let Some(Err(error)) = results.iter().find(|result| result.is_err()) {
            return self.fail(error);
        }
        let subscribed: Vec<_> = results.iter().flatten().collect();
        if !self.has_begun {
            let since = subscribed.iter().map(|subscribed| subscribed.since).min().unwrap_or_default();
            let position = subscribed.first().and_then(|subscribed| subscribed.positions.first());
            let start = match position {
                Some((_, position)) if self.is_single => Bookmark::At(*position),
                _ => self.start.clone(),
            };
            self.tracker = Tracker::new(&self.filters, &start, since);
        }
        let mut bytes = BytesMut::new();
        self.put_bookmark(&mut bytes);
        if !bytes.is_empty() {
            self.pending.push_back(bytes.freeze());
        }
    }

    /// A subscription could not be made. An `EventSource` takes any status but 200 for the end of all attempts, so it is told here.
    fn fail(&mut self, error: &Error) {
        let reason = if error.code.is_retryable() { CloseReason::Overloaded } else { CloseReason::Forbidden };
        let pause = error.retry_after_ms.unwrap_or(EVENT_SOURCE_RETRY_MS);
        self.end(Goodbye { retry_after_ms: Some(spread(pause)), ..Goodbye::new(reason, error.text.clone()) });
    }

    fn end(&mut self, goodbye: Goodbye) {
        let mut bytes = BytesMut::new();
        encode_event(self.shape, &Event::Goodbye(goodbye), &mut bytes);
        self.pending.push_back(bytes.freeze());
        self.is_over = true;
    }
}

/// Give or take a third, so that readers that began together do not stay together.
fn next_heartbeat() -> Instant {
    clock::instant(clock::monotonic() + EVENT_SOURCE_HEARTBEAT.mul_f64(chance::range(1.0..=1.33)))
}

/// A pause of at least so many milliseconds, and at most twice as many.
fn spread(milliseconds: u64) -> u64 {
    let pause = Duration::from_millis(milliseconds).mul_f64(chance::range(1.0..=2.0));
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}
