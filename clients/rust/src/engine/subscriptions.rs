//! Subscriptions, what was seen of each topic, and how to resume from that.
//!
//! The connection reads each topic once, whatever number of subscriptions match it. So what was seen is kept per topic, and each
//! item goes to every subscription that matches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{Start, Subscription};
use bongsu_protocol::event::{Lost, LostRange, Subscribed};
use bongsu_protocol::limits::{FILTERS_PER_REQUEST_MAX, SEEN_MAX};
use bongsu_protocol::message::{self, Delivery};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::topic::{Topic, TopicFilter};

use super::{CallId, Output, Time};
use crate::error::Disconnected;
use crate::item::Item;
use crate::limits::{SEEN_BYTES_MAX, SUBSCRIBE_PAUSE};

/// A subscription's number within its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubscriptionId(pub(crate) u64);

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    entries: BTreeMap<SubscriptionId, Entry>,
    /// The subscriptions to a single topic, by it.
    exact: HashMap<Topic, SubscriptionId>,
    patterns: Vec<SubscriptionId>,
    seen: HashMap<Topic, Seen>,
    /// Filters to be unsubscribed from.
    ending: Vec<TopicFilter>,
    /// Unsubscribe requests without a reply. No subscribe request goes out meanwhile, so that what still comes for the old
    /// subscription is not taken for the beginning of a new one.
    n_ending_sent: usize,
    /// What comes is thrown away, since a reader is too slow.
    paused: bool,
    /// Messages of topics without history that were thrown away during a pause.
    discarded: BTreeMap<Topic, u64>,
    /// The hole that ended a connection. If the next one has the same, the messages are gone.
    hole: Option<(Topic, Position)>,
}

#[derive(Debug)]
struct Entry {
    filter: TopicFilter,
    /// As the application asked; what holds until the broker's first reply.
    from: Start,
    /// From the broker's first reply: topics of which nothing was seen are to be read from this time on. That of a later reply
    /// would skip what the first one promised and a short connection did not deliver.
    since: Option<message::Time>,
    /// It was asked for over this connection: what comes is for it.
    sent: bool,
    /// It is not asked for before this time.
    retry_at: Option<Time>,
    /// The application's call, as long as it waits.
    call: Option<CallId>,
}

/// What was seen of a topic's log.
#[derive(Debug, Clone, Copy)]
struct Seen {
    position: Position,
    /// The log begins anew with its oldest kept message, whose offset may be any.
    after_reset: bool,
}

/// How a position stands to what was seen.
enum Place {
    Old,
    Next,
    /// The next one of a later incarnation of which no reset was told.
    NextEpoch,
    /// Something is missing before it: what comes after this position.
    Hole(Position),
}

impl Seen {
    fn place(self, position: Position) -> Place {
        let seen = self.position;
        if position <= seen {
            return Place::Old;
        }
        if position == seen.next() || (self.after_reset && position.epoch == seen.epoch) {
            return Place::Next;
        }
        match position {
            Position { epoch, offset: Offset(1) } if epoch > seen.epoch => {
                if seen.epoch == Epoch(0) {
                    Place::Next
                } else {
                    Place::NextEpoch
                }
            }
            _ => Place::Hole(seen),
        }
    }
}

impl Subscriptions {
    pub(super) fn contains(&self, filter: &TopicFilter) -> bool {
        self.find(filter).is_some()
    }

    pub(super) fn find(&self, filter: &TopicFilter) -> Option<SubscriptionId> {
        match filter.as_topic() {
            Some(topic) => self.exact.get(&topic).copied(),
            None => self.patterns.iter().copied().find(|id| self.entries[id].filter == *filter),
        }
    }

    /// Whether it was asked for over this connection, and not ended since.
    pub(super) fn is_sent(&self, id: SubscriptionId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.sent)
    }

    /// Whether the broker never made it.
    pub(super) fn is_new(&self, id: SubscriptionId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.since.is_none())
    }

    pub(super) fn add(
        &mut self,
        id: SubscriptionId,
        filter: TopicFilter,
        from: Start,
        seen: Vec<(Topic, Position)>,
        call: CallId,
    ) {
        for (topic, position) in seen.into_iter().filter(|(topic, _)| filter.matches(topic)) {
            self.seen.entry(topic).or_insert(Seen { position, after_reset: false });
        }
        match (filter.as_topic(), from) {
            (None, _) => self.patterns.push(id),
            (Some(topic), Start::After(position)) => {
                self.seen.entry(topic.clone()).or_insert(Seen { position, after_reset: false });
                self.exact.insert(topic, id);
            }
            (Some(topic), _) => {
                self.exact.insert(topic, id);
            }
        }
        let entry = Entry { filter, from, since: None, sent: false, retry_at: None, call: Some(call) };
        self.entries.insert(id, entry);
    }

    /// Ends a subscription, at the broker too. Its call, if that still waits.
    pub(super) fn remove(&mut self, id: SubscriptionId, online: bool) -> Option<CallId> {
        let call = self.take_call(id);
        if let Some(entry) = self.entries.get(&id)
            && entry.sent
            && online
        {
            self.ending.push(entry.filter.clone());
        }
        self.forget(id);
        call
    }

    /// Forgets a subscription that the broker does not have. False if there was none.
    pub(super) fn forget(&mut self, id: SubscriptionId) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        match entry.filter.as_topic() {
            Some(topic) => {
                self.exact.remove(&topic);
                if !self.wants(&topic) {
                    self.seen.remove(&topic);
                }
            }
            None => {
                self.patterns.retain(|pattern| *pattern != id);
                let Self { entries, exact, patterns, seen, .. } = self;
                seen.retain(|topic, _| {
                    exact.contains_key(topic) || patterns.iter().any(|id| entries[id].filter.matches(topic))
                });
            }
        }
        true
    }

    pub(super) fn drain(&mut self) -> Vec<SubscriptionId> {
        let Self { entries, .. } = std::mem::take(self);
        entries.into_iter().filter(|(_, entry)| entry.call.is_none()).map(|(id, _)| id).collect()
    }

    pub(super) fn take_call(&mut self, id: SubscriptionId) -> Option<CallId> {
        self.entries.get_mut(&id)?.call.take()
    }

    pub(super) fn retry(&mut self, id: SubscriptionId, now: Time, pause: Option<Duration>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.sent = false;
            entry.retry_at = Some(now + pause.unwrap_or(SUBSCRIBE_PAUSE));
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        for entry in self.entries.values_mut() {
            entry.retry_at = entry.retry_at.filter(|at| *at > now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.entries.values().filter_map(|entry| entry.retry_at).min()
    }

    pub(super) fn handle_lost(&mut self) {
        self.ending.clear();
        self.n_ending_sent = 0;
        for entry in self.entries.values_mut() {
            entry.sent = false;
            entry.retry_at = None;
        }
    }

    /// Ends every subscription at the broker for the time being.
    pub(super) fn pause(&mut self) {
        self.paused = true;
        for entry in self.entries.values_mut().filter(|entry| entry.sent) {
            entry.sent = false;
            self.ending.push(entry.filter.clone());
        }
    }

    /// Goes on after a pause: tells what was thrown away and cannot be read again.
    pub(super) fn resume<W>(&mut self, outputs: &mut VecDeque<Output<W>>) {
        self.paused = false;
        for (topic, count) in std::mem::take(&mut self.discarded) {
            for id in self.matching(&topic) {
                let lost = Lost { topic: topic.clone(), range: None, count };
                outputs.push_back(Output::Item(id, Item::Lost(lost)));
            }
        }
    }

    pub(super) fn unsubscribed(&mut self) {
        self.n_ending_sent = self.n_ending_sent.saturating_sub(1);
    }

    pub(super) fn poll_unsubscribe(&mut self) -> Option<Vec<TopicFilter>> {
        let n_filters = self.ending.len().min(FILTERS_PER_REQUEST_MAX);
        if n_filters == 0 {
            return None;
        }
        self.n_ending_sent += 1;
        Some(self.ending.drain(..n_filters).collect())
    }

    /// The next subscriptions to be made or resumed, so many that they fit a frame.
    pub(super) fn poll_subscribe(&mut self) -> Option<(Vec<SubscriptionId>, Vec<Subscription>)> {
        if self.n_ending_sent > 0 || !self.ending.is_empty() {
            return None;
        }
        let (mut ids, mut wanted) = (Vec::new(), Vec::new());
        let mut n_bytes = 0;
        for (id, entry) in &mut self.entries {
            if entry.sent || entry.retry_at.is_some() {
                continue;
            }
            if n_bytes >= SEEN_BYTES_MAX || ids.len() == FILTERS_PER_REQUEST_MAX {
                break;
            }
            entry.sent = true;
            ids.push(*id);
            wanted.push(entry.resume(&self.seen, &mut n_bytes));
        }
        (!ids.is_empty()).then_some((ids, wanted))
    }

    /// The broker made a subscription. The application's call, if that still waits.
    pub(super) fn subscribed(&mut self, id: SubscriptionId, subscribed: Subscribed) -> Option<CallId> {
        // Perhaps nobody wants it any more.
        let entry = self.entries.get_mut(&id)?;
        entry.since.get_or_insert(subscribed.since);
        let call = entry.call.take();
        for (topic, position) in subscribed.positions {
            // What came before this reply is newer; and where a resumed topic begins is what was seen, whatever the broker says.
            self.seen.entry(topic).or_insert(Seen { position, after_reset: false });
        }
        call
    }

    /// Takes a message to the subscriptions that it is for. The calls of those that waited for their subscription.
    pub(super) fn deliver<W>(
        &mut self,
        delivery: Arc<Delivery>,
        outputs: &mut VecDeque<Output<W>>,
    ) -> Result<Vec<CallId>, Disconnected> {
        let ids = self.readers(&delivery.topic);
        if ids.is_empty() {
            if self.paused && delivery.position.is_none() && self.wants(&delivery.topic) {
                *self.discarded.entry(delivery.topic.clone()).or_default() += 1;
            }
            return Ok(Vec::new());
        }
        if let Some(position) = delivery.position {
            let place = self.seen.get(&delivery.topic).map_or(Place::Next, |seen| seen.place(position));
            match place {
                Place::Old => return Ok(Vec::new()),
                Place::Next => {}
                Place::NextEpoch => {
                    let epoch = position.epoch;
                    let reset = Item::Reset { topic: delivery.topic.clone(), epoch };
                    hand_to(&ids, &reset, outputs);
                }
                Place::Hole(seen) => self.tell_hole(&delivery.topic, seen, position, &ids, outputs)?,
            }
            self.see(&delivery.topic, position);
        } else {
            // A topic without history has no positions to resume from.
            self.seen.remove(&delivery.topic);
        }
        hand_to(&ids, &Item::Message(delivery), outputs);
        Ok(self.take_calls(&ids))
    }

    pub(super) fn lose<W>(
        &mut self,
        mut lost: Lost,
        outputs: &mut VecDeque<Output<W>>,
    ) -> Result<Vec<CallId>, Disconnected> {
        let ids = self.readers(&lost.topic);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(range) = &mut lost.range {
            let first = Position { epoch: range.epoch, offset: range.from };
            let last = Position { epoch: range.epoch, offset: range.until };
            if let Some(seen) = self.seen.get(&lost.topic).copied() {
                if last <= seen.position {
                    return Ok(Vec::new());
                }
                match seen.place(first) {
                    Place::Old if first.epoch == seen.position.epoch => {
                        range.from = seen.position.next().offset;
                        lost.count = range.until.0 + 1 - range.from.0;
                    }
                    Place::Hole(seen) => self.tell_hole(&lost.topic, seen, first, &ids, outputs)?,
                    Place::Old | Place::Next | Place::NextEpoch => {}
                }
            }
            self.see(&lost.topic, last);
        }
        hand_to(&ids, &Item::Lost(lost), outputs);
        Ok(self.take_calls(&ids))
    }

    pub(super) fn reset<W>(
        &mut self,
        topic: &Topic,
        epoch: Epoch,
        outputs: &mut VecDeque<Output<W>>,
    ) -> Vec<CallId> {
        let ids = self.readers(topic);
        if ids.is_empty() {
            return Vec::new();
        }
        // Also backwards: a log that was set back has its old epoch and smaller offsets.
        let position = Position { epoch, offset: Offset(0) };
        self.seen.insert(topic.clone(), Seen { position, after_reset: true });
        hand_to(&ids, &Item::Reset { topic: topic.clone(), epoch }, outputs);
        self.take_calls(&ids)
    }

    /// Messages are missing that nobody said were lost. The first time, a new connection may have them; if it has the same hole,
    /// they are told as lost.
    fn tell_hole<W>(
        &mut self,
        topic: &Topic,
        seen: Position,
        next: Position,
        ids: &[SubscriptionId],
        outputs: &mut VecDeque<Output<W>>,
    ) -> Result<(), Disconnected> {
        let hole = (topic.clone(), seen);
        if self.hole.as_ref() != Some(&hole) {
            self.hole = Some(hole);
            return Err(Disconnected::Hole(topic.to_string()));
        }
        self.hole = None;
        let mut from = seen.next().offset;
        if next.epoch != seen.epoch {
            hand_to(ids, &Item::Reset { topic: topic.clone(), epoch: next.epoch }, outputs);
            from = Offset(1);
        }
        let range = LostRange { epoch: next.epoch, from, until: next.previous().offset };
        let count = next.offset.0.saturating_sub(from.0);
        let lost = Lost { topic: topic.clone(), range: Some(range), count };
        hand_to(ids, &Item::Lost(lost), outputs);
        Ok(())
    }

    fn see(&mut self, topic: &Topic, position: Position) {
        let seen = Seen { position, after_reset: false };
        match self.seen.get_mut(topic) {
            Some(entry) => *entry = seen,
            None => {
                self.seen.insert(topic.clone(), seen);
            }
        }
    }

    fn take_calls(&mut self, ids: &[SubscriptionId]) -> Vec<CallId> {
        ids.iter().filter_map(|id| self.entries.get_mut(id)?.call.take()).collect()
    }

    /// The subscriptions that what comes for this topic is for.
    fn readers(&self, topic: &Topic) -> Vec<SubscriptionId> {
        self.matching(topic).filter(|id| self.entries[id].sent).collect()
    }

    fn wants(&self, topic: &Topic) -> bool {
        self.matching(topic).next().is_some()
    }

    fn matching(&self, topic: &Topic) -> impl Iterator<Item = SubscriptionId> {
        let exact = self.exact.get(topic);
        let patterns = self.patterns.iter().filter(|id| self.entries[id].filter.matches(topic));
        exact.into_iter().chain(patterns).copied()
    }
}

impl Entry {
    /// How to ask for this subscription, from what is known of it.
    fn resume(&self, seen: &HashMap<Topic, Seen>, n_bytes: &mut usize) -> Subscription {
        *n_bytes += self.filter.as_str().len() + 32;
        let position_of = |topic: &Topic| seen.get(topic).map(|seen| seen.position);
        let from = match (self.filter.as_topic().and_then(|topic| position_of(&topic)), self.since, self.from)
        {
            (Some(position), ..) => Start::After(position),
            (None, None, from) => from,
            // Until a topic's first message came, nobody knows where it starts but the time that was asked for.
            (None, Some(since), Start::Time(time)) => Start::Time(time.min(since)),
            (None, Some(since), _) => Start::Time(since),
        };
        let mut known = Vec::new();
        if self.filter.as_topic().is_none() {
            for (topic, seen) in seen.iter().filter(|(topic, _)| self.filter.matches(topic)) {
                // What finds no room is read from `since` on, and dropped here until it is new.
                if known.len() == SEEN_MAX || *n_bytes >= SEEN_BYTES_MAX {
                    break;
                }
                *n_bytes += topic.as_str().len() + 32;
                known.push((topic.clone(), seen.position));
            }
        }
        Subscription { filter: self.filter.clone(), from, seen: known }
    }
}

fn hand_to<W>(ids: &[SubscriptionId], item: &Item, outputs: &mut VecDeque<Output<W>>) {
    outputs.extend(ids.iter().map(|id| Output::Item(*id, item.clone())));
}
