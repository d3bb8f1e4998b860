//! The broker: all input and output, tasks and clocks around `bongsu-protocol` and `bongsu-persistence`.
//!
//! `ARCHITECTURE.md` at the root of the repository has the map and the walls.

pub mod access;
pub mod admin;
pub mod audit;
pub mod auth;
pub mod bus;
pub mod carrier;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod control;
pub mod delivery;
pub mod dialog;
pub mod drain;
pub mod events;
pub mod feed;
pub mod heard;
pub mod history;
pub mod http;
pub mod http_client;
pub mod hub;
pub mod interest;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod node;
pub mod outbound;
pub mod outbox;
mod pace;
pub mod peers;
pub mod presence;
pub mod proxy;
pub mod publisher;
pub mod queues;
pub mod registers;
pub mod relay;
pub mod removals;
pub mod retention;
pub mod serve;
pub mod telemetry;

pub mod webhooks;
pub mod websocket;
