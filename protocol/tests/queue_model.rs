//! A work queue between a log, consumers that come and go, and a shell that dies: whatever happens, what was settled does not come again,
//! and what was not does.
//!
//! Each run is a seed. `QUEUE_MODEL_SEED=n` repeats one run, `QUEUE_MODEL_RUNS=n` makes more.

#![expect(clippy::unwrap_used, reason = "the model is wrong if one fails")]

use std::collections::{BTreeMap, BTreeSet};

use bongsu_protocol::limits::QUEUE_WINDOW_MAX;
use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::queue::{ConsumerId, Dispatch, InvalidSnapshot, Queue, Settlement, Snapshot};
use bytes::BytesMut;
use proptest::prelude::*;

const TRIES_MAX: u32 = 3;

/// A small generator of its own, so that a seed means the same run for ever (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// What the checker knows of a message.
#[derive(Default)]
struct Fate {
    n_dispatched: u32,
    holder: Option<ConsumerId>,
    /// A consumer was told that its settlement is kept, or the dead-letter topic has it.
    is_over: bool,
    was_rejected: bool,
    is_dead: bool,
}

struct World {
    random: Random,
    queue: Queue,
    kept: Vec<u8>,
    head: u64,
    first: u64,
    fates: BTreeMap<u64, Fate>,
    consumers: BTreeMap<ConsumerId, u32>,
    last_consumer: u64,
    /// Settlements and dead letters that wait for a snapshot.
    unconfirmed: Vec<u64>,
    /// The newest offset that this queue handed out for the first time.
    newest: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            queue: Queue::new(&Snapshot { epoch: Epoch(7), ..Snapshot::default() }, TRIES_MAX),
            kept: Vec::new(),
            head: 0,
            first: 1,
            fates: BTreeMap::new(),
            consumers: BTreeMap::new(),
            last_consumer: 0,
            unconfirmed: Vec::new(),
            newest: 0,
        };
        world.keep();
        world
    }

    fn at(offset: u64) -> Position {
        Position::new(7, offset)
    }

    /// Writes the snapshot down; what was settled before is confirmed.
    fn keep(&mut self) {
        let mut out = BytesMut::new();
        self.queue.snapshot().encode(&mut out);
        self.kept = out.to_vec();
        assert_eq!(Snapshot::decode(&self.kept).unwrap(), self.queue.snapshot());
        for offset in self.unconfirmed.drain(..) {
            self.fates.get_mut(&offset).unwrap().is_over = true;
        }
    }

    /// The shell dies; another one reads the snapshot.
    fn die(&mut self) {
        self.queue = Queue::new(&Snapshot::decode(&self.kept).unwrap(), TRIES_MAX);
        self.queue.set_head(Self::at(self.head));
        self.queue.trim(Self::at(self.first));
        self.unconfirmed.clear();
        self.consumers.clear();
        self.newest = 0;
        for fate in self.fates.values_mut() {
            fate.holder = None;
        }
    }

    fn add_consumer(&mut self) {
        self.last_consumer += 1;
        let (id, prefetch) = (ConsumerId(self.last_consumer), 1 + self.random.below(3) as u32);
        self.consumers.insert(id, prefetch);
        self.queue.add_consumer(id, prefetch);
    }

    fn some_consumer(&mut self) -> Option<ConsumerId> {
        let n = self.random.below(self.consumers.len().max(1) as u64) as usize;
        self.consumers.keys().nth(n).copied()
    }

    fn remove_consumer(&mut self) {
        let Some(id) = self.some_consumer() else { return };
        self.consumers.remove(&id);
        self.queue.remove_consumer(id);
        for fate in self.fates.values_mut().filter(|fate| fate.holder == Some(id)) {
            fate.holder = None;
        }
    }

    fn dispatch(&mut self) {
        let Some(Dispatch { consumer, position, is_redelivered }) = self.queue.poll_dispatch() else {
            return;
        };
        let offset = position.offset.0;
        assert!((self.first..=self.head).contains(&offset), "{offset} is not in the log");
        let fate = self.fates.entry(offset).or_default();
        assert!(!fate.is_over, "{offset} was settled, and came again");
        assert_eq!(fate.holder, None, "{offset} is with two consumers");
        assert!(is_redelivered <= (fate.n_dispatched > 0), "{offset} came for the first time");
        if !is_redelivered {
            assert!(offset > self.newest, "{offset} came after {}", self.newest);
            self.newest = offset;
        }
        fate.n_dispatched += 1;
        fate.holder = Some(consumer);
        let n_held = self.fates.values().filter(|fate| fate.holder == Some(consumer)).count();
        assert!(n_held <= self.consumers[&consumer] as usize, "more than its prefetch");
    }

    fn settle(&mut self, settlement: Settlement) {
        let held: Vec<_> =
            self.fates.iter().filter_map(|(offset, fate)| Some((*offset, fate.holder?))).collect();
        if held.is_empty() {
            return;
        }
        let (offset, consumer) = held[self.random.below(held.len() as u64) as usize];
        let stranger = ConsumerId(999_999);
        assert!(
            !self.queue.settle(stranger, Self::at(offset), Settlement::Done),
            "only its holder settles it"
        );
        assert!(self.queue.settle(consumer, Self::at(offset), settlement));
        let fate = self.fates.get_mut(&offset).unwrap();
        fate.holder = None;
        match settlement {
            Settlement::Done => self.unconfirmed.push(offset),
            Settlement::Requeue => {}
            Settlement::Reject => fate.was_rejected = true,
        }
    }

    fn bury(&mut self) {
        let Some(position) = self.queue.poll_dead() else { return };
        let fate = self.fates.get_mut(&position.offset.0).unwrap();
        assert!(fate.was_rejected || fate.n_dispatched >= TRIES_MAX, "{position} died too soon");
        assert_eq!(fate.holder, None);
        fate.is_dead = true;
        self.queue.dead_lettered(position);
        self.unconfirmed.push(position.offset.0);
    }

    fn trim(&mut self) {
        self.first = (self.first + self.random.below(4)).min(self.head + 1);
        self.queue.trim(Self::at(self.first));
        for (_, fate) in self.fates.range_mut(..self.first) {
            fate.holder = None;
        }
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..=7 => {
                self.head += 1;
                self.queue.set_head(Self::at(self.head));
            }
            8..=19 => self.dispatch(),
            20..=27 => self.settle(Settlement::Done),
            28..=29 => self.settle(Settlement::Requeue),
            30 => self.settle(Settlement::Reject),
            31..=32 => self.bury(),
            33..=34 => self.keep(),
            35..=36 if self.consumers.len() < 4 => self.add_consumer(),
            37 => self.remove_consumer(),
            38 if self.random.below(4) == 0 => self.die(),
            39 if self.random.below(4) == 0 => self.trim(),
            _ => {}
        }
    }

    /// Nothing disturbs any more: within few steps every message is settled, and then nothing comes.
    fn finish(&mut self) {
        self.add_consumer();
        for _ in 0..4 * self.head + 20 {
            self.dispatch();
            self.settle(Settlement::Done);
            self.bury();
        }
        self.keep();
        assert_eq!(self.queue.backlog(), 0, "everything was settled: {:?}", self.queue);
        assert_eq!(self.queue.poll_dispatch(), None);
        let snapshot = self.queue.snapshot();
        assert_eq!((snapshot.floor, snapshot.done.len(), snapshot.tries.len()), (self.head, 0, 0));
        for offset in self.first..=self.head {
            let fate = &self.fates[&offset];
            assert!(fate.is_over, "{offset} was forgotten");
        }
    }
}

#[test]
fn what_was_settled_never_comes_again_and_all_else_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("QUEUE_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let fresh = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
            fresh..fresh + number("QUEUE_MODEL_RUNS").unwrap_or(500)
        }
    };
    println!("seeds {seeds:?}");
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed);
            for _ in 0..600 {
                world.step();
            }
            world.finish();
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("repeat with QUEUE_MODEL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn queue(n_messages: u64) -> Queue {
    let mut queue = Queue::new(&Snapshot { epoch: Epoch(7), ..Snapshot::default() }, TRIES_MAX);
    queue.set_head(Position::new(7, n_messages));
    queue
}

fn dispatched(queue: &mut Queue) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| queue.poll_dispatch()).map(|d| (d.consumer.0, d.position.offset.0)).collect()
}

#[test]
fn consumers_take_turns_up_to_their_prefetch() {
    let mut queue = queue(10);
    queue.add_consumer(ConsumerId(1), 3);
    queue.add_consumer(ConsumerId(2), 1);
    assert_eq!(dispatched(&mut queue), [(1, 1), (2, 2), (1, 3), (1, 4)]);
    queue.settle(ConsumerId(2), Position::new(7, 2), Settlement::Done);
    assert_eq!(dispatched(&mut queue), [(2, 5)]);
    assert_eq!(queue.backlog(), 9);
}

// ST-27
#[test]
fn a_message_that_was_given_back_goes_to_another_consumer_first() {
    let mut queue = queue(2);
    queue.add_consumer(ConsumerId(1), 5);
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2)]);
    queue.add_consumer(ConsumerId(2), 5);
    queue.settle(ConsumerId(1), Position::new(7, 1), Settlement::Requeue);
    let dispatch = queue.poll_dispatch().unwrap();
    assert_eq!((dispatch.consumer, dispatch.is_redelivered), (ConsumerId(2), true));
    queue.settle(ConsumerId(2), Position::new(7, 1), Settlement::Requeue);
    queue.remove_consumer(ConsumerId(1));
    let again: Vec<_> = dispatched(&mut queue);
    assert_eq!(again, [(2, 1), (2, 2)], "alone, it gets its own back too");
}

#[test]
fn a_message_that_is_tried_too_often_is_dead() {
    let mut queue = queue(1);
    queue.add_consumer(ConsumerId(1), 1);
    for n in 1..=TRIES_MAX {
        let dispatch = queue.poll_dispatch().unwrap();
        assert_eq!(dispatch.is_redelivered, n > 1);
        queue.settle(ConsumerId(1), dispatch.position, Settlement::Requeue);
    }
    assert_eq!(queue.poll_dispatch(), None);
    let dead = queue.poll_dead().unwrap();
    let mut again = Queue::new(&queue.snapshot(), TRIES_MAX);
    assert_eq!(again.poll_dead(), Some(dead), "until it is kept as such");
    queue.dead_lettered(dead);
    assert_eq!(queue.snapshot().floor, 1);
}

#[test]
fn a_rejected_message_is_dead_at_once_and_stays_so() {
    let mut queue = queue(1);
    queue.add_consumer(ConsumerId(1), 1);
    let dispatch = queue.poll_dispatch().unwrap();
    queue.settle(ConsumerId(1), dispatch.position, Settlement::Reject);
    let mut again = Queue::new(&queue.snapshot(), TRIES_MAX);
    again.add_consumer(ConsumerId(2), 1);
    assert_eq!((again.poll_dispatch(), again.poll_dead()), (None, Some(dispatch.position)));
}

#[test]
fn a_new_log_begins_with_nothing_done() {
    let mut queue = queue(5);
    queue.add_consumer(ConsumerId(1), 2);
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2)]);
    let revision = queue.revision();
    queue.set_head(Position::new(8, 3));
    assert!(queue.revision() > revision);
    assert!(!queue.settle(ConsumerId(1), Position::new(7, 1), Settlement::Done), "of the old log");
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2)], "its consumers have room again");
    queue.set_head(Position::new(7, 9));
    assert_eq!(queue.backlog(), 3, "late news of the old log are no news");
}

#[test]
fn what_must_be_remembered_has_a_bound() {
    let mut queue = queue(3 * QUEUE_WINDOW_MAX);
    queue.add_consumer(ConsumerId(1), u32::MAX);
    let first = queue.poll_dispatch().unwrap();
    let mut n_dispatched = 1;
    while let Some(dispatch) = queue.poll_dispatch() {
        queue.settle(ConsumerId(1), dispatch.position, Settlement::Done);
        n_dispatched += 1;
    }
    assert_eq!(n_dispatched, QUEUE_WINDOW_MAX, "the oldest holds up the rest");
    let mut out = BytesMut::new();
    queue.snapshot().encode(&mut out);
    assert!(out.len() < 30, "runs of settled messages take few bytes: {}", out.len());
    queue.settle(ConsumerId(1), first.position, Settlement::Done);
    assert_eq!(queue.poll_dispatch().unwrap().position.offset.0, QUEUE_WINDOW_MAX + 1);
}

#[test]
fn revisions_grow_with_everything_that_must_be_kept() {
    let mut queue = queue(3);
    queue.add_consumer(ConsumerId(1), 3);
    let mut last = (queue.revision(), queue.snapshot());
    let mut check = |queue: &Queue, what: &str| {
        let now = (queue.revision(), queue.snapshot());
        assert!(now.0 > last.0 || now.1 == last.1, "{what}");
        last = now;
    };
    for _ in 0..3 {
        queue.poll_dispatch();
        check(&queue, "dispatched");
    }
    queue.settle(ConsumerId(1), Position::new(7, 2), Settlement::Done);
    check(&queue, "done");
    queue.settle(ConsumerId(1), Position::new(7, 3), Settlement::Reject);
    check(&queue, "rejected");
    let dead = queue.poll_dead().unwrap();
    queue.dead_lettered(dead);
    check(&queue, "dead");
    queue.trim(Position::new(7, 4));
    check(&queue, "trimmed");
}

proptest! {
    #[test]
    fn any_bytes_are_a_snapshot_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        match Snapshot::decode(&bytes) {
            Err(InvalidSnapshot) => {}
            Ok(snapshot) => {
                let mut out = BytesMut::new();
                snapshot.encode(&mut out);
                prop_assert_eq!(Snapshot::decode(&out), Ok(snapshot.clone()));
                let mut queue = Queue::new(&snapshot, TRIES_MAX);
                queue.add_consumer(ConsumerId(1), 3);
                queue.set_head(Position::new(snapshot.epoch.0, snapshot.floor + 10));
                let offsets: BTreeSet<_> = dispatched(&mut queue).into_iter().collect();
                let is_done = |offset: u64| snapshot.done.iter().any(|(from, until)| (*from..=*until).contains(&offset));
                prop_assert!(offsets.iter().all(|(_, offset)| !is_done(*offset) && *offset > snapshot.floor));
            }
        }
    }
}
