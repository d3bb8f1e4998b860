//! What the registry is yet to be told: memberships that it may see otherwise than this node.
//!
//! Only *which* memberships are kept here, not how they should be: that is looked up when they are written. So the queue holds each
//! membership once, however often it changed, and a registration that is made anew just queues all of them.

use std::sync::Arc;

use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Member, Reply};
use bongsu_protocol::topic::Topic;
use indexmap::IndexMap;

use crate::outbound::{ConnectionId, Outbound};

/// Which membership.
pub(super) type Key = (Topic, ConnectionId);

/// A request that is answered once its membership is written.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) outbound: Arc<Outbound>,
    pub(super) id: RequestId,
    /// The answer if all goes well.
    pub(super) reply: Reply,
}

/// A membership that is to be written.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// The connection's session.
    pub(super) session: String,
    /// Larger than that of everything that was queued before.
    number: u64,
    /// It may have been written already by a call of which nothing was heard: whatever comes of the next, it must be told.
    pub(super) is_in_doubt: bool,
    /// It was said to be done.
    pub(super) is_promised: bool,
    pub(super) waiting: Vec<Waiting>,
}

/// A batch that is being written.
#[derive(Debug)]
pub(super) struct Batch {
    /// Each with the member that is written; `None`: with its end.
    pub(super) entries: Vec<(Key, Unwritten, Option<Member>)>,
}

/// See the [module](self). First in, first out.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: IndexMap<Key, Unwritten>,
    /// What was taken and is neither done nor back.
    in_flight_from: Option<u64>,
    n_queued: u64,
}

impl Pending {
    /// Queues a membership.
    pub(super) fn push(&mut self, key: Key, session: &str) -> &mut Unwritten {
        let number = self.n_queued;
        self.queue.entry(key).or_insert_with(|| {
            self.n_queued += 1;
            let session = session.to_owned();
            Unwritten { session, number, is_in_doubt: false, is_promised: false, waiting: Vec::new() }
        })
    }

    /// Takes the first ones to be written; `None` if there are none. Then [`done`](Self::done) or [`put_back`](Self::put_back).
    pub(super) fn take(&mut self, n_max: usize, member: impl Fn(&Key) -> Option<Member>) -> Option<Batch> {
        let n_taken = self.queue.len().min(n_max);
        self.in_flight_from = self.queue.first().map(|(_, unwritten)| unwritten.number);
        self.in_flight_from?;
        let taken = self.queue.drain(..n_taken);
        let entries = taken.map(|(key, unwritten)| (member(&key), key, unwritten));
        Some(Batch { entries: entries.map(|(member, key, unwritten)| (key, unwritten, member)).collect() })
    }

    /// The batch was written.
    pub(super) const fn done(&mut self) {
        self.in_flight_from = None;
    }

    /// The batch was not written, or nobody knows. What changed again meanwhile is in the queue already.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.in_flight_from = None;
        for (key, before, _) in batch.entries {
            let unwritten = self.push(key, &before.session);
            unwritten.is_in_doubt |= before.is_in_doubt;
            unwritten.is_promised |= before.is_promised;
            // Requests are answered in the order in which they came, as far as it matters to anybody.
            let later = std::mem::replace(&mut unwritten.waiting, before.waiting);
            unwritten.waiting.extend(later);
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.queue.contains_key(key)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Unwritten)> {
        self.queue.iter_mut()
    }

    /// Whether a batch was taken and is neither done nor back.
    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight_from.is_some()
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.in_flight_from.is_none()
    }

    /// The number that the next membership gets: everything until now has a smaller one.
    pub(super) const fn mark(&self) -> u64 {
        self.n_queued
    }

    /// Whether everything that was queued before a [mark](Self::mark) is written.
    pub(super) fn is_written_until(&self, mark: u64) -> bool {
        let oldest = self.in_flight_from.or_else(|| Some(self.queue.first()?.1.number));
        oldest.is_none_or(|oldest| oldest >= mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        (Topic::parse("t").unwrap(), ConnectionId(number))
    }

    #[test]
    fn membership_that_changes_twice_is_written_once() {
        let mut pending = Pending::default();
        pending.push(key(1), "s1");
        pending.push(key(2), "s2");
        pending.push(key(1), "s1");
        let batch = pending.take(8, |_| None).unwrap();
        assert_eq!(batch.entries.len(), 2);
        pending.done();
        assert!(pending.is_empty());
    }

    #[test]
    fn mark_is_reached_when_all_before_it_are_written_and_none_after() {
        let mut pending = Pending::default();
        assert!(pending.is_written_until(pending.mark()));
        pending.push(key(1), "s1");
        pending.push(key(2), "s2");
        let mark = pending.mark();
        pending.push(key(3), "s3");
        assert!(pending.take(1, |_| None).is_some());
        assert!(!pending.is_written_until(mark));
        pending.done();
        assert!(!pending.is_written_until(mark));
        assert!(pending.take(1, |_| None).is_some());
        pending.done();
        assert!(pending.is_written_until(mark));
        assert!(!pending.is_written_until(pending.mark()));
    }

    #[test]
    fn what_was_put_back_keeps_its_doubt_and_its_promise() {
        let mut pending = Pending::default();
        pending.push(key(1), "s1");
        let mut batch = pending.take(8, |_| None).unwrap();
        batch.entries[0].1.is_in_doubt = true;
        batch.entries[0].1.is_promised = true;
        pending.push(key(1), "s1");
        let mark = pending.mark();
        pending.put_back(batch);
        assert!(!pending.is_written_until(mark));
        let again = pending.take(8, |_| None).unwrap();
        assert_eq!(again.entries.len(), 1);
        assert!(again.entries[0].1.is_in_doubt && again.entries[0].1.is_promised);
    }
}
