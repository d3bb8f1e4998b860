//! Where Bongsu's logs live.
//!
//! The job: to keep messages in logs, one per topic, to give each its place, and to read them back. Not the job: who may
//! publish, who reads, what a topic's policy is.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the trait [`Store`](store::Store) and its vocabulary: what every implementation promises |
//! | [`memory`] | a store in memory: for tests, and the oracle that the others are compared with |
//! | [`sqlite`] | a store in one SQLite file: for one node, without set-up |
//! | [`postgres`] | a store in a Postgres database: for any number of nodes |
//! | `journal` | which logs changed, for the first two |
//! | `names` | a walk over names that looks at few of those that a listing does not want, for the other two |
//! | [`appender`] | group commit: many publishers, one transaction after another |

pub mod appender;
mod journal;
pub mod memory;
mod names;
pub mod postgres;
pub mod sqlite;
pub mod store;
