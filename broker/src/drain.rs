//! How a node ends: in phases, so that every client is told where it stands and no acknowledged message is abandoned.
//!
//! 1. readiness turns false, so that load balancers look elsewhere, and nothing more is accepted
//! 2. connections are sent away, spread over a time, with when to reconnect
//! 3. what was taken from publishers is stored and acknowledged
//! 4. the store is closed
//! 5. the last metrics and spans are sent, and the administrators' port is closed

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not begun.
    Running,
    /// Connections are being sent away.
    Draining,
}

/// Tells everybody how far the end has come.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Running) }
    }
}

impl Drain {
    /// The phase now, and a way to wait for the next.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Begins the end.
    pub fn begin(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }
}
