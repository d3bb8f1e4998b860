//! What two Bongsu peers must agree on.
//!
//! Pure: no tasks, no clock, no randomness, no logs. Time and input are arguments; effects are polled.
//!
//! | module | what it holds |
//! |---|---|
//! | [`topic`] | names of topics and patterns for them |
//! | [`position`] | places in a log |
//! | [`message`] | what is published and what is read |
//! | [`command`], [`event`], [`reason`] | what a client asks, what the broker tells, why something failed |
//! | [`codec`] | all of them as bytes: JSON and protobuf |
//! | [`cursor`] | how a reader that is behind gets to the head of a log |
//! | [`session`] | one client's conversation |
//! | [`eventstream`] | server-sent events and lines of JSON, and the bookmarks of their readers |
//! | [`sockjs`] | SockJS: frames, transports, the session behind requests that come and go |
//! | [`queue`] | work queues over a log: consumers, redelivery, dead letters |
//! | [`stomp`] | STOMP: frames as bytes, destinations, one client's conversation |
//! | [`limits`] | every limit, with its reason |

pub mod codec;
pub mod command;
pub mod cursor;
pub mod event;
pub mod eventstream;
pub mod limits;
pub mod message;
pub mod position;
pub mod queue;
pub mod reason;
pub mod session;
pub mod sockjs;
pub mod stomp;
pub mod topic;
