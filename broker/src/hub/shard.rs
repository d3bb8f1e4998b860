//! One shard: some of the connections, and the topics that they read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bongsu_protocol::session::{Offer, TopicKind};
use bongsu_protocol::topic::{Topic, TopicFilter};
use indexmap::IndexMap;
use tokio::sync::mpsc;

use super::filters::Filters;
use super::lossy::{Lossy, Progress};
use super::{Acknowledgment, Command, Fanout};
use crate::clock;
use crate::config::Policies;
use crate::delivery::SharedDelivery;
use crate::limits::{FLUSHES_PER_TURN_MAX, MESSAGES_PER_RUN_MAX, SHARD_IDLE_TOPICS_MAX, SINCE_MARGIN_MS};
use crate::metrics::METRICS;
use crate::outbound::{ConnectionId, Outbound};
use bongsu_protocol::message::Time;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) topics: HashMap<Topic, Readers>,
    pub(super) filters: Filters,
    policies: Arc<Policies>,
    /// Connections with something to write, each once.
    pub(super) dirty: Vec<Arc<Outbound>>,
    /// What it takes to fill gaps; `None` where nothing can be lost on the way here.
    pub(super) lossy: Option<Lossy>,
}

/// The connections that read one topic.
#[derive(Debug, Default)]
pub(super) struct Readers {
    pub(super) connections: IndexMap<ConnectionId, Reader>,
    /// How many of the readers named the topic itself; without any, the entry can be made anew from the patterns.
    n_exact: usize,
    /// How far the topic's log was offered to the readers.
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) outbound: Arc<Outbound>,
    /// Whether it named the topic itself.
    exact: bool,
    /// How many of its patterns match.
    n_patterns: usize,
}

impl Shard {
    pub(super) fn new(policies: Arc<Policies>, lossy: Option<Lossy>) -> Self {
        Self { topics: HashMap::new(), filters: Filters::default(), policies, dirty: Vec::new(), lossy }
    }

    /// Takes commands until the hub is gone.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        loop {
            let next = tokio::select! {
                biased;
                repair = Lossy::next(&mut self.lossy) => {
                    self.repair(repair).await;
                    self.flush().await;
                    continue;
                }
                command = queue.recv() => command,
            };
            let Some(command) = next else { return };
            self.handle(command).await;
            // What is queued already goes into the same writes.
            let mut n_more = 0;
            while n_more < 32
                && self.dirty.len() < FLUSHES_PER_TURN_MAX
                && let Ok(command) = queue.try_recv()
            {
                self.handle(command).await;
                n_more += 1;
            }
            self.flush().await;
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Fanout(batch) => self.fan_out(&batch.messages).await,
            Command::Heads(heads) => self.take_heads(&heads),
            Command::Changes(changes) => self.take_changes(&changes).await,
            Command::Interrupted => self.tell_live_readers(),
            Command::Acknowledge(acknowledgments) => self.acknowledge(acknowledgments),
            Command::Watch { outbound, filter } => self.watch(&outbound, &filter),
            Command::Unwatch { id, filter } => self.unwatch(id, &filter),
            Command::Forget { id, filters } => {
                for filter in &filters {
                    self.unwatch(id, filter);
                }
            }
            // Who asked may have given up.
            Command::Count(topics, sender) => drop(sender.send(self.count(&topics))),
            Command::Ping(sender) => drop(sender.send(())),
        }
    }

    /// Offers messages, run by run: neighbours of the same topic are offered to a connection together.
    async fn fan_out(&mut self, messages: &[Fanout]) {
        let same_topic =
            |one: &Fanout, other: &Fanout| one.shared.delivery.topic == other.shared.delivery.topic;
        for run in messages.chunk_by(same_topic) {
            for run in run.chunks(MESSAGES_PER_RUN_MAX) {
                if self.lossy.is_some() && run[0].shared.delivery.position.is_some() {
                    self.take_durable(run).await;
                } else {
                    self.offer(run).await;
                }
            }
        }
    }

    /// Offers messages of one topic to its readers.
    pub(super) async fn offer(&mut self, run: &[Fanout]) {
        let Some(first) = run.first() else { return };
        let topic = &first.shared.delivery.topic;
        if !self.is_read(topic) {
            return;
        }
        let Some(readers) = self.topics.get(topic) else { return };
        let offers: Vec<Offer<'_, SharedDelivery>> = run.iter().map(offer_of).collect();
        let n_readers = readers.connections.len();
        METRICS.offered.add((offers.len() * n_readers) as u64);
        let mut n_done = 0;
        while n_done < n_readers {
            let Some(readers) = self.topics.get(topic) else { return };
            let end = (n_done + FLUSHES_PER_TURN_MAX).min(n_readers);
            for (_, reader) in readers.connections.get_range(n_done..end).into_iter().flatten() {
                if reader.outbound.offer(&offers) {
                    self.dirty.push(reader.outbound.clone());
                }
            }
            n_done = end;
            // A run fills the connections as far as one write carries: write before more is offered.
            if run.len() == MESSAGES_PER_RUN_MAX || self.dirty.len() >= FLUSHES_PER_TURN_MAX {
                self.flush().await;
            }
        }
    }

    fn acknowledge(&mut self, acknowledgments: Vec<Acknowledgment>) {
        for Acknowledgment { to, id, part, result } in acknowledgments {
            let mut state = to.lock();
            let before = state.dialog.has_outgoing();
            state.dialog.tell(|session| session.published(id, part, result));
            let dirty = !before && state.dialog.has_outgoing() && !state.is_blocked();
            drop(state);
            if dirty {
                self.dirty.push(to);
            }
        }
    }

    /// Writes the connections that have something to write, and lets others of this core work in between.
    async fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for chunk in dirty.chunks(FLUSHES_PER_TURN_MAX) {
            for outbound in chunk {
                outbound.flush();
            }
            tokio::task::yield_now().await;
        }
        dirty.clear();
        if dirty.capacity() <= FLUSHES_PER_TURN_MAX {
            self.dirty = dirty;
        }
    }

    fn watch(&mut self, outbound: &Arc<Outbound>, filter: &TopicFilter) {
        let mut kind = TopicKind::Durable;
        if let Some(topic) = filter.as_topic() {
            if !self.policies.keep(&topic) {
                kind = TopicKind::Live;
            }
            let readers = self.readers_of(topic);
            let reader = readers.reader(outbound);
            if !std::mem::replace(&mut reader.exact, true) {
                readers.n_exact += 1;
            }
        } else {
            self.filters.insert(filter, Arc::clone(outbound));
            for (topic, readers) in &mut self.topics {
                if filter.matches(topic) {
                    readers.reader(outbound).n_patterns += 1;
                }
            }
        }
        let since = Time(clock::wall().0.saturating_sub(SINCE_MARGIN_MS));
        outbound.lock().dialog.tell(|session| session.watched(filter, kind, since));
        outbound.flush();
        outbound.call();
    }

    fn unwatch(&mut self, id: ConnectionId, filter: &TopicFilter) {
        if let Some(topic) = filter.as_topic() {
            if let Some(readers) = self.topics.get_mut(&topic)
                && readers.release(id, |reader| std::mem::take(&mut reader.exact))
            {
                readers.n_exact -= 1;
            }
            self.drop_empty(&topic);
            return;
        }
        self.filters.remove(filter, id);
        self.topics.retain(|topic, readers| {
            if filter.matches(topic) {
                readers.release(id, |reader| {
                    reader.n_patterns = reader.n_patterns.saturating_sub(1);
                    true
                });
            }
            !readers.connections.is_empty()
        });
    }

    /// How many connections read each of these topics.
    fn count(&self, topics: &[Topic]) -> Vec<u64> {
        let count = |topic| match self.topics.get(topic) {
            Some(readers) => readers.connections.len() as u64,
            None if self.filters.is_empty() => 0,
            None => {
                let mut connections = HashSet::new();
                self.filters.matching(topic, |outbound| {
                    connections.insert(outbound.id());
                });
                connections.len() as u64
            }
        };
        topics.iter().map(count).collect()
    }

    /// Whether anybody here reads the topic; then there is an entry for it.
    pub(super) fn is_read(&mut self, topic: &Topic) -> bool {
        self.topics.contains_key(topic) || self.meet(topic)
    }

    /// Makes the entry of a topic that a pattern may want. False if none does.
    fn meet(&mut self, topic: &Topic) -> bool {
        if self.filters.is_empty() {
            return false;
        }
        let mut wanted = false;
        self.filters.matching(topic, |_| wanted = true);
        if wanted {
            self.readers_of(topic.clone());
        }
        wanted
    }

    /// The entry of a topic, made with the patterns that match if there is none.
    fn readers_of(&mut self, topic: Topic) -> &mut Readers {
        if self.topics.len() >= SHARD_IDLE_TOPICS_MAX && !self.topics.contains_key(&topic) {
            // Entries that only patterns need are made again by their next message.
            self.topics.retain(|_, readers| readers.n_exact > 0);
        }
        let filters = &self.filters;
        self.topics.entry(topic).or_insert_with_key(|topic| {
            let mut readers = Readers::default();
            filters.matching(topic, |outbound| readers.reader(outbound).n_patterns += 1);
            readers
        })
    }

    fn drop_empty(&mut self, topic: &Topic) {
        if self.topics.get(topic).is_some_and(|readers| readers.connections.is_empty()) {
            self.topics.remove(topic);
        }
    }
}

impl Readers {
    /// Whether a pattern is why somebody reads the topic.
    pub(super) fn has_patterns(&self) -> bool {
        self.connections.len() > self.n_exact || self.connections.values().any(|reader| reader.n_patterns > 0)
    }

    fn reader(&mut self, outbound: &Arc<Outbound>) -> &mut Reader {
        let new = || Reader { outbound: outbound.clone(), exact: false, n_patterns: 0 };
        self.connections.entry(outbound.id()).or_insert_with(new)
    }

    /// Lets go of one reason why a connection reads the topic; without any left, it no longer does.
    fn release(&mut self, id: ConnectionId, let_go: impl FnOnce(&mut Reader) -> bool) -> bool {
        let Some(reader) = self.connections.get_mut(&id) else { return false };
        let released = let_go(reader);
        if !reader.exact && reader.n_patterns == 0 {
            self.connections.swap_remove(&id);
        }
        released
    }
}

fn offer_of(fanout: &Fanout) -> Offer<'_, SharedDelivery> {
    Offer {
        topic: &fanout.shared.delivery.topic,
        position: fanout.shared.delivery.position,
        slow_reader: fanout.slow_reader,
        bytes: fanout.shared.bytes(),
        item: &fanout.shared,
    }
}
