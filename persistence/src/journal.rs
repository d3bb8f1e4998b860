//! Which logs changed, for stores that one process has for itself: their journal needs no place in the file.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;

use crate::store::{Appended, ChangeMark, Changed, Changes};

/// Appends that are remembered: what some seconds bring. Whoever asks for more is told that the answer is not complete.
const APPENDS_MAX: usize = 65_536;

/// The newest appends, in the order of their commits.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Sets marks of this journal apart from those of an earlier process.
    incarnation: u128,
    /// The number of the append behind the last one.
    next: u64,
    appends: VecDeque<(Topic, Position)>,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Journal {
    /// A journal whose marks no journal of another incarnation takes.
    pub(crate) const fn new(incarnation: u128) -> Self {
        Self { incarnation, next: 0, appends: VecDeque::new() }
    }

    /// Notes what a batch stored; to be called in the order of commits, before anybody hears of them.
    pub(crate) fn note(&mut self, outcomes: &[Appended]) {
        for outcome in outcomes {
            let Appended::Stored(delivery) = outcome else { continue };
            let Some(position) = delivery.position else { continue };
            if self.appends.len() == APPENDS_MAX {
                self.appends.pop_front();
            }
            self.appends.push_back((delivery.topic.clone(), position));
            self.next += 1;
        }
    }

    /// See [`Store::changes`](crate::store::Store::changes).
    pub(crate) fn since(&self, mark: Option<&ChangeMark>) -> Changes {
        let now = ChangeMark(format!("{:x}-{:x}", self.incarnation, self.next));
        let Some(mark) = mark else { return Changes { changed: Vec::new(), mark: now, complete: true } };
        let Some(n_appends) = self.appends_since(mark) else {
            return Changes { changed: Vec::new(), mark: now, complete: false };
        };
        let mut changed: HashMap<&Topic, Changed> = HashMap::new();
        for (topic, position) in self.appends.range(self.appends.len() - n_appends..) {
            match changed.entry(topic) {
                Entry::Occupied(mut entry) => entry.get_mut().head = *position,
                Entry::Vacant(entry) => {
                    let before = position.previous();
                    entry.insert(Changed { topic: topic.clone(), before, head: *position });
                }
            }
        }
        Changes { changed: changed.into_values().collect(), mark: now, complete: true }
    }

    /// How many of the newest appends came after a mark, if all of them are remembered.
    fn appends_since(&self, mark: &ChangeMark) -> Option<usize> {
        let (incarnation, next) = mark.0.split_once('-')?;
        if u128::from_str_radix(incarnation, 16) != Ok(self.incarnation) {
            return None;
        }
        let since = u64::from_str_radix(next, 16).ok()?;
        let n_appends = usize::try_from(self.next.checked_sub(since)?).ok()?;
        (n_appends <= self.appends.len()).then_some(n_appends)
    }
}
