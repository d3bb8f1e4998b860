//! From a message that may be published to its place in the log, its readers and its acknowledgment.
//!
//! ```text
//!   publish ── policy, rate ──▶ durable: appender ── commit ──▶ remember ─▶ announce, fan out ─▶ acknowledge
//!                          └──▶ live:    lane     ────────────────────────▶ announce, fan out ─▶ acknowledge
//! ```
//!
//! A message is remembered before it is offered, and offered before it is acknowledged: whoever reads after an acknowledgment finds it.

mod live;
mod own;
mod rate;

use std::sync::{Arc, Mutex, PoisonError};

use bongsu_persistence::appender::{Appender, AppenderLimits, Failure, Submission};
use bongsu_persistence::store::{Append, Appended, Store};
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::Published;
use bongsu_protocol::message::{Delivery, NewMessage};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::SlowReader;
use tokio::sync::{Semaphore, oneshot};

use crate::clock;
use crate::config::{Kind, Policies};
use crate::delivery::{Shared, SharedDelivery};
use crate::feed::Announcer;
use crate::history::{self, History};
use crate::hub::{Acknowledgment, Fanout, Hub};
use crate::limits::TRANSACTIONS_AT_ONCE_MAX;
use crate::metrics::{METRICS, Refusal};
use crate::outbound::Outbound;
use crate::quota::Quotas;
use crate::telemetry;

use live::LiveLane;
pub use live::LiveMessage;
use rate::Rates;

/// Publishes messages. See the [module](self).
pub struct Publisher {
    appender: Appender<Pending>,
    readers: Readers,
    live: LiveLane,
    policies: Arc<Policies>,
    quotas: Arc<Quotas>,
    rates: Mutex<Rates>,
    /// For what goes past the appender.
    store: Arc<dyn Store>,
    /// Transactions that the store has at the same time.
    together: Semaphore,
}

/// Who wants to know what came of a message.
#[derive(Debug)]
pub enum Completion {
    /// A connection's request, and the message's place in it.
    Connection {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Which place.
        part: usize,
    },
    /// A task that waits for just this message.
    Caller(Caller),
    /// Nobody.
    Nobody,
}

/// What is kept beside a message until its commit.
#[derive(Debug)]
pub struct Pending {
    completion: Completion,
    publish: telemetry::Publish,
}

/// The way back to a task that waits for one message.
pub type Caller = oneshot::Sender<Result<Published, Error>>;

/// Who is to be told, once readers were offered the messages.
#[derive(Default)]
struct Acknowledgments {
    connections: Vec<Acknowledgment>,
    callers: Vec<(Caller, Result<Published, Error>)>,
}

impl Acknowledgments {
    async fn send(self, hub: &Hub) {
        hub.acknowledge(self.connections).await;
        for (caller, result) in self.callers {
            // Who went away is not told.
            let _ = caller.send(result);
        }
    }
}

/// A message that found the queues full. Give it to [`Publisher::wait`] before the same publisher's next.
#[derive(Debug)]
pub enum Waiting {
    /// For the log.
    Durable(Box<Submission<Pending>>),
    /// For a topic without one.
    Live(Box<LiveMessage>),
}

impl Publisher {
    /// Starts the lanes. `in_flight_bytes` bounds what waits for its commit.
    #[must_use]
    pub fn spawn(
        store: Arc<dyn Store>,
        history: &Arc<History>,
        hub: &Hub,
        announcer: &Announcer,
        (policies, quotas): (&Arc<Policies>, &Arc<Quotas>),
        limits: AppenderLimits,
    ) -> Self {
        let readers =
            Readers { history: Arc::clone(history), hub: hub.clone(), announcer: announcer.clone() };
        let lane_readers = readers.clone();
        let on_commit = move |outcomes| {
            let readers = lane_readers.clone();
            async move { committed(&readers, outcomes).await }
        };
        let (appender, _lanes) = Appender::spawn(Arc::clone(&store), limits, on_commit);
        Self {
            appender,
            live: LiveLane::spawn(readers.clone()),
            readers,
            policies: Arc::clone(policies),
            quotas: Arc::clone(quotas),
            rates: Mutex::new(Rates::default()),
            store,
            together: Semaphore::new(TRANSACTIONS_AT_ONCE_MAX),
        }
    }

    /// Takes a message that its publisher may publish. What policy refuses is completed at once.
    ///
    /// # Errors
    /// [`Waiting`] if the queues are full: wait with it, and publish nothing else of this publisher before.
    pub fn publish(
        &self,
        publisher: &str,
        mut message: NewMessage,
        completion: Completion,
    ) -> Result<(), Waiting> {
        METRICS.published.add(1);
        match self.admit(publisher, &message) {
            Err(error) => {
                METRICS.publish_refused.add(1);
                completion.complete(Err(error));
                Ok(())
            }
            Ok(Kind::Live { slow_reader }) => {
                let slow_reader = slow_reader.into();
                let publish = telemetry::Publish::begin(&mut message);
                let publisher = publisher.to_owned();
                let message = LiveMessage { publisher, message, slow_reader, completion, publish };
                self.live.try_send(message).map_err(|full| Waiting::Live(Box::new(full)))
            }
            Ok(Kind::Durable { idempotency_window, .. }) => {
                let publish = telemetry::Publish::begin(&mut message);
                let publisher = publisher.to_owned();
                let append = Append { message, publisher, time: clock::wall(), idempotency_window };
                let submission = Submission { append, completion: Pending { completion, publish } };
                self.appender.try_submit(submission).map_err(|full| Waiting::Durable(Box::new(full)))
            }
        }
    }

    /// Waits for room with a message that found none.
    pub async fn wait(&self, waiting: Waiting) {
        match waiting {
            Waiting::Durable(submission) => {
                if let Err(refused) = self.appender.submit(*submission).await {
                    // The node ends and takes nothing more; another one will.
                    refused.completion.completion.complete(Err(history::unavailable()));
                }
            }
            Waiting::Live(message) => self.live.send(*message).await,
        }
    }

    /// Publishes a message of the broker's own on a topic without history.
    pub async fn announce(&self, mut message: NewMessage) {
        let slow_reader = SlowReader::DropOldest;
        let completion = Completion::Nobody;
        let publish = telemetry::Publish::begin(&mut message);
        let publisher = String::new();
        self.live.send(LiveMessage { publisher, message, slow_reader, completion, publish }).await;
    }

    /// Tells readers of messages that came into their logs by another way than this publisher.
    pub async fn stored_elsewhere(&self, deliveries: Vec<Arc<Delivery>>) {
        METRICS.stored.add(deliveries.len() as u64);
        self.readers.tell(deliveries.into_iter().map(Shared::new).collect()).await;
    }

    /// Ends after everything that was taken has been stored and acknowledged.
    pub async fn close(&self) {
        self.appender.clone().close().await;
        self.live.flush().await;
        self.readers.announcer.flush().await;
    }

    /// Whether messages are taken and their lanes are there.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.appender.runs() && self.live.runs()
    }

    /// Sets the gauges of what waits.
    pub fn measure(&self) {
        METRICS.publish_bytes.set(self.appender.bytes_in_flight() as u64);
        METRICS.live_waiting.set(self.live.waiting() as u64);
    }

    /// What policy says to a message: how it is kept, or why it is refused.
    fn admit(&self, publisher: &str, message: &NewMessage) -> Result<Kind, Error> {
        let policy = self.policies.for_topic(&message.topic);
        if message.message.payload.len() > policy.message_bytes {
            METRICS.count_refused(Refusal::MessageBytes);
            let text = format!("a message of this topic has at most {} bytes", policy.message_bytes);
            return Err(Error::new(ErrorCode::TooLarge, text));
        }
        let n_bytes = message.message.payload.len();
        self.quotas.publish_by_user(publisher, n_bytes)?;
        if policy.publish_rate.is_some() || policy.publish_bytes.is_some() {
            let now = clock::monotonic();
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take(&message.topic, &policy, n_bytes, now)?;
        }
        if message.expect.is_some() && !policy.is_durable() {
            return Err(Error::new(ErrorCode::BadRequest, "`expect` needs a topic that keeps history"));
        }
        Ok(policy.kind)
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// The way to readers, on this node and on others.
#[derive(Debug, Clone)]
struct Readers {
    history: Arc<History>,
    hub: Hub,
    announcer: Announcer,
}

impl Readers {
    /// Tells readers of messages that were just committed.
    async fn tell(&self, messages: Vec<SharedDelivery>) {
        self.history.remember(&messages);
        // A topic with history has no policy for slow readers; the value is not looked at.
        let fanout = |shared| Fanout { shared, slow_reader: SlowReader::DropOldest };
        self.fan_out(messages.into_iter().map(fanout).collect()).await;
    }

    /// Offers messages to readers here and elsewhere.
    async fn fan_out(&self, messages: Vec<Fanout>) {
        self.announcer.announce(&messages);
        self.hub.fan_out(messages).await;
    }
}

/// What happens after each commit, in the order of commits.
async fn committed(readers: &Readers, outcomes: Vec<(Result<Appended, Failure>, Pending)>) {
    let mut messages = Vec::with_capacity(outcomes.len());
    let mut acknowledgments = Acknowledgments::default();
    let mut publishes = Vec::with_capacity(outcomes.len());
    for (outcome, Pending { completion, publish }) in outcomes {
        let result = match outcome {
            Ok(Appended::Stored(delivery)) => {
                let position = delivery.position;
                messages.push(Shared::new(delivery));
                Ok(Published { position, duplicate: false })
            }
            Ok(Appended::Duplicate(position)) => Ok(Published { position: Some(position), duplicate: true }),
            Ok(Appended::Conflict { head }) => {
                let error =
                    Error::new(ErrorCode::Conflict, "the topic's newest offset is not the expected one");
                Err(Error { head: Some(head), ..error })
            }
            Err(_) => {
                METRICS.publish_failed.add(1);
                Err(history::unavailable())
            }
        };
        publishes.push((publish, result.as_ref().err().map(|error| error.code.as_str())));
        completion.defer(result, &mut acknowledgments);
    }
    METRICS.batches.add(1);
    METRICS.stored.add(messages.len() as u64);
    readers.tell(messages).await;
    acknowledgments.send(&readers.hub).await;
    telemetry::acknowledged(publishes, &METRICS.publish_seconds);
}

impl Completion {
    /// Tells whoever waits, at once. A connection's own task flushes it.
    fn complete(self, result: Result<Published, Error>) {
        match self {
            Self::Connection { outbound, id, part } => {
                outbound.lock().dialog.tell(|session| session.published(id, part, result));
            }
            Self::Caller(caller) => drop(caller.send(result)),
            Self::Nobody => {}
        }
    }

    /// Tells whoever waits; connections by way of their shard, after what was fanned out.
    fn defer(self, result: Result<Published, Error>, acknowledgments: &mut Acknowledgments) {
        match self {
            Self::Connection { outbound: to, id, part } => {
                acknowledgments.connections.push(Acknowledgment { to, id, part, result });
            }
            Self::Caller(caller) => acknowledgments.callers.push((caller, result)),
            Self::Nobody => {}
        }
    }
}
