//! SockJS as raw requests see it. Each test names the requirement of the contract that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod cluster;
mod hostile;
#[path = "../support/nodes.rs"]
mod nodes;
mod pages;
mod server;
mod sessions;
mod stomp;
#[path = "../support/mod.rs"]
mod support;
mod transports;
mod web_socket;
