//! The topics of this node and their local readers.
//!
//! Connections are spread over *shards*, one per core, each owned by one task. A message goes to every shard once; the shard
//! offers it to each of its connections that reads the topic, and then writes their sockets. So a hot topic is fanned out by all
//! cores, everything about a connection happens in one place, and no lock is shared between shards.
//!
//! Order: a shard takes its commands in the order in which they were queued. Whoever publishes queues a message before its
//! acknowledgment, and a watch that was confirmed sees every message that is queued afterwards.
//!
//! In a cluster, messages of other nodes may be lost, doubled or reordered on their way here. A shard keeps one
//! [cursor](bongsu_protocol::cursor) per topic with history that somebody reads, so that connections are offered the log in
//! order, and a gap is read from the store once for all of them. What is missing is known from the messages behind it, from heads that
//! other nodes announce, and from the store's [changes](Hub::changes).

mod filters;
mod lossy;
mod probe;
mod shard;

use std::sync::Arc;

use bongsu_persistence::store::Changed;
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::Published;
use bongsu_protocol::message::Message;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::Error;
use bongsu_protocol::session::SlowReader;
use bongsu_protocol::topic::{Topic, TopicFilter};
use tokio::sync::{mpsc, oneshot};

use crate::config::Policies;
use crate::delivery::SharedDelivery;
use crate::history::History;
use crate::limits::SHARD_COMMANDS_MAX;
use crate::outbound::{ConnectionId, Outbound};
use crate::telemetry::Delivering;

pub use probe::Probe;

/// The topics of this node and their local readers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub {
    shards: Arc<[mpsc::Sender<Command>]>,
}

/// A message on its way to the readers of its topic.
#[derive(Debug, Clone)]
pub struct Fanout {
    /// The message.
    pub shared: SharedDelivery,
    /// What slow readers get, on a topic without history.
    pub slow_reader: SlowReader,
}

impl Fanout {
    /// What was published.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.shared.delivery.message
    }
}

/// What came of a message that a connection published.
#[derive(Debug)]
pub struct Acknowledgment {
    /// Who published it.
    pub to: Arc<Outbound>,
    /// With which request.
    pub id: RequestId,
    /// In which place there.
    pub part: usize,
    /// What came of it.
    pub result: Result<Published, Error>,
}

/// What the store said to the question which logs changed.
#[derive(Debug)]
pub struct Answer {
    /// The number that [`Probe::ask`] gave the question.
    pub number: u64,
    /// Logs that changed since the question before; `None` if the store could not tell, so that anything may have.
    pub changed: Option<Vec<Changed>>,
}

#[derive(Debug)]
enum Command {
    Fanout(Arc<Batch>),
    Heads(Arc<[(Topic, Position)]>),
    Changes(Arc<Answer>),
    Interrupted,
    Acknowledge(Vec<Acknowledgment>),
    Watch {
        outbound: Arc<Outbound>,
        filter: TopicFilter,
    },
    Unwatch {
        id: ConnectionId,
        filter: TopicFilter,
    },
    Forget {
        id: ConnectionId,
        filters: Vec<TopicFilter>,
    },
    /// Count the connections that read each of these topics.
    Count(Arc<[Topic]>, oneshot::Sender<Vec<u64>>),
    /// Say that the shard is there.
    Ping(oneshot::Sender<()>),
}

/// Messages that are fanned out together. Each shard drops it when it has offered them.
#[derive(Debug)]
struct Batch {
    messages: Vec<Fanout>,
    _delivering: Delivering,
}

impl Hub {
    /// Starts `n_shards` shards on a node that is alone: nothing is lost on the way here. They end when the last clone of the hub is
    /// dropped.
    #[must_use]
    pub fn alone(n_shards: usize, policies: &Arc<Policies>) -> Self {
        Self::spawn(n_shards, policies, |_| None)
    }

    /// Starts `n_shards` shards on a node of a cluster, which fill gaps from `history` and learn of them by `probe`.
    #[must_use]
    pub fn clustered(
        n_shards: usize,
        policies: &Arc<Policies>,
        history: &Arc<History>,
        probe: &Arc<Probe>,
    ) -> Self {
        Self::spawn(n_shards, policies, |_| Some(lossy::Lossy::new(Arc::clone(history), Arc::clone(probe))))
    }

    fn spawn(
        n_shards: usize,
        policies: &Arc<Policies>,
        lossy: impl Fn(usize) -> Option<lossy::Lossy>,
    ) -> Self {
        let spawn_shard = |place| {
            let (commands, queue) = mpsc::channel(SHARD_COMMANDS_MAX);
            tokio::spawn(shard::Shard::new(policies.clone(), lossy(place)).run(queue));
            commands
        };
        Self { shards: (0..n_shards.max(1)).map(spawn_shard).collect() }
    }

    /// Offers messages to every local reader, in order. Waits for room in the shards' queues.
    pub async fn fan_out(&self, messages: Vec<Fanout>) {
        let delivering = Delivering::begin(messages.iter().map(Fanout::message));
        let batch = Arc::new(Batch { messages, _delivering: delivering });
        for shard in &*self.shards {
            send(shard, Command::Fanout(Arc::clone(&batch))).await;
        }
    }

    /// There are messages at these positions, which may not come here. Waits as [`fan_out`](Self::fan_out) does.
    pub async fn heads_up(&self, heads: Vec<(Topic, Position)>) {
        let heads: Arc<[_]> = heads.into();
        for shard in &*self.shards {
            send(shard, Command::Heads(Arc::clone(&heads))).await;
        }
    }

    /// What changed in the store. Whatever of it did not come here is read. Waits as [`fan_out`](Self::fan_out) does.
    pub async fn changes(&self, answer: Answer) {
        let answer = Arc::new(answer);
        for shard in &*self.shards {
            send(shard, Command::Changes(Arc::clone(&answer))).await;
        }
    }

    /// Messages of topics without history may have been lost: their readers are told. Waits as [`fan_out`](Self::fan_out) does.
    pub async fn interrupted(&self) {
        for shard in &*self.shards {
            send(shard, Command::Interrupted).await;
        }
    }

    /// Answers publishers, each after the messages that were fanned out before. Waits as [`fan_out`](Self::fan_out) does.
    pub async fn acknowledge(&self, acknowledgments: Vec<Acknowledgment>) {
        let mut by_shard: Vec<Vec<Acknowledgment>> = self.shards.iter().map(|_| Vec::new()).collect();
        for acknowledgment in acknowledgments {
            let place = self.place_of(acknowledgment.to.id());
            by_shard[place].push(acknowledgment);
        }
        for (shard, acknowledgments) in self.shards.iter().zip(by_shard) {
            if !acknowledgments.is_empty() {
                send(shard, Command::Acknowledge(acknowledgments)).await;
            }
        }
    }

    /// Feeds a connection with the topics under a filter; its session is told when that begins.
    pub async fn watch(&self, outbound: Arc<Outbound>, filter: TopicFilter) {
        let shard = self.shard_of(outbound.id());
        send(shard, Command::Watch { outbound, filter }).await;
    }

    /// Stops feeding a connection with the topics under a filter.
    pub async fn unwatch(&self, id: ConnectionId, filter: TopicFilter) {
        send(self.shard_of(id), Command::Unwatch { id, filter }).await;
    }

    /// Forgets a connection that watches these filters.
    pub async fn forget(&self, id: ConnectionId, filters: Vec<TopicFilter>) {
        send(self.shard_of(id), Command::Forget { id, filters }).await;
    }

    /// How many connections of this node read each of these topics now, also by a pattern. Costs each shard a look at its map for each topic,
    /// and a match where the topic is read by nobody who named it; so ask for some hundred at a time.
    pub async fn readers(&self, topics: &[Topic]) -> Vec<u64> {
        let mut readers = vec![0; topics.len()];
        let topics: Arc<[Topic]> = topics.into();
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in &*self.shards {
            let (sender, answer) = oneshot::channel();
            send(shard, Command::Count(Arc::clone(&topics), sender)).await;
            answers.push(answer);
        }
        for answer in answers {
            // A shard that has ended has no readers.
            let counts = answer.await.unwrap_or_default();
            readers.iter_mut().zip(counts).for_each(|(readers, count)| *readers += count);
        }
        readers
    }

    /// Whether every shard is there: waits until each has done what it was given before. False if one has ended.
    pub async fn answers(&self) -> bool {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in &*self.shards {
            let (sender, answer) = oneshot::channel();
            send(shard, Command::Ping(sender)).await;
            answers.push(answer);
        }
        for answer in answers {
            if answer.await.is_err() {
                return false;
            }
        }
        true
    }

    /// Commands that wait for the fullest shard.
    #[must_use]
    pub fn commands_waiting(&self) -> usize {
        self.shards.iter().map(|shard| shard.max_capacity() - shard.capacity()).max().unwrap_or_default()
    }

    fn shard_of(&self, id: ConnectionId) -> &mpsc::Sender<Command> {
        &self.shards[self.place_of(id)]
    }

    fn place_of(&self, id: ConnectionId) -> usize {
        // The remainder is below the number of shards, which is a `usize`.
        usize::try_from(id.0 % self.shards.len() as u64).unwrap_or_default()
    }
}

/// A shard ends only with the process; what it can no longer take then concerns nobody.
async fn send(shard: &mpsc::Sender<Command>, command: Command) {
    let _ = shard.send(command).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shard_that_has_ended_is_noticed() {
        let policies = Arc::new(Policies::new(&[]));
        assert!(Hub::alone(2, &policies).answers().await);
        let (ended, _) = mpsc::channel(1);
        let Hub { shards } = Hub::alone(1, &policies);
        let hub = Hub { shards: [shards[0].clone(), ended].into() };
        assert!(!hub.answers().await);
    }
}
