//! Broker.

pub mod websocket;
