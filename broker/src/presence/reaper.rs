//! Takes away the members of dead nodes.
//!
//! One of the nodes that are alive claims a dead one. What it takes away is noted in the registry until its leave was told, so that
//! another node can go on where this one died; only what was under way right then is told twice.

use tokio::sync::watch;

use super::Announcer;
use crate::cluster::{Dead, Error, Membership, Registration, Registry};
use crate::metrics::METRICS;

/// Looks for dead nodes, three times in a lease. Ends with the process.
pub(super) async fn run(registry: Registry, membership: watch::Receiver<Membership>, announcer: Announcer) {
    let mut rounds = tokio::time::interval(registry.lease() / 3);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let registration = membership.borrow().registration.clone();
        let Some(registration) = registration else { continue };
        // Redis being away is told by whoever keeps the lease.
        for dead in registry.claim(&registration).await.unwrap_or_default() {
            match take_away(&registry, &registration, &dead, &announcer).await {
                Ok(n_members) => {
                    METRICS.nodes_reaped.add(1);
                    tracing::info!(node = %dead.registration, n_members, "took away the members of a dead node");
                }
                Err(Error::Lapsed) => {
                    tracing::debug!(node = %dead.registration, "another node takes away a dead one");
                }
                Err(error) => {
                    tracing::warn!(%error, node = %dead.registration, "a dead node could not be taken away; it will be");
                }
            }
        }
    }
}

/// Takes everything of one dead node away, step by step; says how many members it had.
async fn take_away(
    registry: &Registry,
    registration: &Registration,
    dead: &Dead,
    announcer: &Announcer,
) -> Result<usize, Error> {
    let mut n_members = 0;
    loop {
        let leaving = registry.reap(registration, dead).await?;
        if leaving.is_empty() {
            registry.bury(registration, dead).await?;
            return Ok(n_members);
        }
        n_members += leaving.len();
        for (topic, session) in &leaving {
            announcer.left(topic, session.clone()).await;
        }
        // A node that was only paused may have put them back before its readers heard that they left.
        for (topic, member) in registry.settle(registration, dead, &leaving).await? {
            announcer.joined(&topic, member).await;
        }
    }
}
