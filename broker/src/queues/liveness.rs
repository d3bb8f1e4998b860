//! Which of the nodes that hold messages will never settle them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bongsu_protocol::queue::Holder;

use crate::cluster::{Cluster, Identity, Membership};

/// The name under which a node holds messages: of one life of it only.
#[must_use]
pub fn holder(name: &str, started_ms: u64) -> Holder {
    Holder(format!("{name}/{started_ms}").into())
}

/// What can be known of others.
#[derive(Debug, Clone)]
pub(super) enum Others {
    /// There are none: whoever else holds something is an earlier life of this node.
    None,
    /// There are, and nobody says whether they live.
    Unknown,
    /// A registry says it.
    Cluster(Cluster),
}

/// Nodes that hold messages and were not found among the living.
#[derive(Debug, Default)]
pub(super) struct Absent {
    since: BTreeMap<Holder, Duration>,
}

impl Absent {
    /// Which of these are gone, and when to look again for the sake of others.
    pub(super) fn judge(
        &mut self,
        others: &Others,
        holders: BTreeSet<Holder>,
        now: Duration,
    ) -> (BTreeSet<Holder>, Option<Duration>) {
        match others {
            Others::None => (holders, None),
            Others::Unknown => (BTreeSet::new(), None),
            Others::Cluster(cluster) => {
                let lease = cluster.registry().map_or(Duration::MAX, |registry| registry.lease());
                self.judge_by(&cluster.membership().borrow(), lease, holders, now)
            }
        }
    }

    /// A node whose lease ran out is gone. So is one that was not listed for a whole lease: a node that just came, or that comes back after the
    /// registry lost everything, is listed before that. While the registry cannot be reached, nobody is gone.
    fn judge_by(
        &mut self,
        membership: &Membership,
        lease: Duration,
        holders: BTreeSet<Holder>,
        now: Duration,
    ) -> (BTreeSet<Holder>, Option<Duration>) {
        if !membership.is_reachable || membership.registration.is_none() {
            self.since.clear();
            return (BTreeSet::new(), None);
        }
        let leases: BTreeMap<Holder, Duration> = membership
            .nodes
            .iter()
            .map(|peer| {
                let Identity { name, started_ms, .. } = &peer.identity;
                (holder(name, *started_ms), peer.lease_left)
            })
            .collect();
        self.since.retain(|holder, _| holders.contains(holder) && !leases.contains_key(holder));
        let mut gone = BTreeSet::new();
        for holder in holders {
            match leases.get(&holder) {
                Some(left) if left.is_zero() => {
                    gone.insert(holder);
                }
                Some(_) => {}
                None => {
                    let since = *self.since.entry(holder.clone()).or_insert(now);
                    if now.saturating_sub(since) >= lease {
                        self.since.remove(&holder);
                        gone.insert(holder);
                    }
                }
            }
        }
        let due = self.since.values().min().map(|since| *since + lease);
        (gone, due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_life_of_a_lone_node_is_gone_and_nobody_else_is_guessed_to_be() {
        let holders = BTreeSet::from([holder("a", 1)]);
        let mut absent = Absent::default();
        assert_eq!(absent.judge(&Others::None, holders.clone(), Duration::ZERO), (holders.clone(), None));
        let judged = absent.judge(&Others::Unknown, holders, Duration::from_secs(9999));
        assert_eq!(judged, (BTreeSet::new(), None));
    }
}
