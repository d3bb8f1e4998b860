//! Receipts in the order of the frames that asked for them.

use std::collections::VecDeque;

use crate::command::RequestId;

/// Requests that are under way, or wait for earlier ones, with the receipts that they are to be answered with.
///
/// A receipt comes after everything that was sent before its frame was carried out: a client that asks for one after many messages
/// knows that all of them are kept.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    queue: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: RequestId,
    receipt: Option<String>,
    is_done: bool,
}

impl Receipts {
    /// Notes a request; several receipts may wait for the same one.
    pub(super) fn push(&mut self, id: RequestId, receipt: Option<&str>) {
        self.queue.push_back(Entry { id, receipt: receipt.map(str::to_owned), is_done: false });
    }

    pub(super) fn settle(&mut self, id: RequestId) {
        for entry in self.queue.iter_mut().filter(|entry| entry.id == id) {
            entry.is_done = true;
        }
    }

    /// Takes the first request if it was carried out, with its receipt if it has one.
    pub(super) fn pop_done(&mut self) -> Option<Option<String>> {
        self.queue.pop_front_if(|entry| entry.is_done).map(|entry| entry.receipt)
    }

    /// The receipt that a request is to be answered with.
    pub(super) fn receipt_of(&self, id: RequestId) -> Option<&str> {
        self.queue.iter().rfind(|entry| entry.id == id)?.receipt.as_deref()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
