//! A stream as this node knows it: its register and what its messages say, kept up to date by a subscription like any other.
//!
//! ```text
//!   log, register ── Reader ──▶ View ── watch ──▶ parked polls, event sources: a few hundred bytes each
//! ```
//!
//! There is one view per stream that somebody asks for here, however many wait for it. It ends a while after the last of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start, Subscription};
use bongsu_protocol::event::{Event, Page, Reply};
use bongsu_protocol::message::Message;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::Error;
use bongsu_protocol::session::{Grants, Outgoing};
use bongsu_protocol::topic::Topic;
use tokio::sync::{Mutex, watch};

use super::Streams;
use super::fold::Log;
use super::record::{Life, Record, register_of};
use crate::clock;
use crate::delivery::SharedDelivery;
use crate::history;
use crate::http::problem::Problem;
use crate::http::reader::{Reader, Woken};
use crate::limits::{STORE_DEADLINE, STREAM_LINGER};
use crate::node::Node;

/// The media type of a topic that nobody created as a stream: each message as the JSON protocol shows its payload.
const UNMADE_TYPE: &str = "application/json";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct View {
    pub topic: Topic,
    pub register: Topic,
    state: watch::Sender<State>,
    /// Who writes to the stream or its register from this node: one after another.
    pub writer: Mutex<()>,
    /// Milliseconds since 1970: when the stream was last read or written here.
    touched: AtomicU64,
    /// Milliseconds of the node's own clock: when the view was last asked for.
    used: AtomicU64,
}

/// What is known of a stream.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Everything that was there when the view began has come.
    is_ready: bool,
    /// Why that is not so, if it could not be read. It is tried again.
    failed: Option<Error>,
    /// The place of the register's newest message.
    pub record_at: Position,
    /// The newest message of the register, unless it says that there is nothing.
    pub record: Option<Record>,
    pub log: Log,
}

impl State {
    /// Whether there is a stream to be read.
    pub(super) fn exists(&self) -> bool {
        match &self.record {
            Some(record) => record.life == Life::Open,
            None => self.is_unmade(),
        }
    }

    /// Whether this is a topic that somebody published to, without ever creating a stream.
    pub(super) const fn is_unmade(&self) -> bool {
        self.record.is_none() && self.log.head.epoch.0 > 0
    }

    /// Whether the stream was deleted and kept for its forks.
    pub(super) fn is_deleted(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.life == Life::Deleted)
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.log.closed.is_some()
    }

    /// Whether the stream ended before this place of its own log.
    pub(super) fn is_cut_before(&self, own: Position) -> bool {
        self.is_closed() && self.log.tail < own
    }

    pub(super) fn content_type(&self) -> &str {
        self.record.as_ref().map_or(UNMADE_TYPE, |record| &record.content_type)
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.record.as_ref().map_or(self.log.head.epoch.0, |record| record.incarnation)
    }

    /// The place of the fork's last message in its source, where there is one.
    pub(super) fn fork_base(&self) -> Option<Position> {
        Some(self.record.as_ref()?.fork.as_ref()?.base())
    }

    /// A place in the stream's own log, as its readers count.
    pub(super) fn place_of(&self, own: Position) -> Position {
        match self.fork_base() {
            Some(base) => Position::new(base.epoch.0, base.offset.0 + own.offset.0),
            None => own,
        }
    }

    /// The place of the stream's last message.
    pub(super) fn tail(&self) -> Position {
        self.place_of(self.log.tail)
    }

    /// Whether a reader at this place has read everything.
    pub(super) fn is_at_tail(&self, place: Position) -> bool {
        place.offset >= self.tail().offset
    }
}

impl View {
    /// A view that knows nothing yet; `None` if no stream can have this name.
    pub(super) fn new(topic: &Topic) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            topic: topic.clone(),
            register: register_of(topic)?,
            state: watch::Sender::default(),
            writer: Mutex::default(),
            touched: AtomicU64::new(0),
            used: AtomicU64::new(0),
        }))
    }

    /// What is known now.
    pub(super) fn state(&self) -> watch::Ref<'_, State> {
        self.state.borrow()
    }

    /// How to learn of changes. Small: thousands may wait.
    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Changes what is known, by somebody who just wrote it.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(super) fn note_use(&self) {
        self.used.store(millis(clock::monotonic()), Ordering::Relaxed);
    }

    /// The stream is read or written: its time begins again.
    pub(super) fn touch(&self) {
        self.touched.fetch_max(clock::wall().0, Ordering::Relaxed);
    }

    pub(super) fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    /// Whether the stream's time has come.
    pub(super) fn is_expired(&self) -> bool {
        let state = self.state();
        let record = state.record.as_ref().filter(|record| record.life == Life::Open);
        let ends_at = record.and_then(|record| record.ends_at(self.touched()));
        ends_at.is_some_and(|at| at <= clock::wall().0)
    }

    /// Waits until what was there when the view began is known.
    pub(super) async fn ready(&self) -> Result<(), Problem> {
        let mut state = self.subscribe();
        let known = state.wait_for(|state| state.is_ready || state.failed.is_some());
        match tokio::time::timeout(STORE_DEADLINE, known).await {
            Ok(Ok(state)) if state.is_ready => Ok(()),
            Ok(Ok(state)) => Err(state.failed.clone().unwrap_or_else(history::unavailable).into()),
            Ok(Err(_)) | Err(_) => Err(history::unavailable().into()),
        }
    }

    /// Waits until the log is known up to a place that is surely there.
    pub(super) async fn caught_up(&self, head: Position) -> Result<(), Problem> {
        let mut state = self.subscribe();
        let known = state.wait_for(|state| state.log.head >= head);
        match tokio::time::timeout(STORE_DEADLINE, known).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(history::unavailable().into()),
        }
    }

    /// Asks the store how far the log and the register are, and waits until that is known here.
    pub(super) async fn refresh(&self, node: &Arc<Node>) -> Result<(), Problem> {
        self.refresh_record(node).await?;
        let known = self.state().log.head;
        let page = newest(node, &self.topic).await?;
        if page.head.epoch.0 == 0 && known.epoch.0 > 0 {
            // Another node removed the log. What came meanwhile is of the next one.
            self.update(|state| {
                if state.log.head == known {
                    state.log = Log::default();
                }
            });
        }
        self.caught_up(page.head).await
    }

    /// Asks the store for the register.
    pub(super) async fn refresh_record(&self, node: &Arc<Node>) -> Result<(), Problem> {
        let page = newest(node, &self.register).await?;
        let (at, record) = record_of(&page);
        self.update(|state| state.set_record(at, record));
        Ok(())
    }

    /// Keeps the view up to date until nobody asked for it in a while.
    pub(super) async fn run(self: Arc<Self>, streams: Arc<Streams>) {
        loop {
            let end = match self.follow(&streams).await {
                Ok(()) => return,
                Err(error) => error,
            };
            tracing::debug!(topic = %self.topic, error = %end, "a stream could not be followed");
            self.update(|state| *state = State { failed: Some(end), ..State::default() });
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Reads from where the register says. Ends without an error once the view was forgotten.
    async fn follow(&self, streams: &Streams) -> Result<(), Error> {
        let node = streams.node();
        let (at, record) = record_of(&newest(node, &self.register).await?);
        let head = newest(node, &self.topic).await?.head;
        let mut state = State { record_at: at, record, ..State::default() };
        state.log = match &state.record {
            Some(record) if record.checkpoint.at().epoch == head.epoch => {
                Log::from_checkpoint(&record.checkpoint)
            }
            // Nothing was written down of this log: all of it is read.
            Some(_) => Log { head: Position::new(head.epoch.0, 0), ..Log::default() },
            // Nobody wrote to it as to a stream.
            None => Log { head, tail: head, ..Log::default() },
        };
        let wanted = |topic: &Topic, position| Subscription {
            filter: topic.clone().into(),
            from: Start::After(position),
            seen: Vec::new(),
        };
        let subscriptions = vec![wanted(&self.topic, state.log.head), wanted(&self.register, at)];
        let filters: Vec<_> = subscriptions.iter().map(|wanted| wanted.filter.clone()).collect();
        let grants = Grants { subscribe: filters.clone(), history: filters, ..Grants::default() };
        let mut reader = Reader::begin(node, Arc::new(grants), subscriptions);
        self.update(|known| *known = State { failed: None, ..state });
        let mut is_subscribed = false;
        loop {
            if reader.wait(clock::instant(clock::monotonic() + STREAM_LINGER / 3)).await == Woken::Due
                && streams.forget_unused(&self.topic)
            {
                return Ok(());
            }
            // All that came is one change, so that those who wait are woken once.
            let mut outgoing = Vec::new();
            outgoing.extend(std::iter::from_fn(|| reader.take()));
            if outgoing.is_empty() {
                continue;
            }
            let mut failed = None;
            self.state.send_modify(|state| {
                for outgoing in outgoing {
                    match self.take(state, outgoing) {
                        Ok(subscribed) => is_subscribed |= subscribed,
                        Err(error) => failed = Some(error),
                    }
                }
                state.is_ready |= is_subscribed && state.log.head >= head;
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// Takes one thing that the reader brought. True for the answer to its subscriptions.
    fn take(&self, state: &mut State, outgoing: Outgoing<SharedDelivery>) -> Result<bool, Error> {
        match outgoing {
            Outgoing::Delivery(shared) => {
                let delivery = &shared.delivery;
                let Some(position) = delivery.position else { return Ok(false) };
                if delivery.topic == self.register {
                    state.set_record(position, parse(&delivery.message));
                } else {
                    state.log.take(position, &delivery.message);
                }
            }
            Outgoing::Event(event) => return self.take_event(state, *event),
        }
        Ok(false)
    }

    fn take_event(&self, state: &mut State, event: Event) -> Result<bool, Error> {
        match event {
            Event::Reply { result, .. } => {
                let Ok(Reply::Subscribed(results)) = result else { return result.map(|_| false) };
                results.into_iter().collect::<Result<Vec<_>, _>>()?;
                return Ok(true);
            }
            Event::Reset { topic, epoch } if topic == self.topic => {
                state.log = Log { head: Position { epoch, ..Position::default() }, ..Log::default() };
            }
            Event::Lost(lost) if lost.topic == self.topic => {
                if let Some(range) = lost.range {
                    let head = Position { epoch: range.epoch, offset: range.until };
                    (state.log.head, state.log.tail) = (state.log.head.max(head), state.log.tail.max(head));
                }
            }
            Event::Unsubscribed { error, .. } => return Err(error),
            Event::Goodbye(_) => return Err(history::unavailable()),
            _ => {}
        }
        Ok(false)
    }

    /// How long nobody asked for the view.
    pub(super) fn idle(&self) -> Duration {
        let idle = millis(clock::monotonic()).saturating_sub(self.used.load(Ordering::Relaxed));
        Duration::from_millis(idle)
    }
}

impl State {
    /// Takes what the register says, unless something newer is known.
    pub(super) fn set_record(&mut self, at: Position, record: Option<Record>) {
        if at.epoch.0 > 0 && at <= self.record_at {
            return;
        }
        self.record_at = at;
        self.record = record;
    }
}

/// The newest message of a log, with the log's bounds.
async fn newest(node: &Arc<Node>, topic: &Topic) -> Result<Page, Error> {
    let range = HistoryRange::Backward(None);
    node.history().page(HistoryQuery { topic: topic.clone(), range, limit: 1 }).await
}

/// What a register says, as the store has it.
pub(super) async fn read_record(node: &Arc<Node>, register: &Topic) -> Result<Option<Record>, Error> {
    Ok(record_of(&newest(node, register).await?).1)
}

/// The streams that need the one with this register, since they begin with its messages.
///
/// # Errors
/// Those of [`History::page`](history::History::page).
pub async fn forks_of(node: &Arc<Node>, register: &Topic) -> Result<Vec<String>, Error> {
    let record = read_record(node, register).await?;
    Ok(record.map_or_else(Vec::new, |record| record.forks.into_iter().collect()))
}

/// What a register says.
fn record_of(page: &Page) -> (Position, Option<Record>) {
    let record = page.messages.first().and_then(|delivery| parse(&delivery.message));
    (page.head, record)
}

fn parse(message: &Message) -> Option<Record> {
    let record = serde_json::from_slice(&message.payload).ok();
    record.filter(|record: &Record| record.life != Life::Gone)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
