//! What happens outside of every process, and when: frames that arrive, transactions that commit, faults that end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Event = Box<dyn FnOnce() + Send>;

/// Events in the order of their times, and of their making where those are the same.
#[derive(Default)]
pub(crate) struct Agenda {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: BTreeMap<(u64, u64), Event>,
    n_made: u64,
}

impl Agenda {
    /// Lets something happen at a virtual time, in milliseconds; what lies behind is next.
    pub(crate) fn at(&self, at_ms: u64, event: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.n_made += 1;
        let number = state.n_made;
        state.events.insert((at_ms, number), Box::new(event));
    }

    /// Lets happen what is due.
    pub(crate) fn run_due(&self, now_ms: u64) {
        loop {
            // Not held while the event happens: it may make others.
            let due = {
                let mut state = self.lock();
                let Some(first) = state.events.first_entry().filter(|first| first.key().0 <= now_ms) else {
                    return;
                };
                first.remove()
            };
            due();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let events = std::mem::take(&mut self.lock().events);
        // What they hold may come back here when it is dropped.
        drop(events);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Agenda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agenda").finish_non_exhaustive()
    }
}
