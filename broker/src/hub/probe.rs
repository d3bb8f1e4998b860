//! The question "what changed?", and who waits for its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Says that the store should be asked which logs changed, and when it was. Made by the node, shared by the shards, the feed and
/// interest.
///
/// Questions have numbers. An answer settles what was wanted before its question was asked, and nothing that was wanted later.
#[derive(Debug)]
pub struct Probe {
    n_asked: AtomicU64,
    wanted: Notify,
    answered: watch::Sender<u64>,
    shapes: Notify,
    care: Notify,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            n_asked: AtomicU64::new(0),
            wanted: Notify::new(),
            answered: watch::channel(0).0,
            shapes: Notify::new(),
            care: Notify::new(),
        }
    }
}

impl Probe {
    /// Wants the question asked. Any answer with a larger number than this settles it.
    pub fn want(&self) -> u64 {
        let n_asked = self.n_asked.load(Ordering::SeqCst);
        self.wanted.notify_one();
        n_asked
    }

    /// Wants the question asked and waits for an answer, for a limited time.
    pub async fn wait_for_answer(&self, patience: Duration) {
        let n_asked = self.want();
        let mut answered = self.answered.subscribe();
        let answer = answered.wait_for(|answered| *answered > n_asked);
        if tokio::time::timeout(patience, answer).await.is_err() {
            tracing::debug!("the store does not say what changed");
        }
    }

    /// Waits until somebody wants the question asked.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The number of a question that is asked right after this call.
    pub fn ask(&self) -> u64 {
        self.n_asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The question was answered, and whoever it concerns was told.
    pub fn answer(&self, number: u64) {
        self.answered.send_replace(number);
    }

    /// This node hears patterns of a shape that it did not before, or no longer does.
    pub fn shapes_changed(&self) {
        self.shapes.notify_one();
        self.care.notify_one();
    }

    /// Waits until that is so: for whoever tells other nodes.
    pub async fn shapes(&self) {
        self.shapes.notified().await;
    }

    /// Waits until that is so: for whoever makes up for what they do not know yet.
    pub async fn needs_care(&self) {
        self.care.notified().await;
    }
}
