//! Which topics and patterns somebody on this node reads, and the channels of the bus that follow from it.
//!
//! ```text
//!   connection ── watch ──▶ Interest ── first reader: subscribe ──▶ bus
//!                              │  ◀───────────── subscribed ────────┘
//!                              └── watch ──▶ the connection's shard, which tells its session
//! ```
//!
//! A connection is told that its watch has begun only after the bus said so: what is published from then on comes here, or an
//! interruption is told. While the bus is degraded nobody waits for it: the feed asks the store instead.
//!
//! A channel that nobody needs any longer is kept for a while, so that a client that reconnects, or a page that reloads, costs the bus
//! nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::topic::TopicFilter;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use crate::bus::{Bus, Channel, Health};
use crate::clock;
use crate::heard::{Heard, channel_of};
use crate::history::History;
use crate::hub::{Hub, Probe};
use crate::limits::{INTEREST_BATCH_MAX, INTEREST_COMMANDS_MAX, INTEREST_LINGER, PROBE_PATIENCE};
use crate::outbound::{ConnectionId, Outbound};

/// Who reads what on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interest {
    hub: Hub,
    /// The task that knows the channels; `None` on a node that is alone, where the hub hears everything.
    commands: Option<mpsc::Sender<Command>>,
}

#[derive(Debug)]
enum Command {
    Watch { outbound: Arc<Outbound>, filter: TopicFilter },
    Unwatch { id: ConnectionId, filter: TopicFilter },
    Forget { id: ConnectionId, filters: Vec<TopicFilter> },
}

/// The rest of the cluster, as far as interest needs it.
pub struct Reach {
    /// Where channels are subscribed.
    pub bus: Arc<dyn Bus>,
    /// How it is.
    pub health: watch::Receiver<Health>,
    /// What is heard is remembered.
    pub history: Arc<History>,
    /// Which channels are heard; written here only.
    pub heard: Arc<Heard>,
    /// How to learn that the store was asked for changes.
    pub probe: Arc<Probe>,
}

impl Interest {
    /// The readers of this node.
    #[must_use]
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Whether the task that knows the channels is there, if there is to be one.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.commands.as_ref().is_none_or(|commands| !commands.is_closed())
    }

    /// Interest on a node that is alone.
    #[must_use]
    pub const fn alone(hub: Hub) -> Self {
        Self { hub, commands: None }
    }

    /// Interest on a node of a cluster.
    #[must_use]
    pub fn spawn(hub: Hub, reach: Reach) -> Self {
        let (commands, queue) = mpsc::channel(INTEREST_COMMANDS_MAX);
        tokio::spawn(Task::new(hub.clone(), reach).run(queue));
        Self { hub, commands: Some(commands) }
    }

    /// Feeds a connection with the topics under a filter; its session is told when that begins. Waits for room in a queue only.
    pub async fn watch(&self, outbound: Arc<Outbound>, filter: TopicFilter) {
        match &self.commands {
            None => self.hub.watch(outbound, filter).await,
            Some(task) => send(task, Command::Watch { outbound, filter }).await,
        }
    }

    /// Stops feeding a connection with the topics under a filter.
    pub async fn unwatch(&self, id: ConnectionId, filter: TopicFilter) {
        match &self.commands {
            None => self.hub.unwatch(id, filter).await,
            Some(task) => send(task, Command::Unwatch { id, filter }).await,
        }
    }

    /// Forgets a connection that watches these filters.
    pub async fn forget(&self, id: ConnectionId, filters: Vec<TopicFilter>) {
        match &self.commands {
            None => self.hub.forget(id, filters).await,
            Some(task) => send(task, Command::Forget { id, filters }).await,
        }
    }
}

/// The task ends only with the process.
async fn send(task: &mpsc::Sender<Command>, command: Command) {
    let _ = task.send(command).await;
}

/// A channel that somebody wants, or wanted lately.
#[derive(Debug)]
struct Want {
    filter: TopicFilter,
    n_readers: usize,
    /// The batch that subscribes it, until that is done.
    batch: Option<u64>,
    /// It stands in the list of channels that nobody needs.
    lingers: bool,
}

/// Connections that wait for a batch of channels.
type Watches = Vec<(Arc<Outbound>, TopicFilter)>;

struct Task {
    hub: Hub,
    reach: Reach,
    wants: HashMap<Channel, Want>,
    /// Watches that wait, by batch.
    waiting: HashMap<u64, Watches>,
    /// Batches under way; each answers its number and its channels.
    batches: FuturesUnordered<BoxFuture<'static, (u64, Vec<Channel>)>>,
    next_batch: u64,
    /// Channels that nobody needed when they were put here, with the time at which to look again, in that order.
    lingering: VecDeque<(Duration, Channel)>,
}

impl Task {
    fn new(hub: Hub, reach: Reach) -> Self {
        Self {
            hub,
            reach,
            wants: HashMap::new(),
            waiting: HashMap::new(),
            batches: FuturesUnordered::new(),
            next_batch: 0,
            lingering: VecDeque::new(),
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut commands = Vec::new();
        loop {
            let due = self.lingering.front().map(|(due, _)| clock::instant(*due));
            let linger = async move {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((batch, channels)) = self.batches.next() => self.subscribed(batch, channels).await,
                () = linger => self.let_go(),
                n_commands = queue.recv_many(&mut commands, INTEREST_BATCH_MAX) => {
                    if n_commands == 0 {
                        return;
                    }
                    self.handle(commands.drain(..)).await;
                }
            }
        }
    }

    /// Takes commands in order; what they newly want is one batch.
    async fn handle(&mut self, commands: impl Iterator<Item = Command>) {
        let batch = self.next_batch;
        self.next_batch += 1;
        let mut channels = Vec::new();
        for command in commands {
            match command {
                Command::Watch { outbound, filter } => {
                    self.watch(batch, &mut channels, outbound, filter).await
                }
                Command::Unwatch { id, filter } => self.unwatch(id, filter).await,
                Command::Forget { id, filters } => {
                    for filter in filters {
                        self.unwatch(id, filter).await;
                    }
                }
            }
        }
        let waiting = self.waiting.get(&batch);
        let has_patterns =
            waiting.is_some_and(|watches| watches.iter().any(|(_, filter)| filter.as_topic().is_none()));
        if waiting.is_some() || !channels.is_empty() {
            self.batches.push(self.subscribe(batch, channels, has_patterns));
        }
    }

    async fn watch(
        &mut self,
        batch: u64,
        channels: &mut Vec<Channel>,
        outbound: Arc<Outbound>,
        filter: TopicFilter,
    ) {
        let channel = channel_of(&filter);
        let want = self.wants.entry(channel.clone()).or_insert_with(|| {
            channels.push(channel);
            Want { filter: filter.clone(), n_readers: 0, batch: Some(batch), lingers: false }
        });
        want.n_readers += 1;
        // Whoever watches a pattern is told that it begins after the store was asked what changed until then: what changed before
        // is of no concern to it, and everything later is.
        let waits_for = if filter.as_topic().is_none() { want.batch.or(Some(batch)) } else { want.batch };
        match waits_for {
            Some(batch) => self.waiting.entry(batch).or_default().push((outbound, filter)),
            None => self.hub.watch(outbound, filter).await,
        }
    }

    async fn unwatch(&mut self, id: ConnectionId, filter: TopicFilter) {
        let channel = channel_of(&filter);
        let Some(want) = self.wants.get_mut(&channel) else { return };
        want.n_readers = want.n_readers.saturating_sub(1);
        if want.n_readers == 0 && !want.lingers {
            want.lingers = true;
            self.lingering.push_back((clock::monotonic() + INTEREST_LINGER, channel));
        }
        let mut waited = false;
        for watches in self.waiting.values_mut() {
            let n_before = watches.len();
            watches.retain(|(outbound, waiting)| outbound.id() != id || *waiting != filter);
            waited |= watches.len() < n_before;
        }
        if !waited {
            self.hub.unwatch(id, filter).await;
        }
    }

    /// Subscribes channels, and asks what changed until they were.
    fn subscribe(
        &self,
        batch: u64,
        channels: Vec<Channel>,
        has_patterns: bool,
    ) -> BoxFuture<'static, (u64, Vec<Channel>)> {
        let (bus, probe) = (Arc::clone(&self.reach.bus), Arc::clone(&self.reach.probe));
        let is_live = *self.reach.health.borrow() == Health::Live;
        let wanted = channels.clone();
        Box::pin(async move {
            if !wanted.is_empty() {
                let subscribed = async move { bus.subscribe(wanted).await };
                if is_live {
                    if let Err(error) = subscribed.await {
                        tracing::debug!(%error, "channels are not subscribed yet");
                    }
                } else {
                    // The bus keeps them wanted, and the store is asked meanwhile.
                    tokio::spawn(subscribed);
                }
            }
            if has_patterns {
                probe.wait_for_answer(PROBE_PATIENCE).await;
            }
            (batch, channels)
        })
    }

    /// A batch is subscribed: lets its watches begin.
    async fn subscribed(&mut self, batch: u64, channels: Vec<Channel>) {
        let mut new_shapes = false;
        for channel in channels {
            let Some(want) = self.wants.get_mut(&channel) else { continue };
            want.batch = None;
            self.reach.history.hear(&want.filter);
            new_shapes |= self.reach.heard.insert(&want.filter);
        }
        if new_shapes {
            self.reach.probe.shapes_changed();
        }
        for (outbound, filter) in self.waiting.remove(&batch).unwrap_or_default() {
            self.hub.watch(outbound, filter).await;
        }
    }

    /// Unsubscribes what nobody needed for a while.
    fn let_go(&mut self) {
        let now = clock::monotonic();
        let mut channels = Vec::new();
        while let Some((due, _)) = self.lingering.front()
            && *due <= now
            && channels.len() < INTEREST_BATCH_MAX
        {
            let Some((_, channel)) = self.lingering.pop_front() else { break };
            let Some(want) = self.wants.get_mut(&channel) else { continue };
            want.lingers = false;
            if want.n_readers > 0 {
                continue;
            }
            if want.batch.is_some() {
                want.lingers = true;
                self.lingering.push_back((now + INTEREST_LINGER, channel));
                continue;
            }
            self.reach.heard.remove(&want.filter);
            self.reach.history.forget_unheard(&want.filter);
            self.wants.remove(&channel);
            channels.push(channel);
        }
        if !channels.is_empty() {
            self.reach.bus.unsubscribe(channels);
        }
    }
}
