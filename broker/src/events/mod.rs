//! What happens to sessions, told on topics like any other: `$sys/sessions/{node}`. `docs/events.md` has the schema.
//!
//! ```text
//!   connection ── connected, … ──▶ backlog ──▶ teller ── taken by ──▶ register ── told on ──▶ $sys/sessions/{node} ──▶ readers
//!                                               reaper of another node ──┘
//! ```
//!
//! Each session's beginning is told once and its end is told once, whoever dies: what may be told is decided by the node's register, a
//! small log with compare-and-append, and what is told has an id that is the same whoever tells it. The order of one session's events
//! is that in which they happened.

mod backlog;
mod event;
mod log;
mod reaper;
mod register;
mod teller;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use bongsu_persistence::store::Store;
use bongsu_protocol::reason::CloseReason;
use bongsu_protocol::topic::TopicFilter;

use crate::cluster::Cluster;
use crate::config::{EventSettings, SessionEvents};
use crate::control::Connections;
use crate::limits::{EVENT_BACKLOG_BYTES_MAX, EVENT_WINDOW_MARGIN};
use crate::outbound::ConnectionId;
use crate::publisher::Publisher;

pub use event::{Event, Kind, NODE_LOST};

use backlog::Backlog;
use log::Logs;
use reaper::Reaper;
use teller::Teller;

/// Tells what happens to this node's sessions.
#[derive(Debug)]
pub struct Events {
    /// `None`: nothing is told.
    backlog: Option<Arc<Backlog>>,
    level: SessionEvents,
}

/// Who comes with a session.
#[derive(Debug)]
pub struct Visitor {
    /// The session's name, unique among all nodes.
    pub session: String,
    /// Whom its token names; empty for nobody.
    pub subject: String,
    /// Where it comes from, as far as that is known.
    pub peer: Option<SocketAddr>,
    /// What carries it, by the names of the metric `bongsu_sessions`.
    pub transport: &'static str,
}

/// What tells of one session. Dropping it tells the session's end, so that it is told however the session ends.
#[derive(Debug)]
pub struct Witness {
    backlog: Option<Arc<Backlog>>,
    id: ConnectionId,
    level: SessionEvents,
}

impl Events {
    /// Starts the tasks that tell what happens to the sessions of this node, and to those of nodes that die.
    #[must_use]
    pub fn spawn(
        settings: &EventSettings,
        node: &str,
        started_ms: u64,
        store: Arc<dyn Store>,
        publisher: Arc<Publisher>,
        connections: Arc<Connections>,
        cluster: &Cluster,
    ) -> Self {
        let level = settings.sessions;
        if level == SessionEvents::Off {
            return Self { backlog: None, level };
        }
        let window = settings.retention + EVENT_WINDOW_MARGIN;
        let logs = Logs { store, publisher, window };
        let backlog = Arc::new(Backlog::new(node, started_ms, EVENT_BACKLOG_BYTES_MAX));
        if let Some(registry) = cluster.registry() {
            let (membership, lease) = (cluster.membership(), registry.lease());
            let reaper = Reaper::new(logs.clone(), membership, lease, node, connections.prefix());
            tokio::spawn(reaper.run());
        }
        tokio::spawn(Teller::new(logs, Arc::clone(&backlog), connections, cluster, node).run());
        Self { backlog: Some(backlog), level }
    }

    /// A session began. Never waits: what cannot be told at once waits in a bounded backlog.
    #[must_use = "dropping it tells the end of the session"]
    pub fn connected(&self, id: ConnectionId, visitor: Visitor) -> Witness {
        if let Some(backlog) = &self.backlog {
            backlog.connected(id, visitor);
        }
        Witness { backlog: self.backlog.clone(), id, level: self.level }
    }

    /// Waits until everything that happened until now was told, which may be never: bound it.
    pub async fn settled(&self) {
        if let Some(backlog) = &self.backlog {
            backlog.settled().await;
        }
    }
}

impl Witness {
    /// The session of nobody, of which nothing is told.
    #[must_use]
    pub const fn silent(id: ConnectionId) -> Self {
        Self { backlog: None, id, level: SessionEvents::Off }
    }

    /// The session has this subject from now on.
    pub fn authenticated(&self, subject: &str) {
        if let Some(backlog) = &self.backlog {
            backlog.authenticated(self.id, subject);
        }
    }

    /// The session begins to read the topics under a filter.
    pub fn subscribed(&self, filter: &TopicFilter) {
        if let (Some(backlog), SessionEvents::All) = (&self.backlog, self.level) {
            backlog.subscribed(self.id, filter);
        }
    }

    /// The session stops to.
    pub fn unsubscribed(&self, filter: &TopicFilter) {
        if let (Some(backlog), SessionEvents::All) = (&self.backlog, self.level) {
            backlog.unsubscribed(self.id, filter);
        }
    }

    /// The session ended. Said once; without it, dropping this says that it ended by itself.
    pub fn disconnected(&mut self, reason: CloseReason) {
        if let Some(backlog) = self.backlog.take() {
            backlog.disconnected(self.id, reason.as_str());
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let is_fault = std::thread::panicking();
        self.disconnected(if is_fault { CloseReason::Internal } else { CloseReason::Normal });
    }
}
