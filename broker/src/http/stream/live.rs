//! Waiting for what is not there yet: long polls, and event sources of one stream.
//!
//! A parked poll holds no task of its own besides its connection's, no subscription and no buffer: it waits for the stream's
//! [`View`] to change. All that one message wakes share the answer's bytes.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bongsu_protocol::position::Position;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{HeaderName, StatusCode};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Streams;
use super::body::{Dress, Mode, event};
use super::offset::token;
use super::read::{Begin, CURSOR, Wanted, answer, begin, keep};
use super::view::{State, View};
use crate::chance;
use crate::clock;
use crate::control::Stay;
use crate::drain::Phase;
use crate::http::parking::Parking;
use crate::http::problem::Problem;
use crate::limits::{EVENT_SOURCE_HEARTBEAT, STREAM_SSE_LIFETIME};

/// Seconds of one interval of cursors, and when the first began: 2024-10-09T00:00:00Z (protocol, 10.1).
const CURSOR_INTERVAL_SECONDS: u64 = 20;
const CURSOR_EPOCH_SECONDS: u64 = 1_728_432_000;

/// Says that the data of an event source is base64.
const DATA_ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// There is more, or there will never be.
    Changed,
    /// The stream is no more.
    Gone,
    /// The node goes away.
    Draining,
    /// The time has come.
    Due,
    /// Its place was taken away.
    Ended,
}

impl Streams {
    pub(super) async fn long_poll(
        self: &Arc<Self>,
        is_anonymous: bool,
        stay: Stay,
        view: Arc<View>,
        wanted: &Wanted,
        parking: &Parking,
    ) -> Result<Response, Problem> {
        let from = begin(&view.state(), wanted.from)?;
        let mut state = view.subscribe();
        let is_waiting = !is_changed(&state.borrow(), from.place);
        let _waiting = is_waiting.then(|| parking.begin());
        let longest = self.node().settings().http.long_poll_timeout;
        let until = clock::instant(
            clock::monotonic() + wanted.patience.map_or(longest, |patience| patience.min(longest)),
        );
        let until = stay.until(until);
        let woken = wait(&mut state, &mut self.node().drain().subscribe(), &stay, from.place, until).await;
        if woken == Woken::Gone {
            return Err(Problem::not_found("this stream was deleted"));
        }
        let chunk = self.chunk(&view, from, Dress::Plain).await?;
        // All who waited here share it: each is asked for before it is theirs.
        stay.check()?;
        let state = view.state();
        let mut response = answer(&state, from, &chunk);
        let headers = response.headers_mut();
        headers.insert(CURSOR, next_cursor(wanted.cursor).into());
        if chunk.is_empty {
            headers.remove(header::ETAG);
            headers.remove(header::CONTENT_TYPE);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if woken == Woken::Draining {
                // The next poll is for another node.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            *response.status_mut() = StatusCode::NO_CONTENT;
        } else {
            headers.insert(header::CACHE_CONTROL, keep(is_anonymous, &chunk));
            *response.body_mut() = Body::from(chunk.body);
        }
        Ok(response)
    }

    pub(super) fn event_source(
        self: &Arc<Self>,
        stay: Stay,
        view: Arc<View>,
        wanted: &Wanted,
    ) -> Result<Response, Problem> {
        let (from, mode) = {
            let state = view.state();
            (begin(&state, wanted.from)?, Mode::of(state.content_type()))
        };
        let source = Source {
            streams: Arc::clone(self),
            state: view.subscribe(),
            phase: self.node().drain().subscribe(),
            view,
            from,
            cursor: wanted.cursor,
            until: stay.until(clock::instant(clock::monotonic() + STREAM_SSE_LIFETIME)),
            stay,
            stage: Stage::Beginning,
        };
        let events = futures_util::stream::unfold(source, |mut source| async move {
            Some((Ok::<_, std::convert::Infallible>(source.next().await?), source))
        });
        let mut response = Response::new(Body::from_stream(events));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        // So that nginx passes each event on at once.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        if mode == Mode::Bytes {
            headers.insert(DATA_ENCODING, HeaderValue::from_static("base64"));
        }
        Ok(response)
    }
}

/// An event source while it lasts. Its next event is made when the socket has taken the one before.
struct Source {
    streams: Arc<Streams>,
    stay: Stay,
    view: Arc<View>,
    state: watch::Receiver<State>,
    phase: watch::Receiver<Phase>,
    /// What was sent.
    from: Begin,
    cursor: Option<u64>,
    until: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was sent: the client is told where it stands, even if there is nothing.
    Beginning,
    /// Some was sent.
    Going,
    /// The last event was sent.
    Over,
}

/// The `control` event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Control {
    stream_next_offset: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_cursor: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    up_to_date: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream_closed: bool,
}

impl Source {
    /// The next events; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.stage == Stage::Over {
            return None;
        }
        if self.stage == Stage::Going {
            let heartbeat_at = clock::instant(clock::monotonic() + EVENT_SOURCE_HEARTBEAT);
            let until = self.until.min(heartbeat_at);
            match wait(&mut self.state, &mut self.phase, &self.stay, self.from.place, until).await {
                Woken::Changed => {}
                Woken::Due if until < self.until => return Some(Bytes::from_static(b":\n\n")),
                // The client asks again with the last offset that it was told.
                Woken::Due | Woken::Gone | Woken::Draining | Woken::Ended => return None,
            }
        }
        self.stage = Stage::Going;
        // The status was sent: what goes wrong from here on ends the answer, and the client finds out when it asks again.
        let chunk = self.streams.chunk(&self.view, self.from, Dress::Event).await.ok()?;
        // Whoever may not have it any more finds out the same way.
        self.stay.check().ok()?;
        self.from = Begin { place: chunk.next, is_start: false };
        let control = {
            let state = self.view.state();
            let up_to_date = state.is_at_tail(chunk.next);
            let stream_closed = up_to_date && state.is_closed();
            let cursor = next_cursor(self.cursor);
            self.cursor = Some(cursor);
            Control {
                stream_next_offset: token(chunk.next),
                stream_cursor: (!stream_closed).then(|| cursor.to_string()),
                up_to_date,
                stream_closed,
            }
        };
        if control.stream_closed {
            self.stage = Stage::Over;
        }
        // Strings and truth values: nothing that JSON cannot hold.
        let control = event("control", serde_json::to_string(&control).unwrap_or_default().as_bytes());
        let mut events = BytesMut::with_capacity(chunk.body.len() + control.len());
        events.extend_from_slice(&chunk.body);
        events.extend_from_slice(&control);
        Some(events.freeze())
    }
}

/// Waits until there is something after a place, or a reason not to wait for it.
async fn wait(
    state: &mut watch::Receiver<State>,
    phase: &mut watch::Receiver<Phase>,
    stay: &Stay,
    from: Position,
    until: Instant,
) -> Woken {
    tokio::select! {
        biased;
        () = stay.ended() => Woken::Ended,
        known = state.wait_for(|state| is_changed(state, from)) => match known {
            Ok(state) if state.exists() => Woken::Changed,
            Ok(_) | Err(_) => Woken::Gone,
        },
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => Woken::Draining,
        () = tokio::time::sleep_until(until) => Woken::Due,
    }
}

/// Whether there is something to say to a reader at a place.
fn is_changed(state: &State, from: Position) -> bool {
    !state.exists() || state.is_closed() || !state.is_at_tail(from)
}

/// The cursor of an answer: the number of the interval, and past the client's own in any case, so that no cache answers it with the same
/// again (protocol, 10.1).
fn next_cursor(client: Option<u64>) -> u64 {
    let seconds = clock::wall().0 / 1000;
    let interval = seconds.saturating_sub(CURSOR_EPOCH_SECONDS) / CURSOR_INTERVAL_SECONDS;
    match client {
        Some(client) if client >= interval => {
            let jitter_seconds = chance::range(1..=3600_u64);
            client.saturating_add(jitter_seconds.div_ceil(CURSOR_INTERVAL_SECONDS))
        }
        _ => interval,
    }
}
