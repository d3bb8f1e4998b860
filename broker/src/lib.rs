//! The broker: all input and output, tasks and clocks around `bongsu-protocol` and `bongsu-persistence`.
//!
//! `ARCHITECTURE.md` at the root of the repository has the map and the walls.

pub mod config;
pub mod limits;
pub mod websocket;
