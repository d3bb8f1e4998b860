//! Looking at the connections of this node, a page at a time, without holding up those that come and go.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bongsu_protocol::message::Time;

use super::connections::{Connections, Holder};
use crate::outbound::{ConnectionId, Outbound};

/// A connection as it was when it was looked at.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its number, in the order in which connections began.
    pub id: ConnectionId,
    /// When it began.
    pub began: Time,
    /// Who has it.
    pub holder: Holder,
    /// The half of a connection that others may touch; `None` of a request that waits.
    pub outbound: Option<Arc<Outbound>>,
}

/// Ordered by number, which no two share.
#[derive(Debug)]
struct ByNumber(Seen);

impl PartialEq for ByNumber {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ByNumber {}

impl PartialOrd for ByNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl Connections {
    /// The first connections after a number that are wanted, in the order of their numbers, at most `limit`. Holds as many, whatever number
    /// of connections it looks at: some milliseconds for a hundred thousand.
    pub async fn page(
        &self,
        after: Option<ConnectionId>,
        limit: usize,
        is_wanted: impl Fn(&Seen) -> bool,
    ) -> Vec<Seen> {
        let mut page: BinaryHeap<ByNumber> = BinaryHeap::with_capacity(limit + 1);
        for part in 0..Self::parts() {
            // Of later ones than the last of a full page, nobody needs to know more.
            let last = page.peek().filter(|_| page.len() >= limit).map(|last| last.0.id);
            let is_candidate = |id| after.is_none_or(|after| id > after) && last.is_none_or(|last| id < last);
            // Looked at without the lock of the part, which connections that come and go wait for.
            for seen in self.seen(part, is_candidate).into_iter().filter(&is_wanted) {
                page.push(ByNumber(seen));
                if page.len() > limit {
                    page.pop();
                }
            }
            tokio::task::yield_now().await;
        }
        page.into_sorted_vec().into_iter().map(|ByNumber(seen)| seen).collect()
    }

    /// The first subjects after another that have connections, by name, at most `limit`, with how many they have.
    pub async fn subjects(&self, after: Option<&str>, limit: usize) -> BTreeMap<String, u64> {
        let mut subjects: BTreeMap<String, u64> = BTreeMap::new();
        for part in 0..Self::parts() {
            for seen in self.seen(part, |_| true) {
                let subject = seen.holder.identity.subject();
                if after.is_some_and(|after| subject <= after) {
                    continue;
                }
                if let Some(count) = subjects.get_mut(subject) {
                    *count += 1;
                    continue;
                }
                // One that was taken out is never before the last one again.
                if subjects.len() < limit
                    || subjects.last_key_value().is_some_and(|(last, _)| subject < last.as_str())
                {
                    subjects.insert(subject.to_owned(), 1);
                    if subjects.len() > limit {
                        subjects.pop_last();
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        subjects
    }

    /// How many connections a subject has.
    pub async fn count_of(&self, subject: &str) -> u64 {
        let mut count = 0;
        for part in 0..Self::parts() {
            let of_subject = |seen: &&Seen| seen.holder.identity.subject() == subject;
            count += self.seen(part, |_| true).iter().filter(of_subject).count() as u64;
            tokio::task::yield_now().await;
        }
        count
    }
}
