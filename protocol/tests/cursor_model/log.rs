//! The log of the model: what a store holds, and what it ever held.

use std::collections::{BTreeMap, BTreeSet};

use bongsu_protocol::position::{Epoch, Position};

/// Tells two messages apart that were given the same position, before and after a backup was restored.
pub(crate) type Id = u64;

/// One topic's log, with a memory of everything that was ever true of it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    kept: Kept,
    backup: Kept,
    /// Never set back: a log that is made anew has a larger epoch, whatever was restored.
    last_epoch: u64,
    last_id: Id,
    /// Every message that was ever at a position.
    written: BTreeMap<Position, Vec<Id>>,
    /// Every place that the oldest kept message ever had.
    firsts: BTreeSet<Position>,
    /// How often a backup was restored.
    pub(crate) n_set_back: usize,
}

/// What a backup copies.
#[derive(Debug, Clone, Default)]
struct Kept {
    /// 0 if there is no log.
    epoch: u64,
    /// How many messages were trimmed.
    n_trimmed: u64,
    ids: Vec<Id>,
}

impl Log {
    /// Where the newest message is.
    pub(crate) fn head(&self) -> Position {
        Position::new(self.kept.epoch, self.kept.n_trimmed + self.n_kept())
    }

    /// How many messages can be read.
    pub(crate) fn n_kept(&self) -> u64 {
        self.kept.ids.len() as u64
    }

    /// Whether this message was ever in the log.
    pub(crate) fn held(&self, position: Position, id: Id) -> bool {
        self.written.get(&position).is_some_and(|ids| ids.contains(&id))
    }

    /// Whether the oldest kept message was ever here: everything before it was gone then.
    pub(crate) fn began_at(&self, position: Position) -> bool {
        self.firsts.contains(&position)
    }

    /// Whether there ever was a log of this epoch.
    pub(crate) fn knew(&self, epoch: Epoch) -> bool {
        (1..=self.last_epoch).contains(&epoch.0)
    }

    pub(crate) fn append(&mut self) -> (Position, Id) {
        if self.kept.epoch == 0 {
            self.last_epoch += 1;
            self.kept.epoch = self.last_epoch;
        }
        self.last_id += 1;
        self.kept.ids.push(self.last_id);
        self.written.entry(self.head()).or_default().push(self.last_id);
        self.note_first();
        (self.head(), self.last_id)
    }

    pub(crate) fn trim(&mut self, n: usize) {
        let n = n.min(self.kept.ids.len());
        self.kept.ids.drain(..n);
        self.kept.n_trimmed += n as u64;
        self.note_first();
    }

    pub(crate) fn delete(&mut self) {
        self.kept = Kept::default();
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = self.kept.clone();
    }

    /// Puts back what was backed up last (before the first backup: nothing), and forgets what came since.
    pub(crate) fn restore(&mut self) {
        self.kept = self.backup.clone();
        self.n_set_back += 1;
        self.note_first();
    }

    /// What a store answers; see `Store::read`.
    pub(crate) fn read(&self, after: Position, limit: usize) -> Answer {
        let head = self.head();
        let first = Position::new(self.kept.epoch, self.kept.n_trimmed + 1);
        let is_here = after.epoch == head.epoch && after <= head;
        let skip = if is_here { after.offset.0.saturating_sub(self.kept.n_trimmed) } else { u64::MAX };
        let items = (0..).zip(&self.kept.ids).filter(|(n, _)| *n >= skip).take(limit);
        let items = items.map(|(n, id)| (Position::new(first.epoch.0, first.offset.0 + n), *id)).collect();
        Answer { items, first, head }
    }

    fn note_first(&mut self) {
        if self.kept.epoch > 0 {
            self.firsts.insert(Position::new(self.kept.epoch, self.kept.n_trimmed + 1));
        }
    }
}

/// A page as the store made it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) items: Vec<(Position, Id)>,
    pub(crate) first: Position,
    pub(crate) head: Position,
}
