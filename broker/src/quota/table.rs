//! Who has how much, by address and by user, in bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::limits::{QUOTA_ENTRIES_MAX, QUOTA_PRUNE_PAUSE};
use crate::pace::Pace;

/// Whose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Address(IpAddr),
    User(Arc<str>),
}

/// What is known of one of them.
#[derive(Debug, Default)]
pub(super) struct Entry {
    n_connections: usize,
    pub(super) connects: Pace,
    pub(super) messages: Pace,
    pub(super) bytes: Pace,
}

/// All of them. Those with connections are as many as the node has at most; of others there is a bound.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// When those at rest were last looked for.
    pruned_at: Duration,
}

/// One connection among those of an address or a user, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    table: Arc<Table>,
    key: Key,
}

impl Hold {
    /// Whether it is this user's.
    pub(crate) fn is_of_user(&self, subject: &str) -> bool {
        matches!(&self.key, Key::User(user) if **user == *subject)
    }
}

impl Table {
    /// One more connection, unless there are as many already.
    pub(super) fn hold(self: &Arc<Self>, key: Key, n_max: usize) -> Option<Hold> {
        let mut entries = self.lock();
        let n_connections = entries.by_key.get(&key).map_or(0, |entry| entry.n_connections);
        if n_connections >= n_max {
            return None;
        }
        entries.by_key.entry(key.clone()).or_default().n_connections += 1;
        drop(entries);
        Some(Hold { table: Arc::clone(self), key })
    }

    /// Asks one's pace. Of more than the table has room for, those that found none are not paced: everything that costs memory has
    /// a bound of its own.
    pub(super) fn pace(
        &self,
        key: &Key,
        take: impl FnOnce(&mut Entry, Duration) -> Result<(), Duration>,
    ) -> Result<(), Duration> {
        let now = clock::monotonic();
        let mut entries = self.lock();
        if let Some(entry) = entries.by_key.get_mut(key) {
            return take(entry, now);
        }
        let is_time = now.saturating_sub(entries.pruned_at) >= QUOTA_PRUNE_PAUSE;
        if entries.by_key.len() >= QUOTA_ENTRIES_MAX && is_time {
            entries.by_key.retain(|_, entry| !entry.is_idle(now));
            entries.pruned_at = now;
        }
        if entries.by_key.len() >= QUOTA_ENTRIES_MAX {
            return Ok(());
        }
        take(entries.by_key.entry(key.clone()).or_default(), now)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether it says nothing that a new one does not.
    fn is_idle(&self, now: Duration) -> bool {
        let is_full = |pace: &Pace| pace.is_full(now);
        self.n_connections == 0 && is_full(&self.connects) && is_full(&self.messages) && is_full(&self.bytes)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let now = clock::monotonic();
        let mut entries = self.table.lock();
        if let Some(entry) = entries.by_key.get_mut(&self.key) {
            entry.n_connections = entry.n_connections.saturating_sub(1);
            if entry.is_idle(now) {
                entries.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Key {
        Key::Address(std::net::Ipv4Addr::from_bits(u32::try_from(number).expect("small")).into())
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_has_a_bound_and_forgets_who_is_at_rest() {
        let table = Arc::new(Table::default());
        let take = |number| table.pace(&address(number), |entry, now| entry.connects.take_amount(1, 1, now));
        for number in 0..QUOTA_ENTRIES_MAX + 100 {
            assert!(take(number).is_ok());
        }
        assert_eq!(table.lock().by_key.len(), QUOTA_ENTRIES_MAX);
        assert!(take(0).is_err(), "those that are known are paced");
        let held = table.hold(address(0), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(take(QUOTA_ENTRIES_MAX + 200).is_ok());
        assert_eq!(table.lock().by_key.len(), 2);
        drop(held);
        assert_eq!(table.lock().by_key.len(), 1);
    }
}
