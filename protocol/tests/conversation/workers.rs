//! Workers that come and go, each a conversation in STOMP, on one queue: what a worker was told is settled comes to nobody again, and every
//! job is done at the end.
//!
//! Each run is a seed. `WORKERS_SEED=n` repeats one run, `WORKERS_RUNS=n` makes more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bongsu_protocol::command::RequestId;
use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::queue::{ConsumerId, Departure, Holder, Queue, Settlement, State, Ticket};
use bongsu_protocol::stomp::Command;
use bongsu_protocol::stomp::conversation::{Effect, SubscriptionKey};

use crate::chat::{Chat, delivery};

/// A small generator of its own, so that a seed means the same run for ever (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

struct Worker {
    chat: Chat,
    mode: &'static str,
    /// Its consumer's number in the queue, once it subscribed.
    consumer: Option<(SubscriptionKey, ConsumerId)>,
    /// Messages that it read and did not acknowledge: `message-id` and offset, in order.
    unsettled: Vec<(String, u64)>,
    /// Offsets by the receipt that says that they are settled.
    asked: BTreeMap<String, Vec<u64>>,
    n_receipts: usize,
}

struct World {
    random: Random,
    queue: Queue,
    head: u64,
    workers: Vec<Worker>,
    n_consumers: u64,
    /// Settlements that the shell has not written down.
    unkept: BTreeMap<Ticket, (ConsumerId, RequestId)>,
    n_tickets: u64,
    confirmed: BTreeSet<u64>,
    n_read: BTreeMap<u64, u32>,
}

const MODES: [&str; 3] = ["client", "client-individual", "auto"];

impl World {
    fn new(seed: u64) -> Self {
        // No job is given up.
        let mut queue = Queue::new(Holder("here".into()), u32::MAX);
        queue.learn(State::starting(Epoch(3), 0));
        Self {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            queue,
            head: 0,
            workers: Vec::new(),
            n_consumers: 0,
            unkept: BTreeMap::new(),
            n_tickets: 0,
            confirmed: BTreeSet::new(),
            n_read: BTreeMap::new(),
        }
    }

    fn publish(&mut self) {
        self.head += 1;
        self.queue.set_log(Position::new(3, 1), Position::new(3, self.head));
    }

    fn hire(&mut self, mode: &'static str) {
        let mut chat = Chat::open(["1.1", "1.2"][self.random.below(2)]);
        let prefetch = 1 + self.random.below(4);
        chat.say(&format!(
            "SUBSCRIBE\nid:q\ndestination:/queue/jobs\nack:{mode}\nprefetch-count:{prefetch}\n\n^"
        ));
        let (unsettled, asked) = (Vec::new(), BTreeMap::new());
        self.workers.push(Worker { chat, mode, consumer: None, unsettled, asked, n_receipts: 0 });
    }

    /// The worker's connection is gone, whatever it had.
    fn fire(&mut self, idx: usize) {
        let worker = self.workers.swap_remove(idx);
        if let Some((_, consumer)) = worker.consumer {
            self.queue.remove_consumer(consumer, Departure::Vanished);
            self.unkept.retain(|_, (of, _)| *of != consumer);
        }
    }

    /// The shell does what the worker's conversation asks for.
    fn carry_out(&mut self, idx: usize) {
        let worker = &mut self.workers[idx];
        for effect in worker.chat.effects() {
            match (effect, worker.consumer) {
                (Effect::Consume { id, subscription, prefetch, .. }, _) => {
                    self.n_consumers += 1;
                    let consumer = ConsumerId(self.n_consumers);
                    self.queue.add_consumer(consumer, prefetch);
                    worker.consumer = Some((subscription, consumer));
                    worker.chat.conversation.consuming(id, Ok(()));
                }
                (Effect::Settle { id, settled }, Some((_, consumer))) => {
                    self.n_tickets += 1;
                    let ticket = Ticket(self.n_tickets);
                    self.queue.settle(consumer, &settled.positions, settled.settlement, ticket);
                    self.unkept.insert(ticket, (consumer, id));
                }
                (Effect::Cancel { .. }, Some((_, consumer))) => {
                    self.queue.remove_consumer(consumer, Departure::Cancelled);
                }
                (Effect::Close(_), _) => {}
                (other, _) => panic!("unexpected {other:?}"),
            }
        }
    }

    fn dispatch(&mut self) {
        let Some(dispatch) = self.queue.poll_dispatch() else { return };
        let (consumer, position) = (dispatch.consumer, dispatch.position);
        let is_its = |worker: &&mut Worker| worker.consumer.is_some_and(|(_, id)| id == consumer);
        let worker = self.workers.iter_mut().find(is_its).expect("consumers are workers");
        let (key, _) = worker.consumer.expect("it was found by it");
        let message = Arc::new(delivery("queue/jobs", position.offset.0));
        let was_taken = worker.chat.conversation.deliver(key, position, dispatch.is_redelivered, &message);
        assert!(was_taken, "workers only leave at once");
    }

    /// The state is written down, so settlements are final and claims hold.
    fn keep(&mut self) {
        if let Some(proposal) = self.queue.propose() {
            self.queue.learn(proposal.state);
        }
        while let Some(ticket) = self.queue.poll_settled() {
            let Some((consumer, id)) = self.unkept.remove(&ticket) else { continue };
            let is_its = |worker: &&mut Worker| worker.consumer.is_some_and(|(_, id)| id == consumer);
            if let Some(worker) = self.workers.iter_mut().find(is_its) {
                worker.chat.conversation.settled(id, Ok(()));
            }
        }
    }

    fn read(&mut self, idx: usize) {
        let worker = &mut self.workers[idx];
        for frame in worker.chat.hear() {
            match frame.command {
                Command::Message => {
                    let offset: u64 = frame.header("offset").unwrap().parse().unwrap();
                    assert!(!self.confirmed.contains(&offset), "{offset} was settled, and came again");
                    *self.n_read.entry(offset).or_default() += 1;
                    if worker.mode != "auto" {
                        worker.unsettled.push((frame.header("message-id").unwrap().to_owned(), offset));
                    }
                }
                Command::Receipt => {
                    let offsets = worker.asked.remove(frame.header("receipt-id").unwrap()).unwrap();
                    self.confirmed.extend(offsets);
                }
                other => panic!("unexpected {other:?}: {frame:?}"),
            }
        }
    }

    fn acknowledge(&mut self, idx: usize, settlement: Settlement) {
        let n = self.workers[idx].unsettled.len();
        if n == 0 {
            return;
        }
        let place = self.random.below(n);
        let worker = &mut self.workers[idx];
        let id = worker.unsettled[place].0.clone();
        let settled: Vec<_> = match worker.mode {
            "client" => worker.unsettled.drain(..=place).collect(),
            _ => vec![worker.unsettled.remove(place)],
        };
        let header = if worker.chat.conversation.version().as_str() == "1.2" { "id" } else { "message-id" };
        let command = if settlement == Settlement::Done { "ACK" } else { "NACK" };
        worker.n_receipts += 1;
        let receipt = worker.n_receipts.to_string();
        worker.chat.say(&format!("{command}\n{header}:{id}\nreceipt:{receipt}\n\n^"));
        let offsets = settled.into_iter().map(|(_, offset)| offset);
        let is_done = settlement == Settlement::Done;
        worker.asked.insert(receipt, offsets.filter(|_| is_done).collect());
    }

    fn step(&mut self) {
        let idx = self.random.below(self.workers.len().max(1));
        let is_there = idx < self.workers.len();
        match self.random.below(20) {
            0..=2 => self.publish(),
            3..=6 => self.dispatch(),
            7..=9 if is_there => self.carry_out(idx),
            10..=12 if is_there => self.read(idx),
            13..=15 if is_there => self.acknowledge(idx, Settlement::Done),
            16 if is_there => self.acknowledge(idx, Settlement::Requeue),
            17 => self.keep(),
            18 if self.workers.len() < 4 => {
                let mode = MODES[self.random.below(3)];
                self.hire(mode);
            }
            19 if is_there && self.random.below(4) == 0 => self.fire(idx),
            _ => {}
        }
    }

    fn finish(&mut self) {
        while !self.workers.is_empty() {
            self.fire(0);
        }
        self.hire("client");
        for _ in 0..4 * self.head + 10 {
            self.carry_out(0);
            self.dispatch();
            self.read(0);
            self.acknowledge(0, Settlement::Done);
            self.keep();
        }
        self.read(0);
        assert_eq!(self.queue.backlog(), 0, "every job is done");
        assert!(
            (1..=self.head).all(|offset| self.n_read.contains_key(&offset)),
            "somebody read each of them"
        );
    }
}

// ST-24, ST-26, ST-27
#[test]
fn what_a_worker_was_told_is_settled_comes_to_nobody_again() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("WORKERS_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let fresh = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
            fresh..fresh + number("WORKERS_RUNS").unwrap_or(100)
        }
    };
    println!("seeds {seeds:?}");
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed);
            for _ in 0..500 {
                world.step();
            }
            world.finish();
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("repeat with WORKERS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
