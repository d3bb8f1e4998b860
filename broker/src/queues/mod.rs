//! Work queues over logs: each message goes to one consumer of the cluster, until one of them has settled it.
//!
//! ```text
//!   connection ── consume, settle, cancel ──▶ mailbox ──▶ Task ── append if unchanged ──▶ state log
//!       ▲                                                  │ ▲ ◀── what others appended ──────┘
//!       └── outbound: messages, receipts ──────────────────┘ └──── messages ── history ◀── log
//! ```
//!
//! There is no owner. What became of a queue's messages, and which node holds the others, is the newest message of the queue's *state
//! log*; a node changes it by an append on the condition that nobody else did meanwhile (see [`bongsu_protocol::queue`]). A queue has one task
//! on each node that has consumers of it, and none where nobody consumes. A message is handed to a consumer after the append that claims it,
//! and a settlement is confirmed after the append that says so: one append carries all that waits of both, and one is under way at a time.
//!
//! `docs/queues.md` says what applications may rely on, and what happens when something dies.

mod burial;
mod handover;
mod ledger;
mod liveness;
mod mailbox;
mod names;
mod news;
mod pace;
mod task;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_protocol::command::{RequestId, Start};
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::queue::{ConsumerId, Departure, Holder};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::stomp::conversation::{Group, Settled, SubscriptionKey};
use bongsu_protocol::topic::Topic;
use tokio::sync::{Notify, oneshot, watch};

use crate::cluster::Cluster;
use crate::config::{Policies, Settings};
use crate::drain::{Drain, Phase};
use crate::history::{self, History};
use crate::interest::Interest;
use crate::limits::QUEUES_MAX;
use crate::outbound::{ConnectionId, Outbound};
use crate::publisher::Publisher;

pub use liveness::holder;
pub use names::STATE_PREFIX;

use ledger::Ledger;
use liveness::Others;
use mailbox::{Asker, Command, Consumer, Mailbox};
use task::Task;

/// The queues that somebody on this node consumes. See the [module](self). Cheap to clone.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<Shared>,
}

/// A subscription that becomes a consumer of a queue.
#[derive(Debug)]
pub struct Consume {
    /// Whose it is, and where messages and the answer go.
    pub outbound: Arc<Outbound>,
    /// The request to be answered.
    pub request: RequestId,
    /// Which subscription of the conversation.
    pub subscription: SubscriptionKey,
    /// The log that the queue is made of.
    pub topic: Topic,
    /// Which of the queues over this log.
    pub group: Group,
    /// Where the queue starts, if there is none yet.
    pub from: Start,
    /// Messages that it may hold without having settled them; at least 1.
    pub prefetch: u32,
}

/// What a node's queues need of it.
pub struct Parts<'a> {
    /// Whether others live.
    pub cluster: &'a Cluster,
    /// Whether there are others.
    pub is_alone: bool,
    /// How this node holds messages: see [`holder`].
    pub me: Holder,
    /// Which topics keep history.
    pub policies: &'a Arc<Policies>,
    /// Whether it ends, so that connections that go have done nothing wrong.
    pub drain: &'a Drain,
    /// How to hear of messages.
    pub interest: &'a Interest,
    /// How to read them.
    pub history: &'a Arc<History>,
    /// How to write states and dead letters.
    pub publisher: &'a Arc<Publisher>,
    /// When a message is dead, and where it goes.
    pub settings: &'a Settings,
}

/// What all queues of a node share.
struct Shared {
    me: Holder,
    others: Others,
    policies: Arc<Policies>,
    interest: Interest,
    history: Arc<History>,
    publisher: Arc<Publisher>,
    tries_max: u32,
    dead_letter_prefix: Topic,
    phase: watch::Receiver<Phase>,
    last_consumer: AtomicU64,
    /// Rung when a queue's task ends.
    retired: Notify,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    /// By their state logs.
    queues: HashMap<Topic, Arc<Mailbox>>,
    consumers: BTreeMap<(ConnectionId, SubscriptionKey), Entry>,
}

struct Entry {
    id: ConsumerId,
    mailbox: Arc<Mailbox>,
}

impl Queues {
    /// No queues yet; tasks begin with consumers.
    #[must_use]
    pub fn new(parts: &Parts<'_>) -> Self {
        let others = match parts.cluster.registry() {
            Some(_) => Others::Cluster(parts.cluster.clone()),
            None if parts.is_alone => Others::None,
            None => Others::Unknown,
        };
        let shared = Shared {
            me: parts.me.clone(),
            others,
            policies: Arc::clone(parts.policies),
            interest: parts.interest.clone(),
            history: Arc::clone(parts.history),
            publisher: Arc::clone(parts.publisher),
            tries_max: parts.settings.queues.tries_max,
            dead_letter_prefix: parts.settings.queues.dead_letter_prefix.clone(),
            phase: parts.drain.subscribe(),
            last_consumer: AtomicU64::new(0),
            retired: Notify::new(),
            registry: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes a subscription a consumer; its conversation is told with `consuming` once the queue is there, and handed messages from then on.
    /// Waits for nothing and takes no lock of an outbound, as all that follow.
    pub fn consume(&self, wanted: Consume) {
        let Consume { outbound, request, subscription, topic, group, from, prefetch } = wanted;
        if !self.shared.policies.for_topic(&topic).is_durable() {
            let text = "this topic keeps no history, and so has no queue";
            return refuse_consumer(outbound, request, Error::new(ErrorCode::BadRequest, text));
        }
        let log = names::state_log(&topic, &group);
        let mut registry = self.shared.lock();
        let mailbox = match registry.queues.get(&log) {
            Some(mailbox) => Arc::clone(mailbox),
            None if registry.queues.len() >= QUEUES_MAX => {
                drop(registry);
                let text = "this node serves as many queues as it takes";
                return refuse_consumer(outbound, request, Error::new(ErrorCode::TooMany, text));
            }
            None => {
                let mailbox = Arc::<Mailbox>::default();
                registry.queues.insert(log.clone(), Arc::clone(&mailbox));
                let history = Arc::clone(&self.shared.history);
                let publisher = Arc::clone(&self.shared.publisher);
                let ledger = Ledger { topic, log, history, publisher };
                tokio::spawn(Task::new(Arc::clone(&self.shared), ledger, Arc::clone(&mailbox)).run(from));
                mailbox
            }
        };
        let id = ConsumerId(self.shared.last_consumer.fetch_add(1, Ordering::Relaxed) + 1);
        let entry = Entry { id, mailbox: Arc::clone(&mailbox) };
        registry.consumers.insert((outbound.id(), subscription), entry);
        let consumer = Consumer { outbound, subscription };
        // Under the lock, so that the task does not end in between.
        mailbox.push(Command::Consume { request, id, consumer, prefetch });
    }

    /// The subscription consumes no longer: what it holds goes to others, and does not count as tried. `forget`: so does all that the queue
    /// knows.
    pub fn cancel(&self, connection: ConnectionId, subscription: SubscriptionKey, forget: bool) {
        let mut registry = self.shared.lock();
        if let Some(Entry { id, mailbox }) = registry.consumers.remove(&(connection, subscription)) {
            mailbox.push(Command::Leave { id, departure: Departure::Cancelled, forget });
        }
    }

    /// Settles messages; the conversation is told with `settled` once that is kept.
    pub fn settle(&self, outbound: &Arc<Outbound>, request: RequestId, settled: Settled) {
        self.push_settled(outbound.id(), settled, Asker::Request(Arc::clone(outbound), request));
    }

    /// Publishes messages in a subject's name, all or none, and then settles; the conversation is told with `committed`.
    ///
    /// What is settled is kept after the messages are: a node that dies between the two leaves the messages published, and what was to be
    /// settled comes again. The other way round, messages could be lost.
    pub fn commit(
        &self,
        outbound: Arc<Outbound>,
        request: RequestId,
        subject: String,
        messages: Vec<NewMessage>,
        settled: Vec<Settled>,
    ) {
        let this = self.clone();
        // Bounded by the requests of the connection that are under way.
        tokio::spawn(async move {
            let result = this.carry_out(outbound.id(), &subject, messages, settled).await;
            if let Some(conversation) = outbound.lock().dialog.stomp() {
                conversation.committed(request, result);
            }
            answered(&outbound);
        });
    }

    /// The connection is gone: what its consumers hold goes to others, and counts as tried, unless this node sent it away.
    pub fn gone(&self, connection: ConnectionId) {
        let is_draining = *self.shared.phase.borrow() == Phase::Draining;
        let departure = if is_draining { Departure::Cancelled } else { Departure::Vanished };
        let mut registry = self.shared.lock();
        let first = (connection, SubscriptionKey(0));
        let keys: Vec<_> = registry
            .consumers
            .range(first..)
            .map(|(key, _)| *key)
            .take_while(|(of, _)| *of == connection)
            .collect();
        for key in keys {
            if let Some(Entry { id, mailbox }) = registry.consumers.remove(&key) {
                mailbox.push(Command::Leave { id, departure, forget: false });
            }
        }
    }

    /// Queues that have a task on this node.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.lock().queues.len()
    }

    /// Waits until no queue has a task here: what consumers settled is kept then, and what they held is with others. To be called when all
    /// connections are gone.
    pub async fn settled(&self) {
        loop {
            let retired = self.shared.retired.notified();
            if self.count() == 0 {
                return;
            }
            retired.await;
        }
    }

    async fn carry_out(
        &self,
        connection: ConnectionId,
        subject: &str,
        messages: Vec<NewMessage>,
        settled: Vec<Settled>,
    ) -> Result<(), Error> {
        if !messages.is_empty() {
            self.shared.publisher.publish_together(subject, messages).await?;
        }
        let mut answers = Vec::with_capacity(settled.len());
        for settled in settled {
            let (caller, answer) = oneshot::channel();
            self.push_settled(connection, settled, Asker::Caller(caller));
            answers.push(answer);
        }
        for answer in answers {
            answer.await.unwrap_or_else(|_| Err(history::unavailable()))?;
        }
        Ok(())
    }

    fn push_settled(&self, connection: ConnectionId, settled: Settled, asker: Asker) {
        let Settled { subscription, positions, settlement } = settled;
        let registry = self.shared.lock();
        match registry.consumers.get(&(connection, subscription)) {
            Some(Entry { id, mailbox }) => {
                mailbox.push(Command::Settle { id: *id, positions, settlement, asker });
            }
            // Cancelled: what it held is with others.
            None => {
                drop(registry);
                tokio::spawn(async move { asker.answer(Ok(())) });
            }
        }
    }
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

impl Shared {
    /// Takes a queue out that nobody here consumes. False if somebody does after all.
    fn retire(&self, log: &Topic, mailbox: &Mailbox) -> bool {
        let mut registry = self.lock();
        let is_over = mailbox.is_empty();
        if is_over {
            registry.queues.remove(log);
            self.retired.notify_waiters();
        }
        is_over
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Whatever panics under it has put nothing in by halves.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker {
    fn answer(self, result: Result<(), Error>) {
        match self {
            Self::Request(outbound, request) => {
                if let Some(conversation) = outbound.lock().dialog.stomp() {
                    conversation.settled(request, result);
                }
                answered(&outbound);
            }
            // Who went away is not told.
            Self::Caller(caller) => drop(caller.send(result)),
        }
    }
}

/// Sends what an answer made, and lets the connection's task do what it asks for.
fn answered(outbound: &Outbound) {
    outbound.flush();
    outbound.call();
}

/// Says that there will be no consumer: from a task of its own, since the caller may hold the outbound's lock.
fn refuse_consumer(outbound: Arc<Outbound>, request: RequestId, error: Error) {
    tokio::spawn(async move {
        if let Some(conversation) = outbound.lock().dialog.stomp() {
            conversation.consuming(request, Err(error));
        }
        answered(&outbound);
    });
}
