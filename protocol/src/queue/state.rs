//! What all nodes know of a queue: which messages are done, and who holds which of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::limits::QUEUE_WINDOW_MAX;
use crate::position::Epoch;

/// A node in one of its lives, as others know it. Never used again for another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub Arc<str>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What all nodes know of a queue: the newest message of its state log. Bounded: nothing in it is further above the floor than
/// [`QUEUE_WINDOW_MAX`], and offsets are claimed in order, so that none between the floor and the newest is missing here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The log's incarnation; what else stands here is of this one only.
    pub(super) epoch: Epoch,
    /// Every offset up to here is done.
    pub(super) floor: u64,
    /// Offsets above it that are done: the last of each run by its first.
    pub(super) done: BTreeMap<u64, u64>,
    /// Offsets that were dispatched and are not done.
    pub(super) open: BTreeMap<u64, Open>,
}

/// A message that was dispatched and is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// How often it was dispatched, as far as that counts.
    pub(super) tries: u32,
    /// It came back from somebody: whoever gets it is told.
    pub(super) is_again: bool,
    /// It is for the dead-letter topic.
    pub(super) is_dead: bool,
    /// Whose consumer has it, or who moves it to the dead-letter topic. `None`: it waits.
    pub(super) holder: Option<Holder>,
}

/// What a return says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    /// Somebody tried it.
    Tried,
    /// Nobody can have tried it, or whoever had it left in good order.
    Untried,
}

impl State {
    /// A new queue over the log with this epoch, of which everything up to an offset is none of its concern.
    #[must_use]
    pub fn starting(epoch: Epoch, floor: u64) -> Self {
        Self { epoch, floor, ..Self::default() }
    }

    /// The log's incarnation that this is about. 0: there was no log yet.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Every offset up to here is done.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Everybody who holds a message.
    #[must_use]
    pub fn holders(&self) -> BTreeSet<Holder> {
        self.open.values().filter_map(|open| open.holder.clone()).collect()
    }

    /// Messages that were dispatched and are not done.
    #[must_use]
    pub fn n_open(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing is left to do about this offset.
    #[must_use]
    pub fn is_done(&self, offset: u64) -> bool {
        let run = self.done.range(..=offset).next_back();
        offset <= self.floor || run.is_some_and(|(_, until)| offset <= *until)
    }

    /// Messages of the log up to this head that are not done.
    #[must_use]
    pub fn backlog(&self, head: u64) -> u64 {
        let n_done: u64 = self.done.iter().map(|(from, until)| until - from + 1).sum();
        head.saturating_sub(self.floor).saturating_sub(n_done)
    }

    pub(super) fn is_held_by(&self, offset: u64, holder: &Holder) -> bool {
        self.open.get(&offset).is_some_and(|open| open.holder.as_ref() == Some(holder))
    }

    /// What one node holds: offsets, and whether they are for the dead-letter topic.
    pub(super) fn held_by<'a>(&'a self, holder: &'a Holder) -> impl Iterator<Item = (u64, bool)> + 'a {
        let held = self.open.iter().filter(move |(_, open)| open.holder.as_ref() == Some(holder));
        held.map(|(offset, open)| (*offset, open.is_dead))
    }

    /// What waits after it came back, in order: offsets, and whether they are for the dead-letter topic.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, bool)> {
        let waiting = self.open.iter().filter(|(_, open)| open.holder.is_none());
        waiting.map(|(offset, open)| (*offset, open.is_dead))
    }

    /// The first offset that was never dispatched. `None` while too much above the floor was, so that this stays small.
    pub(super) fn next_fresh(&self) -> Option<u64> {
        let newest_open = self.open.last_key_value().map_or(0, |(offset, _)| *offset);
        let newest_done = self.done.last_key_value().map_or(0, |(_, until)| *until);
        let next = self.floor.max(newest_open).max(newest_done) + 1;
        (next - self.floor <= QUEUE_WINDOW_MAX).then_some(next)
    }

    /// Gives a message that waits, or the next fresh one, to somebody.
    pub(super) fn claim(&mut self, offset: u64, holder: &Holder) {
        let fresh = Open { tries: 0, is_again: false, is_dead: false, holder: None };
        let open = self.open.entry(offset).or_insert(fresh);
        if !open.is_dead {
            open.is_again = open.tries > 0 || open.is_again;
            open.tries = open.tries.saturating_add(1);
        }
        open.holder = Some(holder.clone());
    }

    /// Takes a message back from whoever holds it. One that was tried too often is dead.
    pub(super) fn give_back(&mut self, offset: u64, how: Return, tries_max: u32) {
        let Some(open) = self.open.get_mut(&offset) else { return };
        open.holder = None;
        open.is_again = true;
        match how {
            Return::Tried => open.is_dead |= open.tries >= tries_max,
            Return::Untried if open.is_dead => {}
            Return::Untried => open.tries = open.tries.saturating_sub(1),
        }
    }

    /// Nobody should have this message any more.
    pub(super) fn kill(&mut self, offset: u64) {
        if let Some(open) = self.open.get_mut(&offset) {
            (open.is_dead, open.holder) = (true, None);
        }
    }

    /// Notes that an offset needs nobody any more.
    pub(super) fn finish(&mut self, offset: u64) {
        if self.open.remove(&offset).is_none() {
            return;
        }
        let mut run = (offset, offset);
        if let Some(until) = self.done.remove(&(offset + 1)) {
            run.1 = until;
        }
        if let Some((from, _)) =
            self.done.range(..offset).next_back().filter(|(_, until)| **until + 1 == offset)
        {
            run.0 = *from;
        }
        self.done.insert(run.0, run.1);
        self.raise_floor();
    }

    /// What was before this offset is gone from the log. How many of those messages nobody had settled.
    pub(super) fn trim(&mut self, first: u64) -> u64 {
        if first <= self.floor + 1 {
            return 0;
        }
        let n_done: u64 =
            self.done.range(..first).map(|(from, until)| (*until).min(first - 1) - from + 1).sum();
        let n_lost = first - 1 - self.floor - n_done;
        self.open = self.open.split_off(&first);
        self.done = std::mem::take(&mut self.done)
            .into_iter()
            .filter(|(_, until)| *until >= first)
            .map(|(from, until)| (from.max(first), until))
            .collect();
        self.floor = first - 1;
        self.raise_floor();
        n_lost
    }

    /// The log was made anew, and nothing of it is done.
    pub(super) fn restart(&mut self, epoch: Epoch) {
        *self = Self::starting(epoch, 0);
    }

    fn raise_floor(&mut self) {
        while let Some(until) = self.done.remove(&(self.floor + 1)) {
            self.floor = until;
        }
    }
}
