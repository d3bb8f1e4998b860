//! Group commit: many publishers, one transaction after another.
//!
//! What arrives while a transaction runs is the next batch, so batches grow with the load by themselves: a lone message is
//! committed at once, and no timer holds anything back.
//!
//! ```text
//! publishers --submit--> lane (bounded) --batch--> Store::append --outcomes--> on_commit --> next batch
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::topic::Topic;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::warn;

use crate::store::{Append, Appended, Error, Store};

/// Bytes that a waiting message costs beside its own: what its allocations and its places in queues come to, roughly. It keeps
/// empty messages from being free.
pub const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// A message to be stored, and what its publisher needs to be answered.
#[derive(Debug)]
pub struct Submission<C> {
    /// The message.
    pub append: Append,
    /// Whatever the caller needs when it is done; handed to `on_commit` beside the outcome.
    pub completion: C,
}

/// Why a message was not stored, as far as is known: it may have been. The publisher may repeat it; with a message id it is not stored
/// twice. Cheap to clone, since all messages of a batch fail alike.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The store said no.
    #[error(transparent)]
    Store(Arc<Error>),
    /// The store did not answer within the deadline.
    #[error("the store did not answer within {0:?}")]
    Deadline(Duration),
}

/// How much waits, how much goes into a batch, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppenderLimits {
    /// How many transactions may run at the same time, each with its own share of the topics. By default 1, which is what SQLite can use.
    pub lanes: usize,
    /// Messages that wait in one lane, beside those of at most one batch that the lane has taken already. By default 16,384. When full,
    /// publishers wait.
    pub waiting_messages_max: usize,
    /// Bytes of one lane's messages that wait or are being stored, each with [`MESSAGE_OVERHEAD_BYTES`] on top. By default 32 MiB. When
    /// full, publishers wait. A message that is larger than this passes when nothing else is there.
    pub bytes_max: usize,
    /// Messages in one batch. By default 4,096: larger ones gain little and hold up the messages behind them.
    pub batch_messages_max: usize,
    /// Bytes in one batch, counted as above. By default 8 MiB. A batch has at least one message.
    pub batch_bytes_max: usize,
    /// How long the store may take for a batch. By default 10 seconds. Afterwards its messages fail, though they may have been stored.
    pub deadline: Duration,
}

impl Default for AppenderLimits {
    fn default() -> Self {
        Self {
            lanes: 1,
            waiting_messages_max: 16_384,
            bytes_max: 32 << 20,
            batch_messages_max: 4096,
            batch_bytes_max: 8 << 20,
            deadline: Duration::from_secs(10),
        }
    }
}

/// Collects messages of many publishers into batches for the store.
///
/// The messages of one topic are stored in the order in which they were submitted. Clones are the same appender.
#[derive(Debug)]
pub struct Appender<C> {
    lanes: Arc<[LaneHandle<C>]>,
    /// Turns true when nothing more is taken. The lanes hold its receivers, for as long as they live.
    closing: watch::Sender<bool>,
    bytes_max: usize,
}

#[derive(Debug)]
struct LaneHandle<C> {
    sender: mpsc::Sender<Submission<C>>,
    /// Free bytes. Taken by [`Appender::submit`], given back by the lane after `on_commit`.
    bytes: Arc<Semaphore>,
}

// Not derived, since that would ask for `C: Clone`.
impl<C> Clone for Appender<C> {
    fn clone(&self) -> Self {
        Self { lanes: self.lanes.clone(), closing: self.closing.clone(), bytes_max: self.bytes_max }
    }
}

impl<C: Send + 'static> Appender<C> {
    /// Starts the lanes.
    ///
    /// After each batch `on_commit` gets its outcomes, in the order of submission, and is awaited before the lane's next batch: whoever
    /// offers the messages to readers there, offers them in offset order. With several lanes, each has a clone of it.
    ///
    /// The handle ends when all lanes have: after [`close`](Self::close), or when every clone of the appender was dropped. It passes a
    /// panic of `on_commit` on.
    #[expect(clippy::needless_pass_by_value, reason = "the lanes own it")]
    pub fn spawn<F, Fut>(
        store: Arc<dyn Store>,
        limits: AppenderLimits,
        on_commit: F,
    ) -> (Self, JoinHandle<()>)
    where
        F: FnMut(Vec<(Result<Appended, Failure>, C)>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let bytes_max = limits.bytes_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let lanes = (0..limits.lanes.max(1))
            .map(|_| {
                let (sender, receiver) = mpsc::channel(limits.waiting_messages_max.max(1));
                let bytes = Arc::new(Semaphore::new(bytes_max));
                let lane = Lane {
                    store: store.clone(),
                    limits: AppenderLimits { bytes_max, ..limits },
                    receiver,
                    waiting: VecDeque::new(),
                    closed: closed.clone(),
                    bytes: bytes.clone(),
                };
                tasks.spawn(lane.run(on_commit.clone()));
                LaneHandle { sender, bytes }
            })
            .collect();
        let handle = tokio::spawn(async move {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        (Self { lanes, closing, bytes_max }, handle)
    }

    /// Hands a message over, waiting while its lane is full. Order among messages of one topic is that in which this returns.
    ///
    /// Dropping the future before it returns hands nothing over.
    ///
    /// # Errors
    /// The submission itself, if the appender was closed: answer its publisher that it was not stored.
    pub async fn submit(&self, submission: Submission<C>) -> Result<(), Submission<C>> {
        let lane = self.lane(&submission.append.message.topic);
        let Ok(permit) = lane.bytes.acquire_many(cost(&submission.append, self.bytes_max)).await else {
            return Err(submission);
        };
        lane.sender.send(submission).await.map_err(|refused| refused.0)?;
        // The lane gives the bytes back.
        permit.forget();
        Ok(())
    }

    /// Hands a message over if there is room at once.
    ///
    /// # Errors
    /// The submission itself, if its lane is full or the appender was closed.
    #[expect(clippy::result_large_err, reason = "the submission goes back as it came, without an allocation")]
    pub fn try_submit(&self, submission: Submission<C>) -> Result<(), Submission<C>> {
        let lane = self.lane(&submission.append.message.topic);
        let Ok(permit) = lane.bytes.try_acquire_many(cost(&submission.append, self.bytes_max)) else {
            return Err(submission);
        };
        lane.sender.try_send(submission).map_err(mpsc::error::TrySendError::into_inner)?;
        permit.forget();
        Ok(())
    }

    /// Takes nothing more, stores what was taken, and waits until `on_commit` has got all outcomes.
    ///
    /// It takes at most the store's deadline for each batch that waits.
    pub async fn close(self) {
        self.closing.send_replace(true);
        for lane in self.lanes.iter() {
            lane.bytes.close();
        }
        // Completes when the last lane has dropped its receiver.
        self.closing.closed().await;
    }

    /// Whether every lane takes messages: false after [`close`](Self::close), and if one ended by a panic of `on_commit`.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.sender.is_closed())
    }

    /// Bytes of messages that wait or are being stored, each with [`MESSAGE_OVERHEAD_BYTES`] on top.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| self.bytes_max.saturating_sub(lane.bytes.available_permits())).sum()
    }

    fn lane(&self, topic: &Topic) -> &LaneHandle<C> {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        let n_lanes = self.lanes.len() as u64;
        &self.lanes[usize::try_from(hasher.finish() % n_lanes).expect("less than the number of lanes")]
    }
}

/// What a message counts in a lane; never more than the lane has, so that any message passes.
fn cost(append: &Append, bytes_max: usize) -> u32 {
    let bytes = append.message.message.size_bytes().saturating_add(MESSAGE_OVERHEAD_BYTES);
    u32::try_from(bytes.min(bytes_max)).unwrap_or(u32::MAX)
}

/// One task, one transaction at a time, one share of the topics.
struct Lane<C> {
    store: Arc<dyn Store>,
    limits: AppenderLimits,
    receiver: mpsc::Receiver<Submission<C>>,
    /// Taken from the receiver, but not in a batch yet: at most as many as a batch has.
    waiting: VecDeque<Submission<C>>,
    closed: watch::Receiver<bool>,
    bytes: Arc<Semaphore>,
}

impl<C> Lane<C> {
    async fn run<F, Fut>(mut self, mut on_commit: F)
    where
        F: FnMut(Vec<(Result<Appended, Failure>, C)>) -> Fut,
        Fut: Future<Output = ()>,
    {
        while self.wait().await {
            let (appends, completions, batch_cost) = self.take_batch();
            let n_messages = appends.len();
            let outcomes = match tokio::time::timeout(self.limits.deadline, self.store.append(appends)).await
            {
                Ok(Ok(outcomes)) if outcomes.len() == n_messages => outcomes.into_iter().map(Ok).collect(),
                Ok(Ok(outcomes)) => {
                    let text = format!("{} outcomes for {n_messages} messages", outcomes.len());
                    failed(Failure::Store(Arc::new(Error::Corrupt(text))), n_messages)
                }
                Ok(Err(error)) => failed(Failure::Store(Arc::new(error)), n_messages),
                Err(_) => failed(Failure::Deadline(self.limits.deadline), n_messages),
            };
            on_commit(outcomes.into_iter().zip(completions).collect()).await;
            self.bytes.add_permits(batch_cost);
        }
    }

    /// Waits for at least one message; takes all that are there, up to a batch. False: there will be none.
    async fn wait(&mut self) -> bool {
        let room = self.limits.batch_messages_max.max(1).saturating_sub(self.waiting.len());
        let mut arrived = Vec::new();
        if self.waiting.is_empty() {
            loop {
                tokio::select! {
                    biased;
                    _ = self.closed.wait_for(|closed| *closed), if !self.receiver.is_closed() => self.receiver.close(),
                    _ = self.receiver.recv_many(&mut arrived, room) => break,
                }
            }
        } else {
            while arrived.len() < room
                && let Ok(submission) = self.receiver.try_recv()
            {
                arrived.push(submission);
            }
        }
        self.waiting.extend(arrived);
        !self.waiting.is_empty()
    }

    /// Cuts the next batch off what waits: at least one message. Also answers what it costs.
    fn take_batch(&mut self) -> (Vec<Append>, Vec<C>, usize) {
        let mut appends = Vec::with_capacity(self.waiting.len());
        let mut completions = Vec::with_capacity(self.waiting.len());
        let mut batch_cost = 0;
        while let Some(submission) = self.waiting.front() {
            let cost = cost(&submission.append, self.limits.bytes_max) as usize;
            if batch_cost + cost > self.limits.batch_bytes_max && !appends.is_empty() {
                break;
            }
            batch_cost += cost;
            let submission = self.waiting.pop_front().expect("it is in front");
            appends.push(submission.append);
            completions.push(submission.completion);
        }
        (appends, completions, batch_cost)
    }
}

impl<C> Drop for Lane<C> {
    /// Whoever waits for room would wait for ever, if the lane ends by a panic.
    fn drop(&mut self) {
        self.bytes.close();
    }
}

fn failed(failure: Failure, n_messages: usize) -> Vec<Result<Appended, Failure>> {
    warn!(%failure, n_messages, "a batch was not stored");
    vec![Err(failure); n_messages]
}
