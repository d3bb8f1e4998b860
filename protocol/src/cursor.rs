//! The one mechanism: a cursor that is behind the head of a log reads the log until it is at the head, then is live.
//!
//! A resuming client, a new subscriber that wants history, a slow reader and a node that lost its bus are the same case. The
//! cursor sits between a *feed*, which may lose, repeat and reorder, and a *log*, which tells the truth but must be asked:
//!
//! ```text
//!   feed ── offer, heads_up, interrupt ──▶ ┌────────┐ ── poll_step ──▶ Item | Lost | Reset, in the order of the log
//!                                          │ Cursor │
//!   log ─── read_done, read_failed ──────▶ └────────┘ ── poll_read ──▶ "read the log after this position"
//! ```
//!
//! ```text
//!            offer(next)                      offer(gap), heads_up, interrupt
//!   ┌─────┐ ◀──────────┐          ┌──────┐ ───────────────────────────────────▶ ┌────────┐
//!   │ready│            └───────── │ live │                                      │ behind │ ◀── read_failed, or a page without
//!   └─────┘                       └──────┘ ◀─────────────────────────────────── └────────┘     progress: wait, then ask again
//!                                             read_done reaches all that is known
//! ```
//!
//! The feed is believed about what exists, the log about what does not. A log that is restored from a backup and keeps its epoch
//! gives the same positions to other messages; that is noticed, and told as a reset, only if the log is asked while its head is
//! before the cursor. Whoever restores a log makes sure that nothing of the old one is still under way, or gives it a new epoch.
//!
//! No IO, no clock, no tasks: time is an argument, effects are polled. Back pressure is not polling: a caller asks for steps only
//! while it has room for one more, and asks for reads only when it has room for a page.

use std::collections::VecDeque;
use std::time::Duration;

use crate::position::{Epoch, Offset, Position};

/// Items held while the log is asked for what comes before them. One page of catching up rarely sees more arrive; past it the
/// item is refused, its position remembered, and the log read again.
const HELD_MAX: usize = 64;

/// Steps that wait to be taken before offers are refused: a reader that is slower than its feed reads from the log instead.
const READY_MAX: usize = 64;

/// The first pause after a read that failed or brought nothing; doubled each time, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause between reads: a reader is at most this much later than a log that came back.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a reader has seen of one log, and what it does next. See the [module](self).
#[derive(Debug)]
pub struct Cursor<T> {
    /// The place of the last step that was queued: everything up to here is in `ready` or was taken.
    tail: Position,
    /// The newest position that the feed or the log told of.
    known: Position,
    /// The feed may have lost anything: `known` proves nothing until the log was asked once more.
    suspect: bool,
    /// The read in flight: where it was asked from.
    asked: Option<Position>,
    /// Steps to be taken.
    ready: VecDeque<Step<T>>,
    /// Items past a gap, in order and without repetition, all of the epoch of `tail`.
    held: VecDeque<(Position, T)>,
    /// Reads in a row that failed or brought nothing though something was missing.
    n_fruitless: u32,
    /// No read before this time.
    pause_until: Option<Time>,
}

/// A moment on the caller's monotonic clock: the time since any fixed point.
pub type Time = Duration;

/// What a reader is handed, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// The next message.
    Item(Position, T),
    /// These messages are gone from the log; reading goes on behind them.
    Lost {
        /// In this incarnation.
        epoch: Epoch,
        /// From this offset.
        from: Offset,
        /// To this one, included.
        until: Offset,
    },
    /// The log is a new one, or was set back to an earlier state; what follows is that, from its oldest kept message. A reader
    /// that resumes before it took another step does so from offset 0 of this epoch.
    Reset {
        /// Its epoch: larger than the one before, unless it was set back.
        epoch: Epoch,
    },
}

/// What the log answered to a read.
#[derive(Debug)]
pub struct Page<T> {
    /// The messages right after the position asked for, or, if those are gone, from the first kept one; in order.
    pub items: Vec<(Position, T)>,
    /// The oldest kept message's place, one after `head` if none is kept.
    pub first: Position,
    /// The newest message's place; epoch 0 if there is no log.
    pub head: Position,
}

/// Whether the cursor could use an offered item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It is among the steps.
    Ready,
    /// It was known already.
    Old,
    /// It waits for what comes before it, or will be read from the log later.
    Early,
}

impl<T> Cursor<T> {
    /// A cursor that has seen everything up to `position` and does not know what came after: it asks the log first.
    #[must_use]
    pub const fn new(position: Position) -> Self {
        Self {
            tail: position,
            known: position,
            suspect: true,
            asked: None,
            ready: VecDeque::new(),
            held: VecDeque::new(),
            n_fruitless: 0,
            pause_until: None,
        }
    }

    /// The newest position that is known of: where the feed or the log said that there is something.
    #[must_use]
    pub const fn known(&self) -> Position {
        self.known
    }

    /// A cursor at the head of its log: everything up to `position` was seen, and the feed will tell of whatever comes.
    #[must_use]
    pub const fn live(position: Position) -> Self {
        let mut cursor = Self::new(position);
        cursor.suspect = false;
        cursor
    }

    /// Everything up to here was queued as a step, whether it was taken yet or not.
    #[must_use]
    pub const fn tail(&self) -> Position {
        self.tail
    }

    /// Everything up to here was taken as a step: what a reader that is made anew continues from.
    #[must_use]
    pub fn position(&self) -> Position {
        match self.ready.front() {
            None => self.tail,
            Some(Step::Item(position, _)) => position.previous(),
            Some(Step::Lost { epoch, from, .. }) => Position { epoch: *epoch, offset: *from }.previous(),
            Some(Step::Reset { epoch }) => Position { epoch: *epoch, offset: Offset(0) },
        }
    }

    /// Whether the cursor is at the head of the log as far as it can know, with no step left to take.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.ready.is_empty() && self.asked.is_none() && !self.is_behind()
    }

    /// Whether a step waits to be taken.
    #[must_use]
    pub fn has_step(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A live message: perhaps late, early, or not for the first time.
    pub fn offer(&mut self, position: Position, item: T) -> Offered {
        if position <= self.tail {
            return Offered::Old;
        }
        self.known = self.known.max(position);
        if self.ready.len() >= READY_MAX {
            return Offered::Early;
        }
        if position.epoch > self.tail.epoch {
            if position.offset != Offset(1) {
                // A later log, but not its beginning: what to do must come from the log.
                return Offered::Early;
            }
            self.reset(position.epoch, Offset(0));
        }
        if position != self.tail.next() {
            self.hold(position, item);
            return Offered::Early;
        }
        self.push(position, item);
        self.release_held();
        Offered::Ready
    }

    /// There is a message at this position, but it is not at hand.
    pub fn heads_up(&mut self, position: Position) {
        self.known = self.known.max(position);
    }

    /// The feed may have lost anything until now.
    pub fn interrupt(&mut self) {
        self.suspect = true;
    }

    /// What the log answered to the read of the last [`poll_read`](Self::poll_read). Without such a read, nothing happens.
    ///
    /// The page must show the log as it was at some moment after the question: one read before that, for somebody else, may lack
    /// what an [`interrupt`](Self::interrupt) was about, and the cursor would not ask again.
    pub fn read_done(&mut self, now: Time, page: Page<T>) {
        let Some(asked) = self.asked.take() else { return };
        if page.head.epoch == Epoch(0) {
            // There is no log. Whatever was known of one is void; a new one will announce itself with a larger epoch.
            self.forget_hearsay(self.tail);
        } else {
            self.take_page(asked, page);
        }
        let fruitless = self.tail == asked && self.is_behind() && !self.suspect;
        if fruitless && self.pause() == PAUSE_MAX {
            // A log that only lags would have shown it by now: what the feed told was lost when the log was set back.
            self.forget_hearsay(self.tail);
        }
        self.pace(now, fruitless);
    }

    /// The read of the last [`poll_read`](Self::poll_read) failed: it will be asked again after a pause.
    pub fn read_failed(&mut self, now: Time) {
        if self.asked.take().is_some() {
            self.suspect = true;
            self.pace(now, true);
        }
    }

    /// The next step, in the order of the log. Ask only with room for it.
    pub fn poll_step(&mut self) -> Option<Step<T>> {
        let step = self.ready.pop_front();
        if self.ready.is_empty() && self.ready.capacity() > 8 {
            self.ready = VecDeque::new();
        }
        step
    }

    /// The position after which to read the log, if that is due. Exactly one of [`read_done`](Self::read_done) and
    /// [`read_failed`](Self::read_failed) must follow; until then there is no second read.
    ///
    /// Ask only when there is room for a page: while steps wait to be taken, there is never a read.
    pub fn poll_read(&mut self, now: Time) -> Option<Position> {
        let paused = self.pause_until.is_some_and(|until| now < until);
        if self.asked.is_some() || !self.ready.is_empty() || paused || !self.is_behind() {
            return None;
        }
        // Cleared when the question is asked: an interruption that comes before the answer must survive the answer.
        self.suspect = false;
        self.pause_until = None;
        self.asked = Some(self.tail);
        self.asked
    }

    /// When [`poll_read`](Self::poll_read) should be asked again though nothing else happened. Never while steps wait to be taken:
    /// taking them is what happens next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.asked.is_none() && self.ready.is_empty() && self.is_behind() {
            self.pause_until
        } else {
            None
        }
    }

    /// Whether the log knows more than was queued, or might.
    fn is_behind(&self) -> bool {
        self.suspect || self.known > self.tail
    }

    /// Starts over after `offset` in another incarnation. Before the first log there is nothing to forget, so no reset is told, and
    /// what is gone of it already is lost rather than of no concern.
    fn reset(&mut self, epoch: Epoch, offset: Offset) {
        self.held.clear();
        if self.tail.epoch == Epoch(0) {
            self.tail = Position { epoch, offset: Offset(0) };
        } else {
            self.tail = Position { epoch, offset };
            self.ready.push_back(Step::Reset { epoch });
        }
    }

    fn take_page(&mut self, asked: Position, page: Page<T>) {
        if page.head < self.tail && (page.head >= asked || self.tail.epoch > asked.epoch) {
            // The feed was faster than this answer.
            return;
        }
        let set_back = page.head < asked;
        if set_back || page.head.epoch != self.tail.epoch {
            // A later log, or one that was set back behind what was read from it: positions until now mean nothing.
            self.reset(page.head.epoch, page.first.previous().offset);
        }
        if set_back {
            self.forget_hearsay(page.head);
        }
        self.known = self.known.max(page.head);
        if page.first > self.tail.next() {
            let (from, until) = (self.tail.next().offset, page.first.previous().offset);
            self.ready.push_back(Step::Lost { epoch: self.tail.epoch, from, until });
            self.tail = page.first.previous();
        }
        for (position, item) in page.items {
            if position == self.tail.next() {
                self.push(position, item);
            }
        }
        self.release_held();
    }

    /// Takes the log's word for where its head is. What the feed told of later positions belongs to a log that is gone, or came
    /// while the question was under way: one more question tells which.
    fn forget_hearsay(&mut self, head: Position) {
        self.suspect |= self.known > head;
        self.known = head;
        self.held.clear();
    }

    fn push(&mut self, position: Position, item: T) {
        self.ready.push_back(Step::Item(position, item));
        self.tail = position;
    }

    /// Keeps an item that came early, in its place; beyond the bound it is forgotten, for the log has it.
    fn hold(&mut self, position: Position, item: T) {
        let place = self.held.partition_point(|(held, _)| *held < position);
        let repeated = self.held.get(place).is_some_and(|(held, _)| *held == position);
        if !repeated && self.held.len() < HELD_MAX {
            self.held.insert(place, (position, item));
        }
    }

    /// Queues the held items that are no longer early.
    fn release_held(&mut self) {
        while let Some((position, _)) = self.held.front() {
            if *position > self.tail.next() {
                return;
            }
            if let Some((position, item)) = self.held.pop_front()
                && position == self.tail.next()
            {
                self.push(position, item);
            }
        }
        self.held = VecDeque::new();
    }

    /// Waits longer after each read in vain. After any other there is no pause.
    fn pace(&mut self, now: Time, fruitless: bool) {
        if fruitless {
            self.pause_until = Some(now + self.pause());
            self.n_fruitless = self.n_fruitless.saturating_add(1);
        } else {
            self.n_fruitless = 0;
        }
    }

    /// How long to wait after the next read in vain.
    fn pause(&self) -> Duration {
        PAUSE_MIN.saturating_mul(1 << self.n_fruitless.min(16)).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::ZERO;

    fn at(offset: u64) -> Position {
        Position::new(1, offset)
    }

    fn page(items: std::ops::RangeInclusive<u64>, first: u64, head: u64) -> Page<u64> {
        Page { items: items.map(|offset| (at(offset), offset)).collect(), first: at(first), head: at(head) }
    }

    fn steps(cursor: &mut Cursor<u64>) -> Vec<Step<u64>> {
        std::iter::from_fn(|| cursor.poll_step()).collect()
    }

    fn items(offsets: std::ops::RangeInclusive<u64>) -> Vec<Step<u64>> {
        offsets.map(|offset| Step::Item(at(offset), offset)).collect()
    }

    #[test]
    fn live_items_pass_through_in_order_without_a_read() {
        let mut cursor = Cursor::live(at(3));
        assert_eq!(cursor.offer(at(4), 4), Offered::Ready);
        assert_eq!(cursor.offer(at(4), 4), Offered::Old);
        assert_eq!(cursor.offer(at(5), 5), Offered::Ready);
        assert_eq!(steps(&mut cursor), items(4..=5));
        assert_eq!(cursor.poll_read(NOW), None);
        assert!(cursor.is_live());
    }

    #[test]
    fn gap_is_filled_from_the_log_and_early_items_follow() {
        let mut cursor = Cursor::live(at(1));
        assert_eq!(cursor.offer(at(4), 4), Offered::Early);
        assert_eq!(cursor.poll_read(NOW), Some(at(1)));
        assert_eq!(cursor.offer(at(5), 5), Offered::Early);
        cursor.read_done(NOW, page(2..=3, 1, 3));
        assert_eq!(steps(&mut cursor), items(2..=5));
        assert!(cursor.is_live());
    }

    #[test]
    fn interruption_during_a_read_survives_its_answer() {
        let mut cursor = Cursor::<u64>::new(at(0));
        assert_eq!(cursor.poll_read(NOW), Some(at(0)));
        cursor.interrupt();
        cursor.read_done(NOW, page(1..=2, 1, 2));
        assert_eq!(steps(&mut cursor), items(1..=2));
        assert_eq!(cursor.poll_read(NOW), Some(at(2)));
    }

    #[test]
    fn trimmed_messages_are_told() {
        let mut cursor = Cursor::new(at(2));
        assert_eq!(cursor.poll_read(NOW), Some(at(2)));
        cursor.read_done(NOW, page(6..=7, 6, 7));
        let lost = Step::Lost { epoch: Epoch(1), from: Offset(3), until: Offset(5) };
        assert_eq!(steps(&mut cursor), [vec![lost], items(6..=7)].concat());
    }

    #[test]
    fn later_log_resets_and_late_messages_of_the_earlier_one_are_old() {
        let mut cursor = Cursor::live(at(9));
        assert_eq!(cursor.offer(Position::new(2, 1), 1), Offered::Ready);
        assert_eq!(cursor.offer(at(10), 10), Offered::Old);
        let expected = [Step::Reset { epoch: Epoch(2) }, Step::Item(Position::new(2, 1), 1)];
        assert_eq!(steps(&mut cursor), expected);
        assert!(cursor.is_live());
    }

    #[test]
    fn log_set_back_behind_the_reader_resets() {
        let mut cursor = Cursor::new(at(9));
        assert_eq!(cursor.poll_read(NOW), Some(at(9)));
        cursor.read_done(NOW, Page { items: Vec::new(), first: at(1), head: at(4) });
        assert_eq!(steps(&mut cursor), [Step::Reset { epoch: Epoch(1) }]);
        assert_eq!(cursor.poll_read(NOW), Some(at(0)));
    }

    #[test]
    fn first_log_of_a_topic_is_no_reset() {
        let mut cursor = Cursor::live(Position::default());
        assert_eq!(cursor.offer(at(1), 1), Offered::Ready);
        assert_eq!(steps(&mut cursor), items(1..=1));
    }

    #[test]
    fn failed_and_fruitless_reads_are_spaced_out() {
        let mut cursor = Cursor::<u64>::new(at(0));
        assert_eq!(cursor.poll_read(NOW), Some(at(0)));
        cursor.read_failed(NOW);
        assert_eq!(cursor.poll_read(NOW), None);
        let due = cursor.poll_timeout().expect("a pause");
        assert_eq!(cursor.poll_read(due), Some(at(0)));
        cursor.heads_up(at(5));
        cursor.read_done(due, Page { items: Vec::new(), first: at(1), head: at(0) });
        assert!(cursor.poll_timeout().expect("a longer pause") > due + PAUSE_MIN);
    }
}
