//! The secret that all nodes share, where it comes from, and the one before it.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::signature::{Secret, hex};
use crate::chance;
use crate::cluster::{Membership, Registry};

/// What a node knows of the secret. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets {
    known: Arc<RwLock<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None`: Redis was not reached yet.
    current: Option<Secret>,
    /// Until all nodes have heard of another, some sign with this.
    previous: Option<Secret>,
}

impl Secrets {
    pub(super) fn given(secret: Secret) -> Self {
        Self { known: Arc::new(RwLock::new(Known { current: Some(secret), previous: None })) }
    }

    /// What this node signs with.
    pub(super) fn current(&self) -> Option<Secret> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// The secret of which something holds, if it is one of the cluster's.
    pub(super) fn find(&self, holds: impl Fn(&Secret) -> bool) -> Option<Secret> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        [&known.current, &known.previous].into_iter().flatten().find(|secret| holds(secret)).cloned()
    }

    fn learn(&self, secret: Secret) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.current.as_ref() != Some(&secret) {
            known.previous = known.current.replace(secret);
        }
    }

    /// Agrees with the other nodes on a secret in Redis, and looks at it with every look at the other nodes: one that Redis lost is put back by
    /// whoever looks first, and the others follow. Runs until it is dropped.
    pub(super) async fn agree(self, registry: Registry, mut membership: watch::Receiver<Membership>) {
        let mut own = hex(&chance::secret());
        loop {
            membership.borrow_and_update();
            match registry.secret(&own).await {
                Ok(secret) => {
                    self.learn(Secret::new(secret.as_bytes()));
                    own = secret;
                }
                // The keeper of the lease tells of a Redis that is away.
                Err(error) => tracing::debug!(%error, "the secret of the cluster's nodes is not known"),
            }
            tokio::select! {
                biased;
                changed = membership.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(registry.lease() / 3) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_before_is_good_until_there_is_another() {
        let secrets = Secrets::given(Secret::new(b"one"));
        let knows = |text: &[u8]| secrets.find(|secret| *secret == Secret::new(text)).is_some();
        secrets.learn(Secret::new(b"two"));
        secrets.learn(Secret::new(b"two"));
        assert!(knows(b"one") && knows(b"two"));
        secrets.learn(Secret::new(b"three"));
        assert!(!knows(b"one") && knows(b"two") && knows(b"three"));
        assert_eq!(secrets.current(), Some(Secret::new(b"three")));
    }
}
