//! A store in memory: simple enough to be obviously right, since the other stores are compared with it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future;
use std::sync::{Arc, Mutex, MutexGuard};

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::limits::{PAGE_BYTES_MAX, PAGE_MESSAGES_MAX};
use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::journal::Journal;
use crate::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, LogBounds, REMOVE_STEP_MAX, Removal,
    Removed, Retention, Store,
};

/// Keeps logs in memory, for as long as the process lives. Nothing bounds it but retention.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<Topic, Log>,
    /// The largest epoch of any log that was deleted. A new log's epoch is larger, whatever its topic and the clock say.
    epoch_floor: u64,
    journal: Journal,
}

#[derive(Debug)]
struct Log {
    epoch: u64,
    /// The offset of `messages[0]`, or one after the head if there is none.
    first: u64,
    messages: VecDeque<Arc<Delivery>>,
    /// The newest message's time, also where it was trimmed.
    time: Time,
    /// The sum of the sizes of the messages.
    bytes: u64,
    ids: HashMap<String, Guard>,
}

/// A message id that was stored, and until when it refuses a second one.
#[derive(Debug)]
struct Guard {
    offset: u64,
    until: Time,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no method panics while it holds the lock")
    }
}

impl Store for MemoryStore {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        let mut state = self.lock();
        let outcomes: Vec<_> = batch.into_iter().map(|append| state.append(append)).collect();
        state.journal.note(&outcomes);
        future::ready(Ok(outcomes)).boxed()
    }

    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        let state = self.lock();
        let page = match state.logs.get(&query.topic) {
            Some(log) => log.page(&query),
            None => Page {
                messages: Vec::new(),
                first: Position::new(0, 1),
                head: Position::new(0, 0),
                more: false,
            },
        };
        future::ready(Ok(page)).boxed()
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        let state = self.lock();
        let mut wanted = state
            .logs
            .iter()
            .filter(|(topic, _)| topic.as_str() >= query.from.as_str())
            .filter(|(topic, _)| topic.as_str().starts_with(&query.prefix))
            .filter(|(topic, _)| query.filter.as_ref().is_none_or(|filter| filter.matches(topic)));
        let logs = wanted.by_ref().take(query.limit).map(|(topic, log)| log.bounds(topic)).collect();
        let next = wanted.next().map(|(topic, _)| topic.as_str().to_owned());
        future::ready(Ok(Listing { logs, next })).boxed()
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        let changes = self.lock().journal.since(since.as_ref());
        future::ready(Ok(changes)).boxed()
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        let removed = self.lock().remove(&removal);
        future::ready(Ok(removed)).boxed()
    }
}

impl State {
    fn append(&mut self, append: Append) -> Appended {
        let topic = append.message.topic.clone();
        let log = self.logs.get(&topic);
        let guard = log.and_then(|log| Some((log, log.ids.get(&append.message.message.id)?)));
        if let Some((log, guard)) = guard
            && append.time < guard.until
        {
            return Appended::Duplicate(log.at(guard.offset));
        }
        let head = log.map_or_else(Position::default, |log| log.at(log.head()));
        if append.message.expect.is_some_and(|expected| expected != head.offset) {
            return Appended::Conflict { head };
        }
        let epoch = append.time.0.max(self.epoch_floor + 1);
        self.logs.entry(topic).or_insert_with(|| Log::new(epoch)).push(append)
    }

    fn remove(&mut self, removal: &Removal) -> Removed {
        match removal {
            Removal::ForgetIds { now } => self.forget_ids(*now),
            Removal::Delete { topic } => {
                let Some(log) = self.logs.remove(topic) else { return Removed::default() };
                self.epoch_floor = self.epoch_floor.max(log.epoch);
                Removed { count: log.messages.len() as u64, more: false }
            }
            Removal::Retain { topic, .. } | Removal::Purge { topic, .. } | Removal::Erase { topic, .. } => {
                self.logs.get_mut(topic).map_or_else(Removed::default, |log| log.remove(removal))
            }
        }
    }

    fn forget_ids(&mut self, now: Time) -> Removed {
        let mut removed = Removed::default();
        for log in self.logs.values_mut() {
            log.ids.retain(|_, guard| {
                let passed = guard.until <= now;
                let remove = passed && removed.count < REMOVE_STEP_MAX;
                removed.count += u64::from(remove);
                removed.more |= passed && !remove;
                !remove
            });
        }
        removed
    }
}

impl Log {
    fn new(epoch: u64) -> Self {
        Self { epoch, first: 1, messages: VecDeque::new(), time: Time(0), bytes: 0, ids: HashMap::new() }
    }

    /// The newest message's offset, also where it was trimmed; 0 if there never was one.
    fn head(&self) -> u64 {
        self.first + self.messages.len() as u64 - 1
    }

    fn at(&self, offset: u64) -> Position {
        Position::new(self.epoch, offset)
    }

    fn bounds(&self, topic: &Topic) -> LogBounds {
        LogBounds {
            topic: topic.clone(),
            first: self.at(self.first),
            head: self.at(self.head()),
            time: self.time,
            bytes: self.bytes,
        }
    }

    fn get(&self, offset: u64) -> Option<&Arc<Delivery>> {
        self.messages.get(usize::try_from(offset.checked_sub(self.first)?).ok()?)
    }

    fn push(&mut self, append: Append) -> Appended {
        self.time = self.time.max(append.time);
        let position = self.at(self.head() + 1);
        if let Some(until) = append.guarded_until(self.time) {
            let guard = Guard { offset: position.offset.0, until };
            self.ids.insert(append.message.message.id.clone(), guard);
        }
        let delivery = Arc::new(Delivery {
            topic: append.message.topic,
            position: Some(position),
            time: self.time,
            publisher: append.publisher,
            message: append.message.message,
            erased: false,
        });
        self.bytes += delivery.message.size_bytes() as u64;
        self.messages.push_back(delivery.clone());
        Appended::Stored(delivery)
    }

    fn page(&self, query: &HistoryQuery) -> Page {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX).min(PAGE_MESSAGES_MAX);
        let (messages, more) = match query.range {
            HistoryRange::Forward(start) => {
                let from = self.start(start);
                let messages = fill((from..=self.head()).filter_map(|offset| self.get(offset)), limit);
                let more = from + (messages.len() as u64) <= self.head();
                (messages, more)
            }
            HistoryRange::Backward(before) => {
                let before = self.before(before);
                let messages = fill((self.first..before).rev().filter_map(|offset| self.get(offset)), limit);
                let more = before.saturating_sub(messages.len() as u64) > self.first;
                (messages, more)
            }
        };
        Page { messages, first: self.at(self.first), head: self.at(self.head()), more }
    }

    /// The offset with which reading starts; past the head if there is nothing to read.
    fn start(&self, start: Start) -> u64 {
        let nothing = self.head() + 1;
        match start {
            Start::Latest => nothing,
            Start::Earliest => self.first,
            Start::Last(n) => nothing.saturating_sub(n).max(self.first),
            Start::After(position) if position.epoch.0 != self.epoch || position.offset.0 > self.head() => {
                nothing
            }
            Start::After(position) => (position.offset.0 + 1).max(self.first),
            Start::Time(time) => {
                let earlier = self.messages.iter().take_while(|delivery| delivery.time < time).count();
                self.first + earlier as u64
            }
        }
    }

    /// The offset before which reading backward starts; the first one if there is nothing to read.
    fn before(&self, before: Option<Position>) -> u64 {
        match before {
            None => self.head() + 1,
            Some(position) if position.epoch.0 != self.epoch || position.offset.0 > self.head() + 1 => {
                self.first
            }
            Some(position) => position.offset.0.max(self.first),
        }
    }

    fn remove(&mut self, removal: &Removal) -> Removed {
        match removal {
            Removal::Retain { retention, now, .. } => self.pop_while(|log| log.exceeds(*retention, *now)),
            Removal::Purge { until, .. } => self.pop_while(|log| log.first <= until.0),
            Removal::Erase { position, .. } => self.erase(*position),
            Removal::Delete { .. } | Removal::ForgetIds { .. } => Removed::default(),
        }
    }

    /// Takes the oldest messages away while the condition holds.
    fn pop_while(&mut self, condition: impl Fn(&Self) -> bool) -> Removed {
        let mut removed = Removed::default();
        while !self.messages.is_empty() && condition(self) {
            if removed.count == REMOVE_STEP_MAX {
                removed.more = true;
                break;
            }
            let oldest = self.messages.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.message.size_bytes() as u64);
            self.first += 1;
            removed.count += 1;
        }
        removed
    }

    /// Whether the oldest message is to go.
    fn exceeds(&self, retention: Retention, now: Time) -> bool {
        let age_ms = self.messages.front().map_or(0, |oldest| now.0.saturating_sub(oldest.time.0));
        retention.age.is_some_and(|age| u128::from(age_ms) > age.as_millis())
            || retention.count.is_some_and(|count| self.messages.len() as u64 > count)
            || (retention.bytes.is_some_and(|bytes_max| self.bytes > bytes_max) && self.messages.len() > 1)
    }

    fn erase(&mut self, position: Position) -> Removed {
        let Offset(offset) = position.offset;
        let found =
            self.get(offset).filter(|delivery| !delivery.erased && delivery.position == Some(position));
        let Some(delivery) = found else { return Removed::default() };
        let message = Message { id: delivery.message.id.clone(), ..Message::default() };
        let n_before = delivery.message.size_bytes() as u64;
        let n_after = message.size_bytes() as u64;
        let erased = Delivery { message, erased: true, ..Delivery::clone(delivery) };
        let index = offset - self.first;
        self.bytes = self.bytes + n_after - n_before;
        self.messages[usize::try_from(index).expect("`get` found it at this index")] = Arc::new(erased);
        Removed { count: 1, more: false }
    }
}

/// Takes messages up to the limits of a page; at least one if there is one and the limit is not zero.
fn fill<'a>(deliveries: impl Iterator<Item = &'a Arc<Delivery>>, limit: usize) -> Vec<Arc<Delivery>> {
    let mut messages = Vec::new();
    let mut payload_bytes = 0;
    for delivery in deliveries.take(limit) {
        payload_bytes += delivery.message.payload.len();
        if payload_bytes > PAGE_BYTES_MAX && !messages.is_empty() {
            break;
        }
        messages.push(delivery.clone());
    }
    messages
}
