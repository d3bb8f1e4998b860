//! What only the Postgres store has: other nodes, a schema, partitions, servers that die, and SQL.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod changes;
mod nodes;
mod partitions;
mod schema;
mod servers;
mod sql;
mod support;
