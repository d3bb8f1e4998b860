//! Reads and writes the log of a register, with the deadlines of calls to the store.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, Error, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;

use super::{Document, Versioned};
use crate::clock;
use crate::limits::{
    REGISTER_LOOK_BACK_MAX, REGISTER_PAGE, REGISTER_VERSIONS_BYTES_KEPT, REGISTER_VERSIONS_KEPT,
    STORE_DEADLINE,
};

/// What is known of a version without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Which.
    pub position: Position,
    /// When it was made.
    pub time: Time,
    /// Who made it.
    pub by: String,
    /// Bytes of its document.
    pub bytes: usize,
}

pub(super) struct Log {
    pub(super) store: Arc<dyn Store>,
    pub(super) topic: Topic,
}

/// What a look found.
pub(super) enum Found<T> {
    /// The newest version is the one that was known.
    Same,
    /// This one is the newest that can be read.
    Newer(Versioned<T>),
    /// There is a newer one, and none that is newer than the one known can be read.
    Unreadable {
        /// The newest.
        head: Position,
    },
}

impl Log {
    /// Looks for a version other than the newest that is known.
    pub(super) async fn newer_than<T: Document>(&self, known: &Versioned<T>) -> Result<Found<T>, Error> {
        let page = self.read(HistoryRange::Forward(Start::After(known.head)), 1).await?;
        if page.head == known.head {
            return Ok(Found::Same);
        }
        if page.head.offset.0 == 0 {
            // Somebody deleted it.
            return Ok(Found::Newer(Versioned::default()));
        }
        let mut before = None;
        for _ in 0..REGISTER_LOOK_BACK_MAX {
            let page = self.read(HistoryRange::Backward(before), 1).await?;
            let Some(delivery) = page.messages.first() else { break };
            let position = delivery.position.unwrap_or_default();
            if position.epoch == known.position.epoch && position <= known.position {
                break;
            }
            if let Some(version) = decode(delivery, page.head) {
                return Ok(Found::Newer(version));
            }
            before = Some(position);
        }
        Ok(Found::Unreadable { head: page.head })
    }

    /// Appends a version if the newest is this one; `None` if it is not.
    pub(super) async fn append<T: Document>(
        &self,
        document: T,
        payload: Bytes,
        by: &str,
        newest: Position,
    ) -> Result<Option<Versioned<T>>, Error> {
        let content_type = "application/json".to_owned();
        let message = Message { payload, content_type, ..Message::default() };
        let append = Append {
            message: NewMessage { topic: self.topic.clone(), message, expect: Some(newest.offset) },
            publisher: by.to_owned(),
            time: clock::wall(),
            idempotency_window: Duration::ZERO,
        };
        let appended = within_deadline(self.store.append(vec![append])).await?;
        let Some(Appended::Stored(delivery)) = appended.first() else { return Ok(None) };
        let position = delivery.position.unwrap_or_default();
        if newest != Position::default() && position.epoch != newest.epoch {
            // The log was made anew, and happens to be as long as the one before.
            return Ok(None);
        }
        let (time, by) = (delivery.time, delivery.publisher.clone());
        Ok(Some(Versioned { position, time, by, document: Arc::new(document), head: position }))
    }

    /// Takes away old versions.
    pub(super) async fn trim(&self) {
        let retention = Retention {
            count: Some(REGISTER_VERSIONS_KEPT),
            bytes: Some(REGISTER_VERSIONS_BYTES_KEPT),
            age: None,
        };
        let removal = Removal::Retain { topic: self.topic.clone(), retention, now: clock::wall() };
        // What is left, the next change takes.
        let _ = within_deadline(self.store.remove(removal)).await;
    }

    pub(super) async fn versions(
        &self,
        mut before: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Version>, Error> {
        let mut versions = Vec::new();
        while versions.len() < limit {
            let page = self.read(HistoryRange::Backward(before), REGISTER_PAGE).await?;
            let found = page.messages.iter().filter_map(|delivery| {
                Some(Version {
                    position: delivery.position?,
                    time: delivery.time,
                    by: delivery.publisher.clone(),
                    bytes: delivery.message.payload.len(),
                })
            });
            versions.extend(found);
            before = versions.last().map(|version| version.position);
            if !page.more || page.messages.is_empty() {
                break;
            }
        }
        versions.truncate(limit);
        Ok(versions)
    }

    pub(super) async fn version<T: Document>(
        &self,
        position: Position,
    ) -> Result<Option<Versioned<T>>, Error> {
        let page = self.read(HistoryRange::Forward(Start::After(position.previous())), 1).await?;
        let found = page.messages.first().filter(|delivery| delivery.position == Some(position));
        Ok(found.and_then(|delivery| decode(delivery, page.head)))
    }

    async fn read(&self, range: HistoryRange, limit: u32) -> Result<Page, Error> {
        within_deadline(self.store.read(HistoryQuery { topic: self.topic.clone(), range, limit })).await
    }
}

fn decode<T: Document>(delivery: &Delivery, head: Position) -> Option<Versioned<T>> {
    let document = serde_json::from_slice(&delivery.message.payload).ok()?;
    Some(Versioned {
        position: delivery.position?,
        time: delivery.time,
        by: delivery.publisher.clone(),
        document: Arc::new(document),
        head,
    })
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(STORE_DEADLINE, work).await.map_err(late)?
}
