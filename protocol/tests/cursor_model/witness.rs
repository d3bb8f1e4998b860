//! Safety: what a reader may be handed, and in which order.

use bongsu_protocol::cursor::Step;
use bongsu_protocol::position::{Epoch, Offset, Position};

use crate::log::{Id, Log};

/// Follows the steps that one reader takes and knows what may come next.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    /// Where the reader is, by what it was handed: what a client resumes from.
    pub(crate) seen: Position,
    /// The last step was a reset: what follows begins at the oldest kept message.
    fresh: bool,
    /// Resets to the same or an earlier epoch.
    n_back: usize,
}

impl Witness {
    pub(crate) fn new(seen: Position) -> Self {
        Self { seen, fresh: false, n_back: 0 }
    }

    /// Checks one step against everything that was ever true of the log.
    pub(crate) fn see(&mut self, log: &Log, step: &Step<Id>) {
        match *step {
            Step::Item(position, id) => {
                self.arrive(log, position.epoch, position.offset);
                assert!(log.held(position, id), "{position} never held {id}");
                self.seen = position;
            }
            Step::Lost { epoch, from, until } => {
                self.arrive(log, epoch, from);
                assert!(from <= until, "an empty hole: {step:?}");
                let behind = Position { epoch, offset: until }.next();
                assert!(log.began_at(behind), "the log never began at {behind}: {step:?}");
                self.seen = Position { epoch, offset: until };
            }
            Step::Reset { epoch } => {
                assert!(log.knew(epoch), "there was no log {epoch:?}");
                if epoch <= self.seen.epoch {
                    self.n_back += 1;
                    assert!(self.n_back <= log.n_set_back, "{epoch:?} after {}, without a cause", self.seen);
                }
                self.seen = Position { epoch, offset: Offset(0) };
                self.fresh = true;
            }
        }
    }

    /// Whether a cursor with this tail and no step left tells the truth about what was handed out.
    pub(crate) fn agrees_with(&self, log: &Log, tail: Position) -> bool {
        let is_before_first = self.seen.epoch == Epoch(0) && tail.offset == Offset(0);
        tail == self.seen
            || is_before_first
            || (self.fresh && tail.epoch == self.seen.epoch && log.began_at(tail.next()))
    }

    /// The next message or hole begins here.
    fn arrive(&mut self, log: &Log, epoch: Epoch, offset: Offset) {
        if self.seen.epoch == Epoch(0) {
            // The first log of a topic is no reset, but nothing of it may be left out.
            self.seen = Position { epoch, offset: Offset(0) };
        }
        let position = Position { epoch, offset };
        let is_next = position == self.seen.next();
        let is_first = self.fresh && epoch == self.seen.epoch && log.began_at(position);
        assert!(is_next || is_first, "{position} after {}", self.seen);
        self.fresh = false;
    }
}
