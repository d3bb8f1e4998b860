//! The way to one server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, PushInfo, PushKind, ServerErrorKind, Value};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::{AbortHandle, unconstrained};

use super::super::health::Board;
use super::super::{Channel, Error, Frame, Intake};
use super::access::explain;
use super::address::Server;
use super::session::{self, Source};
use super::subscriptions::{Batch, Subscriptions, WaiterId};
use super::wire::Wire;
use crate::limits::{BUS_PUBLISH_BYTES_MAX, BUS_SUBSCRIBE_BATCH_MAX, REDIS_CALLS_MAX, REDIS_DEADLINE};
use crate::metrics::METRICS;

/// The way to one server: one connection that publishes and commands, and one that subscribes.
///
/// A task owns the connections. It makes them again after every failure, subscribes to everything that is wanted, and probes
/// that what is published comes back. What is shared with callers and with the library's reader of the socket stands in
/// [`Shared`].
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    /// None for a link to nowhere.
    task: Option<AbortHandle>,
}

/// What all links of a bus have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) intake: Arc<Intake>,
    pub(super) board: Arc<Board>,
    pub(super) wire: Arc<Wire>,
    /// Told where an answer shows that the map of servers may be old, or a connection was lost.
    pub(super) remap: Arc<Notify>,
}

/// What the task, callers and the reader of the socket share.
#[derive(Debug)]
pub(super) struct Shared {
    /// For health and logs.
    pub(super) name: String,
    pub(super) common: Common,
    /// There never is a connection, and that is no news.
    is_nowhere: bool,
    state: Mutex<State>,
    /// There may be commands for the server.
    pub(super) due: Notify,
    /// The number of the newest probe that came back.
    pub(super) probe_seen: AtomicU64,
    /// A probe came back.
    pub(super) probe_came: Notify,
    /// Bytes that may still be published before others are answered.
    publish_budget: Semaphore,
    /// Calls that may still be made before others are answered.
    calls: Semaphore,
}

#[derive(Debug)]
struct State {
    /// Counts connections, so that what an old one still delivers is told apart.
    generation: u64,
    phase: Phase,
    /// A probe is late.
    is_silent: bool,
    subscriptions: Subscriptions<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Phase {
    /// Why there is no connection.
    Away(String),
    /// For publishing and commands.
    Connected(MultiplexedConnection),
}

impl Link {
    /// Begins to connect, until the link is dropped.
    pub(super) fn start(name: String, source: Source, common: Common) -> Self {
        let shared = Arc::new(Shared::new(name, common));
        shared.update_health();
        let task = tokio::spawn(session::run(Arc::clone(&shared), source));
        Self { shared, task: Some(task.abort_handle()) }
    }

    /// A link that never connects, for channels that no server is known for. Whoever has it tells how that is.
    pub(super) fn nowhere(common: Common) -> Self {
        let mut shared = Shared::new("nowhere".to_owned(), common);
        shared.is_nowhere = true;
        shared.lock().phase = Phase::Away("no server is known for it".to_owned());
        Self { shared: Arc::new(shared), task: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Wants channels; see [`super::super::Bus::subscribe`]. What comes back must be waited for.
    pub(super) fn want(&self, channels: Vec<Channel>) -> Waiting {
        let (tell, told) = oneshot::channel();
        let id = self.shared.with_subscriptions(|subscriptions| subscriptions.want(channels, tell));
        Waiting { shared: Arc::clone(&self.shared), id, told, is_over: false }
    }

    pub(super) fn want_moved(&self, channels: &[Channel]) {
        self.shared
            .with_subscriptions(|subscriptions| channels.iter().for_each(|c| subscriptions.want_moved(c)));
    }

    pub(super) fn unwant(&self, channels: &[Channel]) {
        self.shared.with_subscriptions(|subscriptions| subscriptions.unwant(channels));
    }

    /// Takes away the wanted channels that are another server's from now on.
    pub(super) fn take_moved(&self, is_moved: impl Fn(&Channel) -> bool) -> Vec<Channel> {
        self.shared.with_subscriptions(|subscriptions| subscriptions.take_moved(is_moved))
    }

    /// Publishes frames in one round trip; see [`super::super::Bus::publish`].
    pub(super) async fn publish(&self, frames: Vec<Frame>) -> Result<(), Error> {
        let n_frames = frames.len();
        let n_bytes: usize = frames.iter().map(Frame::bytes).sum();
        let mut failed = self.try_publish(frames, n_bytes).await?;
        METRICS.bus_published.add((n_frames - failed.len()) as u64);
        METRICS.bus_published_bytes.add(n_bytes as u64);
        failed.pop().map_or(Ok(()), Err)
    }

    /// What the server said about each frame that it did not take.
    async fn try_publish(&self, frames: Vec<Frame>, n_bytes: usize) -> Result<Vec<Error>, Error> {
        // More than the whole budget goes alone.
        let permits = u32::try_from(n_bytes.clamp(1, BUS_PUBLISH_BYTES_MAX)).unwrap_or(u32::MAX);
        let _permit = self.shared.publish_budget.try_acquire_many(permits).map_err(|_| Error::Full)?;
        let mut pipeline = redis::Pipeline::with_capacity(frames.len());
        for frame in &frames {
            pipeline.add_command(self.shared.common.wire.publish(frame));
        }
        drop(frames);
        let answers = self.pipeline(&pipeline).await?;
        let mut failed = Vec::new();
        for answer in answers {
            if let Value::ServerError(error) = answer {
                failed.push(self.refused(&error.into()));
            }
        }
        Ok(failed)
    }

    /// Sends commands and waits for their answers, errors of single commands among them. Calls are sent in the order in which they
    /// are polled first.
    pub(super) async fn pipeline(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>, Error> {
        let mut connection = self.shared.connection()?;
        let _permit = self.shared.calls.try_acquire().map_err(|_| Error::Full)?;
        let answers = connection.send_packed_commands(pipeline, 0, pipeline.len());
        // Unconstrained: a task that polled many things must not be made to poll this one later, out of its turn.
        match unconstrained(tokio::time::timeout(REDIS_DEADLINE, answers)).await {
            Ok(answers) => answers.map_err(|error| self.refused(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Sends a command and waits for its answer. What a server answers to a script that it does not know is `Ok(None)`.
    pub(super) async fn query(&self, command: &redis::Cmd) -> Result<Option<Value>, Error> {
        let mut connection = self.shared.connection()?;
        let _permit = self.shared.calls.try_acquire().map_err(|_| Error::Full)?;
        let answer = tokio::time::timeout(REDIS_DEADLINE, connection.send_packed_command(command)).await;
        let answer = answer.map_err(|_| self.silent())?;
        match answer.and_then(|answer| answer.extract_error()) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(None),
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn refused(&self, error: &redis::RedisError) -> Error {
        if error.redirect_node().is_some() || error.is_cluster_error() {
            self.shared.common.remap.notify_one();
        }
        Error::Unavailable(format!("{}: {}", self.shared.name, explain(error)))
    }

    fn silent(&self) -> Error {
        Error::Unavailable(format!("{}: no answer within {REDIS_DEADLINE:?}", self.shared.name))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.shared.common.board.set(&self.shared.name, None);
    }
}

/// A call that waits for its channels. Dropped before they came, it is forgotten, and the owner is told when they do.
#[derive(Debug)]
pub(super) struct Waiting {
    shared: Arc<Shared>,
    id: WaiterId,
    told: oneshot::Receiver<()>,
    is_over: bool,
}

impl Waiting {
    /// Waits until all channels are subscribed.
    pub(super) async fn wait(mut self) -> Result<(), Error> {
        let told = tokio::time::timeout(REDIS_DEADLINE, &mut self.told).await;
        if matches!(told, Ok(Ok(()))) {
            self.is_over = true;
            return Ok(());
        }
        let reason = self.shared.trouble().unwrap_or_else(|| "the server does not confirm".to_owned());
        Err(Error::Unavailable(format!(
            "{}: not subscribed within {REDIS_DEADLINE:?}: {reason}",
            self.shared.name
        )))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.with_subscriptions(|subscriptions| subscriptions.forget(self.id));
        }
    }
}

impl Shared {
    fn new(name: String, common: Common) -> Self {
        let phase = Phase::Away("not connected yet".to_owned());
        let state = State { generation: 0, phase, is_silent: false, subscriptions: Subscriptions::new() };
        Self {
            name,
            common,
            is_nowhere: false,
            state: Mutex::new(state),
            due: Notify::new(),
            probe_seen: AtomicU64::new(0),
            probe_came: Notify::new(),
            publish_budget: Semaphore::new(BUS_PUBLISH_BYTES_MAX),
            calls: Semaphore::new(REDIS_CALLS_MAX),
        }
    }

    /// Held for as long as some channels are looked up, never across a wait.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Result<MultiplexedConnection, Error> {
        match &self.lock().phase {
            Phase::Connected(connection) => Ok(connection.clone()),
            Phase::Away(reason) => Err(Error::Unavailable(format!("{}: {reason}", self.name))),
        }
    }

    /// Changes what is wanted or confirmed, and does what follows from it.
    fn with_subscriptions<T>(&self, change: impl FnOnce(&mut Subscriptions<oneshot::Sender<()>>) -> T) -> T {
        let mut state = self.lock();
        let late_before = state.subscriptions.late();
        let result = change(&mut state.subscriptions);
        let late = state.subscriptions.late();
        let is_whole = late == 0 && late_before > 0;
        let is_recovered = is_whole && state.subscriptions.take_recovered();
        let ready = state.subscriptions.take_ready();
        let is_due = state.subscriptions.has_due();
        drop(state);
        if is_due {
            self.due.notify_one();
        }
        // Told before all is called well: what comes after that is not interrupted.
        if is_recovered {
            self.common.intake.interrupt();
        }
        if (late == 0) != (late_before == 0) {
            self.update_health();
        }
        for tell in ready {
            // Whoever waited may have given up.
            let _ = tell.send(());
        }
        result
    }

    /// Tells the owner of what was subscribed again so far, where all of it takes long.
    pub(super) fn tell_recovered(&self) {
        if self.lock().subscriptions.take_recovered() {
            self.common.intake.interrupt();
        }
    }

    /// The server does not have some of the channels of a batch any more.
    pub(super) fn refused(&self, batch: &Batch) {
        self.with_subscriptions(|subscriptions| subscriptions.refused(batch));
        self.common.remap.notify_one();
    }

    pub(super) fn next_batch(&self) -> Batch {
        self.lock().subscriptions.next_batch(BUS_SUBSCRIBE_BATCH_MAX)
    }

    /// There is a connection: from here on callers use it.
    pub(super) fn connected(&self, connection: MultiplexedConnection, address: &Server) {
        METRICS.bus_connects.add(1);
        self.lock().phase = Phase::Connected(connection);
        // What was published until now, nobody heard here.
        self.common.intake.interrupt();
        self.update_health();
        tracing::info!(server = self.name, %address, "connected to Redis");
    }

    /// The number that the next connection tags its pushes with.
    pub(super) fn next_generation(&self) -> u64 {
        let mut state = self.lock();
        state.generation += 1;
        state.generation
    }

    /// There is no connection any more, or none came about.
    pub(super) fn lost(&self, reason: &str) {
        METRICS.bus_disconnects.add(1);
        let mut state = self.lock();
        state.generation += 1;
        state.is_silent = false;
        let before = std::mem::replace(&mut state.phase, Phase::Away(reason.to_owned()));
        let was_connected = matches!(before, Phase::Connected(_));
        if was_connected {
            state.subscriptions.lost();
        }
        drop(state);
        let is_news = self.update_health();
        if was_connected {
            self.common.intake.interrupt();
            self.common.remap.notify_one();
        }
        if is_news {
            tracing::warn!(server = self.name, reason, "no connection to Redis");
        }
    }

    /// A probe is late, or came after all.
    pub(super) fn set_silent(&self, is_silent: bool) {
        if std::mem::replace(&mut self.lock().is_silent, is_silent) == is_silent {
            return;
        }
        if is_silent {
            self.update_health();
            self.common.intake.interrupt();
            tracing::warn!(server = self.name, "a probe of Redis is late");
        } else {
            self.common.intake.interrupt();
            self.update_health();
            tracing::info!(server = self.name, "probes of Redis come back again");
        }
    }

    /// What is wrong, if anything is.
    fn trouble(&self) -> Option<String> {
        let state = self.lock();
        match &state.phase {
            Phase::Away(reason) => Some(reason.clone()),
            Phase::Connected(_) if state.is_silent => Some("a probe did not come back in time".to_owned()),
            Phase::Connected(_) => {
                let late = state.subscriptions.late();
                (late > 0).then(|| "some channels are not subscribed yet".to_owned())
            }
        }
    }

    /// Whether it is news.
    pub(super) fn update_health(&self) -> bool {
        !self.is_nowhere && self.common.board.set(&self.name, self.trouble().as_deref())
    }

    /// Takes what the server pushed. The library calls this from the task that reads the socket, so it never waits.
    pub(super) fn pushed(&self, generation: u64, probe: &str, push: PushInfo) {
        let mut data = push.data.into_iter();
        let mut text = || match data.next() {
            Some(Value::BulkString(bytes)) => Some(bytes),
            _ => None,
        };
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let (Some(name), Some(payload)) = (text(), text()) else { return };
                if name == probe.as_bytes() {
                    self.probe_returned(&payload);
                } else {
                    self.frame_came(&name, payload);
                }
            }
            PushKind::Subscribe | PushKind::SSubscribe => {
                self.confirmed(generation, text().as_deref(), |subscriptions, channel| {
                    subscriptions.subscribed(channel);
                    false
                });
            }
            PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                self.confirmed(generation, text().as_deref(), Subscriptions::unsubscribed);
            }
            _ => {}
        }
    }

    fn probe_returned(&self, payload: &[u8]) {
        let number = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
        self.probe_seen.fetch_max(number.unwrap_or(0), Ordering::Relaxed);
        self.probe_came.notify_one();
    }

    fn frame_came(&self, name: &[u8], payload: Vec<u8>) {
        let Some(channel) = self.common.wire.channel(name) else { return };
        let wanted = self.lock().subscriptions.wanted(channel).cloned();
        if let Some(channel) = wanted {
            self.common.intake.offer(Frame { channel, payload: Bytes::from(payload) });
        }
    }

    /// `change` says whether frames may have been lost.
    fn confirmed(
        &self,
        generation: u64,
        name: Option<&[u8]>,
        change: impl FnOnce(&mut Subscriptions<oneshot::Sender<()>>, &str) -> bool,
    ) {
        let Some(channel) = name.and_then(|name| self.common.wire.channel(name)) else { return };
        if self.lock().generation != generation {
            return;
        }
        let is_lost = self.with_subscriptions(|subscriptions| change(subscriptions, channel));
        if is_lost {
            self.common.intake.interrupt();
            self.common.remap.notify_one();
        }
    }
}
