//! The connections of this node and the requests that wait on it, to be found by somebody who wants to end one.
//!
//! A connection costs its entry in a map, some 120 bytes. Subjects are not indexed: who asks for one looks at all connections, some
//! milliseconds for fifty thousand, instead of all connections paying for that.
//!
//! Whoever has a place is entitled to it: it is judged after it is found here, and again whenever it changes who is kept out. So what
//! changes before is seen by the one, and what changes after by the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Goodbye};

use super::page::Seen;
use super::stay::{Parked, Stay};
use super::{Closes, End, Target};
use crate::access::{Access, Bearer};
use crate::auth::Identity;
use crate::clock;
use crate::metrics::Transport;
use crate::outbound::{ConnectionId, Outbound};
use crate::trace::Tracer;

/// Parts of the map, so that connections that come and go on all cores do not wait for one another.
const PARTS: usize = 64;

/// The sessions of this node, found by name or subject. It knows them as long as they are there, and does nothing by itself.
#[derive(Debug)]
pub struct Connections {
    /// What the names of all sessions of this process begin with.
    prefix: String,
    access: Access,
    parts: [Mutex<HashMap<ConnectionId, Entry>>; PARTS],
    closes: Closes,
    tracer: Arc<Tracer>,
}

#[derive(Debug)]
struct Entry {
    occupant: Occupant,
    began: Time,
    holder: Holder,
    /// Why it ends, once its own task knows better than what its client was told.
    ended: Option<CloseReason>,
}

/// What ends when its place is taken away.
#[derive(Debug, Clone)]
enum Occupant {
    Connection(Arc<Outbound>),
    Request(Arc<Parked>),
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
    pub fn new(node: &str, started_ms: u64, access: Access) -> Self {
        let parts = std::array::from_fn(|_| Mutex::default());
        let (prefix, closes) = (session_prefix(node, started_ms), Closes::default());
        Self { prefix, access, parts, closes, tracer: Arc::default() }
    }

    /// Whether somebody is still what a credential said: it has not run out, and nobody took it back.
    ///
    /// # Errors
    /// Why not, as a connection is told.
    pub fn check(&self, identity: &Identity) -> Result<(), Goodbye> {
        if identity.expires_at.is_some_and(|expires_at| expires_at <= clock::wall()) {
            return Err(Goodbye::new(
                CloseReason::Unauthenticated,
                "the token has expired: come back with a new one",
            ));
        }
        let token_id = identity.token_id.as_deref();
        let bearer = Bearer { subject: identity.subject(), token_id, issued_at: identity.issued_at };
        self.access.judge(&bearer).map_err(|barred| barred.goodbye())
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

    /// Requests that wait.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        let count = |part: &HashMap<ConnectionId, Entry>| {
            part.values().filter(|entry| matches!(entry.occupant, Occupant::Request(_))).count()
        };
        self.parts.iter().map(|part| count(&lock(part))).sum()
    }

    /// Says goodbye to a session, if it is there; says to how many.
    pub fn dismiss(&self, session: &str, goodbye: Goodbye) -> usize {
        let Some(id) = self.id_of(session) else { return 0 };
        let occupant = self.part(id).get(&id).map(|entry| entry.occupant.clone());
        let Some(occupant) = occupant else { return 0 };
        occupant.dismiss(goodbye);
        1
    }

    /// Takes a connection in, as long as the answer is kept. Whoever is kept out by now is told so and ends.
    #[must_use]
    pub fn enter(self: &Arc<Self>, outbound: &Arc<Outbound>, holder: Holder) -> Place {
        let id = outbound.id();
        outbound.lock().tap(self.tracer.tap(id.0));
        self.take_in(id, Occupant::Connection(Arc::clone(outbound)), holder)
    }

    /// Takes a request in that waits, as long as the answer is kept, under a number that no connection has.
    #[must_use]
    pub fn park(self: &Arc<Self>, id: ConnectionId, holder: Holder) -> Stay {
        let parked = Arc::new(Parked::new(Arc::clone(&holder.identity)));
        let place = self.take_in(id, Occupant::Request(Arc::clone(&parked)), holder);
        Stay::new(place, parked)
    }

    fn take_in(self: &Arc<Self>, id: ConnectionId, occupant: Occupant, holder: Holder) -> Place {
        let identity = Arc::clone(&holder.identity);
        self.part(id).insert(id, Entry { occupant, began: clock::wall(), holder, ended: None });
        let place = Place { connections: Arc::clone(self), id };
        place.judge(&identity);
        place
    }

    /// Ends everything here whose holder is kept out by now; says how many there were.
    pub(super) async fn sweep(&self) -> usize {
        let mut n_ended = 0;
        for part in &self.parts {
            let barred: Vec<_> = {
                let part = lock(part);
                let barred = part.values().filter_map(|entry| {
                    let goodbye = self.check(&entry.holder.identity).err()?;
                    Some((entry.occupant.clone(), goodbye))
                });
                barred.collect()
            };
            for (occupant, goodbye) in barred {
                n_ended += usize::from(occupant.expel(goodbye));
            }
            tokio::task::yield_now().await;
        }
        n_ended
    }

    /// Says goodbye to the sessions that are meant and began before a time; says to how many.
    pub(super) async fn kick(&self, target: &Target, before: Time, reason: &str) -> usize {
        let kick = |entry: &Entry| {
            let is_meant = entry.began < before;
            if is_meant {
                entry.occupant.dismiss(Goodbye::new(CloseReason::Kicked, reason));
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

    /// Looks at all that are no requests, one after another, without the lock that connections that come and go wait for.
    pub fn each(&self, mut look: impl FnMut(&Arc<Outbound>)) {
        for part in &self.parts {
            let entries: Vec<Entry> = lock(part).values().map(Entry::share).collect();
            for entry in entries {
                if let Occupant::Connection(outbound) = &entry.occupant {
                    look(outbound);
                }
            }
        }
    }

    /// The connections that ended last.
    #[must_use]
    pub const fn closes(&self) -> &Closes {
        &self.closes
    }

    /// Who follows what happens on them.
    #[must_use]
    pub const fn tracer(&self) -> &Arc<Tracer> {
        &self.tracer
    }

    /// The number of a session of this process, whether it is there or not.
    #[must_use]
    pub fn number_of(&self, session: &str) -> Option<u64> {
        self.id_of(session).map(|id| id.0)
    }

    /// A session of this process, if it is there.
    #[must_use]
    pub fn find(&self, session: &str) -> Option<Seen> {
        let id = self.id_of(session)?;
        self.part(id).get(&id).map(|entry| entry.seen(id))
    }

    /// How many parts the map has.
    pub(super) const fn parts() -> usize {
        PARTS
    }

    /// What has a place in a part, as far as its number is wanted.
    pub(super) fn seen(&self, part: usize, is_wanted: impl Fn(ConnectionId) -> bool) -> Vec<Seen> {
        let part = lock(&self.parts[part]);
        part.iter().filter(|(id, _)| is_wanted(**id)).map(|(id, entry)| entry.seen(*id)).collect()
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
        Self {
            occupant: self.occupant.clone(),
            began: self.began,
            holder: self.holder.clone(),
            ended: self.ended,
        }
    }
}

impl Entry {
    fn seen(&self, id: ConnectionId) -> Seen {
        let (holder, outbound) = (self.holder.clone(), self.occupant.outbound().map(Arc::clone));
        Seen { id, began: self.began, holder, outbound }
    }

    /// What is remembered of it; `None` of a request, which ends every few seconds.
    fn end(&self, id: ConnectionId) -> Option<End> {
        let Holder { identity, peer, transport } = self.holder.clone();
        let now = clock::monotonic();
        let state = self.occupant.outbound()?.lock();
        let waiting_bytes = state.waiting_bytes();
        let stuck = if waiting_bytes > 0 { now.saturating_sub(state.progress_at()) } else { Duration::ZERO };
        let reason = self.ended.or_else(|| state.dialog.close_reason()).unwrap_or(CloseReason::Normal);
        state.note_closed(reason);
        Some(End {
            id,
            identity,
            peer,
            transport,
            reason,
            began: self.began,
            ended: clock::wall(),
            subscriptions: state.session().subscriptions().count(),
            waiting_bytes,
            silent: now.saturating_sub(state.account.heard_at),
            stuck,
            account: state.account.clone(),
        })
    }
}

impl Occupant {
    /// The half of a connection that others may touch; a request has none.
    const fn outbound(&self) -> Option<&Arc<Outbound>> {
        match self {
            Self::Connection(outbound) => Some(outbound),
            Self::Request(_) => None,
        }
    }

    /// Says goodbye; what waits to be sent is sent before.
    fn dismiss(&self, goodbye: Goodbye) {
        match self {
            Self::Connection(outbound) => {
                outbound.lock().say_goodbye(goodbye);
                outbound.flush();
                // The connection's own task sees to the end.
                outbound.call();
            }
            Self::Request(parked) => {
                parked.end(goodbye);
            }
        }
    }

    /// Says goodbye; what waits to be sent is not sent any more. False if it was said before.
    fn expel(&self, goodbye: Goodbye) -> bool {
        match self {
            Self::Connection(outbound) => {
                let was_open = {
                    let mut state = outbound.lock();
                    let was_open = !state.dialog.is_closing();
                    if was_open {
                        state.account.note_farewell(&goodbye.text);
                    }
                    state.dialog.expel(goodbye);
                    was_open
                };
                outbound.flush();
                outbound.call();
                was_open
            }
            Self::Request(parked) => parked.end(goodbye),
        }
    }
}

impl Place {
    /// Says why it ends, and remembers how things stand. To be called before anything of it is cleared away.
    pub fn note_end(&self, reason: CloseReason) {
        let entry = self.connections.part(self.id).get_mut(&self.id).map(|entry| {
            entry.ended = Some(reason);
            entry.share()
        });
        if let Some(end) = entry.and_then(|entry| entry.end(self.id)) {
            self.connections.closes.push(end);
        }
    }

    /// Says who has it, once that is known, or once it is known better. Whoever is kept out by now is told so and ends.
    pub fn identify(&self, identity: Arc<Identity>) {
        let judged = Arc::clone(&identity);
        if let Some(entry) = self.connections.part(self.id).get_mut(&self.id) {
            entry.holder.identity = identity;
        }
        self.judge(&judged);
    }

    /// Whether its holder may stay.
    pub(super) fn check(&self, identity: &Identity) -> Result<(), Goodbye> {
        self.connections.check(identity)
    }

    fn judge(&self, identity: &Identity) {
        let Err(goodbye) = self.check(identity) else { return };
        let occupant = self.connections.part(self.id).get(&self.id).map(|entry| entry.occupant.clone());
        if let Some(occupant) = occupant {
            occupant.expel(goodbye);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let entry = self.connections.part(self.id).remove(&self.id);
        // Its own task had nothing to say of its end.
        let unsaid = entry.filter(|entry| entry.ended.is_none());
        if let Some(end) = unsaid.and_then(|entry| entry.end(self.id)) {
            self.connections.closes.push(end);
        }
    }
}

/// What the names of all sessions of a process begin with.
#[must_use]
pub fn session_prefix(node: &str, started_ms: u64) -> String {
    format!("{node}-{started_ms:x}-")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks; if something did, the map would still be one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
