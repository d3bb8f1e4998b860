//! `POST /v1/poll`: what is new on several topics, in one request (contract LP-5).
//!
//! A topic's head is known by the same [`View`](super::stream) that its stream's polls wait for, so a poll that finds nothing reads no store,
//! however many topics it names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::event::{Event, Lost, LostRange};
use bongsu_protocol::eventstream::{Bookmark, Shape};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;
use bytes::BytesMut;
use futures_util::future::select_all;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::body::Bodies;
use super::door::{Caller, Door};
use super::parking::Parking;
use super::problem::Problem;
use super::stream::{Follower, Streams};
use crate::clock;
use crate::drain::Phase;
use crate::history;
use crate::limits::{POLL_INTERVAL_SECONDS, POLL_TOPICS_MAX, STREAM_CHUNK_BYTES};
use crate::metrics::Transport;
use crate::node::Node;

/// How often to ask at most, in seconds, for those who do not wait: GitHub's name for it.
pub(super) const POLL_INTERVAL: HeaderName = HeaderName::from_static("x-poll-interval");

/// A poll as it is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Each with the position that its reader has seen, or `earliest` or `now`.
    topics: BTreeMap<String, String>,
    /// How long to wait for something new.
    #[serde(default)]
    wait_ms: u64,
}

/// A topic of a poll.
struct Place {
    follower: Follower,
    topic: Topic,
    seen: Seen,
}

/// What a reader has seen of a topic.
#[derive(Debug, Clone, Copy)]
enum Seen {
    Nothing,
    UpTo(Position),
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// Events as the JSON protocol has them, parted by commas.
    events: BytesMut,
    /// There is more than one answer holds.
    has_more: bool,
}

/// Answers a poll.
pub(super) async fn answer(
    door: Arc<Door>,
    streams: Arc<Streams>,
    bodies: Arc<Bodies>,
    request: Request,
) -> Response {
    let work = |caller: Caller, request: Request| Box::pin(poll(streams, bodies, caller, request));
    door.pass(request, work).await
}

async fn poll(
    streams: Arc<Streams>,
    bodies: Arc<Bodies>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let node = Arc::clone(streams.node());
    let (mut places, wait, parking, stay) = {
        let (mut parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(Problem::method_not_allowed("POST, OPTIONS"));
        }
        let parking: Parking = parts.extensions.remove().unwrap_or_default();
        let body = bodies.receive(&parts.headers, body).await?;
        caller.check()?;
        let asked: Asked = serde_json::from_slice(&body)
            .map_err(|error| Problem::bad_request(format!("{{\"topics\": {{topic: position}}}}: {error}")))?;
        let places = places_of(&streams, &caller, &asked).await?;
        let peer = parts.extensions.get().copied();
        (places, asked.wait_ms, parking, caller.park(&node, peer, Transport::LongPoll))
    };
    let longest = node.settings().http.long_poll_timeout;
    let until = clock::instant(clock::monotonic() + Duration::from_millis(wait).min(longest));
    drop(caller);
    let until = stay.until(until);
    let mut waiting = None;
    let mut phase = node.drain().subscribe();
    let (found, is_draining) = loop {
        let found = look(&node, &mut places).await?;
        // Reading took time, and so did waiting for it.
        stay.check()?;
        if wait == 0 || !found.events.is_empty() {
            break (found, false);
        }
        if waiting.is_none() {
            waiting = Some(parking.begin());
        }
        let changes = places.iter_mut().map(|place| Box::pin(place.follower.changed()));
        tokio::select! {
            biased;
            () = stay.ended() => {}
            _ = select_all(changes) => {}
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => break (found, true),
            () = tokio::time::sleep_until(until) => {
                stay.check()?;
                break (found, false);
            }
        }
    };
    Ok(respond(&places, &found, wait == 0, is_draining))
}

/// The topics that are asked for, if this caller may read all of them and all are logs.
async fn places_of(
    streams: &Arc<Streams>,
    caller: &Caller,
    Asked { topics, wait_ms }: &Asked,
) -> Result<Vec<Place>, Problem> {
    if topics.is_empty() || topics.len() > POLL_TOPICS_MAX {
        return Err(Problem::bad_request(format!("a poll is of 1 to {POLL_TOPICS_MAX} topics")));
    }
    let mut places = Vec::with_capacity(topics.len());
    for (name, from) in topics {
        let wrong = |reason: String| Problem::bad_request(format!("topic {name:?}: {reason}"));
        let topic = Topic::parse(name).map_err(|invalid| wrong(invalid.to_string()))?;
        caller.check_history(&topic)?;
        if *wait_ms > 0 {
            caller.check_subscribe(&topic)?;
        }
        if !streams.node().policies().for_topic(&topic).is_durable() {
            return Err(Problem::not_found(format!(
                "topic {name:?} keeps no history, so it cannot be polled"
            )));
        }
        let from: Bookmark = from.parse().map_err(|_| wrong(format!("{from:?} is no position")))?;
        let follower = streams.follow(&topic).await?;
        let seen = match from {
            Bookmark::Earliest => Seen::Nothing,
            Bookmark::Latest => Seen::UpTo(follower.head()),
            Bookmark::At(position) => Seen::UpTo(position),
            Bookmark::Last(_) => {
                return Err(wrong("a poll begins with earliest or now, or goes on at a position".to_owned()));
            }
            Bookmark::Several { .. } => return Err(wrong("this is a bookmark of several topics".to_owned())),
        };
        places.push(Place { follower, topic, seen });
    }
    Ok(places)
}

/// Takes what is new, as far as one answer goes.
async fn look(node: &Arc<Node>, places: &mut [Place]) -> Result<Found, Problem> {
    let mut found = Found::default();
    for place in places {
        // What comes from here on wakes the next wait.
        let head = place.follower.look();
        let is_at_head = match place.seen {
            // The log was deleted: the next one will announce itself with a larger epoch.
            Seen::UpTo(_) if head.epoch.0 == 0 => true,
            Seen::UpTo(seen) => seen.epoch == head.epoch && seen.offset >= head.offset,
            Seen::Nothing => head.offset.0 == 0,
        };
        if is_at_head {
            continue;
        }
        if found.events.len() >= STREAM_CHUNK_BYTES {
            found.has_more = true;
            break;
        }
        place.read(node, head, &mut found).await?;
    }
    Ok(found)
}

impl Place {
    /// Reads a page of the log and says what of it is missing.
    async fn read(&mut self, node: &Arc<Node>, head: Position, found: &mut Found) -> Result<(), Problem> {
        let after = match self.seen {
            Seen::UpTo(seen) if seen.epoch == head.epoch => Some(seen.offset),
            Seen::UpTo(_) => {
                found.push_event(&Event::Reset { topic: self.topic.clone(), epoch: head.epoch });
                None
            }
            Seen::Nothing => None,
        };
        let from = Position { epoch: head.epoch, offset: after.unwrap_or_default() };
        let page = self.follower.page(node, from).await?;
        let mut last = from;
        for (position, _, message) in page.items.iter().filter(|(position, ..)| position.epoch == head.epoch)
        {
            if found.events.len() >= STREAM_CHUNK_BYTES {
                found.has_more = true;
                break;
            }
            if let Some(after) = after
                && last == from
                && position.offset.0 > after.0 + 1
            {
                self.lose(after, Offset(position.offset.0 - 1), head, found);
            }
            found.push(&message.event_line(Shape::Lines));
            last = *position;
        }
        // The bounds of a page from memory may be behind: then it is no answer, but not for long.
        if page.items.is_empty() && page.head < head {
            return Err(history::unavailable().into());
        }
        if last == from && !found.has_more {
            // All that was there was taken by retention.
            if let Some(after) = after {
                self.lose(after, head.offset, head, found);
            }
            last = head;
        }
        found.has_more |= last.offset < head.offset;
        self.seen = Seen::UpTo(last);
        Ok(())
    }

    fn lose(&self, after: Offset, until: Offset, head: Position, found: &mut Found) {
        let from = Offset(after.0 + 1);
        let range = LostRange { epoch: head.epoch, from, until };
        let count = until.0 + 1 - from.0;
        found.push_event(&Event::Lost(Lost { topic: self.topic.clone(), range: Some(range), count }));
    }
}

impl Found {
    fn push_event(&mut self, event: &Event) {
        let mut json = BytesMut::new();
        codec::encode_event(Format::Json, event, &mut json);
        self.push(&json);
    }

    fn push(&mut self, json: &[u8]) {
        if !self.events.is_empty() {
            self.events.extend_from_slice(b",\n");
        }
        self.events.extend_from_slice(json.trim_ascii_end());
    }
}

fn respond(places: &[Place], found: &Found, is_plain: bool, is_draining: bool) -> Response {
    let positions: serde_json::Map<_, _> = places
        .iter()
        .map(|place| {
            let position = match place.seen {
                Seen::UpTo(position) => position.to_string(),
                Seen::Nothing => "earliest".to_owned(),
            };
            (place.topic.as_str().to_owned(), position.into())
        })
        .collect();
    let mut body = BytesMut::with_capacity(found.events.len() + 64 * places.len() + 64);
    body.extend_from_slice(b"{\"events\":[");
    body.extend_from_slice(&found.events);
    // Texts: nothing that JSON cannot hold.
    let positions = serde_json::to_string(&positions).unwrap_or_default();
    body.extend_from_slice(format!("],\"positions\":{positions},\"more\":{}}}", found.has_more).as_bytes());
    let mut response = Response::new(Body::from(body.freeze()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_plain && !found.has_more {
        hint(headers);
    }
    if is_draining {
        // The next poll is for another node.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Says how often it makes sense to ask again without waiting.
pub(super) fn hint(headers: &mut HeaderMap) {
    headers.insert(POLL_INTERVAL, POLL_INTERVAL_SECONDS.into());
}
