//! One cursor under test, with what its caller owes it and what it owes its caller.

use std::rc::Rc;
use std::time::Duration;

use bongsu_protocol::cursor::{Cursor, Offered, Page, Step, Time};
use bongsu_protocol::position::{Epoch, Position};

use crate::log::{Answer, Id, Log};
use crate::witness::Witness;

/// Items a cursor may hold besides those of one page: as many waiting to be taken as early ones.
const ITEMS_MAX: usize = 128;

/// The pause after the first read that failed or brought nothing, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a cursor carries in the model: dropped with the cursor's last trace of the message, so that they can be counted.
#[derive(Debug)]
pub(crate) struct Body {
    id: Id,
    _alive: Rc<()>,
}

/// A cursor, the read it waits for, and the oracle of what it may do.
#[derive(Debug)]
pub(crate) struct Reader {
    cursor: Cursor<Body>,
    alive: Rc<()>,
    read: Option<Read>,
    pub(crate) witness: Witness,
    /// The newest message that this reader must know of: it was told, or was there when its feed was interrupted.
    told: Position,
    /// Reads that are accounted for without waiting.
    credit: u32,
    /// Reads in a row that failed.
    n_failed: u32,
    /// Reads in a row that nothing accounts for but time.
    n_waited: u32,
    /// The last answer was that there is no log.
    was_gone: bool,
    answered_at: Time,
    pub(crate) n_reads: u64,
}

#[derive(Debug)]
struct Read {
    after: Position,
    limit: usize,
    /// What the log was when the store looked, if it did already.
    answer: Option<Answer>,
}

impl Reader {
    /// A reader that continues after `start`, and must learn of what came since.
    pub(crate) fn new(start: Position, log: &Log) -> Self {
        Self { told: start.max(log.head()), ..Self::with(Cursor::new(start), start) }
    }

    /// A reader that is at the head.
    pub(crate) fn live(start: Position) -> Self {
        Self::with(Cursor::live(start), start)
    }

    fn with(cursor: Cursor<Body>, start: Position) -> Self {
        Self {
            cursor,
            alive: Rc::new(()),
            read: None,
            witness: Witness::new(start),
            told: start,
            credit: 1,
            n_failed: 0,
            n_waited: 0,
            was_gone: false,
            answered_at: Time::ZERO,
            n_reads: 0,
        }
    }

    pub(crate) fn tail(&self) -> Position {
        self.cursor.tail()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.cursor.is_live()
    }

    pub(crate) fn timeout(&self) -> Option<Time> {
        self.cursor.poll_timeout()
    }

    pub(crate) fn offer(&mut self, position: Position, id: Id) -> Offered {
        let body = self.body(id);
        let before = self.tail();
        let offered = self.cursor.offer(position, body);
        match offered {
            Offered::Ready => assert!(self.tail() >= position, "ready, but not queued"),
            Offered::Old => assert!(position <= before, "not old: {position} at {before}"),
            Offered::Early => {
                assert!(position > before, "early, but old: {position} at {before}");
                self.credit = 2;
            }
        }
        self.told = self.told.max(position);
        offered
    }

    pub(crate) fn heads_up(&mut self, position: Position) {
        self.cursor.heads_up(position);
        self.told = self.told.max(position);
        if position > self.tail() {
            self.credit = 2;
        }
    }

    pub(crate) fn interrupt(&mut self, log: &Log) {
        self.cursor.interrupt();
        self.told = self.told.max(log.head());
        self.credit = 2;
        self.n_waited = 0;
    }

    pub(crate) fn take(&mut self, log: &Log) -> Option<Step<Id>> {
        let step = match self.cursor.poll_step()? {
            Step::Item(position, body) => Step::Item(position, body.id),
            Step::Lost { epoch, from, until } => Step::Lost { epoch, from, until },
            Step::Reset { epoch } => Step::Reset { epoch },
        };
        self.witness.see(log, &step);
        Some(step)
    }

    /// Asks whether a read is due. Checks that it is one at a time, not while steps wait, and accounted for.
    pub(crate) fn ask(&mut self, now: Time, limit: usize) {
        let Some(after) = self.cursor.poll_read(now) else {
            // Whoever waits is told until when, and not to come back at once.
            let waits = self.read.is_none() && !self.cursor.has_step() && !self.is_live();
            let timeout = self.timeout();
            assert_eq!(timeout.is_some(), waits, "stuck, or woken for nothing: {self:?}");
            assert!(timeout.is_none_or(|due| due > now), "a busy loop: {self:?}");
            return;
        };
        assert!(self.read.is_none(), "a second read while one is in flight");
        assert!(!self.cursor.has_step(), "a read while steps wait to be taken");
        assert_eq!(after, self.tail());
        if self.n_failed > 0 {
            let pause = pause(self.n_failed);
            assert!(now >= self.answered_at + pause, "read {pause:?} too early after a failure: {self:?}");
        } else if self.credit == 0 {
            self.n_waited += 1;
            let pause = pause(self.n_waited);
            assert!(now >= self.answered_at + pause, "a read without a cause: {self:?}");
        }
        self.credit = self.credit.saturating_sub(1);
        self.n_reads += 1;
        self.read = Some(Read { after, limit, answer: None });
    }

    /// The store looks at the log; the answer is on its way.
    pub(crate) fn look(&mut self, log: &Log) {
        if let Some(read) = &mut self.read
            && read.answer.is_none()
        {
            read.answer = Some(log.read(read.after, read.limit));
        }
    }

    pub(crate) fn answer(&mut self, log: &Log, now: Time) {
        self.look(log);
        let Some(Read { after, answer: Some(answer), .. }) = self.read.take() else { return };
        let is_gone = answer.head.epoch == Epoch(0);
        let items = answer.items.into_iter().map(|(position, id)| (position, self.body(id))).collect();
        self.cursor.read_done(now, Page { items, first: answer.first, head: answer.head });
        if self.tail() != after {
            self.credit = 2;
            self.n_waited = 0;
        }
        if is_gone && !self.was_gone {
            // What was known before is asked for once more, to be sure.
            self.credit = self.credit.max(1);
        }
        self.was_gone = is_gone;
        self.n_failed = 0;
        self.answered_at = now;
    }

    pub(crate) fn fail(&mut self, now: Time) {
        if self.read.take().is_some() {
            self.cursor.read_failed(now);
            self.n_failed += 1;
            self.credit = 2;
            self.answered_at = now;
        }
    }

    /// What holds at any moment.
    pub(crate) fn check(&self, log: &Log, page_max: usize) {
        let n_items = Rc::strong_count(&self.alive) - 1;
        assert!(n_items <= ITEMS_MAX + page_max, "{n_items} messages in memory");
        if !self.is_live() {
            return;
        }
        assert!(self.read.is_none() && !self.cursor.has_step());
        assert!(self.witness.agrees_with(log, self.tail()), "{self:?}");
        if log.n_set_back == 0 && self.told.epoch == log.head().epoch {
            assert!(self.tail() >= self.told, "live, but {} was told: {self:?}", self.told);
        }
    }

    fn body(&self, id: Id) -> Body {
        Body { id, _alive: Rc::clone(&self.alive) }
    }
}

/// The shortest time to wait after this many reads in vain.
fn pause(n: u32) -> Duration {
    (PAUSE_MIN * (1 << (n - 1).min(10))).min(PAUSE_MAX)
}
