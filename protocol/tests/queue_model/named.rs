//! Single behaviours by name.

use bongsu_protocol::limits::QUEUE_WINDOW_MAX;
use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::queue::{
    ConsumerId, Departure, Dispatch, Holder, InvalidState, Queue, Settlement, State, Ticket,
};
use bytes::BytesMut;
use proptest::prelude::*;

use crate::world::TRIES_MAX;

fn holder(name: &str) -> Holder {
    Holder(name.into())
}

fn at(offset: u64) -> Position {
    Position::new(7, offset)
}

/// One node's queue over a log of so many messages, of which nothing is done.
fn queue(name: &str, n_messages: u64) -> Queue {
    let mut queue = Queue::new(holder(name), TRIES_MAX);
    queue.learn(State::starting(Epoch(7), 0));
    queue.set_log(at(1), at(n_messages));
    queue
}

/// Appends what the queue proposes until it proposes nothing.
fn settle_down(queue: &mut Queue) {
    while let Some(proposal) = queue.propose() {
        queue.learn(proposal.state);
    }
}

fn dispatched(queue: &mut Queue) -> Vec<(u64, u64)> {
    settle_down(queue);
    let dispatches = std::iter::from_fn(|| queue.poll_dispatch());
    dispatches.map(|Dispatch { consumer, position, .. }| (consumer.0, position.offset.0)).collect()
}

fn settle(queue: &mut Queue, consumer: u64, offset: u64, settlement: Settlement) {
    queue.settle(ConsumerId(consumer), &[at(offset)], settlement, Ticket(1000 * consumer + offset));
}

#[test]
fn consumers_take_turns_up_to_their_prefetch() {
    let mut queue = queue("a", 10);
    queue.add_consumer(ConsumerId(1), 3);
    queue.add_consumer(ConsumerId(2), 1);
    assert_eq!(dispatched(&mut queue), [(1, 1), (2, 2), (1, 3), (1, 4)]);
    settle(&mut queue, 2, 2, Settlement::Done);
    assert_eq!(dispatched(&mut queue), [(2, 5)]);
    assert_eq!(queue.backlog(), 9);
}

#[test]
fn nothing_is_dispatched_or_confirmed_before_the_append_that_says_so() {
    let mut queue = queue("a", 2);
    queue.add_consumer(ConsumerId(1), 2);
    let claim = queue.propose().unwrap();
    assert_eq!(queue.poll_dispatch(), None);
    assert_eq!(queue.propose(), None, "one append at a time");
    queue.learn(claim.state);
    assert_eq!(queue.poll_dispatch().unwrap().position, at(1));
    settle(&mut queue, 1, 1, Settlement::Done);
    let done = queue.propose().unwrap();
    assert_eq!(queue.poll_settled(), None);
    queue.learn(done.state);
    assert_eq!(queue.poll_settled(), Some(Ticket(1001)));
}

#[test]
fn a_node_that_was_too_late_claims_what_the_other_left() {
    let (mut one, mut two) = (queue("a", 3), queue("b", 3));
    one.add_consumer(ConsumerId(1), 2);
    two.add_consumer(ConsumerId(2), 2);
    let first = one.propose().unwrap().state;
    two.propose().unwrap();
    one.learn(first.clone());
    two.learn(first);
    assert_eq!(dispatched(&mut one), [(1, 1), (1, 2)]);
    assert_eq!(dispatched(&mut two), [(2, 3)]);
}

// ST-27
#[test]
fn a_message_that_was_given_back_goes_to_another_consumer_first() {
    let mut queue = queue("a", 2);
    queue.add_consumer(ConsumerId(1), 5);
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2)]);
    queue.add_consumer(ConsumerId(2), 5);
    settle(&mut queue, 1, 1, Settlement::Requeue);
    settle_down(&mut queue);
    let dispatch = queue.poll_dispatch().unwrap();
    assert_eq!((dispatch.consumer, dispatch.is_redelivered), (ConsumerId(2), true));
    settle(&mut queue, 2, 1, Settlement::Requeue);
    queue.remove_consumer(ConsumerId(1), Departure::Cancelled);
    assert_eq!(dispatched(&mut queue), [(2, 1), (2, 2)], "alone, it gets its own back too");
}

#[test]
fn a_message_that_is_tried_too_often_is_dead() {
    let mut queue = queue("a", 1);
    queue.add_consumer(ConsumerId(1), 1);
    for n in 1..=TRIES_MAX {
        settle_down(&mut queue);
        let dispatch = queue.poll_dispatch().unwrap();
        assert_eq!(dispatch.is_redelivered, n > 1);
        settle(&mut queue, 1, 1, Settlement::Requeue);
    }
    assert_eq!(dispatched(&mut queue), []);
    let dead = queue.poll_dead().unwrap();
    assert_eq!((dead.position, dead.tries), (at(1), TRIES_MAX));
    let state = queue.state().unwrap().clone();
    let mut heir = Queue::new(holder("b"), TRIES_MAX);
    heir.learn(state);
    heir.add_consumer(ConsumerId(2), 1);
    heir.note_gone(holder("a"));
    assert_eq!(dispatched(&mut heir), []);
    assert_eq!(heir.poll_dead(), Some(dead), "until it is kept as such");
    heir.dead_lettered(dead.position);
    settle_down(&mut heir);
    assert_eq!(heir.state().unwrap().floor(), 1);
}

#[test]
fn a_rejected_message_is_dead_at_once_and_stays_so() {
    let mut queue = queue("a", 1);
    queue.add_consumer(ConsumerId(1), 1);
    assert_eq!(dispatched(&mut queue), [(1, 1)]);
    settle(&mut queue, 1, 1, Settlement::Reject);
    assert_eq!(dispatched(&mut queue), []);
    assert_eq!(queue.poll_dead().unwrap().position, at(1));
}

#[test]
fn a_consumer_that_leaves_in_good_order_tried_nothing() {
    let mut queue = queue("a", 1);
    for n in 1..=2 * u64::from(TRIES_MAX) {
        queue.add_consumer(ConsumerId(n), 1);
        assert_eq!(dispatched(&mut queue), [(n, 1)]);
        queue.remove_consumer(ConsumerId(n), Departure::Cancelled);
        settle_down(&mut queue);
    }
    assert!(queue.is_idle());
    for n in 101..=100 + u64::from(TRIES_MAX) {
        queue.add_consumer(ConsumerId(n), 1);
        assert_eq!(dispatched(&mut queue), [(n, 1)]);
        queue.remove_consumer(ConsumerId(n), Departure::Vanished);
        settle_down(&mut queue);
    }
    queue.add_consumer(ConsumerId(999), 1);
    assert_eq!(dispatched(&mut queue), [], "some of those who vanished may have died of it");
    assert_eq!(queue.poll_dead().unwrap().position, at(1));
}

#[test]
fn what_a_consumer_did_counts_though_its_node_was_taken_for_gone() {
    let (mut one, mut two) = (queue("a", 1), queue("b", 1));
    one.add_consumer(ConsumerId(1), 1);
    assert_eq!(dispatched(&mut one), [(1, 1)]);
    two.learn(one.state().unwrap().clone());
    two.add_consumer(ConsumerId(2), 1);
    assert_eq!(dispatched(&mut two), []);
    assert_eq!(two.others().into_iter().collect::<Vec<_>>(), [holder("a")]);
    two.note_gone(holder("a"));
    assert_eq!(dispatched(&mut two), [(2, 1)]);
    one.learn(two.state().unwrap().clone());
    settle(&mut one, 1, 1, Settlement::Done);
    settle_down(&mut one);
    assert_eq!(one.poll_settled(), Some(Ticket(1001)));
    two.learn(one.state().unwrap().clone());
    settle(&mut two, 2, 1, Settlement::Requeue);
    assert_eq!(two.propose(), None, "it is done, whatever the second one says");
    assert_eq!(two.poll_settled(), Some(Ticket(2001)));
}

#[test]
fn what_was_taken_from_a_node_before_it_was_handed_over_is_not_handed_over() {
    let (mut one, mut two) = (queue("a", 1), queue("b", 1));
    one.add_consumer(ConsumerId(1), 1);
    settle_down(&mut one);
    two.learn(one.state().unwrap().clone());
    two.add_consumer(ConsumerId(2), 1);
    two.note_gone(holder("a"));
    assert_eq!(dispatched(&mut two), [(2, 1)]);
    one.learn(two.state().unwrap().clone());
    assert_eq!(dispatched(&mut one), []);
}

#[test]
fn what_could_not_be_handed_over_goes_to_somebody_else() {
    let mut queue = queue("a", 1);
    queue.add_consumer(ConsumerId(1), 1);
    settle_down(&mut queue);
    let dispatch = queue.poll_dispatch().unwrap();
    queue.undelivered(dispatch);
    queue.remove_consumer(ConsumerId(1), Departure::Vanished);
    queue.add_consumer(ConsumerId(2), 1);
    assert_eq!(dispatched(&mut queue), [(2, 1)]);
}

#[test]
fn a_new_log_begins_with_nothing_done() {
    let mut queue = queue("a", 5);
    queue.add_consumer(ConsumerId(1), 2);
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2)]);
    queue.set_log(Position::new(8, 1), Position::new(8, 3));
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2)], "its consumers have room again");
    settle(&mut queue, 1, 1, Settlement::Done);
    assert_eq!(queue.poll_settled(), Some(Ticket(1001)), "of the old log");
    assert_eq!(queue.propose(), None);
    queue.set_log(at(1), at(9));
    assert_eq!(queue.backlog(), 3, "late news of the old log are no news");
}

#[test]
fn what_retention_took_before_it_was_settled_is_counted() {
    let mut queue = queue("a", 10);
    queue.add_consumer(ConsumerId(1), 3);
    assert_eq!(dispatched(&mut queue), [(1, 1), (1, 2), (1, 3)]);
    settle(&mut queue, 1, 2, Settlement::Done);
    settle_down(&mut queue);
    queue.set_log(at(6), at(10));
    let proposal = queue.propose().unwrap();
    assert_eq!((proposal.n_lost, proposal.state.floor()), (4, 5));
    queue.learn(proposal.state);
    settle(&mut queue, 1, 1, Settlement::Done);
    assert_eq!(queue.poll_settled(), Some(Ticket(1002)));
    assert_eq!(queue.poll_settled(), Some(Ticket(1001)), "there is nothing left to keep of it");
}

#[test]
fn what_must_be_remembered_has_a_bound() {
    let mut queue = queue("a", 3 * QUEUE_WINDOW_MAX);
    queue.add_consumer(ConsumerId(1), u32::MAX);
    let all = dispatched(&mut queue);
    assert_eq!(all.len() as u64, QUEUE_WINDOW_MAX, "the oldest holds up the rest");
    let positions: Vec<Position> = all[1..].iter().map(|(_, offset)| at(*offset)).collect();
    queue.settle(ConsumerId(1), &positions, Settlement::Done, Ticket(1));
    assert_eq!(dispatched(&mut queue), []);
    let mut out = BytesMut::new();
    queue.state().unwrap().encode(&mut out);
    assert!(out.len() < 30, "runs of settled messages take few bytes: {}", out.len());
    settle(&mut queue, 1, 1, Settlement::Done);
    assert_eq!(dispatched(&mut queue)[0], (1, QUEUE_WINDOW_MAX + 1));
}

fn states() -> impl Strategy<Value = Vec<u8>> {
    let small = prop::collection::vec(0_u8..6, 0..24);
    (any::<bool>(), small, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(is_small, small, any)| {
        // Bytes that begin as a state does are one now and then.
        let mut bytes = if is_small { small } else { any };
        bytes.insert(0, 1);
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_state_or_none(bytes in states()) {
        match State::decode(&bytes) {
            Err(InvalidState) => {}
            Ok(state) => {
                let mut out = BytesMut::new();
                state.encode(&mut out);
                prop_assert_eq!(State::decode(&out), Ok(state.clone()));
                let mut queue = Queue::new(holder("a"), TRIES_MAX);
                let epoch = state.epoch().0;
                let head = state.floor() + 10;
                queue.learn(state.clone());
                queue.add_consumer(ConsumerId(1), 3);
                queue.set_log(Position::new(epoch, 1), Position::new(epoch, head));
                let mut offsets = dispatched(&mut queue);
                offsets.sort_unstable();
                offsets.dedup();
                prop_assert!(offsets.len() <= 3);
                prop_assert!(offsets.iter().all(|(_, offset)| !state.is_done(*offset) && *offset <= head));
            }
        }
    }
}
