//! Nodes, the log that they share, and what must hold between them.

use std::collections::BTreeMap;

use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::queue::{
    ConsumerId, Departure, Dispatch, Holder, Proposal, Queue, Settlement, State, Ticket,
};
use bytes::BytesMut;

pub(crate) const TRIES_MAX: u32 = 3;

/// Nodes at a time.
const NODES_MAX: usize = 3;

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
#[derive(Default, Debug)]
struct Fate {
    n_dispatched: u32,
    /// Consumers that have it. More than one only if the node of all but the last was taken for gone.
    with: Vec<ConsumerId>,
    /// A consumer was told that it is done, or the dead-letter topic has it and a state says so.
    is_over: bool,
    was_rejected: bool,
    /// A node that others took for gone settled it: somebody else may be about to get it.
    is_contested: bool,
    is_dead: bool,
}

struct Consumer {
    prefetch: u32,
    held: Vec<u64>,
}

/// An append on its way: what it was based on, and what it says.
struct Append {
    expect: usize,
    bytes: Vec<u8>,
}

struct Node {
    holder: Holder,
    queue: Queue,
    /// The version of the state that it learned last.
    at: usize,
    under_way: Option<Append>,
    consumers: BTreeMap<ConsumerId, Consumer>,
    tickets: BTreeMap<Ticket, (Settlement, Vec<u64>)>,
    /// Others were told that it is gone, rightly or not.
    is_doubted: bool,
}

pub(crate) struct World {
    random: Random,
    nodes: Vec<Node>,
    /// The state log: each message ever kept. The version of a state is its place here, from 1.
    states: Vec<Vec<u8>>,
    /// Appends whose node gave up waiting for the answer, and that may still arrive.
    late: Vec<Append>,
    /// Nodes that died.
    dead: Vec<Holder>,
    first: u64,
    head: u64,
    fates: BTreeMap<u64, Fate>,
    last_number: u64,
    /// Settled by somebody, and no state of the log said so before.
    is_calm: bool,
}

fn at(offset: u64) -> Position {
    Position::new(7, offset)
}

fn encoded(state: &State) -> Vec<u8> {
    let mut out = BytesMut::new();
    state.encode(&mut out);
    assert_eq!(State::decode(&out).as_ref(), Ok(state), "what is written is read back");
    out.to_vec()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            nodes: Vec::new(),
            states: vec![encoded(&State::starting(Epoch(7), 0))],
            late: Vec::new(),
            dead: Vec::new(),
            first: 1,
            head: 0,
            fates: BTreeMap::new(),
            last_number: 0,
            is_calm: false,
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn start_node(&mut self) {
        let holder = Holder(format!("node/{}", self.number()).into());
        let queue = Queue::new(holder.clone(), TRIES_MAX);
        let (consumers, tickets) = (BTreeMap::new(), BTreeMap::new());
        let node = Node { holder, queue, at: 0, under_way: None, consumers, tickets, is_doubted: false };
        self.nodes.push(node);
        self.read(self.nodes.len() - 1);
    }

    /// The node reads the newest state and the bounds of the log.
    fn read(&mut self, idx: usize) {
        let node = &mut self.nodes[idx];
        node.queue.set_log(at(self.first), at(self.head));
        if node.under_way.is_none() && node.at < self.states.len() {
            node.at = self.states.len();
            node.queue.learn(State::decode(self.states.last().unwrap()).unwrap());
            self.look(idx);
        }
    }

    fn propose(&mut self, idx: usize) {
        let node = &mut self.nodes[idx];
        let Some(Proposal { state, .. }) = node.queue.propose() else { return };
        assert!(node.under_way.is_none(), "one append at a time");
        let bytes = encoded(&state);
        assert_ne!(bytes, self.states[node.at - 1], "an append changes something");
        node.under_way = Some(Append { expect: node.at, bytes });
    }

    /// The store takes an append or refuses it.
    fn keep(&mut self, append: &Append) -> bool {
        let is_kept = append.expect == self.states.len();
        if is_kept {
            self.states.push(append.bytes.clone());
        }
        is_kept
    }

    /// A node's append is answered; or the answer is lost, or comes when the node has given up.
    fn answer(&mut self, idx: usize) {
        let Some(append) = self.nodes[idx].under_way.take() else { return };
        let fortune = if self.is_calm { 9 } else { self.random.below(10) };
        if fortune == 0 {
            self.late.push(append);
        } else if self.keep(&append) && fortune > 1 {
            let node = &mut self.nodes[idx];
            node.at = append.expect + 1;
            node.queue.learn(State::decode(&append.bytes).unwrap());
            return self.look(idx);
        }
        // A conflict, or nobody knows: the state is read again.
        let node = &mut self.nodes[idx];
        node.at = self.states.len();
        node.queue.learn(State::decode(self.states.last().unwrap()).unwrap());
        self.look(idx);
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let place = self.random.below(self.late.len() as u64) as usize;
            let append = self.late.swap_remove(place);
            self.keep(&append);
        }
    }

    /// Takes what the queue gives out after it learned a state.
    fn look(&mut self, idx: usize) {
        while let Some(ticket) = self.nodes[idx].queue.poll_settled() {
            let (settlement, offsets) = self.nodes[idx].tickets.remove(&ticket).unwrap();
            if settlement == Settlement::Done {
                let newest = State::decode(self.states.last().unwrap()).unwrap();
                for offset in offsets {
                    assert!(newest.is_done(offset), "{offset} was confirmed, and no state says so");
                    let fate = self.fates.get_mut(&offset).unwrap();
                    fate.is_over = true;
                    fate.is_contested |= self.nodes[idx].is_doubted;
                }
            }
        }
    }

    fn dispatch(&mut self, idx: usize) {
        let Some(dispatch) = self.nodes[idx].queue.poll_dispatch() else { return };
        if !self.is_calm && self.random.below(20) == 0 {
            return self.nodes[idx].queue.undelivered(dispatch);
        }
        let Dispatch { consumer, position, is_redelivered } = dispatch;
        let offset = position.offset.0;
        assert!(offset <= self.head, "{offset} is not in the log");
        let doubted: Vec<ConsumerId> = self
            .nodes
            .iter()
            .filter(|node| node.is_doubted)
            .flat_map(|node| node.consumers.keys().copied())
            .collect();
        let fate = self.fates.entry(offset).or_default();
        // A node that was taken for gone may be about to hand over what came to somebody else by then.
        let is_late = self.nodes[idx].is_doubted || fate.is_contested;
        assert!(!fate.is_over || is_late, "{offset} was settled, and came again");
        assert!(!fate.is_dead || is_late, "{offset} is dead, and came again");
        let rivals: Vec<_> = fate.with.iter().filter(|holder| !doubted.contains(holder)).collect();
        assert!(rivals.is_empty() || is_late, "{offset} is with {rivals:?}, and came to {consumer:?}");
        assert!(
            is_redelivered || fate.n_dispatched == 0 || is_late,
            "{offset} came again, and nobody was told"
        );
        fate.n_dispatched += 1;
        fate.with.push(consumer);
        let its = self.nodes[idx].consumers.get_mut(&consumer).expect("only consumers get messages");
        assert!(!its.held.contains(&offset), "{offset} came twice to {consumer:?}");
        its.held.push(offset);
        assert!(its.held.len() <= its.prefetch as usize, "more than its prefetch");
    }

    fn settle(&mut self, idx: usize, settlement: Settlement) {
        let n = self.nodes[idx].consumers.len() as u64;
        if n == 0 {
            return;
        }
        let place = self.random.below(n) as usize;
        let number = self.number();
        let node = &mut self.nodes[idx];
        let (id, consumer) = node.consumers.iter_mut().nth(place).unwrap();
        if consumer.held.is_empty() {
            return;
        }
        // Some at once, as with the mode `client`.
        let n_settled = 1 + self.random.below(consumer.held.len() as u64) as usize;
        let offsets: Vec<u64> = consumer.held.drain(..n_settled).collect();
        for offset in &offsets {
            let fate = self.fates.get_mut(offset).unwrap();
            fate.with.retain(|holder| holder != id);
            fate.was_rejected |= settlement == Settlement::Reject;
        }
        let positions: Vec<Position> = offsets.iter().map(|offset| at(*offset)).collect();
        let (stranger, ticket) = (ConsumerId(0), Ticket(u64::MAX - number));
        node.tickets.insert(ticket, (Settlement::Requeue, Vec::new()));
        node.queue.settle(stranger, &positions, Settlement::Reject, ticket);
        node.tickets.insert(Ticket(number), (settlement, offsets));
        node.queue.settle(*id, &positions, settlement, Ticket(number));
        self.look(idx);
    }

    fn bury(&mut self, idx: usize) {
        let Some(dead) = self.nodes[idx].queue.poll_dead() else { return };
        let offset = dead.position.offset.0;
        // Claims of nodes that died count as tries, though nobody saw the message.
        let fate = self.fates.entry(offset).or_default();
        assert!(fate.was_rejected || dead.tries >= TRIES_MAX, "{offset} died too soon");
        fate.is_dead = true;
        self.nodes[idx].queue.dead_lettered(dead.position);
    }

    fn add_consumer(&mut self, idx: usize) {
        let (id, prefetch) = (ConsumerId(self.number()), 1 + self.random.below(4) as u32);
        let node = &mut self.nodes[idx];
        if node.consumers.len() < 3 {
            node.consumers.insert(id, Consumer { prefetch, held: Vec::new() });
            node.queue.add_consumer(id, prefetch);
        }
    }

    fn remove_consumer(&mut self, idx: usize) {
        let departure = if self.random.below(2) == 0 { Departure::Cancelled } else { Departure::Vanished };
        let n = self.nodes[idx].consumers.len() as u64;
        let place = self.random.below(n.max(1)) as usize;
        let node = &mut self.nodes[idx];
        let Some(id) = node.consumers.keys().nth(place).copied() else { return };
        node.queue.remove_consumer(id, departure);
        self.forget_consumer(idx, id);
    }

    fn forget_consumer(&mut self, idx: usize, id: ConsumerId) {
        for offset in self.nodes[idx].consumers.remove(&id).unwrap().held {
            self.fates.get_mut(&offset).unwrap().with.retain(|holder| *holder != id);
        }
    }

    /// A node dies. What it had under way may still arrive.
    fn kill(&mut self, idx: usize) {
        for id in self.nodes[idx].consumers.keys().copied().collect::<Vec<_>>() {
            self.forget_consumer(idx, id);
        }
        let node = self.nodes.swap_remove(idx);
        self.late.extend(node.under_way);
        self.dead.push(node.holder);
    }

    /// A node hears that others are gone: some that are, and now and then one that is not.
    fn tell_gone(&mut self, idx: usize) {
        for holder in &self.dead {
            self.nodes[idx].queue.note_gone(holder.clone());
        }
        if !self.is_calm && self.random.below(4) == 0 {
            let other = self.random.below(self.nodes.len() as u64) as usize;
            self.nodes[other].is_doubted |= other != idx;
            let holder = self.nodes[other].holder.clone();
            self.nodes[idx].queue.note_gone(holder);
        }
    }

    fn trim(&mut self) {
        self.first = (self.first + self.random.below(4)).min(self.head + 1);
    }

    pub(crate) fn step(&mut self) {
        if self.nodes.is_empty() {
            return self.start_node();
        }
        let idx = self.random.below(self.nodes.len() as u64) as usize;
        match self.random.below(60) {
            0..=7 => self.head += 1,
            8..=15 => self.read(idx),
            16..=25 => self.propose(idx),
            26..=33 => self.answer(idx),
            34..=41 => self.dispatch(idx),
            42..=46 => self.settle(idx, Settlement::Done),
            47..=48 => self.settle(idx, Settlement::Requeue),
            49 if self.random.below(2) == 0 => self.settle(idx, Settlement::Reject),
            50..=51 => self.bury(idx),
            52..=53 => self.add_consumer(idx),
            54 => self.remove_consumer(idx),
            55 if self.nodes.len() < NODES_MAX => self.start_node(),
            56 if self.random.below(4) == 0 => self.kill(idx),
            57 => self.tell_gone(idx),
            58 if self.random.below(4) == 0 => self.trim(),
            59 => self.arrive_late(),
            _ => {}
        }
    }

    /// Nothing disturbs any more: within few steps every message is settled, and then nobody appends.
    pub(crate) fn finish(&mut self) {
        self.is_calm = true;
        self.late.clear();
        while self.nodes.len() < 2 {
            self.start_node();
        }
        for idx in 0..self.nodes.len() {
            while self.nodes[idx].consumers.is_empty() {
                self.add_consumer(idx);
            }
        }
        for _ in 0..4 * self.head + 40 {
            for idx in 0..self.nodes.len() {
                self.tell_gone(idx);
                self.read(idx);
                self.propose(idx);
                // Who answers first changes, so that each wins sometimes.
                self.answer(idx);
                self.dispatch(idx);
                self.settle(idx, Settlement::Done);
                self.bury(idx);
            }
        }
        let newest = State::decode(self.states.last().unwrap()).unwrap();
        for offset in self.first..=self.head {
            assert!(newest.is_done(offset), "{offset} was forgotten: {newest:?}");
            let fate = self.fates.get(&offset).expect("somebody saw it");
            assert!(fate.n_dispatched > 0 || fate.is_dead, "{offset} was done without anybody");
        }
        assert_eq!((newest.floor(), newest.n_open()), (self.head.max(self.first - 1), 0));
        let n_states = self.states.len();
        for idx in 0..self.nodes.len() {
            self.read(idx);
            assert!(self.nodes[idx].queue.propose().is_none(), "no appends when quiet");
            assert!(self.nodes[idx].tickets.is_empty(), "everybody was told");
            assert_eq!(self.nodes[idx].queue.backlog(), 0);
        }
        assert_eq!(self.states.len(), n_states);
    }
}
