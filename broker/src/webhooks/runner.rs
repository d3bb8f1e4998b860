//! One webhook: one node at a time delivers, the others watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, ChangeMark, Error, Removal, Store, TopicsQuery};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::progress::{Entry, Moved, Progress};
use super::worker::{Ended, Job, Worker};
use crate::clock;
use crate::config::WebhookSettings;
use crate::limits::{
    RETENTION_LOGS_PER_STEP, STORE_DEADLINE, WEBHOOK_CHECKPOINT_BYTES, WEBHOOK_FLOOR_MARGIN_MS,
    WEBHOOK_INTERVAL, WEBHOOK_LEASE, WEBHOOK_PENDING_MAX, WEBHOOK_REGISTER_PAGE, WEBHOOK_WATCH_INTERVAL,
};
use crate::metrics::METRICS;

/// Why this node does not deliver any more.
#[derive(Debug)]
enum Stop {
    /// Another node does.
    Lost,
    /// The store is away: another node may deliver, or this one later.
    Store(Error),
    /// The node ends.
    Released,
}

impl Duty {
    /// Everything that the store told of was delivered.
    fn is_done(&self) -> bool {
        let is_idle = self.pending.is_empty() && self.busy.is_empty() && self.resting.is_empty();
        is_idle && !self.wants_list && self.listing.is_none()
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// See the [module](self).
pub(super) struct Runner {
    pub(super) settings: WebhookSettings,
    pub(super) store: Arc<dyn Store>,
    pub(super) worker: Arc<Worker>,
    /// This process, among all that ever were.
    pub(super) process: String,
    /// Nobody else can deliver, so nobody needs a sign of life.
    pub(super) is_alone: bool,
    pub(super) ending: watch::Receiver<bool>,
    pub(super) register: Topic,
    pub(super) progress: Progress,
    /// The number of the newest entry.
    pub(super) number: u64,
}

/// What the node that delivers knows, besides what is written down.
#[derive(Default)]
struct Duty {
    /// What was delivered and not written down.
    moved: BTreeMap<Topic, (Position, Time)>,
    /// Topics that have something to be delivered, as far as is known.
    pending: BTreeSet<Topic>,
    /// Topics that wait until their first message is tried again, and how often it was.
    resting: BTreeMap<Topic, (Duration, u32)>,
    /// Topics that are being delivered; whether they changed meanwhile.
    busy: BTreeMap<Topic, bool>,
    /// The moment that the store was asked about, and when that was.
    mark: Option<ChangeMark>,
    asked_at: Time,
    /// Not all topics that have something are known: all logs are to be listed.
    wants_list: bool,
    /// How far that came: which filter, and after which topic.
    listing: Option<(usize, Option<Topic>)>,
    /// When an entry was written last.
    written_at: Duration,
}

impl Runner {
    /// Watches and delivers until the node ends.
    pub(super) async fn run(mut self) {
        let mut seen = (Position::default(), clock::monotonic());
        while !*self.ending.borrow() {
            match self.catch_up().await {
                Ok(()) => {
                    let now = clock::monotonic();
                    if self.progress.head != seen.0 {
                        seen = (self.progress.head, now);
                    }
                    let is_own = self.progress.owner == self.process;
                    let is_free = self.progress.owner.is_empty() || self.is_alone || is_own;
                    if is_free || now.saturating_sub(seen.1) >= WEBHOOK_LEASE {
                        match self.deliver().await {
                            Stop::Released => return,
                            Stop::Lost => tracing::info!(webhook = self.name(), "another node delivers"),
                            Stop::Store(error) => {
                                tracing::warn!(webhook = self.name(), %error, "nothing is delivered without the store");
                            }
                        }
                        seen = (self.progress.head, clock::monotonic());
                    }
                }
                Err(error) => tracing::debug!(webhook = self.name(), %error, "the register cannot be read"),
            }
            let _ =
                tokio::time::timeout(WEBHOOK_WATCH_INTERVAL, self.ending.wait_for(|ending| *ending)).await;
        }
    }

    fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// Delivers for as long as this node is the one that does.
    async fn deliver(&mut self) -> Stop {
        match self.serve().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Stop> {
        self.claim().await?;
        tracing::info!(webhook = self.name(), "this node delivers");
        let mut duty = Duty { wants_list: true, written_at: clock::monotonic(), ..Duty::default() };
        let mut jobs: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(WEBHOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ending = self.ending.clone();
        loop {
            while jobs.len() < self.settings.concurrency
                && let Some(job) = self.next_job(&mut duty)
            {
                jobs.push(Box::pin(Arc::clone(&self.worker).run(job)));
            }
            let is_ending = async { drop(ending.wait_for(|ending| *ending).await) };
            tokio::select! {
                biased;
                () = is_ending => {
                    self.worker.deliveries.write().await;
                    self.write_down(&mut duty, "").await?;
                    return Err(Stop::Released);
                }
                Some(ended) = jobs.next(), if !jobs.is_empty() => self.take(&mut duty, ended).await?,
                _ = ticks.tick() => self.tick(&mut duty).await?,
            }
        }
    }

    /// Makes this node the one that delivers; the first of all begins now.
    async fn claim(&mut self) -> Result<(), Stop> {
        let is_new = self.progress.head == Position::default();
        let mut entry = self.progress.to_entry();
        if is_new {
            entry.floor = Some(clock::wall().0);
        }
        if entry.gone.as_deref() != Some(self.settings.url.reveal()) {
            entry.gone = None;
        }
        self.write(entry, self.process.clone()).await
    }

    /// The next topic that may be delivered.
    fn next_job(&self, duty: &mut Duty) -> Option<Job> {
        if self.progress.gone.is_some() {
            return None;
        }
        let now = clock::monotonic();
        let rested =
            duty.resting.iter().find(|(topic, (at, _))| *at <= now && !duty.busy.contains_key(*topic));
        let (topic, n_tried) = match rested {
            Some((topic, (_, n_tried))) => (topic.clone(), *n_tried),
            None => {
                let is_free =
                    |topic: &&Topic| !duty.busy.contains_key(*topic) && !duty.resting.contains_key(*topic);
                (duty.pending.iter().find(is_free)?.clone(), 0)
            }
        };
        duty.resting.remove(&topic);
        duty.pending.remove(&topic);
        duty.busy.insert(topic.clone(), false);
        let start = duty.moved.get(&topic).map(|(position, _)| Start::After(*position));
        let start = start.unwrap_or_else(|| self.progress.start_of(&topic));
        Some(Job { topic, start, n_tried })
    }

    /// Takes what came of a topic.
    async fn take(&mut self, duty: &mut Duty, ended: Ended) -> Result<(), Stop> {
        let Ended { topic, reached, n_tried, retry_in, has_more, is_gone } = ended;
        let has_changed = duty.busy.remove(&topic).unwrap_or_default();
        if let Some(reached) = reached {
            duty.moved.insert(topic.clone(), reached);
        }
        if is_gone {
            let gone = Some(self.settings.url.reveal().to_owned());
            tracing::error!(
                webhook = self.name(),
                "the receiver says that it is gone (410): it is asked no more"
            );
            self.write(Entry { gone, ..Entry::default() }, self.process.clone()).await?;
            duty.pending.insert(topic);
            return Ok(());
        }
        match retry_in {
            Some(pause) => drop(duty.resting.insert(topic, (clock::monotonic() + pause, n_tried))),
            None if has_more || has_changed => drop(duty.pending.insert(topic)),
            None => {}
        }
        Ok(())
    }

    /// Looks for news, and writes down how far it came.
    async fn tick(&mut self, duty: &mut Duty) -> Result<(), Stop> {
        self.worker.deliveries.write().await;
        let asked_at = clock::wall();
        let changes = within_deadline(self.store.changes(duty.mark.take())).await?;
        let was_all_delivered = duty.is_done();
        duty.mark = Some(changes.mark);
        duty.wants_list |= !changes.complete;
        for changed in changes.changed {
            self.note(duty, changed.topic);
        }
        self.list(duty).await?;
        let now = clock::monotonic();
        let is_due = !self.is_alone && now.saturating_sub(duty.written_at) >= WEBHOOK_LEASE / 3;
        if !duty.moved.is_empty() || is_due {
            // What the store said last time was delivered, and so everything from well before it.
            let floor = Time(duty.asked_at.0.saturating_sub(WEBHOOK_FLOOR_MARGIN_MS));
            let floor = (was_all_delivered && floor > self.progress.floor).then_some(floor.0);
            self.write_down_with(duty, floor, self.process.clone()).await?;
        }
        METRICS.webhooks_waiting.set((duty.pending.len() + duty.busy.len() + duty.resting.len()) as u64);
        duty.asked_at = asked_at;
        Ok(())
    }

    /// A topic may have something to be delivered.
    fn note(&self, duty: &mut Duty, topic: Topic) {
        let is_own = topic.as_str().starts_with(super::DEAD_LETTERS);
        if is_own || !self.settings.topics.iter().any(|filter| filter.matches(&topic)) {
            return;
        }
        if let Some(has_changed) = duty.busy.get_mut(&topic) {
            *has_changed = true;
        } else if duty.pending.len() < WEBHOOK_PENDING_MAX {
            duty.pending.insert(topic);
        } else {
            duty.wants_list = true;
        }
    }

    /// Finds the topics that have something to be delivered among all that there are, some at a time.
    async fn list(&self, duty: &mut Duty) -> Result<(), Stop> {
        if duty.listing.is_none() && std::mem::take(&mut duty.wants_list) {
            duty.listing = Some((0, None));
        }
        while duty.pending.len() < WEBHOOK_PENDING_MAX / 2
            && let Some((place, after)) = duty.listing.take()
            && let Some(filter) = self.settings.topics.get(place)
        {
            let query = TopicsQuery { filter: filter.clone(), after, limit: RETENTION_LOGS_PER_STEP };
            let logs = within_deadline(self.store.topics(query)).await?;
            let last = logs.last().map(|log| log.topic.clone());
            duty.listing = Some(last.map_or((place + 1, None), |last| (place, Some(last))));
            for log in logs {
                let known = duty.moved.get(&log.topic).or_else(|| self.progress.positions.get(&log.topic));
                if known.is_none_or(|(position, _)| *position < log.head) {
                    self.note(duty, log.topic);
                }
            }
        }
        Ok(())
    }

    async fn write_down(&mut self, duty: &mut Duty, owner: &str) -> Result<(), Stop> {
        self.write_down_with(duty, None, owner.to_owned()).await
    }

    async fn write_down_with(
        &mut self,
        duty: &mut Duty,
        floor: Option<u64>,
        owner: String,
    ) -> Result<(), Stop> {
        let moved = duty.moved.iter().map(|(topic, (position, time))| Moved::of(topic, *position, *time));
        let moved: Vec<_> = moved.collect();
        self.write(Entry { floor, moved, ..Entry::default() }, owner).await?;
        duty.moved.clear();
        duty.written_at = clock::monotonic();
        if self.progress.bytes_since > WEBHOOK_CHECKPOINT_BYTES {
            self.write(self.progress.to_entry(), self.process.clone()).await?;
            let until = self.progress.head.previous().offset;
            // What is left, the next one takes.
            let removal = Removal::Purge { topic: self.register.clone(), until };
            let _ = within_deadline(self.store.remove(removal)).await;
        }
        Ok(())
    }

    /// Appends an entry, if nobody else did since this node looked.
    async fn write(&mut self, entry: Entry, owner: String) -> Result<(), Stop> {
        self.number += 1;
        let process = self.process.clone();
        let entry = Entry { owner, number: self.number, ..entry };
        let payload = entry.encode();
        let content_type = "application/json".to_owned();
        let message = Message { payload: payload.clone(), content_type, ..Message::default() };
        let expect = Some(self.progress.head.offset);
        let message = NewMessage { topic: self.register.clone(), message, expect };
        let append =
            Append { message, publisher: process, time: clock::wall(), idempotency_window: Duration::ZERO };
        let appended = within_deadline(self.store.append(vec![append])).await?;
        let Some(Appended::Stored(delivery)) = appended.first() else { return Err(Stop::Lost) };
        self.progress.take(delivery.position.unwrap_or_default(), &payload);
        Ok(())
    }

    /// Reads on in the register, to its end.
    async fn catch_up(&mut self) -> Result<(), Error> {
        loop {
            let is_new = self.progress.head == Position::default();
            let start = if is_new { Start::Earliest } else { Start::After(self.progress.head) };
            let range = HistoryRange::Forward(start);
            let query = HistoryQuery { topic: self.register.clone(), range, limit: WEBHOOK_REGISTER_PAGE };
            let page = within_deadline(self.store.read(query)).await?;
            if !is_new && page.head.epoch != self.progress.head.epoch {
                self.progress = Progress::default();
                if page.head == Position::default() {
                    return Ok(());
                }
                continue;
            }
            for delivery in &page.messages {
                self.progress.take(delivery.position.unwrap_or_default(), &delivery.message.payload);
            }
            if self.progress.head >= page.head || page.messages.is_empty() {
                self.progress.head = self.progress.head.max(page.head);
                return Ok(());
            }
        }
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(STORE_DEADLINE, work).await.map_err(late)?
}
