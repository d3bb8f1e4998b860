//! What the client knows across connections: calls without an answer, subscriptions and what was seen of them.
//!
//! ```text
//!   application ── call, publish, subscribe ──▶ ┌────────┐ ── poll_frame ──▶ requests, to the broker
//!   broker ─────── handle_event ──────────────▶ │ Engine │
//!   connection ─── handle_open, handle_lost ──▶ └────────┘ ── poll_output ─▶ answers and items, to the application
//! ```
//!
//! Pure: no IO, no tasks, no randomness; time is an argument, as the time since any fixed point. `W` is whoever waits for the
//! answer to a call: the engine hands it back with the answer, exactly once.
//!
//! A call outlives its connection: what had no answer yet is sent again over the next one, in the same order. Publishes are safe
//! to repeat since each message has an id; everything else asks, or sets what was set already.

mod flow;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, Request, RequestId, Start};
use bongsu_protocol::event::{Event, Published, Reply, Subscribed, Welcome};
use bongsu_protocol::limits::MESSAGES_PER_PUBLISH_MAX;
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::{self, ErrorCode};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::{Bytes, BytesMut};

use crate::error::{Disconnected, Error};
use crate::item::Item;
use crate::limits::{
    CALLS_MAX, FRAME_BYTES_TARGET, MESSAGE_OVERHEAD_BYTES, PUBLISHES_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX,
};

use flow::Flow;
pub(crate) use subscriptions::SubscriptionId;
use subscriptions::Subscriptions;

/// A moment on the driver's monotonic clock: the time since any fixed point.
pub(crate) type Time = Duration;

/// A call's number; grows with each call, and so does its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId(u64);

/// What the engine has for the application.
#[derive(Debug)]
pub(crate) enum Output<W> {
    /// The answer to a call.
    Settled(W, Result<Reply, Error>),
    /// A subscription was made at the broker for the first time.
    Started(SubscriptionId, Subscribed),
    /// The next item of a subscription.
    Item(SubscriptionId, Item),
    /// The last item of a subscription, which exists no more.
    Ended(SubscriptionId, Error),
    /// The connection ends soon, unless another token is shown.
    TokenExpiring,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Engine<W> {
    /// From a call to its answer.
    request_deadline: Duration,
    /// Bytes of the largest frame that the broker takes; `None` while there is no connection.
    frame_bytes_max: Option<usize>,
    last_request: RequestId,
    last_call: CallId,
    calls: BTreeMap<CallId, Call<W>>,
    /// What is to be sent, in order.
    queue: VecDeque<Queued>,
    /// What was sent over this connection and has no reply yet.
    in_flight: BTreeMap<RequestId, (Request, Sent)>,
    n_publishes_in_flight: usize,
    subscriptions: Subscriptions,
    flow: Flow,
    /// The topics that the application entered, with its info: entered again over each connection.
    memberships: BTreeMap<Topic, Bytes>,
    outputs: VecDeque<Output<W>>,
}

#[derive(Debug)]
struct Call<W> {
    waiter: W,
    deadline: Time,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// What came of each message so far, and of how many nothing came.
    Publish {
        results: Vec<Option<Result<Published, reason::Error>>>,
        n_open: usize,
    },
    Subscribe(SubscriptionId),
    Command,
}

#[derive(Debug)]
enum Queued {
    /// A message, and its place in the call.
    Message { call: CallId, part: usize, message: NewMessage },
    /// Anything else; without a call, the engine's own wish.
    Command { call: Option<CallId>, command: Command },
}

/// Whom the reply to a request is for.
#[derive(Debug)]
enum Sent {
    Publish(Vec<(CallId, usize)>),
    Command(Option<CallId>),
    Subscribe(Vec<SubscriptionId>),
    Unsubscribe,
}

impl<W> Engine<W> {
    pub(crate) fn new(request_deadline: Duration) -> Self {
        Self {
            request_deadline,
            frame_bytes_max: None,
            last_request: RequestId(0),
            last_call: CallId(0),
            calls: BTreeMap::new(),
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            n_publishes_in_flight: 0,
            subscriptions: Subscriptions::default(),
            flow: Flow::default(),
            memberships: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether another call may be made. Publishes are bounded by the publisher's window besides.
    pub(crate) fn wants_calls(&self) -> bool {
        self.calls.len() < CALLS_MAX
    }

    /// Whether publishes wait for their acknowledgment.
    pub(crate) fn has_publishes(&self) -> bool {
        self.calls.values().any(|call| matches!(call.kind, Kind::Publish { .. }))
    }

    /// Asks anything but to publish or subscribe.
    pub(crate) fn call(&mut self, now: Time, command: Command, waiter: W) {
        if let Command::Leave { topic } = &command {
            self.memberships.remove(topic);
        }
        let call = self.add_call(now, Kind::Command, waiter);
        self.queue.push_back(Queued::Command { call: Some(call), command });
    }

    /// Publishes messages, each of which has an id. The answer is [`Reply::Published`] with one result for each.
    pub(crate) fn publish(&mut self, now: Time, messages: Vec<NewMessage>, waiter: W) {
        if messages.is_empty() {
            return self.outputs.push_back(Output::Settled(waiter, Ok(Reply::Published(Vec::new()))));
        }
        let results = (0..messages.len()).map(|_| None).collect();
        let call = self.add_call(now, Kind::Publish { results, n_open: messages.len() }, waiter);
        let parts = messages.into_iter().enumerate();
        self.queue.extend(parts.map(|(part, message)| Queued::Message { call, part, message }));
    }

    /// Subscribes; reading goes on behind what was `seen`. The answer comes with the broker's reply, or with the first item.
    pub(crate) fn subscribe(
        &mut self,
        now: Time,
        id: SubscriptionId,
        filter: TopicFilter,
        from: Start,
        seen: Vec<(Topic, Position)>,
        waiter: W,
    ) {
        if self.subscriptions.contains(&filter) {
            return self.outputs.push_back(Output::Settled(waiter, Err(Error::AlreadySubscribed)));
        }
        let call = self.add_call(now, Kind::Subscribe(id), waiter);
        self.subscriptions.add(id, filter, from, seen, call);
    }

    /// Ends a subscription that nobody reads any more.
    pub(crate) fn unsubscribe(&mut self, id: SubscriptionId) {
        if let Some(call) = self.subscriptions.remove(id, self.frame_bytes_max.is_some()) {
            self.calls.remove(&call);
        }
    }

    fn add_call(&mut self, now: Time, kind: Kind, waiter: W) -> CallId {
        self.last_call = CallId(self.last_call.0 + 1);
        self.calls.insert(self.last_call, Call { waiter, deadline: now + self.request_deadline, kind });
        self.last_call
    }

    /// A connection was made.
    pub(crate) fn handle_open(&mut self, welcome: &Welcome) {
        self.frame_bytes_max = Some(usize::try_from(welcome.frame_bytes_max).unwrap_or(usize::MAX));
        self.last_request = RequestId(0);
        for (topic, info) in &self.memberships {
            let command = Command::Enter { topic: topic.clone(), info: info.clone() };
            self.queue.push_front(Queued::Command { call: None, command });
        }
    }

    /// The connection is gone. What had no reply will be sent again over the next one.
    pub(crate) fn handle_lost(&mut self) {
        self.frame_bytes_max = None;
        self.n_publishes_in_flight = 0;
        // The engine's own wishes are made anew with each connection.
        self.queue.retain(|queued| !matches!(queued, Queued::Command { call: None, .. }));
        self.subscriptions.handle_lost();
        while let Some((_, (request, sent))) = self.in_flight.pop_last() {
            match (request.command, sent) {
                (Command::Publish(messages), Sent::Publish(parts)) => {
                    for (message, (call, part)) in messages.into_iter().zip(parts).rev() {
                        self.queue.push_front(Queued::Message { call, part, message });
                    }
                }
                (command, Sent::Command(call @ Some(_))) => {
                    self.queue.push_front(Queued::Command { call, command });
                }
                (_, Sent::Command(None) | Sent::Subscribe(_) | Sent::Unsubscribe | Sent::Publish(_)) => {}
            }
        }
    }

    /// The client closes for good: every call fails.
    pub(crate) fn close(&mut self, error: &Error) {
        for (_, call) in std::mem::take(&mut self.calls) {
            self.outputs.push_back(Output::Settled(call.waiter, Err(error.clone())));
        }
        self.queue.clear();
        self.in_flight.clear();
        for id in self.subscriptions.drain() {
            self.outputs.push_back(Output::Ended(id, error.clone()));
        }
    }

    /// Whether the socket is to be read.
    pub(crate) fn wants_input(&self) -> bool {
        self.flow.wants_input()
    }

    /// Some subscription's buffer is full, or none is any more.
    pub(crate) fn handle_full(&mut self, now: Time, full: bool) {
        if self.flow.handle_full(now, full) {
            self.subscriptions.resume(&mut self.outputs);
        }
    }

    /// Does what is due at this time.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some(entry) = self.calls.first_entry()
            && entry.get().deadline <= now
        {
            let call = entry.remove();
            if let Kind::Subscribe(id) = call.kind {
                self.subscriptions.remove(id, self.frame_bytes_max.is_some());
            }
            self.outputs.push_back(Output::Settled(call.waiter, Err(Error::Timeout)));
        }
        self.subscriptions.handle_timeout(now);
        if self.flow.is_due(now, !self.in_flight.is_empty()) {
            self.flow.pause();
            self.subscriptions.pause();
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let deadline = self.calls.first_key_value().map(|(_, call)| call.deadline);
        let subscriptions = self.subscriptions.poll_timeout();
        let flow = self.flow.poll_timeout(!self.in_flight.is_empty());
        [deadline, subscriptions, flow].into_iter().flatten().min()
    }

    /// The next thing for the application.
    pub(crate) fn poll_output(&mut self) -> Option<Output<W>> {
        self.outputs.pop_front()
    }

    /// One thing that the broker told.
    ///
    /// # Errors
    /// The connection cannot go on: call [`handle_lost`](Self::handle_lost) and close it.
    pub(crate) fn handle_event(&mut self, now: Time, event: Event) -> Result<(), Disconnected> {
        match event {
            Event::Welcome(_) | Event::Heartbeat => Ok(()),
            Event::TokenExpiring(_) => {
                self.outputs.push_back(Output::TokenExpiring);
                Ok(())
            }
            Event::Goodbye(goodbye) => Err(Disconnected::Goodbye(goodbye)),
            Event::Reply { id, result } => self.handle_reply(now, id, result),
            Event::Delivery(delivery) => {
                let calls = self.subscriptions.deliver(delivery, &mut self.outputs)?;
                self.settle_subscribed(calls);
                Ok(())
            }
            Event::Lost(lost) => {
                let calls = self.subscriptions.lose(lost, &mut self.outputs)?;
                self.settle_subscribed(calls);
                Ok(())
            }
            Event::Reset { topic, epoch } => {
                let calls = self.subscriptions.reset(&topic, epoch, &mut self.outputs);
                self.settle_subscribed(calls);
                Ok(())
            }
            Event::Unsubscribed { filter, error } => {
                if let Some(id) = self.subscriptions.find(&filter) {
                    self.refuse_subscription(now, id, error);
                }
                Ok(())
            }
        }
    }

    fn handle_reply(
        &mut self,
        now: Time,
        id: RequestId,
        result: Result<Reply, reason::Error>,
    ) -> Result<(), Disconnected> {
        let Some((request, sent)) = self.in_flight.remove(&id) else {
            return Err(Disconnected::Protocol(format!("a reply to request {}, which was not made", id.0)));
        };
        match sent {
            Sent::Publish(parts) => {
                self.n_publishes_in_flight -= 1;
                self.handle_published(&parts, result)
            }
            Sent::Subscribe(ids) => self.handle_subscribed(now, &ids, result),
            Sent::Unsubscribe => {
                self.subscriptions.unsubscribed();
                Ok(())
            }
            Sent::Command(call) => {
                match (request.command, &result) {
                    (Command::Enter { topic, info }, Ok(Reply::Entered)) => {
                        self.memberships.insert(topic, info);
                    }
                    (Command::Enter { topic, .. }, Err(error)) if call.is_none() => {
                        tracing::warn!(%topic, %error, "presence was not entered again");
                    }
                    _ => {}
                }
                if let Some(call) = call.and_then(|call| self.calls.remove(&call)) {
                    self.outputs.push_back(Output::Settled(call.waiter, result.map_err(Error::from)));
                }
                Ok(())
            }
        }
    }

    fn handle_published(
        &mut self,
        parts: &[(CallId, usize)],
        result: Result<Reply, reason::Error>,
    ) -> Result<(), Disconnected> {
        let results = match result {
            Ok(Reply::Published(results)) if results.len() == parts.len() => results,
            Err(error) => vec![Err(error); parts.len()],
            Ok(_) => return Err(Disconnected::Protocol("a reply that does not fit its publish".to_owned())),
        };
        for ((call, part), result) in parts.iter().zip(results) {
            self.settle_part(*call, *part, result);
        }
        Ok(())
    }

    fn settle_part(&mut self, id: CallId, part: usize, result: Result<Published, reason::Error>) {
        // The call may have run out of time.
        let Some(Call { kind: Kind::Publish { results, n_open }, .. }) = self.calls.get_mut(&id) else {
            return;
        };
        if results[part].replace(result).is_none() {
            *n_open -= 1;
        }
        if *n_open == 0
            && let Some(call) = self.calls.remove(&id)
            && let Kind::Publish { results, .. } = call.kind
        {
            let results = results.into_iter().flatten().collect();
            self.outputs.push_back(Output::Settled(call.waiter, Ok(Reply::Published(results))));
        }
    }

    fn handle_subscribed(
        &mut self,
        now: Time,
        ids: &[SubscriptionId],
        result: Result<Reply, reason::Error>,
    ) -> Result<(), Disconnected> {
        let results = match result {
            Ok(Reply::Subscribed(results)) if results.len() == ids.len() => results,
            Err(error) => vec![Err(error); ids.len()],
            Ok(_) => {
                return Err(Disconnected::Protocol("a reply that does not fit its subscribe".to_owned()));
            }
        };
        for (id, result) in ids.iter().zip(results) {
            match result {
                Ok(subscribed) => {
                    if self.subscriptions.is_new(*id) {
                        self.outputs.push_back(Output::Started(*id, subscribed.clone()));
                    }
                    let call = self.subscriptions.subscribed(*id, subscribed);
                    self.settle_subscribed(call);
                }
                // A pause ended it meanwhile; it is asked for again afterwards.
                Err(_) if !self.subscriptions.is_sent(*id) => {}
                Err(error) => self.refuse_subscription(now, *id, error),
            }
        }
        Ok(())
    }

    /// The broker would not make, or go on with, a subscription. One that was made before is asked for again if that may help.
    fn refuse_subscription(&mut self, now: Time, id: SubscriptionId, error: reason::Error) {
        if let Some(call) = self.subscriptions.take_call(id) {
            self.subscriptions.forget(id);
            if let Some(call) = self.calls.remove(&call) {
                self.outputs.push_back(Output::Settled(call.waiter, Err(error.into())));
            }
        } else if error.code.is_retryable() {
            self.subscriptions.retry(id, now, error.retry_after_ms.map(Duration::from_millis));
        } else if self.subscriptions.forget(id) {
            self.outputs.push_back(Output::Ended(id, error.into()));
        }
    }

    /// Tells those who wait for their subscription that it is there.
    fn settle_subscribed(&mut self, calls: impl IntoIterator<Item = CallId>) {
        for call in calls {
            if let Some(call) = self.calls.remove(&call) {
                self.outputs.push_back(Output::Settled(call.waiter, Ok(Reply::Subscribed(Vec::new()))));
            }
        }
    }

    /// The next frame for the broker, if there is a connection and something to say. Ask only when the one before was written:
    /// what gathers meanwhile goes out together.
    pub(crate) fn poll_frame(&mut self) -> Option<Bytes> {
        let frame_bytes_max = self.frame_bytes_max?;
        let mut requests = Vec::new();
        let mut sent = Vec::new();
        if let Some(filters) = self.subscriptions.poll_unsubscribe() {
            requests.push(self.request(Command::Unsubscribe(filters)));
            sent.push(Sent::Unsubscribe);
        }
        if !self.flow.is_paused()
            && let Some((ids, wanted)) = self.subscriptions.poll_subscribe()
        {
            requests.push(self.request(Command::Subscribe(wanted)));
            sent.push(Sent::Subscribe(ids));
        }
        // What `poll_subscribe` gives may be as large as a frame may be.
        let mut n_bytes = if requests.is_empty() { 0 } else { FRAME_BYTES_TARGET };
        while (requests.is_empty() || n_bytes < FRAME_BYTES_TARGET)
            && self.in_flight.len() + requests.len() < REQUESTS_IN_FLIGHT_MAX
            && let Some((command, whose)) = self.gather(frame_bytes_max, &mut n_bytes)
        {
            requests.push(self.request(command));
            sent.push(whose);
        }
        if requests.is_empty() {
            return None;
        }
        let mut frame = BytesMut::new();
        codec::encode_requests(Format::Binary, &requests, &mut frame);
        for (request, sent) in requests.into_iter().zip(sent) {
            self.in_flight.insert(request.id, (request, sent));
        }
        Some(frame.freeze())
    }

    fn request(&mut self, command: Command) -> Request {
        self.last_request = RequestId(self.last_request.0 + 1);
        Request { id: self.last_request, command }
    }

    /// The next request of the queue: one command, or as many messages as stand in a row and fit.
    fn gather(&mut self, frame_bytes_max: usize, n_bytes: &mut usize) -> Option<(Command, Sent)> {
        let mut messages = Vec::new();
        let mut parts = Vec::new();
        while messages.len() < MESSAGES_PER_PUBLISH_MAX && *n_bytes < FRAME_BYTES_TARGET {
            let is_message = matches!(self.queue.front()?, Queued::Message { .. });
            if is_message && self.n_publishes_in_flight == PUBLISHES_IN_FLIGHT_MAX
                || !is_message && !messages.is_empty()
            {
                break;
            }
            match self.queue.pop_front()? {
                Queued::Command { call, command } => {
                    if call.is_none_or(|call| self.calls.contains_key(&call)) {
                        *n_bytes += MESSAGE_OVERHEAD_BYTES;
                        return Some((command, Sent::Command(call)));
                    }
                }
                // The call ran out of time before its message was sent.
                Queued::Message { call, .. } if !self.calls.contains_key(&call) => {}
                Queued::Message { call, part, message } => {
                    let size = message.message.size_bytes() + message.topic.as_str().len();
                    if size + MESSAGE_OVERHEAD_BYTES + 32 * message.message.headers.len() > frame_bytes_max {
                        let text = format!("this broker takes frames of at most {frame_bytes_max} bytes");
                        let error = reason::Error::new(ErrorCode::TooLarge, text);
                        self.settle_part(call, part, Err(error));
                    } else if *n_bytes + size > FRAME_BYTES_TARGET && *n_bytes > 0 {
                        self.queue.push_front(Queued::Message { call, part, message });
                        *n_bytes = FRAME_BYTES_TARGET;
                    } else {
                        *n_bytes += size + 16;
                        messages.push(message);
                        parts.push((call, part));
                    }
                }
            }
            if self.queue.is_empty() {
                break;
            }
        }
        if messages.is_empty() {
            return None;
        }
        self.n_publishes_in_flight += 1;
        Some((Command::Publish(messages), Sent::Publish(parts)))
    }
}
