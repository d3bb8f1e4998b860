//! Subscriptions of one session and the readers that they need: one per topic, however many filters match it.

use std::collections::{HashMap, VecDeque};

use crate::command::{RequestId, Start, Subscription};
use crate::cursor::{self, Cursor};
use crate::event::{Event, Lost, Reply, Subscribed};
use crate::message::Time;
use crate::position::Position;
use crate::reason::{CloseReason, Error, ErrorCode, Goodbye};
use crate::topic::{Topic, TopicFilter};

use super::call::Call;
use super::reader::{Reader, Sized, Wants, page_query, start_in};
use super::{Effect, LogPage, Offer, Session};

/// Logs that an [`Effect::List`] wants at a time. A pattern's topics are opened in steps of this many, so that no connection holds
/// up another while it subscribes.
pub const LIST_LOGS_MAX: usize = 256;

/// A log that [`Effect::List`] found: its topic, its first kept message's place, its newest message's place.
pub type Listed = (Topic, Position, Position);

/// Whether a topic keeps history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicKind {
    /// It has a log.
    Durable,
    /// It has none.
    Live,
}

#[derive(Debug)]
pub(super) struct Subscriptions<D> {
    pub(super) all: Vec<Entry>,
    pub(super) readers: HashMap<Topic, Reader<D>>,
    /// Topics whose readers have something at hand that found no room, in the order in which they are served.
    blocked: VecDeque<Topic>,
    /// Topics whose readers want a page of their log, likewise. A topic stands at most once in both lists together.
    behind: VecDeque<Topic>,
    /// The topic whose log is being read.
    reading: Option<Topic>,
    /// All readers that are behind pause: only the timeout, an answer or another reader is news.
    all_pause: bool,
    /// Subscribe requests without a reply.
    calls: Vec<Call<Subscribed>>,
}

impl<D> Default for Subscriptions<D> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            readers: HashMap::new(),
            blocked: VecDeque::new(),
            behind: VecDeque::new(),
            reading: None,
            all_pause: false,
            calls: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) filter: TopicFilter,
    /// To resume: topics of which nothing is known are to be read from this time on.
    since: Time,
    /// It did not begin with the next message, so it goes when what is kept may no longer be read.
    reads_history: bool,
    /// What to do until it is active; `None` then.
    pub(super) opening: Option<Box<Opening>>,
}

/// A subscription that is not active yet.
#[derive(Debug)]
pub(super) struct Opening {
    /// The request that waits for it, and its part there.
    call: (RequestId, usize),
    from: Start,
    seen: HashMap<Topic, Position>,
    /// Where reading started, topic by topic.
    positions: Vec<(Topic, Position)>,
}

impl Opening {
    fn start_of(&self, topic: &Topic) -> Start {
        self.seen.get(topic).map_or(self.from, |position| Start::After(*position))
    }
}

impl<D: Clone> Session<D> {
    pub(super) fn subscribe(&mut self, id: RequestId, wanted: Vec<Subscription>) {
        let mut call = Call::new(id, wanted.len());
        let mut watches = Vec::new();
        for (part, subscription) in wanted.into_iter().enumerate() {
            match self.check(&subscription) {
                Err(error) => call.settle(part, Err(error)),
                Ok(Some(again)) => call.settle(part, Ok(again)),
                Ok(None) => {
                    let Subscription { filter, from, seen } = subscription;
                    let reads_history = reads_history(from, &seen);
                    let seen = seen.into_iter().collect();
                    let opening = Opening { call: (id, part), from, seen, positions: Vec::new() };
                    let opening = Some(Box::new(opening));
                    let since = Time(0);
                    let entry = Entry { filter: filter.clone(), since, reads_history, opening };
                    self.subscriptions.all.push(entry);
                    watches.push(Effect::Watch { filter });
                }
            }
        }
        if call.is_complete() {
            return self.push_event(Event::Reply { id, result: Ok(Reply::Subscribed(call.into_results())) });
        }
        self.n_in_flight += 1;
        self.subscriptions.calls.push(call);
        self.effects.extend(watches);
    }

    /// Whether a subscription may be made; `Some` if it is there already.
    fn check(&self, subscription: &Subscription) -> Result<Option<Subscribed>, Error> {
        let Subscription { filter, from, seen } = subscription;
        if !self.grants.may_subscribe(filter) {
            return Err(self.denied());
        }
        if reads_history(*from, seen) && !self.grants.may_read_history(filter) {
            let text = "this token does not allow to read what is kept: subscribe from the latest message";
            return Err(Error::new(ErrorCode::Forbidden, text));
        }
        if filter.as_topic().is_none() && matches!(from, Start::After(_)) {
            let text = "a position belongs to one topic: use `seen` with a pattern";
            return Err(Error::new(ErrorCode::BadRequest, text));
        }
        if let Some((topic, _)) = seen.iter().find(|(topic, _)| !filter.matches(topic)) {
            return Err(Error::new(
                ErrorCode::BadRequest,
                format!("`seen` names {topic}, which is not under {filter}"),
            ));
        }
        let subscriptions = &self.subscriptions;
        match subscriptions.all.iter().find(|entry| entry.filter == *filter) {
            Some(Entry { opening: Some(_), .. }) => {
                Err(Error::new(ErrorCode::BadRequest, "this filter is being subscribed to already"))
            }
            Some(Entry { opening: None, since, .. }) => {
                let position = filter.as_topic().and_then(|topic| {
                    let position = subscriptions.readers.get(&topic)?.position()?;
                    Some((topic, position))
                });
                Ok(Some(Subscribed {
                    filter: filter.clone(),
                    since: *since,
                    positions: position.into_iter().collect(),
                }))
            }
            None if subscriptions.all.len() >= self.bounds.subscriptions => {
                let text = format!("a connection has at most {} subscriptions", self.bounds.subscriptions);
                Err(Error::new(ErrorCode::TooMany, text))
            }
            None => Ok(None),
        }
    }

    /// The feed is there, from [`Effect::Watch`]. `kind` tells whether the topic keeps history, for a filter that is a single topic;
    /// `since` is a time that no later message of any topic is before.
    pub fn watched(&mut self, filter: &TopicFilter, kind: TopicKind, since: Time) {
        let Some(entry) = self.subscriptions.all.iter_mut().find(|entry| entry.filter == *filter) else {
            return;
        };
        let Some(opening) = &entry.opening else { return };
        // A topic of which nothing came yet is resumed where it was to start.
        entry.since = match opening.from {
            Start::Time(from) => from.min(since),
            Start::Latest | Start::Earliest | Start::Last(_) | Start::After(_) => since,
        };
        match filter.as_topic() {
            None if opening.from == Start::Latest && opening.seen.is_empty() => {
                self.settle_opening(filter, Ok(()))
            }
            None => self.effects.push_back(Effect::List { filter: filter.clone(), after: None }),
            Some(topic) => {
                let start = opening.start_of(&topic);
                if !self.subscriptions.readers.contains_key(&topic) {
                    let reader = match kind {
                        TopicKind::Durable => Reader::starting(start),
                        TopicKind::Live => Reader::live(),
                    };
                    if let Err(error) = self.open(&topic, reader) {
                        return self.settle_opening(filter, Err(error));
                    }
                }
                let reader = self.subscriptions.readers.get(&topic);
                if reader.is_some_and(|reader| !reader.is_starting()) {
                    let position = reader.and_then(Reader::position);
                    self.settle_topic(&topic, position);
                }
            }
        }
    }

    /// The answer to [`Effect::List`]: logs in the order of their names. An empty list means that there are no more.
    pub fn listed(&mut self, filter: &TopicFilter, result: Result<Vec<Listed>, Error>) {
        let logs = match result {
            Ok(logs) => logs,
            Err(error) => {
                self.settle_opening(filter, Err(error));
                return self.unsubscribe(filter);
            }
        };
        let Some((last, ..)) = logs.last() else { return self.listed_all(filter) };
        let after = Some(last.clone());
        for (topic, first, head) in logs {
            let Some(opening) = self.opening_of(filter) else { return };
            let start = opening.start_of(&topic);
            let position = match self.subscriptions.readers.get_mut(&topic) {
                Some(reader) => match reader.starts_from() {
                    // What is known now says where it starts; a later answer would find the log grown.
                    Some(from) => {
                        start_in(from, first, head).inspect(|position| reader.start_at(*position, head))
                    }
                    None => reader.position(),
                },
                None => {
                    let position = start_in(start, first, head);
                    let reader = match position {
                        Some(position) => Reader::listed(position, head),
                        None => Reader::starting(start),
                    };
                    if let Err(error) = self.open(&topic, reader) {
                        self.settle_opening(filter, Err(error));
                        return self.unsubscribe(filter);
                    }
                    position
                }
            };
            if let (Some(position), Some(opening)) = (position, self.opening_of(filter)) {
                opening.positions.push((topic.clone(), position));
                self.settle_topic(&topic, Some(position));
            }
        }
        self.effects.push_back(Effect::List { filter: filter.clone(), after });
    }

    /// Every log under a pattern was listed. Readers that still do not know their start belong to logs that were made since: those are
    /// read from their beginning.
    fn listed_all(&mut self, filter: &TopicFilter) {
        let Some(opening) = self.opening_of(filter) else { return };
        if !matches!(opening.from, Start::Time(_)) {
            let Subscriptions { all, readers, .. } = &mut self.subscriptions;
            let named = |topic: &Topic| {
                all.iter().any(|e| e.opening.is_some() && e.filter.as_str() == topic.as_str())
            };
            for (topic, reader) in readers {
                if reader.is_starting() && filter.matches(topic) && !named(topic) {
                    reader.start_at_beginning();
                }
            }
        }
        self.settle_opening(filter, Ok(()));
    }

    /// Ends a subscription; readers that no other subscription needs go with it.
    pub(super) fn unsubscribe(&mut self, filter: &TopicFilter) {
        let error = || Error::new(ErrorCode::BadRequest, "the subscription ended before it was made");
        self.settle_opening(filter, Err(error()));
        let subscriptions = &mut self.subscriptions;
        let Some(place) = subscriptions.all.iter().position(|entry| entry.filter == *filter) else { return };
        subscriptions.all.swap_remove(place);
        let Subscriptions { all, readers, behind, blocked, .. } = subscriptions;
        readers
            .retain(|topic, _| !filter.matches(topic) || all.iter().any(|entry| entry.filter.matches(topic)));
        behind.retain(|topic| readers.contains_key(topic));
        blocked.retain(|topic| readers.contains_key(topic));
        self.effects.push_back(Effect::Unwatch { filter: filter.clone() });
    }

    /// Every filter that was asked to be watched and not to be unwatched.
    #[must_use]
    pub fn filters(&self) -> Vec<TopicFilter> {
        self.subscriptions.all.iter().map(|entry| entry.filter.clone()).collect()
    }

    /// Ends the subscriptions that the grants no longer allow.
    pub(super) fn end_forbidden(&mut self) {
        let forbidden = |entry: &&Entry| {
            !self.grants.may_subscribe(&entry.filter)
                || (entry.reads_history && !self.grants.may_read_history(&entry.filter))
        };
        let filters: Vec<_> =
            self.subscriptions.all.iter().filter(forbidden).map(|e| e.filter.clone()).collect();
        for filter in filters {
            self.unsubscribe(&filter);
            self.push_event(Event::Unsubscribed { filter, error: self.denied() });
        }
    }

    /// A live message of a topic that this session watches.
    pub fn offer(&mut self, offer: &Offer<'_, D>) {
        if self.is_closing() {
            return;
        }
        let Subscriptions { all, readers, .. } = &mut self.subscriptions;
        if let Some(reader) = readers.get_mut(offer.topic) {
            let message = Sized { bytes: offer.bytes, item: offer.item.clone() };
            if let Some(position) = offer.position {
                let matching =
                    all.iter().filter(|entry| reader.is_live() && entry.filter.matches(offer.topic));
                let since = matching.map(|entry| entry.since).min().unwrap_or_default();
                reader.offer(position, message, since, offer.topic, &mut self.outbox);
                reader.hand_out(offer.topic, &mut self.outbox);
            } else if !reader.offer_live(message, offer.slow_reader, &mut self.outbox) {
                let text = format!("{} moves faster than this connection reads", offer.topic);
                return self.close(Goodbye::new(CloseReason::SlowReader, text));
            }
            if !reader.is_idle() {
                self.list(offer.topic);
            }
        } else if self.open_for(offer) {
            self.offer(offer);
        }
    }

    /// There is a message at this position of the topic, but it is not at hand.
    pub fn heads_up(&mut self, topic: &Topic, position: Position) {
        if let Some(reader) = self.subscriptions.readers.get_mut(topic) {
            reader.interrupt(Some(position));
            if !reader.is_idle() {
                self.list(topic);
            }
        }
    }

    /// The feed of all topics may have lost anything until now.
    pub fn interrupt(&mut self) {
        if self.is_closing() {
            return;
        }
        let Subscriptions { readers, behind, all_pause, .. } = &mut self.subscriptions;
        *all_pause = false;
        let n_before = behind.len();
        for (topic, reader) in readers {
            reader.interrupt(None);
            if !reader.is_idle() && !reader.listed {
                reader.listed = true;
                behind.push_back(topic.clone());
            }
        }
        // Their order in the map is another one in each process, and a run must be repeatable.
        behind.make_contiguous()[n_before..].sort_unstable();
    }

    /// The feed of topics without history may have lost anything until now: tells the client, with a count of 0 for "unknown".
    pub fn interrupt_live(&mut self) {
        if self.is_closing() {
            return;
        }
        let readers = self.subscriptions.readers.iter();
        let mut live: Vec<&Topic> =
            readers.filter(|(_, reader)| reader.is_live()).map(|(topic, _)| topic).collect();
        // As above: a run must be repeatable.
        live.sort_unstable();
        for topic in live {
            let lost = Lost { topic: topic.clone(), range: None, count: 0 };
            self.outbox.push_event(Event::Lost(lost));
        }
    }

    /// Whether a subscription to a pattern is there.
    #[must_use]
    pub fn watches_patterns(&self) -> bool {
        self.subscriptions.all.iter().any(|entry| entry.filter.as_topic().is_none())
    }

    /// The answer to [`Effect::Read`]. A failed read is asked again after a pause; a subscription that waited for it fails.
    pub fn read_done(&mut self, now: cursor::Time, result: Result<LogPage<D>, Error>) {
        let Some(topic) = self.subscriptions.reading.take() else { return };
        if self.is_closing() {
            // What was asked before the goodbye; nothing follows that.
            return;
        }
        let Some(reader) = self.subscriptions.readers.get_mut(&topic) else { return };
        match result {
            Ok(page) => {
                let start = reader.read_done(now, page);
                // At once, so that no page waits in a reader while others are read.
                reader.hand_out(&topic, &mut self.outbox);
                if start.is_some() {
                    self.settle_topic(&topic, start);
                }
            }
            Err(error) => {
                reader.read_failed(now);
                if reader.is_starting()
                    && let Some(filter) = self.opening_topic(&topic)
                {
                    self.settle_opening(&filter, Err(error));
                    return self.unsubscribe(&filter);
                }
            }
        }
        self.list(&topic);
    }

    /// Serves the readers that are behind: to be called when the outbox has drained, after answers, and at the timeout.
    pub fn poll(&mut self, now: cursor::Time) {
        while self.outbox.has_room()
            && let Some(topic) = self.subscriptions.blocked.pop_front()
        {
            let Some(reader) = self.subscriptions.readers.get_mut(&topic) else { continue };
            reader.listed = false;
            reader.hand_out(&topic, &mut self.outbox);
            self.list(&topic);
        }
        for _ in 0..self.subscriptions.behind.len() {
            if self.subscriptions.reading.is_some() || !self.outbox.wants_page() {
                // The answer or the room is what happens next, and then whoever pauses now may not any more.
                self.subscriptions.all_pause = false;
                return;
            }
            let Some(topic) = self.subscriptions.behind.pop_front() else { return };
            let Some(reader) = self.subscriptions.readers.get_mut(&topic) else { continue };
            reader.listed = false;
            match reader.wants(now, &self.outbox) {
                Wants::Nothing => {}
                Wants::Room | Wants::Patience => self.list(&topic),
                Wants::Page(range) => {
                    self.effects.push_back(Effect::Read { query: page_query(&topic, range) });
                    self.subscriptions.reading = Some(topic);
                    return;
                }
            }
        }
        self.subscriptions.all_pause = !self.subscriptions.behind.is_empty();
    }

    /// When to call [`poll`](Self::poll) though nothing else happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<cursor::Time> {
        let Subscriptions { behind, readers, reading, .. } = &self.subscriptions;
        // Without room for a page, or while one is under way, a pause that is over would be no reason to do anything.
        if reading.is_some() || !self.outbox.wants_page() {
            return None;
        }
        behind.iter().filter_map(|topic| readers.get(topic)?.poll_timeout()).min()
    }

    /// Whether [`poll`](Self::poll) could do something now that the outbox has drained.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        let Subscriptions { blocked, behind, reading, all_pause, .. } = &self.subscriptions;
        let readable = !behind.is_empty() && !all_pause && reading.is_none() && self.outbox.wants_page();
        readable || (!blocked.is_empty() && self.outbox.has_room())
    }

    /// Whether every subscription was made, every reader is at the head as far as it knows, and nothing waits to be sent.
    #[must_use]
    pub fn is_at_head(&self) -> bool {
        let Subscriptions { all, blocked, behind, reading, .. } = &self.subscriptions;
        let is_idle = blocked.is_empty() && behind.is_empty() && reading.is_none();
        is_idle && self.outbox.is_empty() && all.iter().all(|entry| entry.opening.is_none())
    }

    /// Serves no reader any more: nothing follows a goodbye.
    pub(super) fn stop_reading(&mut self) {
        self.subscriptions.blocked = VecDeque::new();
        self.subscriptions.behind = VecDeque::new();
    }

    /// Lists a reader that is not at the head where it will be served; one that is at the head is left alone.
    fn list(&mut self, topic: &Topic) {
        if self.is_closing() {
            return;
        }
        let Subscriptions { readers, blocked, behind, all_pause, .. } = &mut self.subscriptions;
        let Some(reader) = readers.get_mut(topic) else { return };
        if reader.listed || reader.is_idle() {
            return;
        }
        reader.listed = true;
        *all_pause = false;
        if reader.is_blocked() { blocked.push_back(topic.clone()) } else { behind.push_back(topic.clone()) }
    }

    /// Makes a reader for a topic that a pattern just met. False if no subscription wants the topic, or there is no place for it.
    fn open_for(&mut self, offer: &Offer<'_, D>) -> bool {
        let matching = |entry: &&Entry| entry.filter.matches(offer.topic);
        let Some(entry) = self.subscriptions.all.iter().find(matching) else { return false };
        let reader = match (offer.position, &entry.opening) {
            (None, _) => Reader::live(),
            // The topics of an active pattern were listed: this one is new, or idle since. Either way this message is the next one.
            (Some(position), None) => Reader::durable(Cursor::live(position.previous())),
            (Some(position), Some(opening)) => match opening.start_of(offer.topic) {
                Start::Latest => Reader::durable(Cursor::live(position.previous())),
                start => Reader::starting(start),
            },
        };
        let filter = entry.filter.clone();
        match self.open(offer.topic, reader) {
            Ok(()) => true,
            Err(error) => {
                self.unsubscribe(&filter);
                self.push_event(Event::Unsubscribed { filter, error });
                false
            }
        }
    }

    fn open(&mut self, topic: &Topic, reader: Reader<D>) -> Result<(), Error> {
        if self.subscriptions.readers.len() >= self.bounds.topics {
            self.forget_idle();
        }
        if self.subscriptions.readers.len() >= self.bounds.topics {
            let text = format!("a connection reads at most {} topics", self.bounds.topics);
            return Err(Error::new(ErrorCode::TooMany, text));
        }
        self.subscriptions.readers.insert(topic.clone(), reader);
        self.list(topic);
        Ok(())
    }

    /// Forgets readers at the head that only active patterns need: their next message makes them again where they were.
    fn forget_idle(&mut self) {
        let Subscriptions { all, readers, .. } = &mut self.subscriptions;
        readers.retain(|topic, reader| {
            let needed = |entry: &Entry| entry.opening.is_some() || entry.filter.as_str() == topic.as_str();
            reader.listed || !reader.is_idle() || all.iter().any(|e| e.filter.matches(topic) && needed(e))
        });
    }

    fn opening_of(&mut self, filter: &TopicFilter) -> Option<&mut Opening> {
        let entry = self.subscriptions.all.iter_mut().find(|entry| entry.filter == *filter)?;
        entry.opening.as_deref_mut()
    }

    /// The single-topic subscription to this topic, if it is not active yet.
    fn opening_topic(&self, topic: &Topic) -> Option<TopicFilter> {
        let waits = |entry: &&Entry| entry.opening.is_some() && entry.filter.as_str() == topic.as_str();
        self.subscriptions.all.iter().find(waits).map(|entry| entry.filter.clone())
    }

    /// Answers the single-topic subscription to this topic, if there is one that waits for where its reader starts.
    fn settle_topic(&mut self, topic: &Topic, start: Option<Position>) {
        let Some(filter) = self.opening_topic(topic) else { return };
        if let (Some(opening), Some(start)) = (self.opening_of(&filter), start) {
            opening.positions.push((topic.clone(), start));
        }
        self.settle_opening(&filter, Ok(()));
    }

    /// Makes a subscription active, or gives it up; its request is answered once all of its parts are known.
    fn settle_opening(&mut self, filter: &TopicFilter, result: Result<(), Error>) {
        let Some(entry) = self.subscriptions.all.iter_mut().find(|entry| entry.filter == *filter) else {
            return;
        };
        let Some(opening) = entry.opening.take() else { return };
        let Opening { call: (id, part), positions, .. } = *opening;
        let since = entry.since;
        let result = result.map(|()| Subscribed { filter: filter.clone(), since, positions });
        let calls = &mut self.subscriptions.calls;
        let Some(place) = calls.iter().position(|call| call.id == id) else { return };
        calls[place].settle(part, result);
        if calls[place].is_complete() {
            let call = calls.swap_remove(place);
            self.reply(id, Ok(Reply::Subscribed(call.into_results())));
        }
    }
}

/// Whether a subscription begins elsewhere than with the next message.
fn reads_history(from: Start, seen: &[(Topic, Position)]) -> bool {
    from != Start::Latest || !seen.is_empty()
}
