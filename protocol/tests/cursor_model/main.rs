//! Proves the cursor against a model: whatever the feed loses, repeats, reorders and delays, whenever the log is trimmed, deleted,
//! made anew or restored, a reader is handed the log in order.
//!
//! | kind | what is asserted | where |
//! |---|---|---|
//! | safety | every step is the next message, a hole that was trimmed, or another log; "live" is never a lie | [`witness`], [`reader`] |
//! | liveness | once the disturbances end, the cursor is at the head within a few reads | [`world`] |
//! | cost | one read at a time, each with a cause or after a pause, none at rest; memory is bounded | [`reader`], [`world`] |
//!
//! Cases are the same on each run; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` choose others. The list of planted bugs that this must
//! notice is `mutants/cursor.toml`; `cargo xtask mutants` tries them.

mod log;
mod named;
mod reader;
mod witness;
mod world;

use bongsu_protocol::position::Position;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

use crate::world::{Fate, Op, PAGE_MAX, Recovery, World};

/// Enough to notice each planted bug many times over; see the time that `cargo test` prints.
const N_CASES: u32 = 1500;

/// The same cases on each run, unless the environment names others.
fn check(world: fn() -> World, ops: impl Strategy<Value = Vec<Op>>) {
    let mut config = Config { failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    // Nearly all of the time would go into better random numbers.
    config.rng_algorithm = RngAlgorithm::XorShift;
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = N_CASES;
    }
    let strategy = (ops, recovery(), 1..=PAGE_MAX);
    let outcome = TestRunner::new(config).run(&strategy, |(ops, recovery, limit)| {
        let mut world = world();
        ops.iter().for_each(|op| world.apply(op));
        world.settle(recovery, limit);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn recovery() -> impl Strategy<Value = Recovery> {
    prop_oneof![Just(Recovery::Interrupt), Just(Recovery::HeadsUp)]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => Just(Fate::Now),
        1 => Just(Fate::Twice),
        2 => Just(Fate::Later),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Lost),
    ];
    prop::collection::vec(fate, 1..6)
}

/// What a feed, a store and a reader do to each other.
fn op() -> BoxedStrategy<Op> {
    let who = 0..2_usize;
    prop_oneof![
        12 => fates().prop_map(Op::Append),
        1 => Just(Op::Burst),
        6 => any::<usize>().prop_map(Op::Deliver),
        2 => any::<usize>().prop_map(Op::Repeat),
        2 => Just(Op::Announce),
        2 => Just(Op::AnnounceLate),
        3 => Just(Op::Interrupt),
        3 => (1..6_usize).prop_map(Op::Trim),
        1 => Just(Op::Delete),
        8 => (who.clone(), 1..6_usize).prop_map(|(who, n)| Op::Take(who, n)),
        6 => (1..6_usize).prop_map(Op::Carry),
        3 => (1..400_u64).prop_map(Op::Wait),
        10 => (who.clone(), 1..=PAGE_MAX).prop_map(|(who, limit)| Op::Ask(who, limit)),
        4 => who.clone().prop_map(Op::Look),
        8 => who.clone().prop_map(Op::Answer),
        2 => who.prop_map(Op::Fail),
        4 => (1..4_usize).prop_map(Op::Run),
    ]
    .boxed()
}

/// The same, with an operation of its own now and then.
fn op_or(special: impl Strategy<Value = Op> + 'static) -> BoxedStrategy<Op> {
    prop_oneof![12 => op(), 1 => special].boxed()
}

fn ops(op: BoxedStrategy<Op>) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op, 1..60)
}

fn session() -> World {
    World::session(Position::default())
}

#[test]
fn reader_of_a_lossy_feed_gets_the_log_in_order() {
    check(session, ops(op()));
}

#[test]
fn reader_of_a_log_restored_from_a_backup_gets_to_its_head() {
    check(session, ops(op_or(prop_oneof![Just(Op::BackUp), Just(Op::Restore)])));
}

#[test]
fn position_carried_over_reconnects_leaves_nothing_out() {
    check(session, ops(op_or(Just(Op::Reconnect))));
}

#[test]
fn client_behind_a_session_gets_the_log_in_order() {
    check(World::session_and_client, ops(op_or(Just(Op::Reconnect))));
}

#[test]
fn client_behind_a_session_follows_a_restored_log() {
    let special = prop_oneof![Just(Op::BackUp), Just(Op::Restore), Just(Op::Reconnect)];
    check(World::session_and_client, ops(op_or(special)));
}
