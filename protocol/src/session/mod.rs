//! One client's conversation with the broker, from its requests to what it is sent.
//!
//! ```text
//!   requests ── handle ─────────▶ ┌─────────┐ ── poll_effect ───▶ publish, watch, read, list, presence, authenticate
//!   feed ────── offer, … ───────▶ │ Session │
//!   answers ─── published, … ───▶ └─────────┘ ── poll_outgoing ─▶ events and deliveries, in the order to be sent
//! ```
//!
//! Pure: no IO, no clock, no tasks. The session decides who may do what, keeps the order of replies and deliveries, and
//! brings each reader to the head of its log with one [`Cursor`](crate::cursor::Cursor) per topic. What it cannot do itself it asks for
//! as an [`Effect`], which the shell carries out and answers with the method that the effect names.
//!
//! Back pressure: deliveries enter the outbox only while it has room; without room a cursor just remembers that there is more,
//! and the log is read when the outbox has drained. Requests are bounded by their number in flight: see [`Session::wants_input`].
//!
//! `D` is a delivery as the shell shares it: cheap to clone.

mod call;
mod grants;
mod outbox;
mod reader;
mod subscriptions;
mod view;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Command, HistoryQuery, Request, RequestId, Token};
use crate::event::{Event, Published, Reply};
use crate::message::{NewMessage, Time};
use crate::position::Position;
use crate::reason::{CloseReason, Error, ErrorCode, Goodbye};
use crate::topic::{Topic, TopicFilter};
use crate::{cursor, limits};

pub use grants::{Grants, PRESENCE_PREFIX};
pub use outbox::Outgoing;
pub use subscriptions::{LIST_LOGS_MAX, Listed, TopicKind};
pub use view::Reading;

use call::Call;
use outbox::Outbox;
use subscriptions::Subscriptions;

/// Bounds of one session; chosen by the operator.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes that wait to be sent before readers fall back to the log.
    pub outbox_bytes: usize,
    /// Subscriptions; more are refused with `too_many`.
    pub subscriptions: usize,
    /// Topics being read; more end the subscription that asked for them with `too_many`.
    pub topics: usize,
    /// Requests without a reply yet; while there are as many, no input is read.
    pub requests_in_flight: usize,
}

/// What the session asks of its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Check a token, then [`Session::authenticated`].
    Authenticate {
        /// The request.
        id: RequestId,
        /// What it brought.
        token: Token,
    },
    /// Publish, then [`Session::published`] for each part.
    Publish {
        /// The request.
        id: RequestId,
        /// The messages that may be published, with their places in the request.
        messages: Vec<(usize, NewMessage)>,
    },
    /// Read a page for the client, then [`Session::reply`].
    History {
        /// The request.
        id: RequestId,
        /// Which page.
        query: HistoryQuery,
    },
    /// Make this session a member, then [`Session::reply`].
    Enter {
        /// The request.
        id: RequestId,
        /// Where.
        topic: Topic,
        /// With this info.
        info: Bytes,
    },
    /// End this session's membership, then [`Session::reply`].
    Leave {
        /// The request.
        id: RequestId,
        /// Where.
        topic: Topic,
    },
    /// Say who is present, then [`Session::reply`].
    Members {
        /// The request.
        id: RequestId,
        /// Where.
        topic: Topic,
    },
    /// Feed this session with the topics under the filter: [`Session::watched`] once it is sure that every message that is offered
    /// anywhere from then on is offered here, then [`Session::offer`].
    Watch {
        /// Which topics.
        filter: TopicFilter,
    },
    /// Stop doing so.
    Unwatch {
        /// Which topics.
        filter: TopicFilter,
    },
    /// Read a page for a reader, then [`Session::read_done`]. At most one such read is under way.
    Read {
        /// Which page.
        query: HistoryQuery,
    },
    /// List the next [`LIST_LOGS_MAX`] logs under a filter, then [`Session::listed`]. At most one such listing per filter is under way.
    List {
        /// Which topics.
        filter: TopicFilter,
        /// Only those after this one.
        after: Option<Topic>,
    },
    /// Close the connection, once what waits was sent.
    Close,
}

/// What a slow reader of a topic without history gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlowReader {
    /// The newest few messages; how many are missing is told.
    DropOldest,
    /// The newest message; how many are missing is told.
    Conflate,
    /// A goodbye.
    Disconnect,
}

/// A live message on its way to the readers of its topic.
#[derive(Debug)]
pub struct Offer<'a, D> {
    /// Its topic.
    pub topic: &'a Topic,
    /// Its place in the log, on a topic with history.
    pub position: Option<Position>,
    /// What slow readers get, on a topic without.
    pub slow_reader: SlowReader,
    /// Bytes of its message.
    pub bytes: usize,
    /// The message itself.
    pub item: &'a D,
}

/// What the log answered to a read.
#[derive(Debug, Clone)]
pub struct LogPage<D> {
    /// The messages with their places and sizes in bytes, in order.
    pub items: Vec<(Position, usize, D)>,
    /// The oldest kept message's place, one after `head` if none is kept.
    pub first: Position,
    /// The newest message's place when the log was read; epoch 0 if there was no log.
    pub end: Position,
    /// The newest message's place that is known: `end`, or later, of a message that came while the answer was under way.
    pub head: Position,
}

impl<D> LogPage<D> {
    fn into_cursor_page(self) -> cursor::Page<reader::Sized<D>> {
        let sized = |(position, bytes, item)| (position, reader::Sized { bytes, item });
        cursor::Page {
            items: self.items.into_iter().map(sized).collect(),
            first: self.first,
            head: self.head,
        }
    }
}

/// One client's conversation. See the [module](self).
#[derive(Debug)]
pub struct Session<D> {
    bounds: Bounds,
    grants: Arc<Grants>,
    outbox: Outbox<D>,
    effects: VecDeque<Effect>,
    subscriptions: Subscriptions<D>,
    publishes: HashMap<RequestId, Call<Published>>,
    last_request: RequestId,
    /// Requests that wait for an answer from the shell.
    n_in_flight: usize,
    /// Why nothing more is taken or sent, once that is so.
    closing: Option<CloseReason>,
}

impl<D: Clone> Session<D> {
    /// A session for a client that may do what `grants` say.
    #[must_use]
    pub fn new(bounds: Bounds, grants: impl Into<Arc<Grants>>) -> Self {
        Self {
            bounds,
            grants: grants.into(),
            outbox: Outbox::new(bounds.outbox_bytes),
            effects: VecDeque::new(),
            subscriptions: Subscriptions::default(),
            publishes: HashMap::new(),
            last_request: RequestId(0),
            n_in_flight: 0,
            closing: None,
        }
    }

    /// From now on the session subscribes to at most so many filters. Those that it has stay, also where they are more.
    pub const fn set_subscriptions_max(&mut self, max: usize) {
        self.bounds.subscriptions = max;
    }

    /// Who the client is and what it may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Takes one request, or why it was refused, with the broker's time. Does nothing once the session closes.
    pub fn handle(&mut self, wall: Time, request: Result<Request, (RequestId, Error)>) {
        let id = match &request {
            Ok(request) => request.id,
            Err((id, _)) => *id,
        };
        if self.is_closing() {
            return;
        }
        if id <= self.last_request || id.0 > limits::INTEGER_MAX {
            let text = format!("request id {} does not follow {}", id.0, self.last_request.0);
            return self.close(Goodbye::new(CloseReason::ProtocolError, text));
        }
        self.last_request = id;
        match request {
            Ok(request) => self.handle_command(wall, id, request.command),
            Err((id, error)) => self.push_reply(id, Err(error)),
        }
    }

    fn handle_command(&mut self, wall: Time, id: RequestId, command: Command) {
        match command {
            Command::Ping => self.push_reply(id, Ok(Reply::Pong { time: wall })),
            Command::Unsubscribe(filters) => {
                for filter in filters {
                    self.unsubscribe(&filter);
                }
                self.push_reply(id, Ok(Reply::Unsubscribed));
            }
            Command::Authenticate(token) => self.ask(Effect::Authenticate { id, token }),
            Command::Subscribe(wanted) => self.subscribe(id, wanted),
            Command::Publish(messages) => self.publish(id, messages),
            Command::History(query) => {
                let allowed = self.grants.may_read_history(&query.topic.clone().into());
                self.ask_if(allowed, id, Effect::History { id, query });
            }
            Command::Enter { topic, info } => {
                let allowed = self.grants.may_be_present(&topic);
                self.ask_if(allowed, id, Effect::Enter { id, topic, info });
            }
            Command::Leave { topic } => self.ask(Effect::Leave { id, topic }),
            Command::Members { topic } => {
                let allowed = self.grants.may_be_present(&topic);
                self.ask_if(allowed, id, Effect::Members { id, topic });
            }
        }
    }

    fn publish(&mut self, id: RequestId, messages: Vec<NewMessage>) {
        let mut call = Call::new(id, messages.len());
        let mut allowed = Vec::with_capacity(messages.len());
        for (part, message) in messages.into_iter().enumerate() {
            if self.grants.may_publish(&message.topic) {
                allowed.push((part, message));
            } else {
                call.settle(part, Err(self.denied()));
            }
        }
        if call.is_complete() {
            return self.push_reply(id, Ok(Reply::Published(call.into_results())));
        }
        self.publishes.insert(id, call);
        self.ask(Effect::Publish { id, messages: allowed });
    }

    /// What came of one message of a [`Effect::Publish`].
    pub fn published(&mut self, id: RequestId, part: usize, result: Result<Published, Error>) {
        let Some(call) = self.publishes.get_mut(&id) else { return };
        call.settle(part, result);
        if call.is_complete()
            && let Some(call) = self.publishes.remove(&id)
        {
            self.n_in_flight = self.n_in_flight.saturating_sub(1);
            self.push_reply(id, Ok(Reply::Published(call.into_results())));
        }
    }

    /// What came of an [`Effect::Authenticate`]. Subscriptions that are no longer allowed end. A session is one subject's as long as it
    /// lasts: a token of another one is refused, and the one before still holds.
    pub fn authenticated(&mut self, id: RequestId, result: Result<impl Into<Arc<Grants>>, Error>) {
        let result = result.map(Into::into).and_then(|grants: Arc<Grants>| {
            if self.grants.subject.is_empty() || self.grants.subject == grants.subject {
                return Ok(grants);
            }
            let text = "this token names another subject than the one before: connect anew with it";
            Err(Error::new(ErrorCode::Forbidden, text))
        });
        match result {
            Ok(grants) => {
                self.grants = grants;
                let subject = self.grants.subject.clone();
                self.reply(id, Ok(Reply::Authenticated { subject }));
                self.end_forbidden();
            }
            Err(error) => self.reply(id, Err(error)),
        }
    }

    /// The answer to an effect that answers a request by itself.
    pub fn reply(&mut self, id: RequestId, result: Result<Reply, Error>) {
        self.n_in_flight = self.n_in_flight.saturating_sub(1);
        self.push_reply(id, result);
    }

    /// Sends an event of the shell's own: the welcome, a heartbeat.
    pub fn push_event(&mut self, event: Event) {
        if !self.is_closing() {
            self.outbox.push_event(event);
        }
    }

    /// Says goodbye and closes. What waited before it is still sent; nothing follows.
    pub fn close(&mut self, goodbye: Goodbye) {
        if !self.is_closing() {
            self.closing = Some(goodbye.reason);
            self.stop_reading();
            self.outbox.push_event(Event::Goodbye(goodbye));
            self.effects.push_back(Effect::Close);
        }
    }

    /// Says goodbye to a client that may have nothing any more: what waits is dropped, of what it asked for nothing more is done, and
    /// nothing follows.
    pub fn expel(&mut self, goodbye: Goodbye) {
        self.outbox.drop_waiting();
        if !self.is_closing() {
            self.effects = VecDeque::new();
            self.close(goodbye);
        }
    }

    /// Ends without a goodbye: what waited to be sent is dropped, and nothing follows.
    pub fn end(&mut self) {
        self.closing.get_or_insert(CloseReason::Normal);
        self.outbox = Outbox::new(self.bounds.outbox_bytes);
        self.effects = VecDeque::new();
    }

    /// Whether the session said goodbye, or ended.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Why it said goodbye; [`CloseReason::Normal`] if it ended without.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        self.closing
    }

    /// Whether more requests should be read from the client: fewer than the bound are in flight, and replies do not pile up.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        self.n_in_flight < self.bounds.requests_in_flight && self.outbox.has_room()
    }

    /// The next thing to do for the session.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if self.effects.is_empty() && self.effects.capacity() > 0 {
            self.effects = VecDeque::new();
        }
        effect
    }

    /// The next thing to send.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing<D>> {
        self.outbox.pop()
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether an effect waits to be carried out.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        !self.effects.is_empty()
    }

    fn ask(&mut self, effect: Effect) {
        self.n_in_flight += 1;
        self.effects.push_back(effect);
    }

    fn ask_if(&mut self, allowed: bool, id: RequestId, effect: Effect) {
        if allowed {
            self.ask(effect);
        } else {
            self.push_reply(id, Err(self.denied()));
        }
    }

    fn push_reply(&mut self, id: RequestId, result: Result<Reply, Error>) {
        self.push_event(Event::Reply { id, result });
    }

    /// The error for what the grants do not allow.
    fn denied(&self) -> Error {
        if self.grants.is_empty() && self.grants.subject.is_empty() {
            Error::new(ErrorCode::Unauthenticated, "authenticate with a token first")
        } else {
            Error::new(ErrorCode::Forbidden, "this token does not allow that on this topic")
        }
    }
}
