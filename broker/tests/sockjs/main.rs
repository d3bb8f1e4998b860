//! SockJS as raw requests see it. Each test names the requirement of the contract that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod hostile;
mod pages;
mod server;
mod sessions;
mod stomp;
mod transports;
mod web_socket;
