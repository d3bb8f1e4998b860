//! Who may do what on every way in, and that what is taken back is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod cluster;
mod leaks;
mod matrix;
mod native;
#[path = "../support/nodes.rs"]
mod nodes;
mod oracle;
mod races;
mod rest;
mod revoked;
#[path = "../support/mod.rs"]
mod support;
mod ways;
mod world;
