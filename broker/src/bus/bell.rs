//! What wakes those who follow the broker's own small logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Where nodes tell each other that there is something new in one of the broker's own logs: a command of an operator, or another version
/// of a register. Whoever hears it looks; what a frame says does not matter.
pub const CONTROL_CHANNEL: &str = "control";

/// Wakes everybody who listens: there may be something new in a log of the broker's own. Cheap to clone; each clone rings for all.
///
/// Whoever listens first wakes first, so that a run of the simulation can be repeated; tokio's `watch` wakes in any order.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    n_rings: AtomicU64,
    rung: Notify,
}

/// One who hears a [`Bell`].
#[derive(Debug)]
pub struct Listener {
    bell: Arc<Inner>,
    n_heard: u64,
}

impl Bell {
    /// Wakes everybody.
    pub fn ring(&self) {
        self.0.n_rings.fetch_add(1, Ordering::AcqRel);
        self.0.rung.notify_waiters();
    }

    /// Hears it from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { bell: Arc::clone(&self.0), n_heard: self.0.n_rings.load(Ordering::Acquire) }
    }
}

impl Listener {
    /// Waits until it was rung since this was asked last; for ever, once nobody rings any more. Cancel safe.
    pub async fn rung(&mut self) {
        loop {
            let rung = self.bell.rung.notified();
            tokio::pin!(rung);
            // From here on no ring is missed.
            rung.as_mut().enable();
            let n_rings = self.bell.n_rings.load(Ordering::Acquire);
            if n_rings != self.n_heard {
                self.n_heard = n_rings;
                return;
            }
            rung.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everybody_hears_what_rang_while_they_were_busy() {
        let bell = Bell::default();
        let (mut first, mut second) = (bell.listen(), bell.listen());
        bell.clone().ring();
        bell.ring();
        first.rung().await;
        second.rung().await;
        let again = tokio::time::timeout(Duration::from_secs(1), first.rung()).await;
        assert!(again.is_err(), "two rings before it looked are one");
    }
}
