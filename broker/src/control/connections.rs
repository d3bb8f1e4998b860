//! The connections of this node, to be found by somebody who wants to end one.
//!
//! A connection costs its entry in a map, some 120 bytes. Subjects are not indexed: who asks for one looks at all connections, some
//! milliseconds for fifty thousand, instead of all connections paying for that.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Goodbye};

use super::Target;
use crate::auth::Identity;
use crate::clock;
use crate::metrics::Transport;
use crate::outbound::{ConnectionId, Outbound};

/// Parts of the map, so that connections that come and go on all cores do not wait for one another.
const PARTS: usize = 64;

/// The sessions of this node, found by name or subject. It knows them as long as they are there, and does nothing by itself.
#[derive(Debug)]
pub struct Connections {
    /// What the names of all sessions of this process begin with.
    prefix: String,
    parts: [Mutex<HashMap<ConnectionId, Entry>>; PARTS],
}

#[derive(Debug)]
struct Entry {
    outbound: Arc<Outbound>,
    began: Time,
    holder: Holder,
}

/// Who has a place among the connections.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Who it is, as far as that is known.
    pub identity: Arc<Identity>,
    /// Where it comes from, as far as that is known.
    pub peer: Option<SocketAddr>,
    /// What carries it.
    pub transport: Transport,
}

/// A connection's place in the map, which it leaves when this is dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    id: ConnectionId,
}

impl Connections {
    /// Holds none yet. `node` and `started_ms` set the names of this process' sessions apart from all others.
    #[must_use]
    pub fn new(node: &str, started_ms: u64) -> Self {
        let parts = std::array::from_fn(|_| Mutex::default());
        Self { prefix: format!("{node}-{started_ms:x}-"), parts }
    }

    /// The name of a connection's session, unique among all nodes as long as their names are.
    #[must_use]
    pub fn session_name(&self, id: ConnectionId) -> String {
        format!("{}{:x}", self.prefix, id.0)
    }

    /// What the names of all sessions of this process begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Says goodbye to a session, if it is there; says to how many.
    pub fn dismiss(&self, session: &str, goodbye: Goodbye) -> usize {
        let Some(id) = self.id_of(session) else { return 0 };
        let entry = self.part(id).get(&id).map(Entry::share);
        let Some(Entry { outbound, .. }) = entry else { return 0 };
        outbound.lock().dialog.close(goodbye);
        outbound.flush();
        outbound.call();
        1
    }

    /// Takes a connection in, as long as the answer is kept.
    #[must_use]
    pub fn enter(self: &Arc<Self>, outbound: &Arc<Outbound>, holder: Holder) -> Place {
        let id = outbound.id();
        let entry = Entry { outbound: Arc::clone(outbound), began: clock::wall(), holder };
        self.part(id).insert(id, entry);
        Place { connections: Arc::clone(self), id }
    }

    /// Says goodbye to the sessions that are meant and began before a time; says to how many.
    pub(super) async fn kick(&self, target: &Target, before: Time, reason: &str) -> usize {
        let kick = |entry: &Entry| {
            let is_meant = entry.began < before;
            if is_meant {
                entry.outbound.lock().dialog.close(Goodbye::new(CloseReason::Kicked, reason));
                entry.outbound.flush();
                // The connection's own task sees to the end.
                entry.outbound.call();
            }
            usize::from(is_meant)
        };
        let subject = match target {
            Target::Session(name) => {
                let Some(id) = self.id_of(name) else { return 0 };
                let entry = self.part(id).get(&id).map(Entry::share);
                return entry.as_ref().map_or(0, kick);
            }
            Target::Subject(subject) => subject,
        };
        let mut n_kicked = 0;
        for part in &self.parts {
            // Looked at without the lock of the part, which connections that come and go wait for.
            let entries: Vec<Entry> = lock(part).values().map(Entry::share).collect();
            let is_of = |entry: &&Entry| entry.holder.identity.subject() == subject;
            n_kicked += entries.iter().filter(is_of).map(kick).sum::<usize>();
            tokio::task::yield_now().await;
        }
        n_kicked
    }

    /// The connection of a session of this process.
    fn id_of(&self, session: &str) -> Option<ConnectionId> {
        let number = session.strip_prefix(&self.prefix)?;
        Some(ConnectionId(u64::from_str_radix(number, 16).ok()?))
    }

    fn part(&self, id: ConnectionId) -> MutexGuard<'_, HashMap<ConnectionId, Entry>> {
        // The remainder is below the number of parts, which is a `usize`.
        lock(&self.parts[usize::try_from(id.0 % PARTS as u64).unwrap_or_default()])
    }
}

impl Entry {
    fn share(&self) -> Self {
        Self { outbound: Arc::clone(&self.outbound), began: self.began, holder: self.holder.clone() }
    }
}

impl Place {
    /// Says who has it, once that is known, or once it is known better.
    pub fn identify(&self, identity: Arc<Identity>) {
        if let Some(entry) = self.connections.part(self.id).get_mut(&self.id) {
            entry.holder.identity = identity;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.part(self.id).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks; if something did, the map would still be one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
