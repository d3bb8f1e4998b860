//! The sessions of a service that are not over WebSocket, by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::caller::Principal;
use crate::relay::Relay;

/// The sessions of one service on this node: each from its first request until nobody needs to be told of its end any more.
#[derive(Debug)]
pub(super) struct Sessions {
    by_name: Mutex<HashMap<Box<str>, Entry>>,
    /// More are not begun.
    sessions_max: usize,
}

#[derive(Debug)]
struct Entry {
    relay: Arc<Relay>,
    principal: Principal,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// The caller's session.
    Own(Arc<Relay>),
    /// Somebody else's.
    Foreign,
    /// Nobody's.
    Nothing,
}

impl Sessions {
    pub(super) fn new(sessions_max: usize) -> Arc<Self> {
        Arc::new(Self { by_name: Mutex::default(), sessions_max })
    }

    /// Looks for a session, for a caller.
    pub(super) fn find(&self, name: &str, principal: &Principal) -> Found {
        find(&self.lock(), name, principal)
    }

    /// Looks for a session and begins it where there is none; `None`: there is no room for it.
    pub(super) fn open(
        &self,
        name: &str,
        principal: &Principal,
        begin: impl FnOnce() -> Option<Arc<Relay>>,
    ) -> Option<Found> {
        let mut by_name = self.lock();
        match find(&by_name, name, principal) {
            Found::Nothing if by_name.len() >= self.sessions_max => None,
            Found::Nothing => {
                let relay = begin()?;
                let entry = Entry { relay: Arc::clone(&relay), principal: principal.clone() };
                by_name.insert(name.into(), entry);
                Some(Found::Own(relay))
            }
            found => Some(found),
        }
    }

    /// Forgets a session, unless its name stands for another one by now.
    pub(super) fn forget(&self, name: &str, relay: &Arc<Relay>) {
        let mut by_name = self.lock();
        if by_name.get(name).is_some_and(|entry| Arc::ptr_eq(&entry.relay, relay)) {
            by_name.remove(name);
            // A rush of clients should not be paid for for ever.
            if by_name.capacity() > 1024 && by_name.len() < by_name.capacity() / 4 {
                by_name.shrink_to_fit();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(by_name: &HashMap<Box<str>, Entry>, name: &str, principal: &Principal) -> Found {
    match by_name.get(name) {
        Some(entry) if entry.relay.is_closed() => Found::Nothing,
        Some(entry) if entry.principal == *principal => Found::Own(Arc::clone(&entry.relay)),
        Some(_) => Found::Foreign,
        None => Found::Nothing,
    }
}
