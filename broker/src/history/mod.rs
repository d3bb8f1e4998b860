//! Reads of logs: from the tail that this node remembers, and from the store once for all who ask alike.
//!
//! A reconnect storm asks for the same few pages thousands of times. The newest messages of each topic are remembered within
//! a budget of bytes, so most readers that are a little behind cost no query; equal reads that are under way at the same time are one.
//!
//! What makes joining a read right: a message is [remembered](History::remember) before it is offered to readers, and a topic's
//! entry stays as long as a read of it is under way. So the answer to a read, raised to the newest known position, covers every message
//! that was offered before anybody who joined began to listen.
//!
//! In a cluster only topics that this node hears are remembered, from the moment on at which it does: what was remembered of
//! others would soon be a tail without its end.

mod gone;
mod tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_persistence::store::{
    self, ChangeMark, Changes, ListQuery, Listing, LogBounds, Removal, Store, TopicsQuery,
};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::position::Position;
use bongsu_protocol::session::LogPage;
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use tokio::sync::{Semaphore, broadcast};

use crate::clock;
use crate::delivery::{Shared, SharedDelivery};
use crate::heard::Heard;
use crate::limits::{REMOVALS_TOLD_MAX, STORE_DEADLINE, UNAVAILABLE_RETRY_MS};
use crate::metrics::METRICS;
use bongsu_protocol::reason::{Error, ErrorCode};

pub use gone::{Gone, Part, Told};

use gone::Distrust;
use tail::Tails;

/// Reads of logs. See the [module](self).
pub struct History {
    store: Arc<dyn Store>,
    heard: Arc<Heard>,
    state: Mutex<State>,
    /// Pages that are read from the store at the same time.
    permits: Semaphore,
    /// How many those are at most.
    n_reads: usize,
    /// Tells what was removed.
    removals: broadcast::Sender<Told>,
}

#[derive(Default)]
struct State {
    tails: Tails,
    distrust: Distrust,
    flights: HashMap<HistoryQuery, Flight>,
}

/// A read that is under way, for everybody who wants the same.
type Flight = SharedFuture<BoxFuture<'static, Result<Arc<LogPage<SharedDelivery>>, Error>>>;

impl History {
    /// Reads `store`, remembers up to `tail_bytes` of newest messages of topics that are heard, and makes at most `n_reads` reads at
    /// a time.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, heard: Arc<Heard>, tail_bytes: usize, n_reads: usize) -> Arc<Self> {
        let state = Mutex::new(State { tails: Tails::new(tail_bytes), ..State::default() });
        let (removals, _) = broadcast::channel(REMOVALS_TOLD_MAX);
        Arc::new(Self { store, heard, state, permits: Semaphore::new(n_reads), n_reads, removals })
    }

    /// Remembers messages that were just committed, on any node. To be called before they are offered to readers.
    pub fn remember(&self, messages: &[SharedDelivery]) {
        let mut state = self.lock();
        // Neighbours of the same topic find their place once.
        for run in messages.chunk_by(|one, other| one.delivery.topic == other.delivery.topic) {
            let topic = &run[0].delivery.topic;
            if !self.heard.hears(topic) {
                continue;
            }
            if !state.distrust.has(topic, clock::monotonic) {
                state.tails.push(topic, run);
            } else if let Some(newest) = run.iter().filter_map(|message| message.delivery.position).max() {
                state.note(topic, newest);
            }
        }
    }

    /// There is a message at this position, which did not come here: the log is longer than what is remembered of it. To be called
    /// before readers are told.
    pub fn heads_up(&self, topic: &Topic, position: Position) {
        self.lock().note(topic, position);
    }

    /// The topics under a filter are heard from now on. A read of them that began before answers nobody who asks later.
    pub fn hear(&self, filter: &TopicFilter) {
        self.lock().flights.retain(|query, _| !filter.matches(&query.topic));
    }

    /// The topics under a filter are no longer heard, unless by another one: what is remembered of them is forgotten.
    pub fn forget_unheard(&self, filter: &TopicFilter) {
        let mut state = self.lock();
        let unheard = |topic: &Topic| filter.matches(topic) && !self.heard.hears(topic);
        state.flights.retain(|query, _| !unheard(&query.topic));
        state.tails.forget_all(unheard);
    }

    /// Forgets what is remembered of a topic, after something of it was removed.
    pub fn forget(&self, topic: &Topic) {
        self.lock().tails.forget(topic);
    }

    /// Something was removed from a log, or is about to be: forgets what is remembered of it, and tells whoever
    /// [listens](Self::removals). To be called before the removal and once more after it: what is read in between may be what is gone
    /// a moment later.
    pub fn forget_removed(&self, gone: &Gone) {
        {
            let mut state = self.lock();
            state.flights.retain(|query, _| query.topic != gone.topic);
            state.tails.forget(&gone.topic);
            state.distrust.add(gone, clock::monotonic());
            if gone.part == Part::All {
                state.tails.forget_newest(&gone.topic, gone.epoch);
            }
        }
        // Nobody may listen.
        let _ = self.removals.send(Told::Gone(gone.clone()));
    }

    /// Removals were missed: forgets everything, as [`forget_removed`](Self::forget_removed) does of one topic.
    pub fn forget_what_may_be_removed(&self) {
        {
            let mut state = self.lock();
            state.flights.clear();
            state.tails.forget_all(|_| true);
            state.distrust.add_everything(clock::monotonic());
        }
        let _ = self.removals.send(Told::Anything);
    }

    /// Tells of removals from now on. Whoever falls behind takes that for [`Told::Anything`].
    #[must_use]
    pub fn removals(&self) -> broadcast::Receiver<Told> {
        self.removals.subscribe()
    }

    /// Reads a page for a reader that catches up. Answers from memory where it can.
    ///
    /// Of the page's bounds, `first` is only as far back as this answer knows: it never claims that a message is gone which is not.
    ///
    /// # Errors
    /// `unavailable`, with a time to wait.
    pub async fn catch_up(self: &Arc<Self>, query: HistoryQuery) -> Result<LogPage<SharedDelivery>, Error> {
        let flight = {
            let mut state = self.lock();
            if let Some(page) = state.tails.page(&query) {
                return Ok(page);
            }
            self.flight(&mut state, query)
        };
        let page = flight.await?;
        Ok(LogPage::clone(&page))
    }

    /// Reads a page for a client that asked for history. Always from the store, so that its bounds are exact.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up).
    pub async fn page(&self, query: HistoryQuery) -> Result<Page, Error> {
        let _permit = self.permits.acquire().await;
        METRICS.reads.add(1);
        self.within_deadline(self.store.read(query)).await
    }

    /// Which logs changed since a mark.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up).
    pub async fn changes(&self, since: Option<ChangeMark>) -> Result<Changes, Error> {
        self.within_deadline(self.store.changes(since)).await
    }

    /// Forgets everything that is remembered: nobody knows what it lacks.
    pub fn forget_everything(&self) {
        let mut state = self.lock();
        state.flights.clear();
        state.tails.forget_all(|_| true);
    }

    /// Lists logs, as far as one look goes.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up).
    pub async fn list(&self, query: ListQuery) -> Result<Listing, Error> {
        let _permit = self.permits.acquire().await;
        self.within_deadline(self.store.list(query)).await
    }

    /// Lists logs.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up).
    pub async fn topics(&self, query: TopicsQuery) -> Result<Vec<LogBounds>, Error> {
        let _permit = self.permits.acquire().await;
        self.within_deadline(self.store.topics(query)).await
    }

    /// Takes all of something away, in bounded steps, and forgets what is remembered of the topic.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up); removing again is always safe.
    pub async fn remove(&self, topic: &Topic, removal: Removal) -> Result<(), Error> {
        while self.within_deadline(self.store.remove(removal.clone())).await?.more {}
        let mut state = self.lock();
        state.flights.retain(|query, _| query.topic != *topic);
        state.tails.forget(topic);
        Ok(())
    }

    /// Whether the store answers. Does not wait for its turn among the reads: many readers are no reason to call it away.
    ///
    /// # Errors
    /// The store's own, in words.
    pub async fn probe(&self) -> Result<(), store::Error> {
        let Ok(filter) = TopicFilter::parse("#") else { return Ok(()) };
        self.store.topics(TopicsQuery { filter, after: None, limit: 1 }).await.map(drop)
    }

    /// Sets the gauges of what is read and kept.
    pub fn measure(&self) {
        METRICS.reads_under_way.set(self.n_reads.saturating_sub(self.permits.available_permits()) as u64);
        METRICS.tail_bytes.set(self.lock().tails.bytes() as u64);
    }

    /// The read under way for this query, or a new one.
    fn flight(self: &Arc<Self>, state: &mut State, query: HistoryQuery) -> Flight {
        if let Some(flight) = state.flights.get(&query) {
            return flight.clone();
        }
        state.tails.pin(&query.topic);
        let this = Arc::clone(self);
        let read = {
            let query = query.clone();
            // A task of its own, so that the read does not stop when whoever began it goes away.
            let task = tokio::spawn(async move { this.land(query).await });
            async move {
                task.await.unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, "reading the log failed")))
            }
        };
        let flight = read.boxed().shared();
        state.flights.insert(query, flight.clone());
        flight
    }

    /// Reads, and raises the answer to what was remembered meanwhile.
    async fn land(&self, query: HistoryQuery) -> Result<Arc<LogPage<SharedDelivery>>, Error> {
        let result = self.page(query.clone()).await;
        let mut state = self.lock();
        state.flights.remove(&query);
        let result = result.map(|page| {
            let mut page = shared_page(&page);
            let is_trusted = !state.distrust.has(&query.topic, clock::monotonic);
            if let Some(newest) = state.tails.newest(&query.topic) {
                page.head = page.head.max(newest);
            }
            let is_for_tail = is_trusted && matches!(query.range, HistoryRange::Forward(Start::After(_)));
            if is_for_tail && self.heard.hears(&query.topic) {
                state.tails.extend(&query.topic, &page);
            }
            Arc::new(page)
        });
        state.tails.unpin(&query.topic);
        result
    }

    async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, store::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(STORE_DEADLINE, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "reading a log failed");
                Err(unavailable())
            }
            Err(_) => {
                tracing::warn!(deadline = ?STORE_DEADLINE, "reading a log took too long");
                Err(unavailable())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// There is a message at this position, unless it is of a log that was deleted.
    fn note(&mut self, topic: &Topic, position: Position) {
        if !self.distrust.is_dead(topic, position) {
            self.tails.note(topic, position);
        }
    }
}

/// The error for a store that does not do what it is asked.
#[must_use]
pub fn unavailable() -> Error {
    Error::new(ErrorCode::Unavailable, "history is not available right now: try again")
        .retry_after(UNAVAILABLE_RETRY_MS)
}

fn shared_page(page: &Page) -> LogPage<SharedDelivery> {
    let item = |delivery: &Arc<_>| {
        let shared = Shared::new(Arc::clone(delivery));
        let position = shared.delivery.position.unwrap_or_default();
        (position, shared.bytes(), shared)
    };
    let items = page.messages.iter().map(item).collect();
    LogPage { items, first: page.first, end: page.head, head: page.head }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
