//! What the register of a node's sessions says: which are open, and what was told last.
//!
//! A register is a small log, `$events/{node}`, whose entries are appended one at a time, each only if nothing else was appended since
//! its writer looked. So whatever an entry says was right when it was taken, whoever wrote it, and two nodes never tell
//! different things of a session. Entries are events that are then told on `$sys/sessions/{node}`, one message each, or parts of a
//! checkpoint, which lists the sessions that are open so that nobody needs what is before it.
//!
//! ```text
//!   [part 1/2] [part 2/2] [events] [events] [events] …
//!   └ a whole checkpoint ┘
//! ```

use std::collections::{BTreeMap, HashSet};

use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::event::{Event, Kind};

/// One message of a register. Without events and without a part it says that its writer lives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Which process wrote it.
    pub(super) writer: String,
    /// Its number there: a writer that does not know whether an entry was taken knows it by that.
    pub(super) number: u64,
    /// What is told next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<Event>,
    /// A part of a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Part>,
}

/// A part of a checkpoint. The parts of one follow each other without anything in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Which one, from 1.
    pub(super) number: usize,
    /// Of how many.
    pub(super) of: usize,
    /// Sessions that are open, each by its beginning, with the number of its newest event and the subject that it has.
    pub(super) open: Vec<Event>,
}

/// See the [module](self). Pure: it is told what the log holds, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Register {
    /// How far it was read.
    pub(super) head: Position,
    /// The sessions that are open, by name.
    pub(super) open: BTreeMap<String, Event>,
    /// The newest events, which may not have been told yet, and when they were taken.
    pub(super) last: Vec<Event>,
    pub(super) last_at: Time,
    /// When the newest entry was taken.
    pub(super) head_at: Time,
    /// Writer and number of the newest entry of each writer since the checkpoint.
    writers: BTreeMap<String, u64>,
    /// The parts of a checkpoint that is not whole yet.
    parts: Option<Parts>,
    /// Where the newest whole checkpoint begins, and what it weighs.
    pub(super) checkpoint: Option<Position>,
    pub(super) checkpoint_bytes: usize,
    /// Bytes of the entries since.
    pub(super) bytes_since: usize,
}

#[derive(Debug, Clone)]
struct Parts {
    begin: Position,
    n_parts: usize,
    bytes: usize,
    open: BTreeMap<String, Event>,
}

impl Entry {
    pub(super) fn encode(&self) -> Bytes {
        // A struct of texts and numbers always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl Register {
    /// Takes the next message of the log.
    pub(super) fn take(&mut self, position: Position, time: Time, payload: &[u8]) {
        (self.head, self.head_at) = (position, time);
        self.bytes_since += payload.len();
        let Ok(entry) = serde_json::from_slice::<Entry>(payload) else {
            tracing::warn!(?position, "this version does not know an entry about sessions, and skips it");
            self.parts = None;
            return;
        };
        self.writers.insert(entry.writer, entry.number);
        match entry.part {
            Some(part) => self.take_part(position, part, payload.len()),
            None => {
                self.parts = None;
                if !entry.events.is_empty() {
                    entry.events.iter().for_each(|event| self.apply(event));
                    (self.last, self.last_at) = (entry.events, time);
                }
            }
        }
    }

    /// Whether this entry of a writer was taken, or a later one.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.writers.get(&entry.writer).is_some_and(|number| *number >= entry.number)
    }

    /// What of these events may still be told: not those of sessions that are told to have ended.
    pub(super) fn admit(&self, events: &[Event]) -> Vec<Event> {
        let mut begun: HashSet<&str> = HashSet::new();
        let mut admitted = Vec::with_capacity(events.len());
        for event in events {
            let is_admitted = match event.event {
                Kind::Lost => true,
                Kind::Connected => {
                    begun.insert(&event.session);
                    true
                }
                _ => self.open.contains_key(&event.session) || begun.contains(&*event.session),
            };
            if is_admitted {
                admitted.push(event.clone());
            }
        }
        admitted
    }

    /// The parts of a checkpoint of how things stand, each of at most some bytes.
    pub(super) fn parts(&self, bytes_max: usize) -> Vec<Part> {
        let mut chunks: Vec<Vec<Event>> = vec![Vec::new()];
        let mut bytes = 0;
        for event in self.open.values() {
            bytes += event.cost_bytes();
            if bytes > bytes_max {
                bytes = event.cost_bytes();
                chunks.push(Vec::new());
            }
            chunks.last_mut().expect("it has one from the beginning").push(event.clone());
        }
        let of = chunks.len();
        chunks.into_iter().enumerate().map(|(idx, open)| Part { number: idx + 1, of, open }).collect()
    }

    fn take_part(&mut self, position: Position, part: Part, bytes: usize) {
        let mut parts = match self.parts.take() {
            _ if part.number == 1 => {
                Parts { begin: position, n_parts: 0, bytes: 0, open: BTreeMap::default() }
            }
            Some(parts) if parts.n_parts + 1 == part.number => parts,
            // It was begun by somebody who was interrupted.
            _ => return,
        };
        parts.n_parts += 1;
        parts.bytes += bytes;
        parts.open.extend(part.open.into_iter().map(|event| (event.session.clone(), event)));
        if parts.n_parts < part.of {
            self.parts = Some(parts);
            return;
        }
        self.open = parts.open;
        (self.checkpoint, self.checkpoint_bytes) = (Some(parts.begin), parts.bytes);
        self.bytes_since = 0;
    }

    fn apply(&mut self, event: &Event) {
        match event.event {
            Kind::Lost => {}
            Kind::Disconnected => drop(self.open.remove(&event.session)),
            Kind::Connected => drop(self.open.insert(event.session.clone(), event.clone())),
            Kind::Authenticated | Kind::Subscribed | Kind::Unsubscribed | Kind::Subscriptions => {
                if let Some(open) = self.open.get_mut(&event.session) {
                    (open.seq, open.time) = (event.seq, event.time);
                    open.subject.clone_from(&event.subject);
                }
            }
        }
    }
}
