//! The task that keeps this node registered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{Error, Identity, Peer, Registry, Signals};
use crate::bus::Health;
use crate::clock;
use crate::limits::{LEASE_RETRY, LEASE_RETRY_MIN, LEASE_SUSPECTED_PAUSE};
use crate::metrics::METRICS;

/// A node's registration: a name that is never given twice, and how far its writes came.
#[derive(Debug)]
pub struct Registration {
    pub(super) id: String,
    /// Which incarnation of the registry it is in: a registry that lost everything gets another.
    pub(super) era: String,
    /// The newest version that is known to be written.
    written: AtomicU64,
    /// The newest version that was ever tried.
    tried: AtomicU64,
}

/// This node's place in the cluster, as far as it knows.
#[derive(Debug, Clone)]
pub struct Membership {
    /// `None`: not registered yet, or no longer, or alone.
    pub registration: Option<Arc<Registration>>,
    /// The last call to Redis was answered.
    pub is_reachable: bool,
    /// For operators.
    pub health: Health,
    /// The nodes that are alive, this one among them.
    pub nodes: Arc<[Peer]>,
}

/// Keeps the lease.
#[derive(Debug)]
pub(super) struct Keeper {
    registry: Registry,
    identity: Identity,
    signals: Arc<Signals>,
    membership: watch::Sender<Membership>,
    registration: Option<Arc<Registration>>,
    /// The registration before, or this one if it is gone.
    earlier: Option<Arc<Registration>>,
    registered_at: Duration,
    /// Rounds in a row that failed.
    n_failed: u32,
    /// Whether another node has this one's name, so that it is said once.
    has_rival: bool,
}

impl Registration {
    pub(super) const fn new(id: String, era: String) -> Self {
        Self { id, era, written: AtomicU64::new(0), tried: AtomicU64::new(0) }
    }

    /// Whether both are in the same incarnation of the registry. If not, it lost everything in between.
    #[must_use]
    pub fn is_of_the_era_of(&self, other: &Self) -> bool {
        self.era == other.era
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn next_version(&self) -> u64 {
        self.tried.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn note_written(&self, version: u64) {
        self.written.fetch_max(version, Ordering::AcqRel);
    }
}

impl Membership {
    pub(super) fn alone() -> Self {
        Self { registration: None, is_reachable: true, health: Health::Live, nodes: Arc::default() }
    }
}

impl Keeper {
    pub(super) fn new(
        registry: Registry,
        identity: Identity,
        signals: Arc<Signals>,
    ) -> (Self, watch::Receiver<Membership>) {
        let health = Health::Degraded { reason: "this node has not registered yet".to_owned() };
        let membership =
            Membership { registration: None, is_reachable: false, health, nodes: Arc::default() };
        let (membership, receiver) = watch::channel(membership);
        let keeper = Self {
            registry,
            identity,
            signals,
            membership,
            registration: None,
            earlier: None,
            registered_at: Duration::ZERO,
            n_failed: 0,
            has_rival: false,
        };
        (keeper, receiver)
    }

    /// Registers, renews and registers again until the node leaves, or nobody looks any more.
    pub(super) async fn run(mut self) {
        let signals = Arc::clone(&self.signals);
        loop {
            let pause = match self.round().await {
                Ok(()) => {
                    self.n_failed = 0;
                    self.registry.lease() / 3
                }
                Err(Error::Lapsed) => {
                    tracing::warn!("this node's registration lapsed: it registers again");
                    self.earlier = self.registration.take().or_else(|| self.earlier.take());
                    self.tell(|membership| membership.registration = None);
                    continue;
                }
                Err(error) => self.note_unreachable(&error),
            };
            tokio::select! {
                biased;
                () = signals.leaving.notified() => return,
                () = self.membership.closed() => return,
                // Not at once: a call that fails while renewals succeed must not make a loop without a pause.
                () = signals.suspected.notified() => tokio::time::sleep(LEASE_SUSPECTED_PAUSE).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let registration = match self.registration.clone() {
            Some(registration) => {
                self.registry.renew(&registration).await?;
                registration
            }
            None => {
                let registration = self.registry.register(&self.identity, self.earlier.as_deref()).await?;
                METRICS.registrations.add(1);
                self.registered_at = clock::monotonic();
                let registration = Arc::new(registration);
                self.registration = Some(Arc::clone(&registration));
                registration
            }
        };
        let nodes = self.registry.nodes().await?;
        let rival = self.rival_among(&nodes);
        self.tell(|membership| {
            if !membership.is_reachable {
                tracing::info!(nodes = nodes.len(), "this node is registered in its cluster");
            }
            membership.registration = Some(registration);
            membership.is_reachable = true;
            membership.health = rival.map_or(Health::Live, |reason| Health::Degraded { reason });
            membership.nodes = nodes.into();
        });
        Ok(())
    }

    /// What is to be said of another node that has this one's name, if there is one. Nothing breaks by it but the operator's view.
    fn rival_among(&mut self, nodes: &[Peer]) -> Option<String> {
        let half = self.registry.lease() / 2;
        let own = &self.identity;
        // One that died before this node came has less than half a lease left once this one had more than half of one.
        let settled = clock::monotonic().saturating_sub(self.registered_at) > half;
        let rival = nodes.iter().find(|peer| {
            let other = &peer.identity;
            settled && other.name == own.name && other.started_ms != own.started_ms && peer.lease_left > half
        });
        let reason = rival.map(|peer| {
            let Identity { name, address, .. } = &peer.identity;
            format!("another node at {address} is called {name} too: give each node a node.name of its own")
        });
        if let Some(reason) = &reason
            && !self.has_rival
        {
            tracing::error!("{reason}");
        }
        self.has_rival = reason.is_some();
        reason
    }

    fn note_unreachable(&mut self, error: &Error) -> Duration {
        self.tell(|membership| {
            let was_reachable = std::mem::take(&mut membership.is_reachable);
            let reason = error.to_string();
            if was_reachable || !matches!(&membership.health, Health::Degraded { reason: said } if *said == reason) {
                tracing::warn!(%error, "the cluster's registry does not answer: presence is that of this node alone");
            }
            membership.health = Health::Degraded { reason };
        });
        // A node that starts is registered as soon as its connection to Redis is there.
        let pause = LEASE_RETRY_MIN.saturating_mul(1 << self.n_failed.min(8));
        self.n_failed = self.n_failed.saturating_add(1);
        pause.min(LEASE_RETRY).min(self.registry.lease() / 3)
    }

    fn tell(&self, change: impl FnOnce(&mut Membership)) {
        self.membership.send_modify(change);
    }
}
