//! One topic as one session reads it.
//!
//! A topic's history may be switched on and off while it is read, not at the same moment on all nodes. A reader goes on as what comes:
//!
//! ```text
//!                 a live message, once everything stored was handed out
//!   ┌─────────┐ ──────────────────────────────────────────────────────▶ ┌──────┐
//!   │ durable │                                                         │ live │
//!   └─────────┘ ◀────────────────────────────────────────────────────── └──────┘
//!                 a stored message: from where the log was left,
//!                 else from the time at which the subscription began
//! ```

use std::collections::VecDeque;

use crate::command::{HistoryQuery, HistoryRange, Start};
use crate::cursor::{self, Cursor, Step};
use crate::event::{Event, Lost, LostRange};
use crate::message::Time;
use crate::position::{Epoch, Position};
use crate::topic::Topic;

use super::outbox::Outbox;
use super::{LogPage, SlowReader};

/// Messages in one page that a reader catches up with. Small enough that many slow readers together hold little, large
/// enough that a read's cost is spread.
const READ_MESSAGES: u32 = 128;

/// Messages that a slow reader of a live topic keeps under [`SlowReader::DropOldest`]; the newest ones.
const LIVE_HELD_MAX: usize = 64;

/// The pause after a failed question for where to start.
const START_PAUSE: cursor::Time = cursor::Time::from_secs(1);

/// A message and its size in bytes.
#[derive(Debug, Clone)]
pub(super) struct Sized<D> {
    pub(super) bytes: usize,
    pub(super) item: D,
}

/// One topic as one session reads it.
#[derive(Debug)]
pub(super) struct Reader<D> {
    /// Whether the topic stands in the session's list of readers that are behind.
    pub(super) listed: bool,
    state: State<D>,
    /// Live messages that wait for what was stored before them, on a topic whose history was just switched off.
    waiting: Option<Box<Held<D>>>,
}

/// What a slow reader of a topic without history may still get, and how many messages it will not.
#[derive(Debug)]
struct Held<D> {
    messages: VecDeque<Sized<D>>,
    n_dropped: u64,
}

#[derive(Debug)]
enum State<D> {
    /// The log was or will be asked where this reader starts.
    Starting {
        from: Start,
        /// The question is under way.
        asked: bool,
        /// It failed: it is not asked again before this time.
        pause_until: Option<cursor::Time>,
        /// The newest position that the feed told of meanwhile.
        known: Position,
    },
    /// A topic with history.
    Durable(Cursor<Sized<D>>),
    /// A topic without.
    Live {
        held: Held<D>,
        /// Where its log was left, if this reader read it before.
        left: Option<Position>,
    },
}

/// What a reader wants next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Nothing: it is at the head.
    Nothing,
    /// Room in the outbox.
    Room,
    /// This page of its log.
    Page(HistoryRange),
    /// The answer to its read, or the end of a pause.
    Patience,
}

impl<D: Clone> Reader<D> {
    /// A reader that asks the log where `from` is.
    pub(super) fn starting(from: Start) -> Self {
        match from {
            Start::After(position) => Self::durable(Cursor::new(position)),
            Start::Latest | Start::Earliest | Start::Last(_) | Start::Time(_) => {
                Self::in_state(State::Starting {
                    from,
                    asked: false,
                    pause_until: None,
                    known: Position::default(),
                })
            }
        }
    }

    const fn in_state(state: State<D>) -> Self {
        Self { listed: false, state, waiting: None }
    }

    /// A reader from `start` of a log whose head was read after the feed began.
    pub(super) fn listed(start: Position, head: Position) -> Self {
        Self::durable(listed_cursor(start, head))
    }

    /// Tells a reader that is starting where it does. A question that is under way comes to nothing.
    pub(super) fn start_at(&mut self, start: Position, head: Position) {
        if let State::Starting { known, .. } = self.state {
            let mut cursor = listed_cursor(start, head);
            cursor.heads_up(known);
            self.state = State::Durable(cursor);
        }
    }

    /// Tells a reader that is starting that its log is a new one.
    pub(super) fn start_at_beginning(&mut self) {
        self.start_at(Position::default(), Position::default());
    }

    pub(super) const fn durable(cursor: Cursor<Sized<D>>) -> Self {
        Self::in_state(State::Durable(cursor))
    }

    pub(super) const fn live() -> Self {
        Self::in_state(State::Live { held: Held::new(), left: None })
    }

    /// What was handed out; `None` on a live topic, or as long as it is not known.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.state {
            State::Durable(cursor) => Some(cursor.position()),
            State::Starting { .. } | State::Live { .. } => None,
        }
    }

    /// The newest message that is known of; `None` on a live topic, or as long as nothing is.
    pub(super) const fn known(&self) -> Option<Position> {
        match &self.state {
            State::Durable(cursor) => Some(cursor.known()),
            State::Starting { .. } | State::Live { .. } => None,
        }
    }

    /// Where it will start, as long as the log was not asked what that is.
    pub(super) const fn starts_from(&self) -> Option<Start> {
        match self.state {
            State::Starting { from, .. } => Some(from),
            State::Durable(_) | State::Live { .. } => None,
        }
    }

    /// Whether the topic has no history.
    pub(super) const fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    pub(super) const fn is_starting(&self) -> bool {
        self.starts_from().is_some()
    }

    /// Whether the reader could be forgotten and made again at its next message without losing anything.
    pub(super) fn is_idle(&self) -> bool {
        match &self.state {
            State::Starting { .. } => false,
            State::Durable(cursor) => cursor.is_live() && self.waiting.is_none(),
            State::Live { held, .. } => held.is_empty(),
        }
    }

    /// Takes a live message of a topic with history. Without room it is only noted: the log has it. `since` is a time that no message of
    /// the topic is before which this reader is to get.
    pub(super) fn offer(
        &mut self,
        position: Position,
        message: Sized<D>,
        since: Time,
        topic: &Topic,
        outbox: &mut Outbox<D>,
    ) {
        match &mut self.state {
            State::Starting { known, .. } => *known = (*known).max(position),
            State::Durable(cursor) if outbox.has_room() => {
                cursor.offer(position, message);
            }
            State::Durable(cursor) => cursor.heads_up(position),
            State::Live { held, left } => {
                // The topic's history was switched on. What waits came before that, and is little enough to need no room.
                held.hand_out(topic, outbox, |_| true);
                self.state = match *left {
                    Some(left) => {
                        let mut cursor = Cursor::live(left);
                        cursor.heads_up(position);
                        State::Durable(cursor)
                    }
                    // This may not be the first message of it: only the log can tell what came since this reader began.
                    None => State::Starting {
                        from: Start::Time(since),
                        asked: false,
                        pause_until: None,
                        known: position,
                    },
                };
            }
        }
    }

    /// Takes a message of a topic without history. False if the policy wants the slow client disconnected.
    pub(super) fn offer_live(&mut self, message: Sized<D>, slow: SlowReader, outbox: &mut Outbox<D>) -> bool {
        self.go_live();
        let State::Live { held, .. } = &mut self.state else {
            // The topic's history was switched off. What was stored before goes first, which is no fault of this reader's.
            let slow = if slow == SlowReader::Disconnect { SlowReader::DropOldest } else { slow };
            let waiting = self.waiting.get_or_insert_with(|| Box::new(Held::new()));
            return waiting.hold(message, slow);
        };
        if held.is_empty() && outbox.has_room() {
            outbox.push_delivery(message.bytes, message.item);
            return true;
        }
        held.hold(message, slow)
    }

    /// Goes on without the log, if everything in it that is known of was handed out: what comes from here on has no positions.
    fn go_live(&mut self) {
        if let State::Durable(cursor) = &self.state
            && cursor.is_live()
        {
            let left = Some(cursor.position());
            let held = self.waiting.take().map_or_else(Held::new, |waiting| *waiting);
            self.state = State::Live { held, left };
        }
    }

    /// There is a message at this position, or, without one, the feed may have lost anything.
    pub(super) fn interrupt(&mut self, position: Option<Position>) {
        match (&mut self.state, position) {
            (State::Durable(cursor), Some(position)) => cursor.heads_up(position),
            (State::Durable(cursor), None) => cursor.interrupt(),
            (State::Starting { known, .. }, Some(position)) => *known = (*known).max(position),
            (State::Starting { .. } | State::Live { .. }, _) => {}
        }
    }

    /// The answer to the read that [`wants`](Self::wants) asked for. `Some` if that told where the reader starts.
    pub(super) fn read_done(&mut self, now: cursor::Time, page: LogPage<D>) -> Option<Position> {
        match &mut self.state {
            State::Starting { from, known, asked: true, .. } => {
                // Where nothing was found, it starts where the log ended: what came since is wanted, but for the one that wants
                // what is yet to come.
                let end = if *from == Start::Latest { page.head } else { page.end };
                let start = page.items.first().map_or(end, |(position, ..)| position.previous());
                let mut cursor = Cursor::new(start);
                cursor.heads_up(*known);
                // The page just read is the answer to the new cursor's first question.
                if cursor.poll_read(now).is_some() {
                    cursor.read_done(now, page.into_cursor_page());
                }
                self.state = State::Durable(cursor);
                return Some(start);
            }
            State::Durable(cursor) => cursor.read_done(now, page.into_cursor_page()),
            // The question was that of an earlier reader of this topic.
            State::Starting { .. } | State::Live { .. } => {}
        }
        None
    }

    /// The read failed.
    pub(super) fn read_failed(&mut self, now: cursor::Time) {
        match &mut self.state {
            State::Starting { asked, pause_until, .. } => {
                *asked = false;
                *pause_until = Some(now + START_PAUSE);
            }
            State::Durable(cursor) => cursor.read_failed(now),
            State::Live { .. } => {}
        }
    }

    /// Moves what is ready into the outbox, one message at a time while there is room.
    pub(super) fn hand_out(&mut self, topic: &Topic, outbox: &mut Outbox<D>) {
        match &mut self.state {
            State::Starting { .. } => {}
            State::Durable(cursor) => {
                while outbox.has_room()
                    && let Some(step) = cursor.poll_step()
                {
                    push_step(step, topic, outbox);
                }
                if self.waiting.is_some() {
                    self.go_live();
                }
            }
            State::Live { .. } => {}
        }
        if let State::Live { held, .. } = &mut self.state {
            held.hand_out(topic, outbox, Outbox::has_room);
        }
    }

    /// What the reader wants next. A page that it wants counts as asked for.
    pub(super) fn wants(&mut self, now: cursor::Time, outbox: &Outbox<D>) -> Wants {
        match &mut self.state {
            State::Starting { asked: true, .. } => Wants::Patience,
            State::Starting { pause_until: Some(until), .. } if now < *until => Wants::Patience,
            State::Starting { asked, from, .. } => {
                if !outbox.wants_page() {
                    return Wants::Room;
                }
                *asked = true;
                Wants::Page(HistoryRange::Forward(*from))
            }
            State::Durable(cursor) if cursor.is_live() => Wants::Nothing,
            State::Durable(cursor) if cursor.has_step() || !outbox.wants_page() => Wants::Room,
            State::Durable(cursor) => match cursor.poll_read(now) {
                Some(after) => Wants::Page(HistoryRange::Forward(Start::After(after))),
                None => Wants::Patience,
            },
            State::Live { held, .. } if held.is_empty() => Wants::Nothing,
            State::Live { .. } => Wants::Room,
        }
    }

    /// Whether something is at hand that found no room.
    pub(super) fn is_blocked(&self) -> bool {
        match &self.state {
            State::Starting { .. } => false,
            State::Durable(cursor) => cursor.has_step(),
            State::Live { held, .. } => !held.is_empty(),
        }
    }

    /// When to ask again what it wants though nothing else happened.
    pub(super) fn poll_timeout(&self) -> Option<cursor::Time> {
        match &self.state {
            State::Durable(cursor) => cursor.poll_timeout(),
            State::Starting { asked: false, pause_until, .. } => *pause_until,
            State::Starting { .. } | State::Live { .. } => None,
        }
    }
}

impl<D> Held<D> {
    const fn new() -> Self {
        Self { messages: VecDeque::new(), n_dropped: 0 }
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.n_dropped == 0
    }

    /// Keeps a message for later. False if the policy wants the slow client disconnected.
    fn hold(&mut self, message: Sized<D>, slow: SlowReader) -> bool {
        let held_max = match slow {
            SlowReader::DropOldest => LIVE_HELD_MAX,
            SlowReader::Conflate => 1,
            SlowReader::Disconnect => return false,
        };
        while self.messages.len() >= held_max {
            self.messages.pop_front();
            self.n_dropped += 1;
        }
        self.messages.push_back(message);
        true
    }

    /// Hands out what is kept, as long as there is room for it.
    fn hand_out(&mut self, topic: &Topic, outbox: &mut Outbox<D>, has_room: impl Fn(&Outbox<D>) -> bool) {
        while has_room(outbox)
            && let Some(message) = self.messages.pop_front()
        {
            if self.n_dropped > 0 {
                let count = std::mem::take(&mut self.n_dropped);
                outbox.push_event(Event::Lost(Lost { topic: topic.clone(), range: None, count }));
            }
            outbox.push_delivery(message.bytes, message.item);
        }
    }
}

fn push_step<D>(step: Step<Sized<D>>, topic: &Topic, outbox: &mut Outbox<D>) {
    match step {
        Step::Item(_, message) => outbox.push_delivery(message.bytes, message.item),
        Step::Lost { epoch, from, until } => {
            let range = LostRange { epoch, from, until };
            let count = until.0 + 1 - from.0;
            outbox.push_event(Event::Lost(Lost { topic: topic.clone(), range: Some(range), count }));
        }
        Step::Reset { epoch } => outbox.push_event(Event::Reset { topic: topic.clone(), epoch }),
    }
}

fn listed_cursor<D>(start: Position, head: Position) -> Cursor<D> {
    if start.epoch != head.epoch || start > head {
        // Another log, or one that was set back: only a read can tell what that means for this reader.
        return Cursor::new(start);
    }
    let mut cursor = Cursor::live(start);
    cursor.heads_up(head);
    cursor
}

/// The query for a reader's next page.
pub(super) fn page_query(topic: &Topic, range: HistoryRange) -> HistoryQuery {
    let limit = match range {
        // Only the log's bounds are wanted.
        HistoryRange::Forward(Start::Latest) => 1,
        HistoryRange::Forward(_) | HistoryRange::Backward(_) => READ_MESSAGES,
    };
    HistoryQuery { topic: topic.clone(), range, limit }
}

/// Where a listed log is read from; `None` if only the log itself can tell.
pub(super) fn start_in(from: Start, first: Position, head: Position) -> Option<Position> {
    let before_first = first.previous();
    match from {
        Start::Latest => Some(head),
        Start::Earliest => Some(before_first),
        Start::Last(n) => {
            let offset = head.offset.0.saturating_sub(n).max(before_first.offset.0);
            Some(Position::new(head.epoch.0, offset))
        }
        Start::After(position) => Some(position),
        Start::Time(_) if head.epoch == Epoch(0) => Some(head),
        Start::Time(_) => None,
    }
}
