//! Which node has which HTTP session: what this one says of its own, and what it knows of others'.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock;
use crate::cluster::{Error, Membership, Registration, Registry, SessionKey};
use crate::limits::{
    LEASE_RETRY, OWNER_LIFETIME, OWNER_RENEWAL, OWNERS_BATCH_MAX, OWNERS_RELEASED_MAX, OWNERS_REMEMBERED_FOR,
    OWNERS_REMEMBERED_MAX,
};

/// A session that is this node's: as long as this lives, other nodes find it here. Dropping it says that the session ended.
#[derive(Debug)]
pub struct Claim {
    key: SessionKey,
    /// `None` on a node that is alone.
    held: Option<Arc<Held>>,
}

/// The sessions of this node.
#[derive(Debug, Default)]
pub(super) struct Held {
    sessions: Mutex<Sessions>,
    /// There is something to write to Redis.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Sessions {
    held: HashSet<SessionKey>,
    /// Those of them that are yet to be written to Redis.
    unsaid: HashSet<SessionKey>,
    /// Those that ended, and are yet to be taken out of Redis.
    released: Vec<SessionKey>,
}

impl Claim {
    /// A claim that nobody is told of.
    pub(super) const fn alone(key: SessionKey) -> Self {
        Self { key, held: None }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.release(self.key);
        }
    }
}

impl Held {
    pub(super) fn holds(&self, key: SessionKey) -> bool {
        self.lock().held.contains(&key)
    }

    /// Holds a session that Redis knows to be this node's; `None`: this node has it already.
    pub(super) fn hold(self: &Arc<Self>, key: SessionKey) -> Option<Claim> {
        self.lock().held.insert(key).then(|| Claim { key, held: Some(Arc::clone(self)) })
    }

    /// Holds a session of which Redis may not know yet, and is told.
    pub(super) fn hold_and_say(self: &Arc<Self>, key: SessionKey) -> Option<Claim> {
        let claim = self.hold(key)?;
        self.lock().unsaid.insert(key);
        self.wake.notify_one();
        Some(claim)
    }

    fn release(&self, key: SessionKey) {
        let mut sessions = self.lock();
        sessions.held.remove(&key);
        sessions.unsaid.remove(&key);
        if sessions.released.len() < OWNERS_RELEASED_MAX {
            sessions.released.push(key);
        }
        drop(sessions);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps Redis' word on this node's sessions true until it is dropped: says them again before it forgets, and all of them when the node
    /// registered again, since Redis may have lost everything.
    pub(super) async fn keep(
        self: Arc<Self>,
        registry: Registry,
        incarnation: Arc<str>,
        mut membership: watch::Receiver<Membership>,
    ) {
        let mut known: Option<Arc<Registration>> = None;
        let mut said_at = clock::monotonic();
        loop {
            let Some(now) = membership.borrow_and_update().registration.clone() else {
                // Others would take what is said for sessions of a node that is gone.
                if membership.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let is_new = known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &now));
            if is_new || clock::monotonic().saturating_sub(said_at) >= OWNER_RENEWAL {
                let mut sessions = self.lock();
                sessions.unsaid = sessions.held.clone();
                said_at = clock::monotonic();
            }
            known = Some(now);
            let pause = match self.write(&registry, &incarnation).await {
                Ok(()) => OWNER_RENEWAL.saturating_sub(clock::monotonic().saturating_sub(said_at)),
                Err(error) => {
                    tracing::debug!(%error, "sessions of this node are not known to others");
                    // Nothing else tries again sooner: a wake-up that was missed meanwhile is made good by this.
                    tokio::time::sleep(LEASE_RETRY).await;
                    continue;
                }
            };
            tokio::select! {
                biased;
                changed = membership.changed() => if changed.is_err() { return },
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Writes what is to be written, some at a time.
    async fn write(&self, registry: &Registry, incarnation: &str) -> Result<(), Error> {
        loop {
            let (unsaid, released) = {
                let mut sessions = self.lock();
                let unsaid: Vec<_> = sessions.unsaid.iter().copied().take(OWNERS_BATCH_MAX).collect();
                let n_released = sessions.released.len().min(OWNERS_BATCH_MAX);
                let mut released: Vec<_> = sessions.released.drain(..n_released).collect();
                // One that this node took up again stays.
                released.retain(|key| !sessions.held.contains(key));
                (unsaid, released)
            };
            if unsaid.is_empty() && released.is_empty() {
                return Ok(());
            }
            // Those that ended are left to their lifetime if this fails.
            registry.disown(&released, incarnation).await?;
            let owners = registry.own(&unsaid, incarnation, OWNER_LIFETIME).await?;
            let taken = owners.iter().filter(|owner| **owner != *incarnation).count();
            if taken > 0 {
                tracing::debug!(taken, "sessions of this node are another's, too");
            }
            let mut sessions = self.lock();
            for key in unsaid {
                sessions.unsaid.remove(&key);
            }
        }
    }
}

/// Owners of sessions elsewhere. What was not asked for during one of two generations is forgotten.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    young: HashMap<SessionKey, (Arc<str>, Duration)>,
    old: HashMap<SessionKey, (Arc<str>, Duration)>,
}

impl Remembered {
    pub(super) fn get(&mut self, key: SessionKey, now: Duration) -> Option<Arc<str>> {
        if let Some(entry) = self.old.remove(&key) {
            self.insert(key, entry);
        }
        let (owner, until) = self.young.get(&key)?;
        (now < *until).then(|| Arc::clone(owner))
    }

    pub(super) fn put(&mut self, key: SessionKey, owner: &Arc<str>, now: Duration) {
        self.old.remove(&key);
        self.insert(key, (Arc::clone(owner), now + OWNERS_REMEMBERED_FOR));
    }

    pub(super) fn forget(&mut self, key: SessionKey) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    fn insert(&mut self, key: SessionKey, entry: (Arc<str>, Duration)) {
        if self.young.len() >= OWNERS_REMEMBERED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> SessionKey {
        SessionKey::of(&number.to_string())
    }

    #[test]
    fn owners_are_remembered_for_a_time_and_within_a_bound() {
        let mut remembered = Remembered::default();
        let owner: Arc<str> = "node/1".into();
        remembered.put(key(0), &owner, Duration::ZERO);
        for number in 1..3 * OWNERS_REMEMBERED_MAX {
            remembered.put(key(number), &owner, Duration::ZERO);
            assert!(remembered.get(key(0), Duration::ZERO).is_some(), "what is asked for stays");
        }
        assert!(remembered.young.len() + remembered.old.len() <= OWNERS_REMEMBERED_MAX);
        assert_eq!(remembered.get(key(1), Duration::ZERO), None, "what is not is forgotten");
        assert_eq!(remembered.get(key(0), OWNERS_REMEMBERED_FOR), None);
        remembered.forget(key(0));
        assert_eq!(remembered.get(key(0), Duration::ZERO), None);
    }

    #[test]
    fn session_is_held_until_its_claim_is_dropped() {
        let held = Arc::<Held>::default();
        let claim = held.hold_and_say(key(1)).unwrap();
        assert!(held.holds(key(1)));
        assert!(held.hold(key(1)).is_none(), "it has one holder");
        drop(claim);
        assert!(!held.holds(key(1)));
        assert_eq!(held.lock().released, [key(1)]);
        assert!(held.lock().unsaid.is_empty());
    }
}
