//! What happened to this node's sessions and was not told yet: bounded, and never waited for by whoever says it.
//!
//! While the store is away, events wait here. Past the bound they are counted instead, and the sessions they belong to are marked. When
//! there is room again, the loss is told, and each marked session that is still open by its state: that it is there, and what it
//! reads. The end of a session whose beginning was taken is always taken: there is at most one for each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bongsu_protocol::topic::TopicFilter;
use tokio::sync::{Notify, watch};

use super::Visitor;
use super::event::{Event, Kind};
use crate::clock;
use crate::limits::EVENT_TOPICS_MAX;
use crate::metrics::METRICS;
use crate::outbound::ConnectionId;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Backlog {
    node: String,
    started_ms: u64,
    bytes_max: usize,
    state: Mutex<State>,
    /// Rung when something waits.
    pub(super) bell: Notify,
    /// Whether nothing waits, and what was taken was told.
    settled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Event>,
    /// What those cost.
    bytes: usize,
    /// The sessions that are open.
    open: HashMap<ConnectionId, Open>,
    /// How many of those are marked.
    n_marked: usize,
    /// Events that found no room since that was told last.
    n_lost: u64,
    /// How often that was told.
    n_losses: u64,
    /// Something was taken and is not told yet.
    is_under_way: bool,
}

/// A session that is open.
#[derive(Debug)]
struct Open {
    /// What every event of it bears; its number is that of the last event.
    facts: Event,
    topics: Vec<TopicFilter>,
    mark: Option<Mark>,
}

/// What was not told of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// That it is there.
    Session,
    /// What it reads.
    Topics,
}

impl Backlog {
    pub(super) fn new(node: &str, started_ms: u64, bytes_max: usize) -> Self {
        Self {
            node: node.to_owned(),
            started_ms,
            bytes_max,
            state: Mutex::default(),
            bell: Notify::new(),
            settled: watch::Sender::new(true),
        }
    }

    pub(super) fn connected(&self, id: ConnectionId, visitor: Visitor) {
        let time = clock::wall().0;
        let facts = Event {
            event: Kind::Connected,
            time,
            node: self.node.clone(),
            session: visitor.session,
            seq: 0,
            since: time,
            subject: visitor.subject,
            peer: visitor.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            transport: visitor.transport.to_owned(),
            topics: Vec::new(),
            reason: String::new(),
            count: 0,
        };
        self.change(|state| {
            let mut open = Open { facts, topics: Vec::new(), mark: None };
            let event = open.next(Kind::Connected);
            if !state.push(event, self.bytes_max) {
                open.mark = Some(Mark::Session);
                state.n_marked += 1;
            }
            state.open.insert(id, open);
        });
    }

    pub(super) fn authenticated(&self, id: ConnectionId, subject: &str) {
        self.change(|state| {
            let Some(open) = state.open.get_mut(&id) else { return };
            if open.facts.subject != subject {
                subject.clone_into(&mut open.facts.subject);
                state.say(id, Kind::Authenticated, None, self.bytes_max);
            }
        });
    }

    pub(super) fn subscribed(&self, id: ConnectionId, filter: &TopicFilter) {
        self.change(|state| {
            let Some(open) = state.open.get_mut(&id) else { return };
            if !open.topics.contains(filter) {
                open.topics.push(filter.clone());
                state.say(id, Kind::Subscribed, Some(filter), self.bytes_max);
            }
        });
    }

    pub(super) fn unsubscribed(&self, id: ConnectionId, filter: &TopicFilter) {
        self.change(|state| {
            let Some(open) = state.open.get_mut(&id) else { return };
            if let Some(place) = open.topics.iter().position(|topic| topic == filter) {
                open.topics.swap_remove(place);
                state.say(id, Kind::Unsubscribed, Some(filter), self.bytes_max);
            }
        });
    }

    pub(super) fn disconnected(&self, id: ConnectionId, reason: &str) {
        self.change(|state| {
            let Some(mut open) = state.open.remove(&id) else { return };
            if open.mark.is_some() {
                state.n_marked -= 1;
            }
            if open.mark == Some(Mark::Session) {
                // Nobody heard of it, so nobody misses it.
                return state.lose();
            }
            let event = Event { reason: reason.to_owned(), ..open.next(Kind::Disconnected) };
            state.put(event);
        });
    }

    /// The next events, in the order in which they happened for each session: at most so many, and at most so many bytes but for the
    /// first. None: nothing waits. [`done`](Self::done) is to be called when they were told.
    pub(super) fn take(&self, n_max: usize, bytes_max: usize) -> Vec<Event> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        if state.n_lost > 0 {
            taken.push(self.loss(&mut state));
        }
        let mut bytes = 0;
        while taken.len() < n_max
            && let Some(event) = state.waiting.front()
        {
            bytes += event.cost_bytes();
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.extend(state.pop());
        }
        // Events that were taken before a mark come first.
        if state.n_marked > 0 && state.waiting.is_empty() {
            state.put_right(n_max.saturating_sub(taken.len()), &mut taken);
        }
        state.is_under_way |= !taken.is_empty();
        METRICS.events_waiting_bytes.set(state.bytes as u64);
        taken
    }

    /// What was taken was told.
    pub(super) fn done(&self) {
        let mut state = self.lock();
        state.is_under_way = false;
        self.settled.send_replace(state.is_settled());
    }

    /// Waits until everything that was said until now was told.
    pub(super) async fn settled(&self) {
        // The sender is this backlog's own.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// The event that tells of a loss.
    fn loss(&self, state: &mut State) -> Event {
        state.n_losses += 1;
        Event {
            event: Kind::Lost,
            time: clock::wall().0,
            node: self.node.clone(),
            session: String::new(),
            seq: state.n_losses,
            since: self.started_ms,
            subject: String::new(),
            peer: String::new(),
            transport: String::new(),
            topics: Vec::new(),
            reason: String::new(),
            count: std::mem::take(&mut state.n_lost),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let is_settled = state.is_settled();
        self.settled.send_if_modified(|settled| std::mem::replace(settled, is_settled) != is_settled);
        drop(state);
        if !is_settled {
            self.bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock; if something did, the queue would still be one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes an event of a session that is open, with its state changed already; without room, the session is marked.
    fn say(&mut self, id: ConnectionId, kind: Kind, filter: Option<&TopicFilter>, bytes_max: usize) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.mark.is_some() {
            // It is told by its state later, this event included.
            return;
        }
        if let (Some(filter), Some(last)) = (filter, self.waiting.back_mut())
            && last.event == kind
            && last.session == open.facts.session
            && last.topics.len() < EVENT_TOPICS_MAX
        {
            // What is subscribed to in one request is told in one event.
            self.bytes += filter.as_str().len() + size_of::<String>();
            last.topics.push(filter.as_str().to_owned());
            return;
        }
        let topics = filter.iter().map(|filter| filter.as_str().to_owned()).collect();
        let event = Event { topics, ..open.next(kind) };
        if !self.push(event, bytes_max)
            && let Some(open) = self.open.get_mut(&id)
        {
            open.mark = Some(Mark::Topics);
            self.n_marked += 1;
        }
    }

    /// False: there was no room, and it is counted as lost.
    fn push(&mut self, event: Event, bytes_max: usize) -> bool {
        let has_room = self.bytes + event.cost_bytes() <= bytes_max;
        if has_room {
            self.put(event)
        } else {
            self.lose()
        }
        has_room
    }

    fn put(&mut self, event: Event) {
        self.bytes += event.cost_bytes();
        self.waiting.push_back(event);
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(event.cost_bytes());
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
            self.bytes = 0;
        }
        Some(event)
    }

    fn lose(&mut self) {
        self.n_lost += 1;
        METRICS.events_lost.add(1);
    }

    /// Tells marked sessions by their state: at most so many events, or one session's.
    fn put_right(&mut self, n_max: usize, taken: &mut Vec<Event>) {
        let Self { open, n_marked, .. } = self;
        let marked = open.values_mut().filter(|open| open.mark.is_some());
        for open in marked.take((n_max / 2).max(1)) {
            if open.mark.take() == Some(Mark::Session) {
                taken.push(open.next(Kind::Connected));
            }
            *n_marked -= 1;
            let topics = open.topics.iter().map(|topic| topic.as_str().to_owned()).collect();
            taken.push(Event { topics, ..open.next(Kind::Subscriptions) });
        }
    }

    fn is_settled(&self) -> bool {
        !self.is_under_way && self.waiting.is_empty() && self.n_lost == 0 && self.n_marked == 0
    }
}

impl Open {
    /// The next event of this session.
    fn next(&mut self, event: Kind) -> Event {
        self.facts.seq += 1;
        Event { event, time: clock::wall().0, ..self.facts.clone() }
    }
}
