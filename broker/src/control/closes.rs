//! The connections of this node that ended last, for whoever asks why.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_protocol::message::Time;
use bongsu_protocol::reason::CloseReason;

use crate::auth::Identity;
use crate::limits::CLOSES_KEPT_MAX;
use crate::metrics::Transport;
use crate::outbound::{Account, ConnectionId};

/// How a connection ended.
#[derive(Debug, Clone)]
pub struct End {
    /// Its number.
    pub id: ConnectionId,
    /// Whose it was.
    pub identity: Arc<Identity>,
    /// Where it came from, as far as that is known.
    pub peer: Option<SocketAddr>,
    /// What carried it.
    pub transport: Transport,
    /// Why it ended.
    pub reason: CloseReason,
    /// When it began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// How many filters it subscribed to.
    pub subscriptions: usize,
    /// Bytes that waited for its socket.
    pub waiting_bytes: usize,
    /// How long nothing had come of its client.
    pub silent: Duration,
    /// How long its socket had taken nothing, where something waited.
    pub stuck: Duration,
    /// What went over it.
    pub account: Account,
}

/// The last ends: at most [`CLOSES_KEPT_MAX`], some 300 bytes each and the texts in them.
#[derive(Debug, Default)]
pub struct Closes {
    ends: Mutex<VecDeque<Arc<End>>>,
}

impl Closes {
    pub(super) fn push(&self, end: End) {
        let mut ends = self.lock();
        if ends.len() >= CLOSES_KEPT_MAX {
            ends.pop_front();
        }
        ends.push_back(Arc::new(end));
    }

    /// Those that are remembered, in the order in which they ended.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<End>> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<End>>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
