//! How deliveries went: the newest of each webhook, in the log `$deliveries/{name}`, whichever node made them.
//!
//! Attempts are collected for a moment and written together. They are a help for whoever looks for a fault, not what delivery depends on:
//! where the store does not take them, or too many come in that moment, the oldest are dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_persistence::store::{Append, Error, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::limits::{
    DELIVERIES_BYTES_KEPT, DELIVERIES_KEPT, DELIVERIES_TRIM_EVERY, DELIVERIES_WAITING_MAX,
    WEBHOOK_REGISTER_PAGE,
};

/// One attempt to deliver a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began, in milliseconds since 1970.
    pub time_ms: u64,
    /// The node that made it.
    pub node: String,
    /// The message's topic.
    pub topic: String,
    /// The message's place there.
    pub epoch: u64,
    /// See `epoch`.
    pub offset: u64,
    /// What the receiver knows the message by.
    pub id: String,
    /// Which attempt it was, from 1; 0 for one that somebody asked for.
    pub attempt: u32,
    /// How it went.
    pub outcome: Went,
    /// What the receiver answered, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took.
    pub duration_ms: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it is tried again, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// The receiver took it.
    Delivered,
    /// It did not.
    Failed,
    /// It did not, and the message is a dead letter.
    GivenUp,
    /// It is gone.
    Gone,
}

/// The deliveries of one webhook.
pub(super) struct Deliveries {
    store: Arc<dyn Store>,
    log: Topic,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    attempts: VecDeque<Attempt>,
    n_written: u64,
}

impl Deliveries {
    /// The deliveries of the webhook of this name, which is a level of a topic.
    pub(super) fn of(name: &str, store: &Arc<dyn Store>) -> Self {
        let log =
            Topic::parse(&format!("$deliveries/{name}")).expect("a webhook's name is a level of a topic");
        Self { store: Arc::clone(store), log, waiting: Mutex::default() }
    }

    /// Remembers an attempt until the next [`write`](Self::write).
    pub(super) fn note(&self, attempt: Attempt) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.attempts.len() == DELIVERIES_WAITING_MAX {
            waiting.attempts.pop_front();
        }
        waiting.attempts.push_back(attempt);
    }

    /// Writes down what is remembered.
    pub(super) async fn write(&self) {
        let (attempts, is_trim_due) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.attempts.is_empty() {
                return;
            }
            waiting.n_written += 1;
            let is_trim_due = waiting.n_written.is_multiple_of(DELIVERIES_TRIM_EVERY);
            (std::mem::take(&mut waiting.attempts), is_trim_due)
        };
        // Texts and numbers always have a JSON form.
        let payload = serde_json::to_vec(&attempts).unwrap_or_default().into();
        let message = Message { payload, content_type: "application/json".to_owned(), ..Message::default() };
        let append = Append {
            message: NewMessage { topic: self.log.clone(), message, expect: None },
            publisher: String::new(),
            time: clock::wall(),
            idempotency_window: Duration::ZERO,
        };
        if let Err(error) = super::worker::within_deadline(self.store.append(vec![append])).await {
            tracing::debug!(log = %self.log, %error, "how deliveries went could not be written down");
            return;
        }
        if is_trim_due {
            let retention =
                Retention { count: Some(DELIVERIES_KEPT), bytes: Some(DELIVERIES_BYTES_KEPT), age: None };
            let removal = Removal::Retain { topic: self.log.clone(), retention, now: clock::wall() };
            // What is left, the next time takes.
            let _ = super::worker::within_deadline(self.store.remove(removal)).await;
        }
    }

    /// The newest attempts that are wanted, newest first.
    pub(super) async fn newest(
        &self,
        limit: usize,
        is_wanted: impl Fn(&Attempt) -> bool,
    ) -> Result<Vec<Attempt>, Error> {
        let (mut found, mut before) = (Vec::new(), None::<Position>);
        loop {
            let range = HistoryRange::Backward(before);
            let query = HistoryQuery { topic: self.log.clone(), range, limit: WEBHOOK_REGISTER_PAGE };
            let page = super::worker::within_deadline(self.store.read(query)).await?;
            for delivery in &page.messages {
                before = delivery.position;
                let attempts: Vec<Attempt> =
                    serde_json::from_slice(&delivery.message.payload).unwrap_or_default();
                for attempt in attempts.into_iter().rev().filter(&is_wanted) {
                    found.push(attempt);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            if !page.more || page.messages.is_empty() {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bongsu_persistence::memory::MemoryStore;

    use super::*;

    fn attempt(offset: u64, outcome: Went) -> Attempt {
        Attempt {
            time_ms: offset,
            node: "n1".to_owned(),
            topic: "a".to_owned(),
            epoch: 1,
            offset,
            id: "msg_1".to_owned(),
            attempt: 1,
            outcome,
            status: Some(200),
            duration_ms: 3,
            error: None,
            next_ms: None,
        }
    }

    #[tokio::test]
    async fn the_newest_are_kept_and_found() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let deliveries = Deliveries::of("billing", &store);
        let n_batches = DELIVERIES_KEPT + 2 * DELIVERIES_TRIM_EVERY;
        for number in 0..2 * n_batches {
            deliveries.note(attempt(number, if number % 2 == 0 { Went::Delivered } else { Went::Failed }));
            if number % 2 == 1 {
                deliveries.write().await;
            }
        }
        let other_node = Deliveries::of("billing", &store);
        let newest = other_node.newest(3, |_| true).await.unwrap();
        let offsets: Vec<_> = newest.iter().map(|attempt| 2 * n_batches - attempt.offset).collect();
        assert_eq!(offsets, [1, 2, 3]);
        let failed = other_node.newest(usize::MAX, |attempt| attempt.outcome == Went::Failed).await.unwrap();
        assert!((failed.len() as u64) < DELIVERIES_KEPT + DELIVERIES_TRIM_EVERY, "{}", failed.len());
    }

    #[tokio::test]
    async fn what_waits_to_be_written_is_bounded() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let deliveries = Deliveries::of("billing", &store);
        for offset in 0..=DELIVERIES_WAITING_MAX as u64 {
            deliveries.note(attempt(offset, Went::Delivered));
        }
        deliveries.write().await;
        let found = deliveries.newest(usize::MAX, |_| true).await.unwrap();
        assert_eq!((found.len(), found.last().unwrap().offset), (DELIVERIES_WAITING_MAX, 1));
    }
}
