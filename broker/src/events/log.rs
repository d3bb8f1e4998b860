//! Reads and writes the logs of sessions' events, with the deadlines of calls to the store.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, Error, LogBounds, Removal, Store, TopicsQuery};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};

use super::event::{Event, REGISTERS, told_on};
use super::register::{Entry, Register};
use crate::clock;
use crate::limits::{EVENT_REGISTER_PAGE, NODES_MAX, STORE_DEADLINE};
use crate::metrics::METRICS;
use crate::publisher::Publisher;

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was taken.
    Taken,
    /// Something else was appended since the writer looked: look again.
    Stale,
}

/// The way to the logs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Logs {
    pub(super) store: Arc<dyn Store>,
    pub(super) publisher: Arc<Publisher>,
    /// How long an event's id keeps it from being told twice: longer than its message is kept.
    pub(super) window: Duration,
}

impl Logs {
    /// Reads on in a register, to its end.
    pub(super) async fn catch_up(&self, topic: &Topic, register: &mut Register) -> Result<(), Error> {
        loop {
            let is_new = register.head == Position::default();
            let start = if is_new { Start::Earliest } else { Start::After(register.head) };
            let range = HistoryRange::Forward(start);
            let query = HistoryQuery { topic: topic.clone(), range, limit: EVENT_REGISTER_PAGE };
            let page = within_deadline(self.store.read(query)).await?;
            if !is_new && page.head.epoch != register.head.epoch {
                // Somebody removed it, and perhaps another one was begun.
                *register = Register::default();
                if page.head == Position::default() {
                    return Ok(());
                }
                continue;
            }
            for delivery in &page.messages {
                let position = delivery.position.unwrap_or_default();
                register.take(position, delivery.time, &delivery.message.payload);
            }
            if register.head >= page.head || page.messages.is_empty() {
                // What was removed at the head is not read, but counts.
                register.head = register.head.max(page.head);
                return Ok(());
            }
        }
    }

    /// Appends an entry to a register, if it was read to its end.
    pub(super) async fn append(
        &self,
        topic: &Topic,
        register: &mut Register,
        entry: &Entry,
    ) -> Result<Attempt, Error> {
        let payload = entry.encode();
        let content_type = "application/json".to_owned();
        let message = Message { payload: payload.clone(), content_type, ..Message::default() };
        let message = NewMessage { topic: topic.clone(), message, expect: Some(register.head.offset) };
        let append = append(message, Duration::ZERO);
        let appended = within_deadline(self.store.append(vec![append])).await?;
        let Some(Appended::Stored(delivery)) = appended.first() else { return Ok(Attempt::Stale) };
        let position = delivery.position.unwrap_or_default();
        if register.head != Position::default() && position.epoch != register.head.epoch {
            // The log was made anew, and happens to be as long as the one before.
            return Ok(Attempt::Stale);
        }
        register.take(position, delivery.time, &payload);
        Ok(Attempt::Taken)
    }

    /// Tells events that a register has taken; those that were told before are not told again.
    pub(super) async fn tell(&self, level: &str, events: &[Event]) -> Result<(), Error> {
        let topic = told_on(level);
        let batch = events.iter().map(|event| append(event.to_message(topic.clone()), self.window));
        let appended = within_deadline(self.store.append(batch.collect())).await?;
        let stored = appended.into_iter().filter_map(|appended| match appended {
            Appended::Stored(delivery) => Some(delivery),
            Appended::Duplicate(_) | Appended::Conflict { .. } => None,
        });
        let stored: Vec<_> = stored.collect();
        METRICS.events_told.add(stored.len() as u64);
        if !stored.is_empty() {
            self.publisher.stored_elsewhere(stored).await;
        }
        Ok(())
    }

    /// The registers that there are.
    pub(super) async fn registers(&self) -> Result<Vec<LogBounds>, Error> {
        let Ok(filter) = TopicFilter::parse(&format!("{REGISTERS}+")) else { return Ok(Vec::new()) };
        within_deadline(self.store.topics(TopicsQuery { filter, after: None, limit: NODES_MAX })).await
    }

    /// Removes something.
    pub(super) async fn remove(&self, removal: Removal) -> Result<(), Error> {
        within_deadline(self.store.remove(removal)).await.map(drop)
    }

    /// Takes away what no reader of a register needs: everything before its checkpoint.
    pub(super) async fn purge(&self, topic: &Topic, register: &Register) {
        let Some(checkpoint) = register.checkpoint else { return };
        let until = checkpoint.previous().offset;
        // What is left, the next one takes.
        let _ = self.remove(Removal::Purge { topic: topic.clone(), until }).await;
    }
}

fn append(message: NewMessage, idempotency_window: Duration) -> Append {
    Append { message, publisher: String::new(), time: clock::wall(), idempotency_window }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(STORE_DEADLINE, work).await.map_err(late)?
}
