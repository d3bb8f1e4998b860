//! The nodes of a cluster, and what they hold in common: who is alive, and who is present where.
//!
//! All of it is in Redis, under leases (see `membership`): what a node says is true for as long as the node is heard of. Redis is not
//! the truth about a node's own members, the node is. Whatever Redis lost, and whatever it says of a node that is
//! gone, is brought right by that:
//!
//! * A node has a *registration*: a name that is never given twice, with a lease, and a version that counts its writes. A lease
//!   that lapsed, a Redis that lost everything or only the last second: the node finds its registration gone or behind, begins
//!   another, and says everything once more.
//! * A registration that is not renewed is claimed by one of the others, which takes away what it held, step by step, and tells
//!   of it. What its node took over under a new registration stays.
//!
//! Time is Redis' own, so that the clocks of nodes do not matter. `docs/cluster.md` has the keys and what happens when something dies.

mod entry;
mod keys;
mod membership;
mod owners;
mod registry;
mod scripts;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::bus::Health;
use crate::bus::redis::Commands;

pub use membership::{Membership, Registration};
pub use owners::SessionKey;
pub use registry::{Change, Dead, Listing, Outcome, Registry};

use membership::Keeper;

/// A node's place in its cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `None`: this node is alone.
    registry: Option<Registry>,
    membership: watch::Receiver<Membership>,
    signals: Arc<Signals>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name. Unique in a cluster, or operators cannot tell nodes apart; nothing else depends on it.
    pub name: String,
    /// When its process started, in milliseconds since 1970 by its own clock: tells a node from an earlier one of its name.
    pub started_ms: u64,
    /// Where it listens.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Where other nodes forward requests to, as an `http` URL; `None`: it takes none. Versions before this field say nothing of it.
    #[serde(default)]
    pub peer_url: Option<String>,
}

impl Identity {
    /// The name of this process among all that there ever were in the cluster: a node that starts again is another. It stays the same when
    /// the node registers again.
    #[must_use]
    pub fn incarnation(&self) -> String {
        format!("{}/{:x}", self.name, self.started_ms)
    }
}

/// A node that is alive, as far as Redis knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it says of itself.
    pub identity: Identity,
    /// How much of its lease is left. Zero: it was not heard of for a whole lease, and nobody has taken it away yet.
    pub lease_left: Duration,
}

/// Why the registry did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It could not be reached, or this node is not registered yet. Repeat later.
    #[error("the cluster's registry is unavailable: {0}")]
    Unavailable(String),
    /// This node's registration is gone, or lacks writes. Another one is being made: say everything again under it.
    #[error("this node's registration lapsed")]
    Lapsed,
    /// The registry was lost, and other nodes may have yet to put their members back. Repeat after the time given.
    #[error("the cluster's registry is being put back")]
    Restoring(Duration),
}

/// What others tell the task that keeps the lease.
#[derive(Debug, Default)]
struct Signals {
    /// Something is wrong with the registration, or with Redis: look at once.
    suspected: Notify,
    /// The node leaves: renew no more.
    leaving: Notify,
}

impl Cluster {
    /// The cluster of a node that is alone. Nothing is kept and nobody is asked.
    #[must_use]
    pub fn alone() -> Self {
        let (_, membership) = watch::channel(Membership::alone());
        Self { registry: None, membership, signals: Arc::default() }
    }

    /// Joins a cluster: starts the task that registers this node and keeps its lease. Does not wait; see [`Membership`].
    #[must_use]
    pub fn join(commands: Commands, identity: Identity, lease: Duration) -> Self {
        let registry = Registry::new(commands, lease);
        let signals = Arc::<Signals>::default();
        let (keeper, membership) = Keeper::new(registry.clone(), identity, Arc::clone(&signals));
        tokio::spawn(keeper.run());
        Self { registry: Some(registry), membership, signals }
    }

    /// What the cluster's nodes hold in common; `None` if this node is alone.
    #[must_use]
    pub const fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    /// This node's registration and the other nodes, and a way to wait for news of them.
    #[must_use]
    pub fn membership(&self) -> watch::Receiver<Membership> {
        self.membership.clone()
    }

    /// Whether this node is registered and Redis answers, for `/readyz` and operators.
    #[must_use]
    pub fn health(&self) -> Health {
        self.membership.borrow().health.clone()
    }

    /// The nodes that are alive, by name; empty for a node that is alone, or as long as it has not reached Redis. Up to a third of a
    /// lease old.
    #[must_use]
    pub fn nodes(&self) -> Arc<[Peer]> {
        Arc::clone(&self.membership.borrow().nodes)
    }

    /// Waits until this node is registered; not at all if it is alone.
    pub async fn registered(&self) {
        if self.registry.is_some() {
            let mut membership = self.membership.clone();
            // It ends with the node.
            let _ = membership.wait_for(|membership| membership.registration.is_some()).await;
        }
    }

    /// As [`nodes`](Self::nodes), as Redis knows it now.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: Redis did not say, or this node is alone.
    pub async fn look(&self) -> Result<Vec<Peer>, Error> {
        match &self.registry {
            Some(registry) => registry.nodes().await,
            None => Err(Error::Unavailable("this node is alone".to_owned())),
        }
    }

    /// A call failed in a way that the registration or the way to Redis may be the reason of: look at it at once.
    pub fn suspect(&self) {
        self.signals.suspected.notify_one();
    }

    /// Leaves the cluster, at the end of a node that was drained. What it still holds is taken away by the others at once. Bounded by
    /// the deadline of a call to Redis; where that fails, the lease runs out instead.
    pub async fn leave(&self) {
        let Some(registry) = &self.registry else { return };
        self.signals.leaving.notify_one();
        let registration = self.membership.borrow().registration.clone();
        if let Some(registration) = registration
            && let Err(error) = registry.leave(&registration).await
        {
            tracing::warn!(%error, "this node could not leave the cluster; its lease will run out");
        }
    }
}
