//! Work queues: on one node, and on several that die.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "../support/nodes.rs"]
mod nodes;
#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod killed;
mod one_node;
mod worker;
