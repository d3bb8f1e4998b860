//! What the store holds, written down at each commit: the truth that every record is compared with.

use std::collections::{BTreeMap, BTreeSet};

use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::topic::Topic;

use crate::trace::digest_of;

/// Every log, from its first message on, whatever retention took away since.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    logs: BTreeMap<Topic, Log>,
}

/// One log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) epoch: Epoch,
    /// That of offset 1 is the first.
    entries: Vec<Entry>,
    ids: BTreeSet<String>,
    /// The offset of the oldest message that is still kept.
    pub(crate) first: u64,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) time: Time,
    pub(crate) committed_ms: u64,
    payload: u64,
}

impl Log {
    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn entry(&self, offset: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset.checked_sub(1)?).ok()?)
    }

    /// The offset of the first message of which this holds.
    pub(crate) fn find(&self, holds: impl Fn(&Entry) -> bool) -> Option<u64> {
        Some(self.entries.iter().position(holds)? as u64 + 1)
    }
}

impl Ledger {
    /// Writes down what was committed.
    ///
    /// # Errors
    /// What the store should not have done.
    pub(crate) fn commit(&mut self, delivery: &Delivery, now_ms: u64) -> Result<(), String> {
        let Some(position) = delivery.position else { return Err("a position is missing".to_owned()) };
        let new = || Log { epoch: position.epoch, entries: Vec::new(), ids: BTreeSet::new(), first: 1 };
        let log = self.logs.entry(delivery.topic.clone()).or_insert_with(new);
        if position != (Position { epoch: log.epoch, offset: position.offset })
            || position.offset.0 != log.head() + 1
        {
            return Err(format!("{} went from {} to {position}", delivery.topic, log.head()));
        }
        let id = delivery.message.id.clone();
        // Entries of registers have none: they are appended one after another, and nobody repeats one.
        if !id.is_empty() && !log.ids.insert(id.clone()) {
            return Err(format!("{id} is in the log of {} twice", delivery.topic));
        }
        let payload = digest_of(&delivery.message.payload);
        log.entries.push(Entry { id, time: delivery.time, committed_ms: now_ms, payload });
        Ok(())
    }

    /// Writes down how far back a log still reaches.
    pub(crate) fn trimmed(&mut self, topic: &Topic, first: u64) {
        if let Some(log) = self.logs.get_mut(topic) {
            log.first = log.first.max(first);
        }
    }

    pub(crate) fn log(&self, topic: &Topic) -> Option<&Log> {
        self.logs.get(topic)
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = (&Topic, &Log)> {
        self.logs.iter()
    }

    /// Whether a message that somebody got is the one at its place.
    pub(crate) fn holds(&self, delivery: &Delivery) -> bool {
        let (Some(position), Some(log)) = (delivery.position, self.log(&delivery.topic)) else {
            return false;
        };
        let entry = log.entry(position.offset.0).filter(|_| position.epoch == log.epoch);
        entry.is_some_and(|entry| {
            entry.id == delivery.message.id
                && entry.time == delivery.time
                && entry.payload == digest_of(&delivery.message.payload)
        })
    }

    /// The newest position of a topic's log; offset 0 of epoch 0 if there is none.
    pub(crate) fn head(&self, topic: &Topic) -> Position {
        self.log(topic).map_or_else(Position::default, |log| Position::new(log.epoch.0, log.head()))
    }
}
