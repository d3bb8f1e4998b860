//! `/v1/events`: messages as they come, as server-sent events or as lines of JSON.
//!
//! The reader is a session like a WebSocket's. The next event is made when the socket took the one before, so a slow
//! reader costs its session's outbox and is served from the log. A message's bytes are made once for all readers of the same shape; of a
//! stream of one topic even its `id`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::{Event, Reply, Subscribed};
use bongsu_protocol::eventstream::{
    Bookmark, Shape, Tracker, encode_bookmark, encode_event, encode_prelude, encode_retry,
};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::{CloseReason, Error, Goodbye};
use bongsu_protocol::session::{Grants, Outgoing};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Version};
use tokio::time::Instant;

use super::asked::Wanted;
use super::body::Bodies;
use super::door::{Caller, Door};
use super::problem::Problem;
use super::reader::{Reader, Woken};
use super::stream::{Streams, is_end};
use crate::auth::{Due, Expiry, Identity, farewell};
use crate::chance;
use crate::clock;
use crate::control::Holder;
use crate::delivery::SharedDelivery;
use crate::limits::{
    EVENT_SOURCE_CHECKPOINT_MARGIN_MS, EVENT_SOURCE_HEARTBEAT, EVENT_SOURCE_RETRY_MS, EVENTS_PER_TURN_MAX,
};
use crate::metrics::{METRICS, Transport};
use crate::node::Node;
use crate::quota::Hold;

/// How much of what a reader missed it will get; `EventSource` shows no headers, and reads of gaps in events.
const RESUME: HeaderName = HeaderName::from_static("x-resume");

/// The bookmark that the answer begins with.
const START: HeaderName = HeaderName::from_static("x-start");

/// Answers a request for events.
pub(super) async fn answer(
    door: Arc<Door>,
    streams: Arc<Streams>,
    bodies: Arc<Bodies>,
    request: Request,
) -> Response {
    let work = |caller: Caller, request: Request| async move {
        let (parts, body) = request.into_parts();
        let wanted = match parts.method.as_str() {
            "GET" => Wanted::of_query(&parts)?,
            // What a URL has no room for.
            "POST" | "QUERY" => {
                let body = bodies.receive(&parts.headers, body).await?;
                caller.check()?;
                Wanted::of_body(&parts, &body)?
            }
            _ => return Err(Problem::method_not_allowed("GET, POST, QUERY, OPTIONS")),
        };
        open(&streams, &caller, &parts, wanted).await
    };
    door.pass(request, work).await
}

async fn open(
    streams: &Arc<Streams>,
    caller: &Caller,
    parts: &Parts,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let node = streams.node();
    for filter in &wanted.filters {
        let is_latest = matches!(wanted.start, Bookmark::Latest) && wanted.positions.is_empty();
        if !caller.grants().may_subscribe(filter) || !(is_latest || caller.grants().may_read_history(filter))
        {
            return Err(caller.denied());
        }
    }
    let resumed = match (&wanted.filters[..], &wanted.start) {
        ([filter], Bookmark::At(position)) => filter.as_topic().map(|topic| (topic, *position)),
        _ => None,
    };
    if let Some((topic, position)) = &resumed
        && wanted.is_again
        && streams.is_over(topic, *position).await
    {
        // Whoever has everything of a closed stream need not come again (contract SSE-5).
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let resume = match resumed {
        _ if wanted.is_lost => Some("lost"),
        Some((topic, position)) => how_much_is_kept(node, topic, position).await,
        None => None,
    };
    let shape = wanted.shape;
    let start = HeaderValue::try_from(wanted.start.to_string()).ok();
    let hold =
        node.quotas().enter_user(caller.identity.subject(), &caller.identity.limits).map_err(Error::from)?;
    let mut stream = Stream::begin(node, &caller.identity, wanted, hold);
    let holder = Holder {
        identity: Arc::clone(&caller.identity),
        peer: parts.extensions.get().copied(),
        transport: stream.counted.transport,
    };
    stream.reader.introduce(holder);
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
    if let Some(resume) = resume {
        headers.insert(RESUME, HeaderValue::from_static(resume));
    }
    if let Some(start) = start {
        headers.insert(START, start);
    }
    Ok(response)
}

/// What is published on a topic from a place on, as server-sent events: each `data` is the event as the JSON protocol has it. A session that may
/// read just this, and that counts as an event stream; nothing is read ahead of whoever takes the events.
pub fn tail(
    node: &Arc<Node>,
    topic: &Topic,
    start: Bookmark,
) -> impl futures_util::Stream<Item = Bytes> + Send + use<> {
    let filter = TopicFilter::from(topic.clone());
    let all = vec![filter.clone()];
    let grants = Grants { subscribe: all.clone(), history: all, ..Grants::default() };
    let stream = Stream::begin(node, &Identity::of(grants), Wanted::whole(filter, start), None);
    futures_util::stream::unfold(stream, |mut stream| async move { Some((stream.next().await?, stream)) })
}

/// How much of what came after a position is kept: `full`, `partial`, or `lost` where the log was made anew. `None` if nobody can tell.
async fn how_much_is_kept(node: &Arc<Node>, topic: Topic, position: Position) -> Option<&'static str> {
    let range = HistoryRange::Forward(Start::After(position));
    let page = node.history().catch_up(HistoryQuery { topic, range, limit: 1 }).await.ok()?;
    if page.head.epoch != position.epoch {
        return Some("lost");
    }
    let next = page.items.first().map(|(next, ..)| next.offset.0);
    let is_whole = next.map_or(page.head <= position, |next| next <= position.offset.0 + 1);
    Some(if is_whole { "full" } else { "partial" })
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
    /// When the reader is sent away since the node goes away.
    leaves_at: Option<Instant>,
    /// When the reader's token ends.
    token: Option<Expiry>,
    /// When the answer has lasted as long as its client wanted.
    ends_at: Option<Instant>,
    /// What a bookmark says holds for all topics. Not so while a reader that came with positions of its own has not read from all of them.
    has_bookmark: bool,
    is_over: bool,
    counted: Counted,
    /// Its place among the sessions of its user.
    _hold: Option<Hold>,
}

impl Stream {
    fn begin(node: &Arc<Node>, identity: &Identity, wanted: Wanted, hold: Option<Hold>) -> Self {
        let subscriptions = wanted.subscriptions();
        let Wanted { filters, start, positions, is_lost, shape, padding_bytes, max_age, .. } = wanted;
        let has_bookmark = positions.is_empty();
        // The log is read from places that no bookmark has room for: until it was, nothing is known to be seen.
        let start = if has_bookmark { start } else { Bookmark::Earliest };
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
            _hold: hold,
            reader: Reader::begin(node, Arc::clone(&identity.grants), subscriptions),
            node: Arc::clone(node),
            tracker: Tracker::new(&filters, &start, since),
            is_single: matches!(&filters[..], [filter] if filter.as_topic().is_some()),
            filters,
            start,
            shape,
            has_begun: false,
            pending,
            heartbeat_at: next_heartbeat(),
            leaves_at: None,
            token: Expiry::of(identity),
            ends_at: max_age.map(|age| clock::instant(clock::monotonic() + age)),
            has_bookmark,
            is_over: false,
            counted: Counted::begin(shape),
        }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.is_over && self.reader.is_expelled() {
                // What was taken before is nothing for them any more; what is left to take is why.
                self.pending.clear();
            }
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
        let token_at = self.token.as_ref().map(|token| clock::instant(token.next_due()));
        let ends = [self.leaves_at, self.ends_at, token_at].into_iter().flatten();
        let until = ends.fold(self.heartbeat_at, Instant::min);
        let woken = self.reader.wait(until).await;
        let now = clock::instant(clock::monotonic());
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match woken {
            Woken::Outgoing => {}
            Woken::Draining => {
                let spread = self.node.settings().drain.spread.mul_f64(chance::range(0.0..=1.0));
                self.leaves_at = Some(clock::instant(clock::monotonic() + spread));
            }
            Woken::Due if is_due(self.leaves_at) => {
                let goodbye = Goodbye::new(CloseReason::GoingAway, "this node is going away");
                let retry_after_ms = Some(self.node.reconnect_after_ms());
                self.end(Goodbye { retry_after_ms, ..goodbye });
            }
            Woken::Due if is_due(self.ends_at) => self.end_of_age(),
            Woken::Due if is_due(token_at) => self.look_at_token(),
            Woken::Due => self.beat(),
        }
    }

    /// Warns of the end of the token, or ends with it. The reader comes again with another one and its newest bookmark, and misses nothing:
    /// a token for an answer under way would have to find the node that makes it.
    fn look_at_token(&mut self) {
        let due = self.token.as_mut().and_then(|token| token.take_due(clock::monotonic()));
        match due {
            Some(Due::Warning(expiring)) => {
                let mut bytes = BytesMut::new();
                encode_event(self.shape, &Event::TokenExpiring(expiring), &mut bytes);
                self.pending.push_back(bytes.freeze());
            }
            Some(Due::End) => {
                let mut bytes = BytesMut::new();
                self.put_bookmark(&mut bytes);
                if !bytes.is_empty() {
                    self.pending.push_back(bytes.freeze());
                }
                self.end(farewell());
            }
            None => {}
        }
    }

    /// The answer has lasted long enough. No goodbye: its client goes on at once.
    fn end_of_age(&mut self) {
        let mut bytes = BytesMut::new();
        self.put_bookmark(&mut bytes);
        if matches!(self.shape, Shape::Payload | Shape::Envelope) {
            encode_retry(spread(EVENT_SOURCE_RETRY_MS), &mut bytes);
        }
        if !bytes.is_empty() {
            self.pending.push_back(bytes.freeze());
        }
        self.is_over = true;
    }

    /// A sign of life, and the bookmark that lets a quiet reader come back without reading what it has seen.
    fn beat(&mut self) {
        self.heartbeat_at = next_heartbeat();
        let mut beat = BytesMut::new();
        encode_event(self.shape, &Event::Heartbeat, &mut beat);
        if self.reader.is_at_head() {
            let before = clock::wall().0.saturating_sub(EVENT_SOURCE_CHECKPOINT_MARGIN_MS);
            self.tracker.checkpoint(Time(before));
            self.has_bookmark = true;
            self.put_bookmark(&mut beat);
        }
        self.pending.push_back(beat.freeze());
    }

    /// Writes the bookmark by itself: no event, but what the next attempt will say.
    fn put_bookmark(&self, out: &mut BytesMut) {
        if let (Shape::Payload | Shape::Envelope, Some(bookmark)) = (self.shape, self.tracker.bookmark())
            && self.has_bookmark
        {
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
            // What comes after the end is no part of the stream; the next attempt is told that this was all.
            self.is_over = is_end(&delivery.message);
            return self.pending.push_back(shared.event(self.shape));
        }
        if delivery.position.is_some()
            && self.has_bookmark
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
        let reason = goodbye.reason;
        self.counted.reason = reason;
        let mut bytes = BytesMut::new();
        encode_event(self.shape, &Event::Goodbye(goodbye), &mut bytes);
        self.pending.push_back(bytes.freeze());
        self.reader.ends(reason);
        self.is_over = true;
    }
}

/// A reader, counted among the sessions.
struct Counted {
    transport: Transport,
    /// Why it ends, unless its client goes.
    reason: CloseReason,
}

impl Counted {
    fn begin(shape: Shape) -> Self {
        let transport = match shape {
            Shape::Payload | Shape::Envelope => Transport::EventStream,
            Shape::Lines | Shape::Sequence => Transport::JsonStream,
        };
        METRICS.count_open(transport);
        Self { transport, reason: CloseReason::Normal }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.count_close(self.transport, self.reason);
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
