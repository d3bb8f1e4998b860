//! The newest messages of each topic, within one budget of bytes.

use std::collections::{HashMap, VecDeque};

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::session::LogPage;
use bongsu_protocol::topic::Topic;

use crate::delivery::SharedDelivery;

/// Bytes that a remembered message costs besides its own and its frame's: its fields, its places in the queues.
const OVERHEAD_BYTES: usize = 512;

/// Newest messages by topic. Per topic they are contiguous and reach the head of the log, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct Tails {
    topics: HashMap<Topic, Tail>,
    /// The topic of each remembered message, oldest first: whose front goes when the budget is used up.
    order: VecDeque<Topic>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Tail {
    messages: VecDeque<(Position, SharedDelivery)>,
    /// The newest position that is known, also if its message is not here.
    newest: Option<Position>,
    /// Reads of this topic that are under way: the entry must stay.
    n_pins: usize,
    /// Entries of `order` that belong to this topic, but whose messages are gone.
    n_stale: usize,
}

impl Tails {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Bytes of what is remembered.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Remembers messages of one topic, in the order of its log. Messages without a position are not for remembering.
    pub(super) fn push(&mut self, topic: &Topic, messages: &[SharedDelivery]) {
        let tail = self.topics.entry(topic.clone()).or_default();
        for message in messages {
            let Some(position) = message.delivery.position else { continue };
            if tail.messages.back().is_some_and(|(last, _)| position <= *last) {
                continue;
            }
            if tail.messages.back().is_some_and(|(last, _)| last.next() != position) {
                self.bytes -= tail.drop_all();
            }
            tail.newest = tail.newest.max(Some(position));
            tail.messages.push_back((position, message.clone()));
            self.bytes += cost(message);
            self.order.push_back(topic.clone());
        }
        self.shrink();
    }

    /// Notes that there is a message at this position.
    pub(super) fn note(&mut self, topic: &Topic, position: Position) {
        if let Some(tail) = self.topics.get_mut(topic) {
            tail.newest = tail.newest.max(Some(position));
        }
    }

    /// Puts the messages of a page before or behind those that are remembered, where they join without a hole.
    pub(super) fn extend(&mut self, topic: &Topic, page: &LogPage<SharedDelivery>) {
        let back = self.topics.get(topic).and_then(|tail| tail.messages.back());
        if let Some((back, _)) = back {
            let next = back.next();
            if let Some(place) = page.items.iter().position(|(position, ..)| *position == next) {
                let items: Vec<_> = page.items[place..].iter().map(|(.., item)| item.clone()).collect();
                return self.push(topic, &items);
            }
        }
        self.extend_back(topic, page);
    }

    /// Puts the messages of a page in front, if that reaches from the page's last message to the oldest remembered one, or to the
    /// head where none is remembered.
    fn extend_back(&mut self, topic: &Topic, page: &LogPage<SharedDelivery>) {
        let Some((last, ..)) = page.items.last() else { return };
        let Some(tail) = self.topics.get_mut(topic) else { return };
        let fits = match tail.messages.front() {
            Some((first, _)) => last.next() == *first,
            None => *last == page.head,
        };
        let page_bytes: usize = page.items.iter().map(|(.., item)| cost(item)).sum();
        if !fits || self.bytes + page_bytes > self.bytes_max {
            return;
        }
        if tail.messages.is_empty() {
            tail.newest = tail.newest.max(Some(*last));
        }
        for (position, _, item) in page.items.iter().rev() {
            tail.messages.push_front((*position, item.clone()));
            self.order.push_back(topic.clone());
        }
        self.bytes += page_bytes;
    }

    /// The newest position that is known of a topic.
    pub(super) fn newest(&self, topic: &Topic) -> Option<Position> {
        self.topics.get(topic)?.newest
    }

    /// The answer to a query, if it can be given from memory.
    pub(super) fn page(&self, query: &HistoryQuery) -> Option<LogPage<SharedDelivery>> {
        let tail = self.topics.get(&query.topic)?;
        let (first, _) = tail.messages.front()?;
        let (head, _) = tail.messages.back()?;
        if tail.newest.is_some_and(|newest| newest > *head) {
            // The log is known to be longer than this.
            return None;
        }
        let skip = match query.range {
            HistoryRange::Forward(Start::Latest) => tail.messages.len(),
            HistoryRange::Forward(Start::After(after)) => {
                let known = after.epoch == first.epoch && after >= first.previous() && after <= *head;
                if !known {
                    return None;
                }
                usize::try_from(after.offset.0 + 1 - first.offset.0).ok()?
            }
            HistoryRange::Forward(_) | HistoryRange::Backward(_) => return None,
        };
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let item = |(position, item): &(Position, SharedDelivery)| (*position, item.bytes(), item.clone());
        let items = tail.messages.range(skip..).take(limit).map(item).collect();
        Some(LogPage { items, first: *first, end: *head, head: *head })
    }

    pub(super) fn pin(&mut self, topic: &Topic) {
        self.topics.entry(topic.clone()).or_default().n_pins += 1;
    }

    pub(super) fn unpin(&mut self, topic: &Topic) {
        if let Some(tail) = self.topics.get_mut(topic) {
            tail.n_pins -= 1;
        }
        self.drop_unused(topic);
    }

    /// Forgets the messages of all topics that a condition names.
    pub(super) fn forget_all(&mut self, is_meant: impl Fn(&Topic) -> bool) {
        for (topic, tail) in &mut self.topics {
            if is_meant(topic) {
                self.bytes -= tail.drop_all();
            }
        }
    }

    /// Logs of a topic up to this incarnation were deleted: nothing of them is the newest message.
    pub(super) fn forget_newest(&mut self, topic: &Topic, epoch: Epoch) {
        if let Some(tail) = self.topics.get_mut(topic) {
            tail.newest = tail.newest.filter(|newest| newest.epoch > epoch);
        }
    }

    pub(super) fn forget(&mut self, topic: &Topic) {
        if let Some(tail) = self.topics.get_mut(topic) {
            self.bytes -= tail.drop_all();
        }
    }

    /// Forgets the oldest messages until the budget holds.
    fn shrink(&mut self) {
        while self.bytes > self.bytes_max
            && let Some(topic) = self.order.pop_front()
        {
            let Some(tail) = self.topics.get_mut(&topic) else { continue };
            if tail.n_stale > 0 {
                tail.n_stale -= 1;
            } else if let Some((_, message)) = tail.messages.pop_front() {
                self.bytes -= cost(&message);
            }
            self.drop_unused(&topic);
        }
    }

    fn drop_unused(&mut self, topic: &Topic) {
        let unused = |tail: &Tail| tail.messages.is_empty() && tail.n_pins == 0 && tail.n_stale == 0;
        if self.topics.get(topic).is_some_and(unused) {
            self.topics.remove(topic);
        }
    }
}

impl Tail {
    /// Forgets all messages; says how many bytes that frees.
    fn drop_all(&mut self) -> usize {
        self.n_stale += self.messages.len();
        self.messages.drain(..).map(|(_, message)| cost(&message)).sum()
    }
}

/// What a remembered message holds: itself, and as much again in the frame that its readers share.
fn cost(message: &SharedDelivery) -> usize {
    2 * message.bytes() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bongsu_protocol::message::{Delivery, Message, Time};

    use super::*;
    use crate::delivery::Shared;

    fn topic() -> Topic {
        Topic::parse("t").unwrap()
    }

    fn message(position: Position) -> SharedDelivery {
        let (topic, message) = (topic(), Message::new(vec![0; 100]));
        let position = Some(position);
        let delivery =
            Delivery { topic, position, time: Time(0), publisher: String::new(), message, erased: false };
        Shared::new(Arc::new(delivery))
    }

    fn at(offset: u64) -> Position {
        Position::new(1, offset)
    }

    fn after(position: Position) -> HistoryQuery {
        HistoryQuery { topic: topic(), range: HistoryRange::Forward(Start::After(position)), limit: 100 }
    }

    fn offsets(tails: &Tails, position: Position) -> Option<Vec<u64>> {
        let page = tails.page(&after(position))?;
        Some(page.items.iter().map(|(position, ..)| position.offset.0).collect())
    }

    #[test]
    fn only_what_reaches_back_to_the_reader_is_answered_from_memory() {
        let mut tails = Tails::new(1 << 20);
        tails.push(&topic(), &[message(at(5)), message(at(6)), message(at(6)), message(at(7))]);
        assert_eq!(offsets(&tails, at(4)), Some(vec![5, 6, 7]));
        assert_eq!(offsets(&tails, at(7)), Some(vec![]));
        assert_eq!(offsets(&tails, at(3)), None, "4 is not remembered");
        assert_eq!(offsets(&tails, at(8)), None, "a place past the head is for the store to judge");
        assert_eq!(offsets(&tails, Position::new(2, 5)), None, "another log is for the store to judge");
    }

    #[test]
    fn gap_forgets_what_was_before_it() {
        let mut tails = Tails::new(1 << 20);
        tails.push(&topic(), &[message(at(1)), message(at(2)), message(at(4))]);
        assert_eq!(offsets(&tails, at(1)), None);
        assert_eq!(offsets(&tails, at(3)), Some(vec![4]));
    }

    #[test]
    fn a_log_that_is_known_to_be_longer_is_not_answered_from_memory() {
        let mut tails = Tails::new(1 << 20);
        tails.push(&topic(), &[message(at(1)), message(at(2))]);
        tails.note(&topic(), at(3));
        assert_eq!(offsets(&tails, at(1)), None);
        tails.push(&topic(), &[message(at(3))]);
        assert_eq!(offsets(&tails, at(1)), Some(vec![2, 3]));
    }

    #[test]
    fn oldest_go_when_the_budget_is_used_up() {
        let one = cost(&message(at(1)));
        let mut tails = Tails::new(3 * one);
        for offset in 1..=5 {
            tails.push(&topic(), &[message(at(offset))]);
        }
        assert_eq!(offsets(&tails, at(1)), None);
        assert_eq!(offsets(&tails, at(2)), Some(vec![3, 4, 5]));
        assert_eq!(tails.bytes, 3 * one);
    }

    #[test]
    fn page_joins_what_is_remembered_only_without_a_hole() {
        let page = |offsets: std::ops::RangeInclusive<u64>, head| LogPage {
            items: offsets.map(|offset| (at(offset), 100, message(at(offset)))).collect(),
            first: at(1),
            end: at(head),
            head: at(head),
        };
        let mut tails = Tails::new(1 << 20);
        tails.push(&topic(), &[message(at(5)), message(at(6))]);
        tails.extend(&topic(), &page(1..=2, 6));
        assert_eq!(offsets(&tails, at(1)), None);
        tails.extend(&topic(), &page(3..=4, 6));
        assert_eq!(offsets(&tails, at(2)), Some(vec![3, 4, 5, 6]));
        tails.extend(&topic(), &page(6..=8, 8));
        assert_eq!(offsets(&tails, at(2)), Some(vec![3, 4, 5, 6, 7, 8]));
    }
}
