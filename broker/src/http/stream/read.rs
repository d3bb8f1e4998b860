//! Reading: pages of a stream, and what is said of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::limits::PAGE_MESSAGES_MAX;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Uri};

use super::Streams;
use super::body::{Chunk, ChunkKey, Dress, Mode};
use super::fold::is_end_only;
use super::offset::{Asked, number, parse, token};
use super::view::{State, View};
use crate::delivery::SharedDelivery;
use crate::history;
use crate::http::door::Caller;
use crate::http::poll::hint;
use crate::http::problem::Problem;
use crate::limits::STREAM_CHUNK_BYTES;
use crate::metrics::Transport;

pub(super) const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
pub(super) const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
pub(super) const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
pub(super) const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
pub(super) const TTL: HeaderName = HeaderName::from_static("stream-ttl");
pub(super) const EXPIRES_AT: HeaderName = HeaderName::from_static("stream-expires-at");
pub(super) const TRUE: HeaderValue = HeaderValue::from_static("true");

/// What a read asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub from: Asked,
    pub live: Live,
    pub cursor: Option<u64>,
    /// How long a long poll waits at most, if its client says so.
    pub patience: Option<Duration>,
}

/// Whether a read waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    No,
    LongPoll,
    EventSource,
}

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    /// After this place.
    pub place: Position,
    /// Whether what is no longer kept may be passed over: only where nobody asked for it by its offset.
    pub is_start: bool,
}

impl Wanted {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::bad_request("the query is not form-encoded"))?;
        let once = |name: &str| {
            let mut values =
                parameters.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err(Problem::bad_request(format!("{name} is given twice"))),
            }
        };
        let live = match once("live")? {
            None => Live::No,
            Some("long-poll") => Live::LongPoll,
            Some("sse") => Live::EventSource,
            Some(_) => return Err(Problem::bad_request("live is long-poll or sse")),
        };
        let from = match once("offset")? {
            Some(offset) => parse(offset)
                .ok_or_else(|| Problem::bad_request("this is no offset that was given out here"))?,
            None if live == Live::No => Asked::Start,
            None => return Err(Problem::bad_request("a live read needs an offset")),
        };
        let cursor = once("cursor")?.and_then(number);
        let patience = once("timeout")?.map(|seconds| {
            number(seconds)
                .map(Duration::from_secs)
                .ok_or_else(|| Problem::bad_request("timeout is a whole number of seconds"))
        });
        Ok(Self { from, live, cursor, patience: patience.transpose()? })
    }

    /// Refuses whoever may not read what is asked for: what is kept, what comes from now on, or both.
    fn check(&self, caller: &Caller, topic: &Topic) -> Result<(), Problem> {
        if self.from != Asked::Now {
            caller.check_history(topic)?;
        }
        if self.live != Live::No || self.from == Asked::Now {
            caller.check_subscribe(topic)?;
        }
        Ok(())
    }
}

impl Streams {
    /// GET.
    pub(super) async fn read(
        self: &Arc<Self>,
        caller: Caller,
        topic: Topic,
        mut parts: Parts,
    ) -> Result<Response, Problem> {
        let wanted = Wanted::parse(&parts.uri)?;
        wanted.check(&caller, &topic)?;
        let view = self.existing(&topic).await?;
        self.note_touch(&view);
        match wanted.live {
            Live::No => self.catch_up(&caller, &view, &wanted, &parts.headers).await,
            Live::EventSource => {
                let peer = parts.extensions.get().copied();
                let stay = caller.park(self.node(), peer, Transport::StreamEvents);
                self.event_source(stay, view, &wanted)
            }
            Live::LongPoll => {
                let parking = parts.extensions.remove().unwrap_or_default();
                let peer = parts.extensions.get().copied();
                let stay = caller.park(self.node(), peer, Transport::LongPoll);
                // What came with the request is slices of the connection's buffer, which would stay as long as the poll.
                drop(parts);
                let is_anonymous = caller.is_anonymous;
                drop(caller);
                self.long_poll(is_anonymous, stay, view, &wanted, &parking).await
            }
        }
    }

    /// HEAD.
    pub(super) async fn describe(self: &Arc<Self>, topic: &Topic) -> Result<Response, Problem> {
        let view = self.existing(topic).await?;
        let state = view.state();
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        say_type(headers, &state);
        headers.insert(NEXT_OFFSET, value(&token(state.tail())));
        if state.is_closed() {
            headers.insert(CLOSED, TRUE);
        }
        if let Some(record) = &state.record {
            if let Some(ttl) = record.ttl {
                headers.insert(TTL, ttl.into());
            }
            if let Some(expires) = &record.expires_at {
                headers.insert(EXPIRES_AT, value(&expires.text));
            }
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    async fn catch_up(
        self: &Arc<Self>,
        caller: &Caller,
        view: &Arc<View>,
        wanted: &Wanted,
        asked: &HeaderMap,
    ) -> Result<Response, Problem> {
        let from = begin(&view.state(), wanted.from)?;
        let chunk = self.chunk(view, from, Dress::Plain).await?;
        caller.check()?;
        let mut response = answer(&view.state(), from, &chunk);
        let headers = response.headers_mut();
        if wanted.from == Asked::Now {
            headers.remove(header::ETAG);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            *response.body_mut() = Body::from(chunk.body);
            return Ok(response);
        }
        headers.insert(header::CACHE_CONTROL, keep(caller.is_anonymous, &chunk));
        if chunk.is_empty {
            hint(headers);
        }
        if is_known(asked, headers.get(header::ETAG)) {
            // RFC 9110, 15.4.5: what a cache needs to go on with what it has.
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(header::CONTENT_TYPE);
            return Ok(response);
        }
        *response.body_mut() = Body::from(chunk.body);
        Ok(response)
    }

    /// The messages after a place, as far as one answer goes.
    pub(super) async fn chunk(
        self: &Arc<Self>,
        view: &Arc<View>,
        from: Begin,
        dress: Dress,
    ) -> Result<Chunk, Problem> {
        let key = {
            let state = view.state();
            let (mode, tail) = (Mode::of(state.content_type()), state.tail());
            if state.is_at_tail(from.place) {
                // The common case of a poll: no store, no memory, no waiting.
                return Ok(Chunk { body: mode.body(&[], dress), next: tail, is_empty: true, n_erased: 0 });
            }
            ChunkKey {
                topic: view.topic.clone(),
                incarnation: state.incarnation(),
                from: from.place,
                tail,
                is_from_start: from.is_start,
                mode,
                dress,
            }
        };
        let (mode, tail) = (key.mode, key.tail);
        let make = || async move {
            let messages = self.messages(view, from, tail).await?;
            let last = messages.last().map(|(place, _)| *place);
            let messages: Vec<_> = messages.into_iter().map(|(_, message)| message).collect();
            let n_erased = messages.iter().filter(|message| message.delivery.erased).count();
            let body = mode.body(&messages, dress);
            Ok(Chunk { body, next: last.unwrap_or(tail), is_empty: messages.is_empty(), n_erased })
        };
        self.chunks.get(key, make).await
    }

    /// The messages after one place and up to another, with their places; at least one if there is any.
    pub(super) fn messages<'a>(
        self: &'a Arc<Self>,
        view: &'a Arc<View>,
        from: Begin,
        until: Position,
    ) -> BoxFuture<'a, Result<Vec<(Position, SharedDelivery)>, Problem>> {
        // Boxed, since what a fork does not have itself is its source's.
        async move {
            let fork = view.state().record.as_ref().and_then(|record| record.fork.clone());
            let Some(fork) = fork else {
                return self.own_messages(view, from.place.offset.0, until.offset.0, from.is_start).await;
            };
            let base = fork.base();
            let mut messages = Vec::new();
            if from.place.offset < base.offset {
                let source = Topic::parse(&fork.source)
                    .map_err(|_| Problem::gone("the source of this fork is gone"))?;
                let source = self.find(&source)?;
                source.ready().await?;
                messages = self.messages(&source, from, base.min(until)).await?;
                let bytes: usize = messages.iter().map(|(_, message)| message.bytes()).sum();
                let is_at_base = messages.last().is_none_or(|(last, _)| last.offset >= base.offset);
                if !is_at_base || bytes >= STREAM_CHUNK_BYTES || until.offset <= base.offset {
                    return Ok(messages);
                }
            }
            let after = from.place.offset.0.saturating_sub(base.offset.0);
            let own = until.offset.0 - base.offset.0;
            messages.extend(self.own_messages(view, after, own, from.is_start).await?);
            Ok(messages)
        }
        .boxed()
    }

    /// The messages of the stream's own log between two offsets.
    async fn own_messages(
        &self,
        view: &View,
        after: u64,
        until: u64,
        is_start: bool,
    ) -> Result<Vec<(Position, SharedDelivery)>, Problem> {
        let epoch = view.state().log.head.epoch;
        if epoch.0 == 0 || after >= until {
            return Ok(Vec::new());
        }
        let range = HistoryRange::Forward(Start::After(Position::new(epoch.0, after)));
        let limit = u32::try_from(PAGE_MESSAGES_MAX).unwrap_or(u32::MAX);
        let query = HistoryQuery { topic: view.topic.clone(), range, limit };
        let page = self.node().history().catch_up(query).await?;
        let trimmed = || Problem::gone("messages after this offset are no longer kept; read from -1");
        let mut messages = Vec::new();
        let mut bytes = 0;
        for (position, size, message) in page.items {
            if position.epoch != epoch {
                return Err(trimmed());
            }
            if messages.is_empty() && position.offset.0 > after + 1 && !is_start {
                return Err(trimmed());
            }
            if position.offset.0 > until || bytes >= STREAM_CHUNK_BYTES {
                break;
            }
            bytes += size;
            if !is_end_only(&message.delivery.message) {
                messages.push((view.state().place_of(position), message));
            }
        }
        match messages.is_empty() {
            // The bounds of a page from memory may be behind: then it is no answer, but not for long.
            true if page.head.offset.0 < until => Err(history::unavailable().into()),
            true if !is_start => Err(trimmed()),
            _ => Ok(messages),
        }
    }
}

/// Where a read begins in a stream.
pub(super) fn begin(state: &State, asked: Asked) -> Result<Begin, Problem> {
    let tail = state.tail();
    match asked {
        Asked::Start => Ok(Begin { place: Position::default(), is_start: true }),
        Asked::Now => Ok(Begin { place: tail, is_start: false }),
        Asked::At(place) if place.offset.0 == 0 => Ok(Begin { place: Position::default(), is_start: false }),
        Asked::At(place) => {
            let epoch = state.fork_base().map_or(state.log.head.epoch, |base| base.epoch);
            // A fork of a stream that was empty counts in no epoch.
            if place.epoch != epoch {
                return Err(Problem::gone("this offset is of an earlier stream of this name; read from -1"));
            }
            Ok(Begin { place, is_start: false })
        }
    }
}

/// The answer that holds a chunk, without its body.
pub(super) fn answer(state: &State, from: Begin, chunk: &Chunk) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    say_type(headers, state);
    headers.insert(NEXT_OFFSET, value(&token(chunk.next)));
    let is_up_to_date = state.is_at_tail(chunk.next);
    let is_end = is_up_to_date && state.is_closed();
    if is_up_to_date {
        headers.insert(UP_TO_DATE, TRUE);
    }
    if is_end {
        headers.insert(CLOSED, TRUE);
    }
    let start = if from.is_start { "-1".to_owned() } else { token(from.place) };
    let end = if is_end { ":c" } else { "" };
    // What was written changes in one way only: some of it may be erased.
    let erased = if chunk.n_erased > 0 { format!(":e{}", chunk.n_erased) } else { String::new() };
    let tag = format!("\"{:x}:{start}:{}{erased}{end}\"", state.incarnation(), token(chunk.next));
    headers.insert(header::ETAG, value(&tag));
    response
}

/// How long an answer may be kept. What was written never changes; that nothing was written since does, and costs little to ask.
pub(super) fn keep(is_anonymous: bool, chunk: &Chunk) -> HeaderValue {
    HeaderValue::from_static(match (chunk.is_empty, is_anonymous) {
        (true, _) => "no-cache",
        (false, true) => "public, max-age=60, stale-while-revalidate=300",
        (false, false) => "private, max-age=60, stale-while-revalidate=300",
    })
}

fn say_type(headers: &mut HeaderMap, state: &State) {
    headers.insert(header::CONTENT_TYPE, value(state.content_type()));
}

/// A header's value from what was checked to be one when it came in, or was made here.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// Whether the client has what would be answered (RFC 9110, 13.1.2).
fn is_known(asked: &HeaderMap, tag: Option<&HeaderValue>) -> bool {
    let Some(tag) = tag.and_then(|tag| tag.to_str().ok()) else { return false };
    let lines = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut known = lines.flat_map(|line| line.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
