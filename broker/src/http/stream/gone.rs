//! What was removed from logs on command, told to what this node made of them.

use std::collections::HashSet;
use std::sync::Arc;

use bongsu_protocol::topic::Topic;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Streams;
use super::record::topic_of;
use super::view::View;
use crate::clock;
use crate::history::{Part, Told};
use crate::limits::REMOVAL_DISTRUST;

/// Forgets answers and refreshes views, again and again. Ends with the process.
pub(super) async fn follow(streams: Arc<Streams>, mut removals: Receiver<Told>) {
    // Answers that were begun before a removal may be made of what was read before it; what is known of these streams may be, too.
    let mut doubtful = HashSet::new();
    let mut forget_at: Option<Instant> = None;
    loop {
        let is_due = async {
            match forget_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = removals.recv() => {
                forget_at = Some(clock::instant(clock::monotonic() + REMOVAL_DISTRUST));
                let concerned = match told {
                    Ok(Told::Gone(gone)) if gone.part != Part::All => Vec::new(),
                    Ok(Told::Gone(gone)) => streams.concerned(&gone.topic),
                    Ok(Told::Anything) | Err(RecvError::Lagged(_)) => streams.all(),
                    Err(RecvError::Closed) => return,
                };
                doubtful.extend(concerned.iter().map(|view| view.topic.clone()));
                streams.forget_answers(concerned).await;
            }
            () = is_due => {
                forget_at = None;
                let views = doubtful.drain().flat_map(|topic| streams.concerned(&topic)).collect();
                streams.forget_answers(views).await;
            }
        }
    }
}

impl Streams {
    /// The view that a log is part of, as the stream's own or as its register.
    fn concerned(&self, log: &Topic) -> Vec<Arc<View>> {
        let views = self.lock();
        let topic = topic_of(log);
        views.get(topic.as_ref().unwrap_or(log)).cloned().into_iter().collect()
    }

    fn all(&self) -> Vec<Arc<View>> {
        self.lock().values().cloned().collect()
    }

    /// Forgets all answers: of a stream, and of those that it is the source of. Asks the store how far these streams are.
    async fn forget_answers(&self, views: Vec<Arc<View>>) {
        self.chunks.clear();
        for view in views {
            if let Err(problem) = view.refresh(self.node()).await {
                // It is done once more a while later.
                tracing::debug!(topic = %view.topic, status = %problem.status(), "a stream's removal is not known yet");
            }
        }
    }
}
