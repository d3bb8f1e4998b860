//! A work queue over a log: each message goes to one consumer, until one of them has settled it.
//!
//! ```text
//!                  dispatch                 Done
//!   not dispatched ────────▶ held ─────────────────────▶ done
//!                             │ ▲  Requeue, consumer gone  ▲
//!                    Requeue  ▼ │ dispatch                 │ dead_lettered
//!                           returned ──── too often ────▶ dying ◀── Reject
//! ```
//!
//! The log keeps the messages; the queue knows only offsets, and what became of them: all up to a floor are done, and above it some. That,
//! with how often the others were tried, is its [`Snapshot`]: what the shell writes down before it tells anybody that a message is settled.
//! Whoever reads it back goes on from there: what was settled does not come again, what was not comes again to somebody.
//!
//! Pure: no IO, no clock. Messages come in the order of the log, but for those that came back: those go first.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::QUEUE_WINDOW_MAX;
use crate::position::{Epoch, Position};

pub use snapshot::{InvalidSnapshot, Snapshot};

/// One consumer of a queue, on any node. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// What a consumer did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// It is done.
    Done,
    /// Somebody else should have it.
    Requeue,
    /// Nobody should: it is dead.
    Reject,
}

/// A message for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch {
    /// Who gets it.
    pub consumer: ConsumerId,
    /// Which one.
    pub position: Position,
    /// Whether it was dispatched before.
    pub is_redelivered: bool,
}

/// A queue. See the [module](self).
#[derive(Debug)]
pub struct Queue {
    epoch: Epoch,
    /// Every offset up to here is done.
    floor: u64,
    /// Offsets above the floor that are done.
    done: BTreeSet<u64>,
    /// Offsets that were dispatched, or tried by an earlier queue, and are not done.
    open: BTreeMap<u64, Open>,
    /// Every offset before it is open or done. What came back may be far behind it, and what was never dispatched before that.
    next: u64,
    /// The log's newest offset.
    head: u64,
    /// In the order in which they are served.
    consumers: VecDeque<Consumer>,
    /// Offsets for the dead-letter topic that nobody took yet.
    dying: VecDeque<u64>,
    /// A message that was dispatched so often is dead when it comes back.
    tries_max: u32,
    /// How often what a snapshot says has changed.
    revision: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    /// How often it was dispatched.
    tries: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Held(ConsumerId),
    /// With whom it was last, as far as that is known.
    Returned(Option<ConsumerId>),
    Dying,
}

#[derive(Debug)]
struct Consumer {
    id: ConsumerId,
    prefetch: u32,
    n_held: u32,
}

impl Queue {
    /// A queue that goes on where a snapshot says. `tries_max`: at least 1.
    #[must_use]
    pub fn new(snapshot: &Snapshot, tries_max: u32) -> Self {
        let tries_max = tries_max.max(1);
        let mut queue = Self {
            epoch: snapshot.epoch,
            floor: snapshot.floor,
            done: BTreeSet::new(),
            open: BTreeMap::new(),
            next: snapshot.floor + 1,
            head: snapshot.floor,
            consumers: VecDeque::new(),
            dying: VecDeque::new(),
            tries_max,
            revision: 0,
        };
        for (from, until) in &snapshot.done {
            queue.done.extend(*from..=*until);
        }
        for (offset, tries) in &snapshot.tries {
            if *offset > queue.floor && !queue.done.contains(offset) {
                let is_dead = *tries >= tries_max;
                let place = if is_dead { Place::Dying } else { Place::Returned(None) };
                queue.open.insert(*offset, Open { tries: *tries, place });
                if is_dead {
                    queue.dying.push_back(*offset);
                }
            }
        }
        queue.raise_floor();
        queue
    }

    /// A consumer that may hold this many messages, at least one.
    pub fn add_consumer(&mut self, id: ConsumerId, prefetch: u32) {
        if !self.consumers.iter().any(|consumer| consumer.id == id) {
            self.consumers.push_back(Consumer { id, prefetch: prefetch.max(1), n_held: 0 });
        }
    }

    /// The consumer is gone: what it holds comes back.
    pub fn remove_consumer(&mut self, id: ConsumerId) {
        self.consumers.retain(|consumer| consumer.id != id);
        let held = self.open.iter().filter(|(_, open)| open.place == Place::Held(id));
        let held: Vec<u64> = held.map(|(offset, _)| *offset).collect();
        for offset in held {
            self.give_back(offset, id);
        }
    }

    /// The log's newest message is this one. A new log begins with nothing done.
    pub fn set_head(&mut self, head: Position) {
        if head.epoch > self.epoch {
            self.start_log(head.epoch);
        }
        if head.epoch == self.epoch {
            self.head = self.head.max(head.offset.0);
        }
    }

    /// The log's first kept message is this one: what was before it can be done no more.
    pub fn trim(&mut self, first: Position) {
        if first.epoch > self.epoch {
            self.start_log(first.epoch);
        }
        if first.epoch == self.epoch && first.offset.0 > self.floor + 1 {
            let gone: Vec<u64> = self.open.range(..first.offset.0).map(|(offset, _)| *offset).collect();
            for offset in gone {
                self.finish(offset);
            }
            self.dying.retain(|offset| *offset >= first.offset.0);
            self.floor = self.floor.max(first.offset.0 - 1);
            self.raise_floor();
            self.revision += 1;
        }
    }

    /// A consumer settled a message. False if it does not hold it: it was taken for gone, and somebody else may have the message.
    pub fn settle(&mut self, consumer: ConsumerId, position: Position, settlement: Settlement) -> bool {
        let offset = position.offset.0;
        let holds = |open: &Open| open.place == Place::Held(consumer);
        if position.epoch != self.epoch || !self.open.get(&offset).is_some_and(holds) {
            return false;
        }
        match settlement {
            Settlement::Done => {
                self.finish(offset);
                self.revision += 1;
            }
            Settlement::Requeue => self.give_back(offset, consumer),
            Settlement::Reject => {
                if let Some(open) = self.open.get_mut(&offset) {
                    // A queue that reads this back finds it dead, too.
                    open.tries = open.tries.max(self.tries_max);
                }
                self.give_back(offset, consumer);
            }
        }
        true
    }

    /// The next message to be handed to a consumer. `None`: there is none, or nobody has room.
    pub fn poll_dispatch(&mut self) -> Option<Dispatch> {
        let returned = self.open.iter().find_map(|(offset, open)| match open.place {
            Place::Returned(last) => Some((*offset, last)),
            Place::Held(_) | Place::Dying => None,
        });
        let (offset, last) = match returned {
            Some(returned) => returned,
            None => (self.next_fresh()?, None),
        };
        let has_room = |consumer: &Consumer| consumer.n_held < consumer.prefetch;
        let mut rooms = self.consumers.iter().enumerate().filter(|(_, consumer)| has_room(consumer));
        // Who gave it back gets it only if nobody else can.
        let (first, _) = rooms.clone().next()?;
        let place = rooms.find(|(_, consumer)| Some(consumer.id) != last).map_or(first, |(place, _)| place);
        let mut consumer = self.consumers.remove(place)?;
        consumer.n_held += 1;
        let id = consumer.id;
        self.consumers.push_back(consumer);
        let open = self.open.entry(offset).or_insert(Open { tries: 0, place: Place::Held(id) });
        let is_redelivered = open.tries > 0;
        *open = Open { tries: open.tries.saturating_add(1), place: Place::Held(id) };
        self.revision += 1;
        Some(Dispatch { consumer: id, position: Position::new(self.epoch.0, offset), is_redelivered })
    }

    /// The next message for the dead-letter topic. Publish it there, with its position as the idempotency key, then
    /// [`dead_lettered`](Self::dead_lettered): until then every new queue gives it out again.
    pub fn poll_dead(&mut self) -> Option<Position> {
        self.dying.pop_front().map(|offset| Position::new(self.epoch.0, offset))
    }

    /// A message is kept on the dead-letter topic, so that it is done here.
    pub fn dead_lettered(&mut self, position: Position) {
        let offset = position.offset.0;
        let is_dying = |open: &Open| open.place == Place::Dying;
        if position.epoch == self.epoch && self.open.get(&offset).is_some_and(is_dying) {
            self.finish(offset);
            self.revision += 1;
        }
    }

    /// What has to be written down.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut done: Vec<(u64, u64)> = Vec::new();
        for offset in &self.done {
            match done.last_mut() {
                Some((_, until)) if *until + 1 == *offset => *until = *offset,
                _ => done.push((*offset, *offset)),
            }
        }
        let tries = self.open.iter().map(|(offset, open)| (*offset, open.tries)).collect();
        Snapshot { epoch: self.epoch, floor: self.floor, done, tries }
    }

    /// A number that grows whenever a snapshot would say something else. A settlement is kept once a snapshot of the revision behind it is.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Messages that wait: in the log and not done.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.head.saturating_sub(self.floor).saturating_sub(self.done.len() as u64)
    }

    /// The first offset that was never dispatched. None while too much above the floor is, so that what must be remembered has a bound.
    fn next_fresh(&mut self) -> Option<u64> {
        while self.done.contains(&self.next) || self.open.contains_key(&self.next) {
            self.next += 1;
        }
        let is_within = self.next <= self.head && self.next - self.floor <= QUEUE_WINDOW_MAX;
        is_within.then_some(self.next)
    }

    fn give_back(&mut self, offset: u64, consumer: ConsumerId) {
        self.make_room(consumer);
        let Some(open) = self.open.get_mut(&offset) else { return };
        if open.tries >= self.tries_max {
            open.place = Place::Dying;
            self.dying.push_back(offset);
        } else {
            open.place = Place::Returned(Some(consumer));
        }
        self.revision += 1;
    }

    /// Notes that an offset needs nobody any more.
    fn finish(&mut self, offset: u64) {
        if let Some(Open { place: Place::Held(consumer), .. }) = self.open.remove(&offset) {
            self.make_room(consumer);
        }
        if offset > self.floor {
            self.done.insert(offset);
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        self.done = self.done.split_off(&(self.floor + 1));
        while self.done.first() == Some(&(self.floor + 1)) {
            self.done.pop_first();
            self.floor += 1;
        }
        self.next = self.next.max(self.floor + 1);
        self.head = self.head.max(self.floor);
    }

    fn make_room(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.consumers.iter_mut().find(|consumer| consumer.id == id) {
            consumer.n_held = consumer.n_held.saturating_sub(1);
        }
    }

    fn start_log(&mut self, epoch: Epoch) {
        let consumers = std::mem::take(&mut self.consumers);
        let revision = self.revision + 1;
        *self = Self::new(&Snapshot { epoch, ..Snapshot::default() }, self.tries_max);
        self.revision = revision;
        self.consumers = consumers.into_iter().map(|consumer| Consumer { n_held: 0, ..consumer }).collect();
    }
}
