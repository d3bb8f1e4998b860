//! Who is present where, on this node and on all others.
//!
//! One task owns the members of this node. In a cluster it brings the [registry](crate::cluster) to what it holds, change by change,
//! and asks it who is present. Joins and leaves are published on the live topic `$presence/` + topic; a reader that subscribes there first
//! and then asks for the members misses nobody.
//!
//! A change is told by the node that made it in the registry, once, since the registry says whether it changed anything. Where a
//! call fails with its outcome unknown, the change is made again and told again: to hear it twice does no harm, never would. While
//! the registry is away, sessions of this node enter and leave as before, as far as this node's readers hear of it, and all is put
//! right afterwards; who is present is not answered then, since the answer would leave out those on other nodes.

mod held;
mod pending;
mod questions;
mod reaper;
mod task;

use std::sync::Arc;

use bongsu_protocol::codec;
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Member, PresenceChange, Reply};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::PRESENCE_PREFIX;
use bongsu_protocol::topic::Topic;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::Cluster;
use crate::config::Policies;
use crate::limits::PRESENCE_COMMANDS_MAX;
use crate::metrics::METRICS;
use crate::outbound::{ConnectionId, Outbound};
use crate::publisher::Publisher;

/// Who is present where. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presence {
    commands: mpsc::Sender<Command>,
}

/// What to do about presence.
#[derive(Debug)]
pub enum Command {
    /// Make a connection's session a member, or replace its info.
    Enter {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Where.
        topic: Topic,
        /// As whom; its `since` is set here.
        member: Member,
    },
    /// End its membership.
    Leave {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Where.
        topic: Topic,
    },
    /// Say who is present.
    Members {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Where.
        topic: Topic,
    },
    /// End all memberships of a connection that is gone.
    Gone(ConnectionId),
    /// Say when everything until now is in the registry.
    Settle(oneshot::Sender<()>),
}

impl Presence {
    /// Starts the task that owns this node's members, and in a cluster the one that takes away those of dead nodes; at most
    /// `members_max` on one topic.
    #[must_use]
    pub fn spawn(
        publisher: Arc<Publisher>,
        policies: Arc<Policies>,
        cluster: Cluster,
        members_max: usize,
    ) -> Self {
        let (commands, queue) = mpsc::channel(PRESENCE_COMMANDS_MAX);
        let announcer = Announcer { publisher };
        if let Some(registry) = cluster.registry() {
            tokio::spawn(reaper::run(registry.clone(), cluster.membership(), announcer.clone()));
        }
        tokio::spawn(task::Task::new(announcer, policies, cluster, members_max).run(queue));
        Self { commands }
    }

    /// Has something done; the connection that asked gets its reply. Waits for room in the queue.
    pub async fn send(&self, command: Command) {
        // The task ends only with the process.
        let _ = self.commands.send(command).await;
    }

    /// Whether the task is there.
    #[must_use]
    pub fn runs(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Waits until every change that was sent before is in the registry, which may be never: bound it.
    pub async fn settled(&self) {
        let (settled, wait) = oneshot::channel();
        self.send(Command::Settle(settled)).await;
        let _ = wait.await;
    }
}

/// Tells readers of `$presence/…` what changed.
#[derive(Debug, Clone)]
struct Announcer {
    publisher: Arc<Publisher>,
}

impl Announcer {
    async fn joined(&self, topic: &Topic, member: Member) {
        METRICS.joins.add(1);
        self.announce(topic, &PresenceChange::Join(member)).await;
    }

    async fn left(&self, topic: &Topic, session: String) {
        METRICS.leaves.add(1);
        self.announce(topic, &PresenceChange::Leave { session }).await;
    }

    async fn announce(&self, topic: &Topic, change: &PresenceChange) {
        // Nobody entered a topic of which this cannot be told.
        let Ok(topic) = announced_on(topic) else { return };
        let payload = codec::encode_presence(change);
        let message = Message { payload, content_type: "application/json".to_owned(), ..Message::default() };
        self.publisher.announce(NewMessage { topic, message, expect: None }).await;
    }
}

/// The topic on which joins and leaves of another are told.
fn announced_on(topic: &Topic) -> Result<Topic, Error> {
    Topic::parse(&format!("{PRESENCE_PREFIX}{topic}"))
        .map_err(|error| Error::new(ErrorCode::BadRequest, error.to_string()))
}

fn reply(outbound: &Outbound, id: RequestId, result: Result<Reply, Error>) {
    outbound.lock().dialog.tell(|session| session.reply(id, result));
    outbound.flush();
}
