//! A work queue over a log: each message goes to one consumer, until one of them has settled it.
//!
//! ```text
//!                  claim                    Done
//!   not dispatched ──────▶ held ─────────────────────▶ done
//!                           │ ▲  Requeue, consumer gone  ▲
//!                  Requeue  ▼ │ claim                    │ dead_lettered
//!                        waiting ──── too often ────▶ dead ◀── Reject
//! ```
//!
//! The log keeps the messages. What became of them is the queue's [`State`], which all nodes share: the newest message of a small log of its
//! own. No node owns it. A node changes it by an append on the condition that nobody else changed it since the node read it, so
//! one append may carry what many consumers did, and two nodes never give the same message out. [`Queue`] is one node's side of that:
//!
//! ```text
//!   consumers ── settle, come, go ──▶ ┌───────┐ ── propose ───────▶ append, if the state is still the one that was read
//!   state log ── learn ─────────────▶ │ Queue │ ── poll_dispatch ─▶ deliver, once the state that says so is kept
//!   log ──────── set_log ───────────▶ └───────┘ ── poll_settled ──▶ tell who settled, once that is kept
//! ```
//!
//! It compares what its consumers have and did with what each state says, and never depends on knowing which of its proposals were kept:
//! an append whose answer got lost needs nothing but to read the state again.
//!
//! Pure: no IO, no clock. Messages come in the order of the log, but for those that came back: those go first.

mod propose;
mod snapshot;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::position::{Epoch, Position};

pub use snapshot::InvalidState;
pub use state::{Holder, State};

use state::Return;

/// One consumer of a queue on one node. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// Somebody's question when a settlement is kept. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

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

/// How a consumer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Departure {
    /// It said so: what it held counts as not tried.
    Cancelled,
    /// Without a word: one of the messages that it held may be the reason.
    Vanished,
}

/// A message for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch {
    /// Who gets it.
    pub consumer: ConsumerId,
    /// Which one.
    pub position: Position,
    /// Whether it may have been dispatched before.
    pub is_redelivered: bool,
}

/// A message for the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// Which one.
    pub position: Position,
    /// How often it was tried.
    pub tries: u32,
}

/// A state to be appended, if the newest is still the one that the queue learned last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// What will hold.
    pub state: State,
    /// Messages that the log lost before anybody settled them.
    pub n_lost: u64,
}

/// One node's side of a queue. See the [module](self).
#[derive(Debug)]
pub struct Queue {
    me: Holder,
    /// A message that was tried so often is dead when it comes back.
    tries_max: u32,
    /// The newest that is known; `None`: none yet.
    state: Option<State>,
    /// A proposal is under way.
    is_proposed: bool,
    /// Nothing happened since there was nothing to propose.
    is_quiet: bool,
    /// The log's first kept message, and its newest.
    first: Position,
    head: Position,
    /// In the order in which they are served.
    consumers: VecDeque<Consumer>,
    /// What consumers have, also where another node took this one for gone, and the message from it.
    held: BTreeMap<u64, ConsumerId>,
    /// What consumers settled, and no state says so yet.
    settling: BTreeMap<u64, Settling>,
    /// What is to be given back, and no state says so yet.
    returning: BTreeMap<u64, Return>,
    /// Who gave a message back last, of those here.
    refused: BTreeMap<u64, ConsumerId>,
    /// Messages for the dead-letter topic that this node moves: whether they are there already.
    dead: BTreeMap<u64, Burial>,
    /// Nodes that will never settle what they hold.
    gone: BTreeSet<Holder>,
    ready: VecDeque<Dispatch>,
    /// Offsets that each of them waits for.
    tickets: BTreeMap<Ticket, usize>,
    settled: VecDeque<Ticket>,
}

#[derive(Debug)]
struct Consumer {
    id: ConsumerId,
    prefetch: u32,
    n_held: u32,
}

#[derive(Debug)]
struct Settling {
    settlement: Settlement,
    ticket: Ticket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Burial {
    /// To be given out.
    Due,
    UnderWay,
    /// The dead-letter topic has it.
    Over,
}

impl Queue {
    /// The side of a node that is called `me` there. `tries_max`: at least 1.
    #[must_use]
    pub fn new(me: Holder, tries_max: u32) -> Self {
        Self {
            me,
            tries_max: tries_max.max(1),
            state: None,
            is_proposed: false,
            is_quiet: false,
            first: Position::default(),
            head: Position::default(),
            consumers: VecDeque::new(),
            held: BTreeMap::new(),
            settling: BTreeMap::new(),
            returning: BTreeMap::new(),
            refused: BTreeMap::new(),
            dead: BTreeMap::new(),
            gone: BTreeSet::new(),
            ready: VecDeque::new(),
            tickets: BTreeMap::new(),
            settled: VecDeque::new(),
        }
    }

    /// A consumer that may hold this many messages, at least one.
    pub fn add_consumer(&mut self, id: ConsumerId, prefetch: u32) {
        if !self.consumers.iter().any(|consumer| consumer.id == id) {
            self.is_quiet = false;
            self.consumers.push_back(Consumer { id, prefetch: prefetch.max(1), n_held: 0 });
        }
    }

    /// The consumer is gone: what it holds comes back. What it settled stays settled.
    pub fn remove_consumer(&mut self, id: ConsumerId, departure: Departure) {
        self.is_quiet = false;
        self.consumers.retain(|consumer| consumer.id != id);
        let not_seen: BTreeSet<u64> =
            self.ready.iter().filter(|d| d.consumer == id).map(|d| d.position.offset.0).collect();
        self.ready.retain(|dispatch| dispatch.consumer != id);
        self.refused.retain(|_, refused| *refused != id);
        let mut held = Vec::new();
        self.held.retain(|offset, consumer| {
            if *consumer == id {
                held.push(*offset);
            }
            *consumer != id
        });
        for offset in held {
            let is_tried = departure == Departure::Vanished && !not_seen.contains(&offset);
            self.returning.insert(offset, if is_tried { Return::Tried } else { Return::Untried });
        }
        self.resolve();
    }

    /// A dispatch could not be handed over: others should have it, and it was not tried.
    pub fn undelivered(&mut self, dispatch: Dispatch) {
        let offset = dispatch.position.offset.0;
        if self.epoch() == dispatch.position.epoch && self.take_held(offset, dispatch.consumer) {
            self.returning.insert(offset, Return::Untried);
            self.resolve();
        }
    }

    /// The log has these messages: the first that is kept, and the newest.
    pub fn set_log(&mut self, first: Position, head: Position) {
        if first > self.first || head > self.head {
            self.is_quiet = false;
            self.first = self.first.max(first);
            self.head = self.head.max(head);
        }
    }

    /// A node will never settle what it holds.
    pub fn note_gone(&mut self, holder: Holder) {
        if holder != self.me && self.gone.insert(holder) {
            self.is_quiet = false;
        }
    }

    /// Everybody but this node who holds a message and is not known to be gone.
    #[must_use]
    pub fn others(&self) -> BTreeSet<Holder> {
        let mut holders = self.state.as_ref().map(State::holders).unwrap_or_default();
        holders.retain(|holder| *holder != self.me && !self.gone.contains(holder));
        holders
    }

    /// A consumer settled messages; [`poll_settled`](Self::poll_settled) gives the ticket when that is kept. What it does not hold is
    /// passed over: it was settled before, or the log is another one by now.
    pub fn settle(
        &mut self,
        consumer: ConsumerId,
        positions: &[Position],
        settlement: Settlement,
        ticket: Ticket,
    ) {
        let mut n_waiting = 0;
        for position in positions {
            let offset = position.offset.0;
            if position.epoch != self.epoch() || !self.take_held(offset, consumer) {
                continue;
            }
            if settlement == Settlement::Requeue {
                self.refused.insert(offset, consumer);
            }
            n_waiting += 1;
            self.settling.insert(offset, Settling { settlement, ticket });
        }
        if n_waiting == 0 {
            self.settled.push_back(ticket);
        } else {
            self.tickets.insert(ticket, n_waiting);
            self.resolve();
        }
    }

    /// This is the newest state, whoever appended it. Whatever was proposed before is in it, or was not kept.
    pub fn learn(&mut self, state: State) {
        (self.is_proposed, self.is_quiet) = (false, false);
        if state.epoch != self.epoch() {
            self.forget_log();
        }
        let holders = state.holders();
        self.gone.retain(|holder| holders.contains(holder));
        self.state = Some(state);
        self.resolve();
        self.take_over();
    }

    /// The next message to be handed to a consumer.
    pub fn poll_dispatch(&mut self) -> Option<Dispatch> {
        self.ready.pop_front()
    }

    /// The same, without taking it.
    #[must_use]
    pub fn peek_dispatch(&self) -> Option<Dispatch> {
        self.ready.front().copied()
    }

    /// The next ticket whose settlements are kept.
    pub fn poll_settled(&mut self) -> Option<Ticket> {
        self.settled.pop_front()
    }

    /// The next message for the dead-letter topic. Publish it there, with its position in the idempotency key, then
    /// [`dead_lettered`](Self::dead_lettered): until then it is given out again by whoever takes over from this node.
    pub fn poll_dead(&mut self) -> Option<Dead> {
        let (offset, burial) = self.dead.iter_mut().find(|(_, burial)| **burial == Burial::Due)?;
        *burial = Burial::UnderWay;
        let state = self.state.as_ref()?;
        let tries = state.open.get(offset).map_or(0, |open| open.tries);
        Some(Dead { position: Position::new(state.epoch.0, *offset), tries })
    }

    /// A message is kept on the dead-letter topic, so that it is done here.
    pub fn dead_lettered(&mut self, position: Position) {
        if position.epoch == self.epoch()
            && let Some(burial) = self.dead.get_mut(&position.offset.0)
        {
            *burial = Burial::Over;
            self.is_quiet = false;
        }
    }

    /// The newest state that is known.
    #[must_use]
    pub const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Messages that wait or are with somebody.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let head = |state: &State| if self.head.epoch == state.epoch { self.head.offset.0 } else { 0 };
        self.state.as_ref().map_or(0, |state| state.backlog(head(state)))
    }

    /// Whether the queue needs this node no more: no consumers, and every state says what they did.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let holds = self.state.as_ref().is_some_and(|state| state.held_by(&self.me).next().is_some());
        self.consumers.is_empty() && self.settling.is_empty() && !holds && !self.is_proposed
    }

    fn epoch(&self) -> Epoch {
        self.state.as_ref().map_or(Epoch(0), |state| state.epoch)
    }

    /// Takes a message from a consumer, which has room for another one then. False if it does not have it.
    fn take_held(&mut self, offset: u64, consumer: ConsumerId) -> bool {
        if self.held.get(&offset) != Some(&consumer) {
            return false;
        }
        self.is_quiet = false;
        self.held.remove(&offset);
        self.ready.retain(|dispatch| dispatch.position.offset.0 != offset);
        if let Some(consumer) = self.consumers.iter_mut().find(|candidate| candidate.id == consumer) {
            consumer.n_held = consumer.n_held.saturating_sub(1);
        }
        true
    }

    /// Drops what the known state says: settlements, returns, burials.
    fn resolve(&mut self) {
        let Some(state) = &self.state else { return };
        let is_mine = |offset: u64| state.is_held_by(offset, &self.me);
        let mut kept = Vec::new();
        self.settling.retain(|offset, settling| {
            let is_kept = match settling.settlement {
                Settlement::Done => !state.open.contains_key(offset),
                Settlement::Requeue | Settlement::Reject => !is_mine(*offset),
            };
            if is_kept {
                kept.push(settling.ticket);
            }
            !is_kept
        });
        self.returning.retain(|offset, _| is_mine(*offset));
        self.dead.retain(|offset, _| is_mine(*offset));
        self.refused.retain(|offset, _| state.open.contains_key(offset));
        for ticket in kept {
            self.count_down(ticket);
        }
    }

    /// Compares what the known state says this node holds with what its consumers have.
    fn take_over(&mut self) {
        let Some(state) = &self.state else { return };
        let lost = |dispatch: &&Dispatch| !state.is_held_by(dispatch.position.offset.0, &self.me);
        let too_late: Vec<Dispatch> = self.ready.iter().filter(lost).copied().collect();
        let mut new = Vec::new();
        for (offset, is_dead) in state.held_by(&self.me) {
            if is_dead {
                self.dead.entry(offset).or_insert(Burial::Due);
            } else if !self.held.contains_key(&offset)
                && !self.settling.contains_key(&offset)
                && !self.returning.contains_key(&offset)
            {
                new.push((offset, state.open.get(&offset).is_some_and(|open| open.is_again)));
            }
        }
        let epoch = state.epoch.0;
        for Dispatch { consumer, position, .. } in too_late {
            // Nobody saw it here.
            self.take_held(position.offset.0, consumer);
        }
        for (offset, is_redelivered) in new {
            match self.next_consumer(offset) {
                Some(consumer) => {
                    self.held.insert(offset, consumer);
                    let position = Position::new(epoch, offset);
                    self.ready.push_back(Dispatch { consumer, position, is_redelivered });
                }
                // Whom it was claimed for went meanwhile.
                None => {
                    self.returning.insert(offset, Return::Untried);
                }
            }
        }
    }

    /// The next consumer with room, who has less of it then. Who gave the message back gets it only if nobody else here can.
    fn next_consumer(&mut self, offset: u64) -> Option<ConsumerId> {
        let refused = self.refused.get(&offset).copied();
        let has_room = |consumer: &Consumer| consumer.n_held < consumer.prefetch;
        let mut rooms = self.consumers.iter().enumerate().filter(|(_, consumer)| has_room(consumer));
        let (first, _) = rooms.clone().next()?;
        let place =
            rooms.find(|(_, consumer)| Some(consumer.id) != refused).map_or(first, |(place, _)| place);
        let mut consumer = self.consumers.remove(place)?;
        consumer.n_held += 1;
        let id = consumer.id;
        self.consumers.push_back(consumer);
        Some(id)
    }

    fn count_down(&mut self, ticket: Ticket) {
        if let Some(n_waiting) = self.tickets.get_mut(&ticket) {
            *n_waiting -= 1;
            if *n_waiting == 0 {
                self.tickets.remove(&ticket);
                self.settled.push_back(ticket);
            }
        }
    }

    /// Another log began: nothing of the old one matters any more.
    fn forget_log(&mut self) {
        self.held.clear();
        self.settling.clear();
        self.returning.clear();
        self.refused.clear();
        self.dead.clear();
        self.ready.clear();
        for consumer in &mut self.consumers {
            consumer.n_held = 0;
        }
        self.settled.extend(std::mem::take(&mut self.tickets).into_keys());
    }
}
