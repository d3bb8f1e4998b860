//! How a request says that it waits, so that whoever serves its connection may put everything else away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::METRICS;

/// A request's word that it waits: an extension of each request whose connection can make use of it.
///
/// hyper keeps some 30 KiB of buffers for a connection, also while a request of it waits for a minute. A connection that knows that its
/// request waits takes its socket out of hyper, keeps nothing but the socket and the future that answers, and writes the answer itself.
#[derive(Debug, Clone, Default)]
pub struct Parking(Arc<AtomicBool>);

impl Parking {
    /// Says that the answer may take long. It is to be said only by whoever has read the request's body to its end, keeps no slice of the
    /// connection's buffer (which is what headers and the path are), and answers with a whole body, no stream.
    ///
    /// The request counts as a poll that waits until what is returned is dropped.
    #[must_use]
    pub fn begin(&self) -> Waiting {
        METRICS.polls_begun.add(1);
        self.0.store(true, Ordering::Relaxed);
        Waiting(())
    }

    /// Whether the request waits.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A poll that waits, or is being answered after that.
#[derive(Debug)]
pub struct Waiting(());

impl Drop for Waiting {
    fn drop(&mut self) {
        METRICS.polls_ended.add(1);
    }
}
