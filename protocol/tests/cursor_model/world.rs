//! A log, a feed that cannot be trusted, and the readers behind it, driven one operation at a time.

use std::collections::VecDeque;
use std::time::Duration;

use bongsu_protocol::cursor::{Step, Time};
use bongsu_protocol::position::Position;

use crate::log::{Id, Log};
use crate::reader::Reader;

/// The most messages that a page has in the model.
pub(crate) const PAGE_MAX: usize = 40;

/// Steps on the way from the session to the client; the session hands out no more than there is room for.
const LINK_MAX: usize = 6;

/// The most steps that may wait to be taken: a page, as many messages again as a cursor takes live and as many as it holds back,
/// and a reset and a hole.
const STEPS_MAX: usize = PAGE_MAX + 64 + 64 + 2;

/// What happens next. Numbers are taken modulo what there is to choose from, so that every sequence makes sense.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Messages are published, and each is told in its way.
    Append(Vec<Fate>),
    /// A hundred messages are published, all told at once.
    Burst,
    /// The feed brings one of the hints under way, in any order.
    Deliver(usize),
    /// The same, and will bring it again.
    Repeat(usize),
    /// The newest position is told at once.
    Announce,
    /// The newest position is told some day.
    AnnounceLate,
    /// The feed may have lost anything.
    Interrupt,
    /// The oldest messages go.
    Trim(usize),
    /// The log goes; the next message makes a new one.
    Delete,
    /// The log is copied.
    BackUp,
    /// The log is what was copied last.
    Restore,
    /// There is room for some steps of a reader: the first number is which.
    Take(usize, usize),
    /// Time passes.
    Wait(u64),
    /// There is room for a page.
    Ask(usize, usize),
    /// The store looks at the log, but its answer takes time.
    Look(usize),
    /// The store answers.
    Answer(usize),
    /// The store fails.
    Fail(usize),
    /// The connection between session and client brings some steps.
    Carry(usize),
    /// All goes well for some rounds.
    Run(usize),
    /// The connection is lost with everything on it, and made anew.
    Reconnect,
}

/// How the feed tells of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Now,
    Twice,
    Later,
    /// There was no room for it: only its position is told.
    Refused,
    Lost,
}

/// How the readers learn that the feed lost something, once it no longer does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recovery {
    Interrupt,
    HeadsUp,
}

/// A hint under way.
#[derive(Debug, Clone, Copy)]
enum Hint {
    Item(Position, Id),
    Head(Position),
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) readers: Vec<Reader>,
    pub(crate) now: Time,
    hints: Vec<Hint>,
    /// Between the first reader (a session's) and the second (a client's).
    link: VecDeque<Step<Id>>,
}

impl World {
    /// A session's cursor behind a feed, which starts at `position`.
    pub(crate) fn session(position: Position) -> Self {
        let log = Log::default();
        let readers = vec![Reader::new(position, &log)];
        Self { log, readers, now: Time::ZERO, hints: Vec::new(), link: VecDeque::new() }
    }

    /// The same with a client's cursor behind it, which is told what the session's hands out.
    pub(crate) fn session_and_client() -> Self {
        let mut world = Self::session(Position::default());
        world.readers.push(Reader::live(Position::default()));
        world
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append(ref fates) => fates.iter().for_each(|fate| self.append(*fate)),
            Op::Burst => (0..100).for_each(|_| self.append(Fate::Now)),
            Op::Deliver(n) | Op::Repeat(n) if !self.hints.is_empty() => {
                let place = n % self.hints.len();
                let hint = self.hints[place];
                if matches!(op, Op::Deliver(_)) {
                    self.hints.remove(place);
                }
                self.tell(hint);
            }
            Op::Deliver(_) | Op::Repeat(_) => {}
            Op::Announce => self.tell(Hint::Head(self.log.head())),
            Op::AnnounceLate => self.hints.push(Hint::Head(self.log.head())),
            Op::Interrupt => self.readers[0].interrupt(&self.log),
            Op::Trim(n) => self.log.trim(n),
            Op::Delete => self.log.delete(),
            Op::BackUp => self.log.back_up(),
            Op::Restore => self.restore(),
            Op::Take(who, n) => _ = self.take(who, n),
            Op::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Op::Ask(who, limit) => {
                let now = self.now;
                self.reader(who).0.ask(now, limit);
            }
            Op::Look(who) => {
                let (reader, log) = self.reader(who);
                reader.look(log);
            }
            Op::Answer(who) => {
                let now = self.now;
                let (reader, log) = self.reader(who);
                reader.answer(log, now);
            }
            Op::Fail(who) => {
                let now = self.now;
                self.reader(who).0.fail(now);
            }
            Op::Carry(n) => self.carry(n),
            Op::Run(n) => (0..n).for_each(|_| self.serve(PAGE_MAX)),
            Op::Reconnect => self.reconnect(),
        }
        for reader in &self.readers {
            reader.check(&self.log, PAGE_MAX);
        }
    }

    /// Ends the disturbances and checks that every reader gets to the head, soon, and then rests.
    pub(crate) fn settle(&mut self, recovery: Recovery, limit: usize) {
        while !self.hints.is_empty() {
            self.apply(&Op::Deliver(0));
        }
        match recovery {
            Recovery::Interrupt => self.apply(&Op::Interrupt),
            Recovery::HeadsUp => self.apply(&Op::Announce),
        }
        if self.log.n_set_back > 0 {
            // That a log was set back shows only to who asks from behind its head: readers are probed, and once more, since what
            // was held back for a gap may have been of the log that is gone.
            for _ in 0..2 {
                self.catch_up(limit);
                self.readers.iter_mut().for_each(|reader| reader.interrupt(&self.log));
            }
        }
        self.catch_up(limit);
        for reader in &self.readers {
            let is_at_head = self.log.head().epoch.0 == 0 || reader.tail() == self.log.head();
            assert!(is_at_head, "live, but not at the head: {self:?}");
        }
        self.check_rest();
    }

    /// Serves every reader until it is live, in few rounds and little time.
    fn catch_up(&mut self, limit: usize) {
        let began = self.now;
        let n_hops = self.readers.len() as u32;
        let n_pages = self.log.n_kept().div_ceil(limit as u64) as u32;
        // Besides its pages, a reader needs a few reads: the one in flight, and one to be sure. What only a log that was set back
        // knew is doubted until the pauses are at their longest, seven reads later; and what was read before it turned out to be set
        // back is read again.
        let (n_doubts, n_pauses) = if self.log.n_set_back == 0 { (0, 1) } else { (n_pages + 12, 3) };
        let n_rounds = n_hops * (n_pages + 6 + n_doubts);
        for _ in 0..n_rounds {
            if self.link.is_empty() && self.readers.iter().all(Reader::is_live) {
                break;
            }
            self.serve(limit);
            for reader in &self.readers {
                reader.check(&self.log, PAGE_MAX);
            }
        }
        assert!(
            self.now - began <= Duration::from_millis(1100) * n_pauses * n_hops,
            "took {:?}",
            self.now - began
        );
        assert!(self.readers.iter().all(Reader::is_live), "not live after {n_rounds} rounds: {self:?}");
    }

    /// Nothing happens, for long: no reads, no timers.
    fn check_rest(&mut self) {
        let n_reads: u64 = self.readers.iter().map(|reader| reader.n_reads).sum();
        for _ in 0..10 {
            self.apply(&Op::Wait(1000));
            assert!(self.readers.iter().all(|reader| reader.timeout().is_none()));
            self.serve(PAGE_MAX);
        }
        assert_eq!(self.readers.iter().map(|reader| reader.n_reads).sum::<u64>(), n_reads, "reads at rest");
    }

    /// One round in which all goes well: what waits is taken, what was asked is answered, what is due is asked.
    fn serve(&mut self, limit: usize) {
        for who in 0..self.readers.len() {
            self.take_all(who);
            let timeout = self.readers[who].timeout();
            self.now = self.now.max(timeout.unwrap_or_default());
            self.apply(&Op::Answer(who));
            self.take_all(who);
            self.apply(&Op::Ask(who, limit));
        }
    }

    fn take_all(&mut self, who: usize) {
        let mut n_taken = 0;
        loop {
            let n = self.take(who, usize::MAX);
            self.carry(usize::MAX);
            n_taken += n;
            assert!(n_taken <= STEPS_MAX, "more steps than may ever wait");
            if n == 0 {
                return;
            }
        }
    }

    fn append(&mut self, fate: Fate) {
        let (position, id) = self.log.append();
        match fate {
            Fate::Now => self.tell(Hint::Item(position, id)),
            Fate::Twice => (0..2).for_each(|_| self.tell(Hint::Item(position, id))),
            Fate::Later => self.hints.push(Hint::Item(position, id)),
            Fate::Refused => self.tell(Hint::Head(position)),
            Fate::Lost => {}
        }
    }

    fn tell(&mut self, hint: Hint) {
        match hint {
            Hint::Item(position, id) => _ = self.readers[0].offer(position, id),
            Hint::Head(position) => self.readers[0].heads_up(position),
        }
    }

    /// Nobody can tell a message from another that was given its position before: a feed must not bring messages that a restored
    /// log no longer has. Their positions may well be told.
    fn restore(&mut self) {
        self.log.restore();
        let log = &self.log;
        self.hints.retain(|hint| match *hint {
            Hint::Item(position, _) => position.epoch == log.head().epoch && position <= log.head(),
            Hint::Head(_) => true,
        });
    }

    /// A new session continues where the client is; what was under way to the client is lost.
    fn reconnect(&mut self) {
        self.link.clear();
        match &mut self.readers[..] {
            [session] => {
                let witness = session.witness.clone();
                *session = Reader::new(witness.seen, &self.log);
                session.witness = witness;
            }
            [session, client] => *session = Reader::new(client.tail(), &self.log),
            _ => unreachable!("one or two readers"),
        }
    }

    /// Takes steps while there is room for them; answers how many.
    fn take(&mut self, who: usize, n: usize) -> usize {
        let is_last = who % self.readers.len() == self.readers.len() - 1;
        let mut n_taken = 0;
        while n_taken < n && (is_last || self.link.len() < LINK_MAX) {
            let (reader, log) = self.reader(who);
            let Some(step) = reader.take(log) else { break };
            n_taken += 1;
            if !is_last {
                self.link.push_back(step);
            }
        }
        n_taken
    }

    /// The client is told what the session handed out.
    fn carry(&mut self, n: usize) {
        for _ in 0..n {
            let Some(step) = self.link.pop_front() else { return };
            let client = &mut self.readers[1];
            match step {
                Step::Item(position, id) => _ = client.offer(position, id),
                Step::Lost { epoch, until, .. } => client.heads_up(Position { epoch, offset: until }),
                Step::Reset { .. } => client.interrupt(&self.log),
            }
        }
    }

    fn reader(&mut self, who: usize) -> (&mut Reader, &Log) {
        let who = who % self.readers.len();
        (&mut self.readers[who], &self.log)
    }
}
