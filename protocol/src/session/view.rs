//! What somebody beside the client may see of a session.

use super::Session;
use crate::position::Position;
use crate::topic::{Topic, TopicFilter};

/// A topic as a session reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading<'a> {
    /// The topic.
    pub topic: &'a Topic,
    /// The last message that was handed out; `None` on a topic without history, or as long as it is not known.
    pub position: Option<Position>,
    /// The newest message that the reader knows of; `None` likewise.
    pub known: Option<Position>,
}

impl<D: Clone> Session<D> {
    /// Every subscription, and whether the client was told that it is there.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&TopicFilter, bool)> {
        self.subscriptions.all.iter().map(|entry| (&entry.filter, entry.opening.is_none()))
    }

    /// Every topic that is read, in no order.
    pub fn readings(&self) -> impl Iterator<Item = Reading<'_>> {
        self.subscriptions.readers.iter().map(|(topic, reader)| Reading {
            topic,
            position: reader.position(),
            known: reader.known(),
        })
    }

    /// Bytes that wait to be sent, with what they cost beside their own.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Requests that wait for their reply.
    #[must_use]
    pub const fn requests_in_flight(&self) -> usize {
        self.n_in_flight
    }
}
